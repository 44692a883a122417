"""Words of a command line to one operation and its arguments; parser and help are made from the registry alone."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from llamahome_tui.errors import UsageError
from llamahome_tui.operations import COMMON, NOUNS, OPERATIONS, Argument, Operation, find, verbs
from llamahome_tui.units import parse_duration, parse_size

# The registry has no one-letter options, so a word with one dash is a value (`runs tag ID -old`, `lr=-1`).
_DASHED = "\0"


@dataclass(frozen=True, slots=True)
class Invocation:
    """One operation as it was asked for; `help` holds the text to print instead of running it."""

    operation: Operation | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    json: bool = False
    quiet: bool = False
    yes: bool = False
    env_file: bool = True
    help: str = ""


def read_words(words: Sequence[str]) -> Invocation:
    """The invocation that the words after `--batch` ask for; raises UsageError with the nearest known word."""
    head, rest = _split_rest(words)
    wants_help = any(word in ("--help", "-h") for word in head)
    plain = [word for word in head if word not in ("--help", "-h")]
    common = {flag for flag, _ in COMMON}
    first = next((i for i, word in enumerate(plain) if word not in common), len(plain))
    plain = plain[first:] + plain[:first]  # `--batch --json runs list` reads as `--batch runs list --json`
    if not plain or plain[0] in common:
        if wants_help:
            return Invocation(help=_overview())
        raise UsageError("name what to do: a noun and a verb", hint="see: llamahome --batch --help")
    noun = plain.pop(0)
    if noun not in NOUNS:
        raise UsageError(f"no noun {noun!r}{_guess(noun, list(NOUNS))}", hint="see: llamahome --batch --help")
    operation = find(noun)
    if operation is None:
        known = [o.verb for o in verbs(noun)]
        position = next((i for i, word in enumerate(plain) if word not in common), None)
        if position is None:
            if wants_help:
                return Invocation(help=_noun_help(noun))
            raise UsageError(
                f"{noun} needs a verb: {', '.join(known)}",
                hint=f"see: llamahome --batch {noun} --help",
                data={"verbs": known},
            )
        verb = plain.pop(position)
        operation = find(noun, verb)
        if operation is None:
            if wants_help:
                return Invocation(help=_noun_help(noun))
            raise UsageError(
                f"{noun} has no verb {verb!r}{_guess(verb, known)}",
                hint=f"see: llamahome --batch {noun} --help",
                data={"verbs": known},
            )
    if wants_help:
        return Invocation(help=build_parser(operation).format_help())
    return _read_arguments(operation, plain, rest)


def nearest(word: str, known: Sequence[str]) -> str:
    """The known word most like this one, or an empty text."""
    import difflib

    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=0.55)), "")


def build_parser(operation: Operation) -> argparse.ArgumentParser:
    """The argparse parser of one operation."""
    parser = _Parser(
        prog=f"llamahome --batch {operation.name}",
        description=_sentence(operation.help),
        epilog=f"example: {operation.example}" if operation.example else None,
        add_help=False,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.operation = operation
    given = parser.add_argument_group("arguments") if operation.arguments else parser
    for argument in operation.arguments:
        _add(given, argument)
    everywhere = parser.add_argument_group("everywhere")
    for flag, help_text in COMMON:
        everywhere.add_argument(flag, action="store_true", help=help_text)
    everywhere.add_argument("-h", "--help", action="store_true", help="this text")
    if any(a.shape == "rest" for a in operation.arguments):
        parser.usage = parser.format_usage().removeprefix("usage: ").rstrip() + " -- COMMAND..."
    return parser


def _add(group: argparse._ActionsContainer, argument: Argument) -> None:
    convert = _converter(argument)
    shown = _sentence(argument.help, stop="")
    if argument.default not in (None, False, ()):
        shown += f" (default: {argument.default})".replace("%", "%%")
    metavar = argument.metavar or (None if argument.choices else argument.name.upper().replace("_", "-"))
    choices = argument.words() or None
    if argument.shape == "flag":
        group.add_argument(argument.flag, dest=argument.name, action="store_true", help=shown)
    elif argument.shape == "option":
        more: dict[str, Any] = {}
        if argument.many:
            more = {"action": "extend", "nargs": "+"} if argument.greedy else {"action": "append"}
        group.add_argument(
            argument.flag, dest=argument.name, type=convert, metavar=metavar, choices=choices, help=shown,
            required=argument.required, **more,
        )  # fmt: skip
    elif argument.shape == "positional":
        nargs = {(True, True): "+", (True, False): "*", (False, True): None, (False, False): "?"}
        group.add_argument(
            argument.name, type=convert, metavar=metavar, choices=choices, help=shown,
            nargs=nargs[argument.many, argument.required],
        )  # fmt: skip


def _read_arguments(operation: Operation, words: Sequence[str], rest: Sequence[str] | None) -> Invocation:
    takes_rest = next((a for a in operation.arguments if a.shape == "rest"), None)
    if takes_rest is None and rest is not None:
        words, rest = [*words, *(_DASHED + word for word in rest)], None  # `--` ends the options, as everywhere
    if takes_rest is not None and takes_rest.required and not rest:
        raise UsageError(
            f"{operation.name} needs the {takes_rest.name} after --",
            hint=f"as in: {operation.example}" if operation.example else _see(operation),
        )
    marked = [_DASHED + w if len(w) > 1 and w[0] == "-" and w[1] != "-" else w for w in words]
    parser = build_parser(operation)
    parser.usage = operation.name  # argparse would lay out the whole usage first, for messages that `error` replaces
    found = vars(parser.parse_intermixed_args(marked))
    flags = {flag.removeprefix("--").replace("-", "_"): False for flag, _ in COMMON}
    flags.update({name: found.pop(name) for name in list(found) if name in flags})
    arguments = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
    if takes_rest is not None and rest:
        arguments[takes_rest.name] = tuple(rest)
    env_file = not flags["no_env_file"]
    return Invocation(operation, arguments, flags["json"], flags["quiet"], flags["yes"], env_file)


def _split_rest(words: Sequence[str]) -> tuple[list[str], list[str] | None]:
    if "--" not in words:
        return list(words), None
    cut = list(words).index("--")
    return list(words[:cut]), list(words[cut + 1 :])


def _converter(argument: Argument) -> Callable[[str], Any]:
    kinds: dict[str, Callable[[str], Any]] = {
        "text": str, "int": int, "float": float, "duration": parse_duration, "size": parse_size,
    }  # fmt: skip
    read = kinds[argument.kind]
    names = {"int": "a whole number", "float": "a number"}

    def convert(word: str) -> Any:
        text = word.removeprefix(_DASHED)
        try:
            return read(text)
        except ValueError as error:
            plain = f"{text!r} is not {names[argument.kind]}" if argument.kind in names else str(error)
            raise argparse.ArgumentTypeError(plain) from None

    return convert


class _Parser(argparse.ArgumentParser):
    """An argparse parser that raises UsageError instead of leaving the process."""

    operation: Operation

    def error(self, message: str) -> NoReturn:
        message = message.replace(_DASHED, "")
        lost = message.removeprefix("unrecognized arguments: ")
        if lost != message:
            flags = [a.flag for a in self.operation.arguments if a.shape in ("option", "flag")]
            flags += [flag for flag, _ in COMMON]
            first = lost.split(" ")[0]
            message = f"{self.operation.name} takes no {first!r}{_guess(first.partition('=')[0], flags)}"
        raise UsageError(message, hint=_see(self.operation))


def _see(operation: Operation) -> str:
    return f"see: llamahome --batch {operation.name} --help"


def _guess(word: str, known: Sequence[str]) -> str:
    guess = nearest(word, known)
    return f"; did you mean {guess}?" if guess else ""


def _sentence(text: str, stop: str = ".") -> str:
    return text[:1].upper() + text[1:].replace("%", "%%") + stop if stop else text.replace("%", "%%")


def _overview() -> str:
    lines = ["usage: llamahome --batch NOUN VERB [arguments] [--json] [--quiet] [--yes] [--no-env-file]", ""]
    lines += ["Every operation, without a terminal: results on stdout, everything else on stderr.", ""]
    for noun, meaning in NOUNS.items():
        names = [o.verb for o in OPERATIONS if o.noun == noun and o.verb]
        lines.append(f"  {noun:<11} {meaning}")
        if names:
            lines.append(f"  {'':<11} {', '.join(names)}")
    lines += ["", "  llamahome --batch NOUN --help        the verbs of a noun"]
    lines += ["  llamahome --batch NOUN VERB --help   the arguments of one", ""]
    lines += ["everywhere after the noun:"]
    lines += [f"  {flag:<15} {meaning}" for flag, meaning in COMMON]
    return "\n".join(lines) + "\n"


def _noun_help(noun: str) -> str:
    lines = [f"usage: llamahome --batch {noun} VERB [arguments]", "", _sentence(NOUNS[noun]), ""]
    for operation in verbs(noun):
        asked = " ".join(
            a.metavar or a.name.upper() for a in operation.arguments if a.required and a.shape == "positional"
        )
        lines.append(f"  {f'{operation.verb} {asked}'.rstrip():<26} {operation.help}")
    return "\n".join([*lines, "", f"  llamahome --batch {noun} VERB --help   the arguments of one"]) + "\n"
