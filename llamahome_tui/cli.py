"""The command line: words to a screen or to one operation; at import it needs the standard library only."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from llamahome_tui import __version__
from llamahome_tui.errors import LlamaHomeError, UsageError

SCREENS = ("models", "training", "cache", "logs")

USAGE = f"""\
usage: llamahome [{"|".join(SCREENS)}] [--run ID] [--theme NAME]
       llamahome --batch NOUN VERB [arguments] [--json] [--quiet] [--yes] [--no-env-file]

The home of open language models on a GPU box: one terminal application, and the same operations for scripts.

  {", ".join(SCREENS)}   open on that screen
  --run ID           open on that run: an id, a unique prefix, a live name, or latest
  --theme NAME       colours for this time only
  --no-env-file      do not read .env in this folder
  --batch            no terminal needed; llamahome --batch --help lists every operation
  --version, --help
"""


class Opening(NamedTuple):
    """What the terminal application opens on; empty means its own choice. (A dataclass would delay the first frame.)"""

    screen: str = ""
    run: str = ""
    theme: str = ""
    env_file: bool = True


def main(argv: Sequence[str] | None = None) -> int:
    """Run `llamahome` with these words (default: the process's own); gives the exit status."""
    try:
        return _main(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        return 130  # before there was anything to interrupt


def _main(words: list[str]) -> int:
    _keep_standard_streams()
    if words == ["--version"] or words == ["--batch", "--version"]:
        return _say(f"llamahome {__version__}\n")
    if words in (["--help"], ["-h"]):
        return _say(USAGE)
    if _is_batch(words):
        from llamahome_tui.batch.main import run

        return run(_without_batch(words))
    try:
        opening = read_opening(words)
    except LlamaHomeError as error:
        sys.stderr.write(f"llamahome: {error.message}\n{error.hint}\n")
        return error.exit
    return _open(opening)


def read_opening(words: Sequence[str]) -> Opening:
    """The screen, run and theme that the words name; raises UsageError with the nearest known word."""
    screen, values = "", {"--run": "", "--theme": ""}
    env_file = True
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name in values:
            if not equals and not rest:
                raise UsageError(f"{name} needs a value", hint="see: llamahome --help")
            values[name] = value if equals else rest.pop(0)
        elif word == "--no-env-file":
            env_file = False
        elif word in SCREENS and not screen:
            screen = word
        else:
            raise UsageError(_unknown_word(word), hint="see: llamahome --help")
    return Opening(screen or ("training" if values["--run"] else ""), values["--run"], values["--theme"], env_file)


def _unknown_word(word: str) -> str:
    from llamahome_tui.batch.words import nearest
    from llamahome_tui.operations import NOUNS

    known = ["--batch", "--run", "--theme", "--version", "--help"] if word.startswith("-") else [*SCREENS, *NOUNS]
    guess = nearest(word, known)
    return f"{word!r} is not known here" + (f"; did you mean {guess}?" if guess else "")


def _is_batch(words: Sequence[str]) -> bool:
    """Whether the words are an operation: `--batch`, or a noun with a verb (or a noun that is a whole command)."""
    if not words:
        return False
    if "--batch" in _before_rest(words):
        return True
    first, others = words[0], words[1:]
    if first.startswith("-"):
        return False
    opens_screen = first in SCREENS and not any(o in ("--help", "-h") for o in others)
    if opens_screen and (not others or others[0].startswith("-")):
        return False
    from llamahome_tui.operations import NOUNS

    return first in NOUNS


def _before_rest(words: Sequence[str]) -> Sequence[str]:
    return words[: words.index("--")] if "--" in words else words


def _without_batch(words: Sequence[str]) -> list[str]:
    head = _before_rest(words)
    return [word for word in head if word != "--batch"] + list(words[len(head) :])


def _open(opening: Opening) -> int:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        sys.stderr.write("llamahome: no terminal here; for scripts: llamahome --batch NOUN VERB (see --batch --help)\n")
        return 2
    from llamahome_tui.tui import splash

    splash.draw()
    from llamahome_tui.tui.start import start

    return start(opening)


def _say(text: str) -> int:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
    return 0


def _silence_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush finds no broken pipe."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)


def _keep_standard_streams() -> None:
    """Open what the caller closed (`>&-`), so that no file of ours ever gets the number 0, 1 or 2."""
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False, encoding="utf-8")  # noqa: SIM115 (lives as long as the process)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False, encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False, encoding="utf-8")  # noqa: SIM115
