"""A training command found in a shell script or one line; it is taken apart by its quotes, and never run.

Plain assignments before it (`MODEL=x`) are put in for `$MODEL`; what only a shell could tell stays as it is written.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from llamahome_tui.errors import ConfigError
from llamahome_tui.text import clean

MOST_LINES: Final = 5_000
_ASSIGNMENT: Final = re.compile(r"^\s*(?:export\s+)?([A-Za-z_]\w*)=(\S.*|)$")
_VARIABLE: Final = re.compile(r"\$(?:\{([A-Za-z_]\w{0,99})(?::?-([^}]{0,199}))?\}|([A-Za-z_]\w{0,99}))")
_LAUNCHERS: Final = {
    "num_processes": ("--num_processes", "--num-processes", "--nproc_per_node", "--nproc-per-node"),
    "num_machines": ("--num_machines", "--num-machines", "--nnodes"),
}
_WHAT: Final = re.compile(
    r"(?<![\w./-])(?:trl\s+\w+|llamafactory-cli\s+train|axolotl\s+train|[\w./-]++(?<=\.py))(?=\s|\\|$)", re.MULTILINE
)
_TRAINERS: Final = (
    "sft", "dpo", "kto", "orpo", "cpo", "reward", "grpo", "rloo", "gkd", "ppo", "online_dpo", "xpo", "nash_md", "prm",
    "bco", "distillation",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Command:
    """`tool` is trl, llama-factory or axolotl; `trainer` the word or script that says what is trained, as sft.

    `options` are its words by name without dashes, a flag is True, several words are a list; `config` a file that it
    reads too. `devices` is what the launcher says, 0 where it says nothing.
    """

    tool: str
    trainer: str
    options: Mapping[str, Any]
    lines: Mapping[str, int] = field(default_factory=dict)
    config: str = ""
    devices: int = 0
    machines: int = 1


def find(text: str, source: str) -> Command | None:
    """The first command in `text` that trains; None where there is none, as in a YAML file.

    Raises ConfigError for quotes that never close, with the line.
    """
    if not _WHAT.search(text):
        return None
    variables: dict[str, str] = {}
    for line, statement in _statements(text):
        assigned = _ASSIGNMENT.match(statement)
        words = _split(statement, line, source) if _WHAT.search(statement) or assigned else []
        if assigned and len(words) == 1:
            variables[assigned[1]] = _filled(words[0].partition("=")[2], variables)
        elif words:
            command = _command([_filled(word, variables) for word in words], line)
            if command is not None:
                return command
    return None


def _statements(text: str) -> list[tuple[int, str]]:
    """Lines with their continuations, and the line (from 1) that each begins on; comment lines are left out."""
    found: list[tuple[int, str]] = []
    begun = 0
    parts: list[str] = []
    for number, line in enumerate(text.split("\n")[:MOST_LINES], 1):
        stripped = line.rstrip()
        if stripped.lstrip().startswith("#"):
            continue  # within a continued command too: people switch options off so
        begun = begun if parts else number
        if stripped.endswith("\\"):
            parts.append(stripped[:-1])
            continue
        found.append((begun, " ".join([*parts, stripped]).strip()))
        parts = []
    if parts:
        found.append((begun, " ".join(parts).strip()))
    return [(line, one.removeprefix("$ ")) for line, one in found if one]


def _split(statement: str, line: int, source: str) -> list[str]:
    try:
        lexer = shlex.shlex(statement, posix=True, punctuation_chars=False)
        lexer.whitespace_split = True
        return list(lexer)
    except ValueError as error:
        raise ConfigError(
            f"{source}:{line}: {clean(str(error), limit=80).lower()}, so the command can't be told from the rest",
            code="import.unreadable",
            hint="close the quote, then: llamahome --batch train init --from FILE",
            data={"file": source, "line": line},
        ) from None


def _filled(word: str, variables: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        name, otherwise = found[1] or found[3], found[2]
        return variables.get(name, otherwise if otherwise is not None else found[0])

    return _VARIABLE.sub(value, word)


def _command(words: Sequence[str], line: int) -> Command | None:
    factory = any("llamafactory" in one.lower() or one in ("--stage", "--finetuning_type") for one in words)
    for at, word in enumerate(words):
        after = words[at + 1] if at + 1 < len(words) else ""
        name = PurePosixPath(word).name
        if name == "trl" and after in _TRAINERS:
            return _made("trl", after, words[:at], words[at + 2 :], line)
        if name == "llamafactory-cli" and after == "train":
            return _made("llama-factory", "train", words[:at], words[at + 2 :], line)
        if name == "axolotl" and after == "train":
            return _made("axolotl", "train", words[:at], words[at + 2 :], line)
        stem = name.removesuffix(".py")
        if name.endswith(".py") and stem in _TRAINERS and not word.startswith("-"):
            return _made("trl", stem, words[:at], words[at + 1 :], line)
        if stem in ("train", "train_bash") and name != stem and (factory or after.endswith((".yaml", ".yml", ".json"))):
            return _made("llama-factory", "train", words[:at], words[at + 1 :], line)
    return None


def _made(tool: str, trainer: str, before: Sequence[str], after: Sequence[str], line: int) -> Command:
    options, config = _options(after)
    config = str(options.pop("config", "") or config)
    launched = {name: _number(before, flags) for name, flags in _LAUNCHERS.items()}
    devices = launched["num_processes"] or _number_of(options.pop("num_processes", None)) or _visible(before)
    lines = dict.fromkeys(options, line)
    return Command(tool, trainer, options, lines, config, devices, launched["num_machines"] or 1)


def _options(words: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Options by name, and the first word that belongs to none: a configuration."""
    options: dict[str, Any] = {}
    config = ""
    name = ""
    for word in words:
        if word in ("&&", "||", ";", "|", "&", ">", ">>", "2>&1") or re.match(r"^\d?>", word):
            break
        if re.match(r"^--[A-Za-z]", word):
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_")
            options[name] = value if equals else True
            name = "" if equals else name
        elif "=" in word and not name and re.match(r"^[A-Za-z_]\w*=", word):
            key, _, value = word.partition("=")
            options[key] = value
        elif not name:
            config = config or word
        elif options[name] is True:
            options[name] = word
        else:
            held = options[name]
            options[name] = [*held, word] if isinstance(held, list) else [held, word]
    return options, config


def _number(words: Sequence[str], flags: Sequence[str]) -> int:
    for at, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag in flags:
            return _number_of(value if equals else words[at + 1] if at + 1 < len(words) else "")
    return 0


def _visible(words: Sequence[str]) -> int:
    for word in words:
        name, _, value = word.partition("=")
        if name == "CUDA_VISIBLE_DEVICES" and value and "$" not in value:
            return len(value.split(","))
    return 0


def _number_of(value: Any) -> int:
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 6 else 0
