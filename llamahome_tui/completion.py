"""Completion scripts for bash, zsh and fish, made from the registry; they list runs, models and logs by asking it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from llamahome_tui.cli import SCREENS
from llamahome_tui.operations import COMMON, NOUNS, OPERATIONS, Argument, Operation, verbs
from llamahome_tui.outcome import Outcome, Result

if TYPE_CHECKING:
    from llamahome_tui.context import Context

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_COMMON = (*(flag for flag, _ in COMMON), "--help")
# What each kind of value is listed with: one name per line on stdout.
_LISTINGS = {"run": "runs list", "model": "models list", "log": "logs list", "setting": "config show"}


def bash(context: Context) -> Iterator[Outcome]:
    """For ~/.bashrc: eval "$(llamahome --batch completion bash)"."""
    yield Result({"text": bash_script()})


def zsh(context: Context) -> Iterator[Outcome]:
    """For ~/.zshrc: eval "$(llamahome --batch completion zsh)"."""
    yield Result({"text": zsh_script()})


def fish(context: Context) -> Iterator[Outcome]:
    """For config.fish: llamahome --batch completion fish | source."""
    yield Result({"text": fish_script()})


def flags(operation: Operation) -> tuple[str, ...]:
    """Every option of an operation, the common ones last."""
    return (*(a.flag for a in operation.arguments if a.shape in ("option", "flag")), *_COMMON)


def bash_script() -> str:
    """The script for bash 4 and newer."""
    return _BASH.format(
        words=" ".join(dict.fromkeys([*SCREENS, *NOUNS])),
        verbs="\n".join(_case(noun, [o.verb for o in verbs(noun) if o.verb]) for noun in NOUNS),
        flags="\n".join(_case(o.name, flags(o)) for o in OPERATIONS),
        kinds=_kinds(),
        choices=_choices(),
        columns=_columns(),
    )


def zsh_script() -> str:
    """The same words for zsh, through its bash completion."""
    return "autoload -Uz bashcompinit && bashcompinit\n" + bash_script()


def fish_script() -> str:
    """The script for fish."""
    lines = ["# llamahome", "function __llamahome_names"]
    lines += ["    switch $argv[1]"]
    for kind, listing in _LISTINGS.items():
        lines += [
            f"        case {kind}",
            f"            llamahome --batch {listing} --quiet 2>/dev/null | {_FIRST_WORDS}",
        ]
    lines += ["    end", "end", "complete -c llamahome -f"]
    lines += ["complete -c llamahome -n __llamahome_at -l batch -d 'no terminal needed'"]
    lines += [f"complete -c llamahome -n __llamahome_at -a {one} -d 'open on that screen'" for one in SCREENS]
    for noun, meaning in NOUNS.items():
        lines.append(f"complete -c llamahome -n '__llamahome_at' -a {noun} -d {_quote(meaning)}")
        for operation in verbs(noun):
            if operation.verb:
                lines.append(
                    f"complete -c llamahome -n '__llamahome_at {noun}' -a {operation.verb} -d {_quote(operation.help)}"
                )
    for operation in OPERATIONS:
        here = f"-n '__llamahome_in {operation.name}'"
        for argument in operation.arguments:
            values = _listed(argument) or (
                f"(__llamahome_names {argument.completes})" if argument.completes in _LISTINGS else ""
            )
            files = " -F" if argument.completes in ("file", "folder") else ""
            given = f" -a {_quote(values)}" if values else ""
            if argument.shape in ("option", "flag"):
                takes = " -r" if argument.shape == "option" else ""
                about = _quote(argument.help)
                lines.append(f"complete -c llamahome {here} -l {argument.flag[2:]}{takes}{files}{given} -d {about}")
            elif given or files:
                lines.append(f"complete -c llamahome {here}{files}{given}")
        lines += [f"complete -c llamahome {here} -l {flag[2:]}" for flag in _COMMON]
    # The words typed so far, without --batch and options, decide what comes next.
    helpers = [
        "function __llamahome_words",
        "    for word in (commandline -opc)[2..]",
        "        string match -q -- '-*' $word; or echo $word",
        "    end",
        "end",
        "function __llamahome_at",
        '    test "$(__llamahome_words)" = "$argv"',
        "end",
        "function __llamahome_in",
        "    set -l words (__llamahome_words)",
        "    set -l n (count $argv)",
        '    test (count $words) -ge $n; and test "$words[1..$n]" = "$argv"',
        "end",
    ]
    return "\n".join([*helpers, *lines]) + "\n"


# compgen -W expands its words: only names without a character that a shell obeys may reach it.
_FIRST_WORDS = "tail -n +2 | cut -d ' ' -f 1 | grep -E '^[A-Za-z0-9][A-Za-z0-9._/@:+-]*$'"

_BASH = """\
# llamahome
_llamahome_names() {{
    case "$1" in
{columns}
    esac
}}
_llamahome() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}" word noun="" verb="" kind=""
    local i
    for ((i = 1; i < COMP_CWORD; i++)); do
        word="${{COMP_WORDS[i]}}"
        case "$word" in
            --) COMPREPLY=($(compgen -c -- "$current")); return ;;
            -*) ;;
            *) if [ -z "$noun" ]; then noun="$word"; elif [ -z "$verb" ]; then verb="$word"; fi ;;
        esac
    done
    if [ -z "$noun" ]; then
        COMPREPLY=($(compgen -W "--batch --run --theme --version --help {words}" -- "$current"))
        return
    fi
    local verbs="" flags=""
    case "$noun" in
{verbs}
    esac
    if [ -n "$verbs" ] && [ -z "$verb" ]; then
        COMPREPLY=($(compgen -W "$verbs --help" -- "$current"))
        return
    fi
    [ -n "$verbs" ] || verb=""
    case "$noun${{verb:+ $verb}} $previous" in
{choices}
    esac
    case "$noun${{verb:+ $verb}}" in
{flags}
    esac
    if [[ "$current" == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$current"))
        return
    fi
    case "$noun${{verb:+ $verb}} $previous" in
{kinds}
    esac
    case "$kind" in
        file|folder) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$current")) ;;
        "") COMPREPLY=() ;;
        *) COMPREPLY=($(compgen -W "$(_llamahome_names "$kind")" -- "$current")) ;;
    esac
}}
complete -F _llamahome llamahome
"""


def _case(pattern: str, words: tuple[str, ...] | list[str]) -> str:
    name = "verbs" if " " not in pattern and words and not words[0].startswith("-") else "flags"
    return f'        "{pattern}") {name}="{" ".join(words)}" ;;'


def _choices() -> str:
    lines = [
        f'        "{o.name} {a.flag}") COMPREPLY=($(compgen -W "{_listed(a)}" -- "$current")); return ;;'
        for o in OPERATIONS
        for a in o.arguments
        if a.choices and a.shape == "option"
    ]
    return "\n".join(lines)


def _listed(argument: Argument) -> str:
    """The choices in one line; a plug-in's only where no shell could take its name for more than a word."""
    return " ".join(word for word in argument.words() if word in argument.choices or _PLAIN.fullmatch(word))


def _kinds() -> str:
    """First the options that take a value, then the operation's positional, whatever word comes before it."""
    lines = []
    for operation in OPERATIONS:
        for argument in operation.arguments:
            if argument.shape == "option":
                lines.append(f'        "{operation.name} {argument.flag}") kind="{argument.completes}" ;;')
        first = next((a for a in operation.arguments if a.shape == "positional" and a.completes), None)
        if first is not None:
            lines.append(f'        "{operation.name} "*) kind="{first.completes}" ;;')
    return "\n".join(lines)


def _columns() -> str:
    return "\n".join(
        f"        {kind}) llamahome --batch {listing} --quiet 2>/dev/null | {_FIRST_WORDS} ;;"
        for kind, listing in _LISTINGS.items()
    )


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
