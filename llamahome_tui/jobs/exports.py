"""What of a run has been exported: a small file for each export among the run's artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from llamahome_tui.jobs.recovery import sha256_of
from llamahome_tui.jobs.store import Run, read_object, write_object

MANIFEST: Final = "llamahome.json"  # in every published export: its key, its files, its proof
_MOST: Final = 100


def keep(run: Run, job: str, record: Mapping[str, Any]) -> None:
    """Note that the job `job` has exported this run. Raises OSError."""
    run.artifacts_dir.mkdir(mode=0o700, exist_ok=True)
    write_object(run.artifacts_dir / f"export-{job}.json", {"v": 1, "job": job, **record})


def note(run: Run, job: str, form: str, place: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The same of a published export, by its manifest; gives what an `artifact` event tells of it."""
    told = {
        "kind": f"export-{form}",
        "path": str(place),
        "bytes": sum(one["bytes"] for one in manifest["files"].values()),
        "sha256": sha256_of(place / MANIFEST),
    }
    keep(run, job, {**told, "proof": manifest["proof"], "serve": manifest["serve"]})
    return told


def kept(run: Run) -> list[Mapping[str, Any]]:
    """The exports of a run as artifacts (kind, path, bytes, sha256, exists), oldest first."""
    found: list[Mapping[str, Any]] = []
    for file in sorted(run.artifacts_dir.glob("export-*.json"))[-_MOST:]:
        record = read_object(file)
        if record is None or not isinstance(record.get("path"), str):
            continue
        told = {name: record.get(name) for name in ("kind", "path", "bytes", "sha256")}
        found.append({**told, "exists": Path(record["path"]).is_dir()})
    return found
