"""Whether two attempts compute the same: versions, settings and data files, compared; nothing heavy is imported."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import llamahome_tui
from llamahome_tui.data.files import expand
from llamahome_tui.errors import LlamaHomeError
from llamahome_tui.jobs.recovery import sha256_of
from llamahome_tui.training.shape import Spec

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "tokenizers", "numpy")
SECTIONS = ("model", "data", "method", "lora", "training")  # of a spec: what moves losses and weights
SPLIT = "micro-batch"  # how a `degrade` event begins that is about memory
STILL = ("log_every", "max_workers")  # keys of these that move neither


def versions() -> dict[str, str]:
    """Versions of python, LlamaHome and the libraries that do the arithmetic; those not installed are left out."""
    found = {"python": platform.python_version(), "llamahome": llamahome_tui.__version__}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], spec_before: Mapping[str, Any], spec: Spec
) -> list[str]:
    """Each reason, as a phrase, why what follows is not what the attempt before would have done, or did.

    Of the surroundings `now` may hold only a part: what it does not name is not compared.
    """
    reasons = []
    if before.get("host") != now["host"]:
        reasons.append(f"host was {before.get('host')}")
    old = before.get("versions", {})
    new = now.get("versions", old)
    reasons += [
        f"{name} was {old.get(name)}, is {new.get(name)}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]
    reasons += [
        f"{key} was {before.get(key)}, is {now[key]}"
        for key in ("threads", "device", "instructions")
        if key in now and before.get(key) != now[key]
    ]
    if "ranks" in now and (were := before.get("ranks", 1)) != (are := now["ranks"]):
        reasons.append(f"ranks were {were}, are {are}")
    changed = _changed(spec_before, spec.to_dict())
    if changed:
        reasons.append(f"{', '.join(changed)} changed")
    if now.get("device", "cpu") != "cpu":
        reasons.append("a GPU adds in no fixed order")
    return reasons


def moves(key: str) -> bool:
    """Whether a key of the spec can move losses and weights."""
    section, _, name = key.partition(".")
    return section in SECTIONS and name not in STILL


def changed_files(hashes: Mapping[str, str]) -> list[str]:
    """Names of data files whose content is no longer what these sha256 say; missing ones count."""
    return [name for name, digest in hashes.items() if _sha256(Path(name)) != digest]


def digests(paths: Iterable[Path]) -> dict[str, str]:
    """The sha256 of each of these files that is there, by its name."""
    return {str(path): _sha256(path) for path in paths if path.is_file()}


def new_files(hashes: Mapping[str, str], entries: Sequence[str]) -> list[str]:
    """Names of files that `data.train` means by now, as globs do, and that are not among these."""
    try:
        return [str(path) for path in expand(entries, Path("/")) if str(path) not in hashes]
    except LlamaHomeError:  # the preparation says what is missing
        return []


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    keys = []
    for section in SECTIONS:
        old, new = before.get(section) or {}, now.get(section) or {}
        keys += [f"{section}.{k}" for k in sorted({*old, *new}) if old.get(k) != new.get(k) and k not in STILL]
    return keys


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError:
        return ""
