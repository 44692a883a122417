"""Secrets: where the Hub's token is read from, and how what looks like one is kept out of text and children."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

REDACTED = "[redacted]"
_SECRET_ENDINGS = frozenset(
    "TOKEN KEY KEYS SECRET SECRETS PASSWORD PASSWD PASSPHRASE CREDENTIAL CREDENTIALS PAT".split()  # noqa: SIM905
)
_SHORTEST = 6  # a value shorter than this would redact half of every text

# (what must stand in the lower-case text, pattern, replacement): the first is there for speed, as most text has none of
# them, and patterns are compiled when one is met.
_PATTERNS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("hf_", "api_org_", "sk-", "gh", "glpat-", "xox", "akia", "wandb_v1_"),
        (
            r"\b(?:hf|api_org)_[A-Za-z0-9]{8,}"  # Hugging Face
            r"|\bsk-[A-Za-z0-9_-]{12,}"  # OpenAI, Anthropic and their kin
            r"|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}"
            r"|\bglpat-[\w-]{16,}|\bxox[abprs]-[\w-]{10,}|\bAKIA[0-9A-Z]{16}\b"
            r"|\bwandb_v1_\w{20,}"
        ),
        REDACTED,
    ),
    (
        ("bearer", "basic", "authorization", "token", "key", "secret", "passw"),
        (
            r"(?i)(\bbearer\s+|\bbasic\s+|\bauthorization\s*[:=]\s*(?:(?:bearer|basic|token)\s+)?"
            r"|\b(?:[a-z0-9_-]*(?:token|api[_-]?key|apikey|secret|password|passwd))[\"']?\s*[:=]\s*[\"']?)"
            r"(?!\[redacted\]|(?:bearer|basic|token)\s)([^\s\"',;&]{6,})"
        ),
        rf"\1{REDACTED}",
    ),
    (("wandb",), r"(?i)(wandb[^\n]{0,40}?)\b[0-9a-f]{40}\b", rf"\1{REDACTED}"),
    (("://",), r"(\b[a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s:@]*:[^/\s@]+@", rf"\1{REDACTED}@"),
)


def is_secret_name(name: str) -> bool:
    """Whether a variable of this name holds a secret: it ends in TOKEN, KEY, SECRET, PASSWORD or their kin."""
    name = name.upper()
    return name.rpartition("_")[2] in _SECRET_ENDINGS or name.endswith(("TOKEN", "APIKEY", "SECRET", "PASSWORD"))


def secret_values(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The values in `environ` that must never be shown, longest first."""
    found = {value for name, value in environ.items() if is_secret_name(name) and len(value) >= _SHORTEST}
    return tuple(sorted(found, key=len, reverse=True))


def redact(text: str, values: tuple[str, ...] | None = None) -> str:
    """`text` with everything that is a secret, or looks like one, replaced by [redacted].

    `values` are this process's own secrets (`secret_values`); without them they are read from `os.environ`, because
    the places that call this last (log sinks, the crash screen) have nothing else at hand.
    """
    for value in secret_values(os.environ) if values is None else values:
        if value in text:
            text = text.replace(value, REDACTED)
    lower = text.lower()
    for signs, pattern, replacement in _PATTERNS:
        if any(sign in lower for sign in signs):
            text = _compiled(pattern).sub(replacement, text)
    return text


def holds_token(text: str, values: tuple[str, ...]) -> bool:
    """Whether one of these secrets, or a token of a well-known make, stands in `text`.

    Stricter evidence than `redact` asks for: `--pad_token=<|end|>` only looks like a secret, and must not be refused.
    """
    signs, pattern, _ = _PATTERNS[0]
    return any(value in text for value in values) or (
        any(sign in text.lower() for sign in signs) and _compiled(pattern).search(text) is not None
    )


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def strip_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` for a child that needs no secret: the trainer reads local files and talks to nobody."""
    return {name: value for name, value in environ.items() if not is_secret_name(name)}


def hub_token(environ: Mapping[str, str]) -> str:
    """The Hub's token, or "": HF_TOKEN, then the file that `huggingface-cli login` and ours write.

    The file is read without following a symlink in its last part, and only its first line counts.
    """
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if given := environ.get(name, "").strip():
            return given
    path = token_file(environ)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as stream:
        raw = stream.read(4096)
    first = raw.split(b"\n", 1)[0].strip()
    return first.decode("ascii", "ignore")


def token_file(environ: Mapping[str, str]) -> Path:
    """Where the token is kept on disk: HF_TOKEN_PATH, else `token` in HF_HOME."""
    if named := environ.get("HF_TOKEN_PATH"):
        return Path(named).expanduser()
    if home := environ.get("HF_HOME"):
        return Path(home).expanduser() / "token"
    caches = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".cache")
    return Path(caches) / "huggingface" / "token"
