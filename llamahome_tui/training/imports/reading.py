"""A file of another tool, read as what it is: YAML, JSON or a command line; whatever it says, nothing in it is run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from llamahome_tui.errors import ConfigError, NotFoundError
from llamahome_tui.text import clean
from llamahome_tui.training.imports import shell, yaml_text

MOST_BYTES: Final = 1 << 20
MOST_KEYS: Final = 1_000
_DEEPEST: Final = 30
# A byte order mark, or every other byte zero: text of two or four bytes a character.
_WIDE: Final = ((b"\xff\xfe\x00\x00", "UTF-32"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))


@dataclass(frozen=True, slots=True)
class Given:
    """What a file says: its keys, their lines (0: none), keys said twice, and the command line if it is one."""

    source: str
    folder: Path
    values: dict[str, Any]
    lines: dict[str, int] = field(default_factory=dict)
    twice: tuple[tuple[str, int, int], ...] = ()
    command: shell.Command | None = None
    cwd: Path = Path()  # where the user stands, and where their tool would look for files

    def place(self, key: str) -> str:
        """`file:line` of a key."""
        return f"{self.source}:{self.lines[key]}" if self.lines.get(key) else self.source


def read(path: Path, source: str) -> Given:
    """The file's keys and values. Raises NotFoundError, or ConfigError with file and line for what can't be read."""
    text = _text(path, source)
    if not text.strip():
        raise refused(source, "is empty")
    given = _parsed(text, path, source)
    if len(given.values) > MOST_KEYS:
        raise refused(source, f"has more than {MOST_KEYS:,} keys, so this is the wrong file")
    return given


def _parsed(text: str, path: Path, source: str) -> Given:
    if text.lstrip().startswith("{"):
        return _json(text, path, source)
    command = shell.find(text, source)
    if command is None:
        if path.suffix.lower() in (".sh", ".bash", ".slurm", ".sbatch"):
            raise refused(
                source,
                "holds no command that trains: looked for trl sft|dpo|kto, python sft.py, llamafactory-cli train",
            )
        document = yaml_text.load(text, source)
        return Given(source, path.parent, document.values, document.lines, document.twice)
    return _with_its_file(command, path, source)


def _with_its_file(command: shell.Command, path: Path, source: str) -> Given:
    """A command line with the configuration that it names, whose keys its options go over."""
    if not command.config:
        return Given(source, path.parent, dict(command.options), dict(command.lines), (), command)
    for folder in (path.parent, *path.parent.parents[:6]):
        named = folder / command.config
        if named.is_file():
            break
    else:
        raise NotFoundError(
            f"{source}: names the configuration {clean(command.config, limit=200)}, which is not there",
            code="import.not_found",
            hint="give that file itself: llamahome --batch train init --from FILE",
        )
    inner = read(named, clean(str(named), limit=300))
    if inner.command is not None:
        raise refused(source, f"names {clean(command.config, limit=200)}, which is a command line again")
    lines = {**inner.lines, **command.lines}
    return Given(source, named.parent, {**inner.values, **command.options}, lines, inner.twice, command)


def _text(path: Path, source: str) -> str:
    try:
        if not path.is_file():
            if path.exists():
                raise refused(source, "is no file")
            raise NotFoundError(
                f"there is no file {source}",
                code="import.not_found",
                hint="as in: llamahome --batch train init --from config.yaml",
            )
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise refused(source, f"cannot be read: {error.strerror}") from None
    if len(raw) > MOST_BYTES:
        raise refused(source, "is longer than 1 MiB, so this is no configuration")
    for mark, name in _WIDE:
        if raw.startswith(mark):
            raise refused(source, f"is {name}, not UTF-8: iconv -f {name} -t UTF-8 FILE > NEW")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refused(source, "is not UTF-8 text", line=raw[: error.start].count(b"\n") + 1) from None
    if "\0" in text:
        raise refused(source, "holds NUL characters, so it is no text", line=text[: text.index("\0")].count("\n") + 1)
    return text.replace("\r\n", "\n")


def _json(text: str, path: Path, source: str) -> Given:
    twice: list[tuple[str, int, int]] = []

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, value in found:
            if name in made:
                twice.append((name, 0, 0))
            made[name] = value
        return made

    try:
        values = json.loads(text, object_pairs_hook=pairs, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise refused(source, f"is not JSON: {error.msg}", line=error.lineno) from None
    except ValueError as error:
        raise refused(source, f"is not JSON: {clean(str(error), limit=100)}") from None
    except RecursionError:
        raise refused(source, f"is nested deeper than {_DEEPEST}") from None
    if _depth(values) > _DEEPEST:
        raise refused(source, f"is nested deeper than {_DEEPEST}")
    if _size(values) > yaml_text.MOST_VALUES:
        raise refused(source, f"has more than {yaml_text.MOST_VALUES:,} values, so this is the wrong file")
    return Given(source, path.parent, values, {}, tuple(twice))


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def _size(root: Any) -> int:
    count, waiting = 0, [root]
    while waiting:
        value = waiting.pop()
        count += 1
        if isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return count


def _depth(root: Any) -> int:
    deepest, level = 0, [root]
    while level:
        deepest += 1
        if deepest > _DEEPEST:
            break
        level = [
            one
            for value in level
            if isinstance(value, list | Mapping)
            for one in (value.values() if isinstance(value, Mapping) else value)
        ]
    return deepest


def refused(source: str, reason: str, *, line: int = 0) -> ConfigError:
    """What a file that is no configuration is answered with (exit 3)."""
    place = f"{source}:{line}" if line else source
    return ConfigError(
        f"{place}: {reason}",
        code="import.unreadable",
        hint="Axolotl, LLaMA-Factory and TRL are read: llamahome --batch train init --from FILE",
        data={"file": source, "line": line, "reason": reason},
    )
