"""Finds what a run has trained: its finished adapter or a complete checkpoint; half-written ones never count."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llamahome_tui.errors import IntegrityError, NotFoundError, UsageError
from llamahome_tui.models.weights import read_header

if TYPE_CHECKING:
    from llamahome_tui.jobs.store import Run


@dataclass(frozen=True, slots=True)
class RunWeights:
    """A folder of trained weights: a PEFT adapter, or a whole model after full fine-tuning."""

    path: Path
    is_adapter: bool


def run_weights(run: Run, checkpoint: str = "") -> RunWeights:
    """The weights of a run: the artifact, else the newest complete checkpoint; or the named checkpoint.

    `checkpoint` is "" (newest of all), "best", "last", or a step number. Raises UsageError for another word,
    NotFoundError where the run has nothing yet, IntegrityError for an adapter that cannot be read.
    """
    if not checkpoint:
        finished = _weights_in(run.artifacts_dir)
        if finished is not None:
            return finished
    folder = _checkpoint(run, checkpoint)
    found = None if folder is None else _weights_in(folder)
    if found is None:
        wanted = f"checkpoint {checkpoint}" if checkpoint else "adapter or complete checkpoint"
        raise NotFoundError(
            f"run {run.id} has no {wanted}",
            code="run.no_checkpoint",
            hint=f"see what it has: llamahome --batch runs show {run.id}",
            data={"run": run.id},
        )
    return found


def _checkpoint(run: Run, which: str) -> Path | None:
    from llamahome_tui.jobs.recovery import newest_complete_checkpoint, verify

    if which in {"", "last"}:
        newest = newest_complete_checkpoint(run)
        return None if newest is None else newest.path
    if which == "best":
        from llamahome_tui.jobs.view import summarise

        best = summarise(run, full=True).best
        path = None if best is None else best.get("path")
        return run.dir / str(path) if path else None
    if not re.fullmatch(r"(?:step-)?\d{1,12}", which):
        raise UsageError(
            f"--checkpoint {which}: give best, last, or a step number", hint=f"llamahome --batch runs show {run.id}"
        )
    folder = run.checkpoints_dir / f"step-{int(which.removeprefix('step-'))}"
    if not folder.is_dir():
        return None
    faults = verify(folder)
    if faults:
        raise IntegrityError(
            f"{folder}: this checkpoint is not whole: {faults[0]}",
            code="checkpoint.broken",
            hint=f"take another one: llamahome --batch runs show {run.id}",
            data={"file": str(folder), "faults": faults},
        )
    return folder


def _weights_in(folder: Path) -> RunWeights | None:
    for place in (folder / "adapter", folder):
        if (place / "adapter_config.json").is_file():
            file = place / "adapter_model.safetensors"
            if not file.is_file():
                raise IntegrityError(
                    f"{file} is missing",
                    code="adapter.broken",
                    hint="llamahome --batch runs list",
                    data={"file": str(file)},
                )
            read_header(file)
            return RunWeights(place, is_adapter=True)
    for place in (folder / "model", folder):
        if (place / "config.json").is_file():
            return RunWeights(place, is_adapter=False)
    return None
