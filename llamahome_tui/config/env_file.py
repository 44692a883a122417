"""The `.env` of the working folder: a small strict reader; what it does not understand is a mistake, never a guess."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llamahome_tui.config.fields import Mistake

MAX_BYTES = 256 * 1024
_ASSIGNMENT = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(.*)", re.DOTALL)
_PLAIN_COMMENT = re.compile(r"(?:^|[ \t]+)#.*")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "$": "$"}

# A `.env` may come with a folder somebody else wrote, so it sets what is listed here and nothing else: no PATH, no
# LD_PRELOAD, and no HF_ENDPOINT, which would send a token elsewhere. Settings that start commands are refused too.
OTHERS = frozenset(
    (
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "HF_HOME",
        "HF_HUB_CACHE",
        "HF_HUB_OFFLINE",
        "WANDB_API_KEY",
        "WANDB_PROJECT",
        "WANDB_ENTITY",
        "WANDB_MODE",
        "CUDA_VISIBLE_DEVICES",
        "OMP_NUM_THREADS",
        "NO_COLOR",
    )
)


@dataclass(frozen=True, slots=True)
class EnvFile:
    """What a `.env` sets (only names that concern us), on which line, and what is wrong with it."""

    path: Path
    values: Mapping[str, str] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)
    mistakes: tuple[Mistake, ...] = ()


def read_env_file(folder: Path) -> EnvFile:
    """The `.env` in `folder`; an empty one where there is none."""
    path = folder / ".env"
    try:
        with path.open("rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                return EnvFile(path)
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return EnvFile(path)
    except OSError as error:
        return EnvFile(path, mistakes=(Mistake(str(path), 0, "", f"cannot be read: {error.strerror}"),))
    if len(raw) > MAX_BYTES:
        return EnvFile(path, mistakes=(Mistake(str(path), 0, "", f"is longer than {MAX_BYTES // 1024} KiB"),))
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return EnvFile(path, mistakes=(Mistake(str(path), line, "", "is not UTF-8 text"),))
    return parse_env(text, path)


def parse_env(text: str, path: Path) -> EnvFile:
    """`NAME=value` lines, comments, `export`, single and double quotes; the latter know \\n, \\t, \\", \\\\ and \\$."""
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    mistakes: list[Mistake] = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        found = _ASSIGNMENT.fullmatch(line)
        if found is None:
            mistakes.append(Mistake(str(path), number, "", "expected NAME=value"))
            continue
        name, written = found.groups()
        value, problem = _value(written)
        if problem:
            mistakes.append(Mistake(str(path), number, name, problem))
        elif "\0" in value:
            mistakes.append(Mistake(str(path), number, name, "holds a NUL character"))
        elif name in OTHERS or name.startswith("LLAMAHOME_"):
            values[name] = value
            lines[name] = number
    return EnvFile(path, values, lines, tuple(mistakes))


def _value(written: str) -> tuple[str, str]:
    """The value that was written, and what is wrong with it or ""."""
    if not written or written[0] not in "\"'":
        return _PLAIN_COMMENT.sub("", written).rstrip(), ""
    quote = written[0]
    out: list[str] = []
    at = 1
    while at < len(written) and written[at] != quote:
        if quote == '"' and written[at] == "\\":
            at += 1
            escaped = written[at] if at < len(written) else ""
            if escaped not in _ESCAPES:
                return "", f"unknown escape \\{escaped}; single quotes take everything as it is"
            out.append(_ESCAPES[escaped])
        else:
            out.append(written[at])
        at += 1
    if at >= len(written):
        return "", f"the closing {quote} is missing"
    rest = written[at + 1 :].strip()
    if rest and not rest.startswith("#"):
        return "", f"text after the closing {quote}"
    return "".join(out), ""
