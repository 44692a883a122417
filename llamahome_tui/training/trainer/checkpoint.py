"""Checkpoints: one gets its name only when everything in it is on disk, and older ones go only after that."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llamahome_tui.jobs import recovery
from llamahome_tui.jobs.store import Run, sync_folder
from llamahome_tui.training.trainer import optim, rng
from llamahome_tui.training.trainer.adapter import ADAPTER, ADAPTER_WEIGHTS
from llamahome_tui.training.trainer.model import Trainee
from llamahome_tui.training.trainer.snapshot import COUNTERS, STATE, Snapshot
from llamahome_tui.units import human_bytes

BESIDE = 64 << 10  # bytes of a checkpoint's small files, and what a file system takes for itself


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint: its folder and the step it stands after."""

    path: Path
    step: int
    notes: Mapping[str, Any]  # what COUNTERS holds


@dataclass(frozen=True, slots=True)
class Written:
    """A folder that is safely on disk."""

    path: Path
    bytes: int


def newest(run: Run) -> tuple[Checkpoint | None, list[Path]]:
    """The newest checkpoint whose every byte is as it was written, and what was set aside because it is not.

    Only for the holder of the trainer's lock: left-overs of a save that was killed are removed.
    """
    tidy(run.checkpoints_dir)
    aside = recovery.set_aside_partials(run, hashes=True)
    found = recovery.newest_complete_checkpoint(run)
    if found is None:
        return None, aside
    notes = json.loads((found.path / COUNTERS).read_text(encoding="utf-8"))
    return Checkpoint(found.path, found.step, notes), aside


def tidy(folder: Path) -> None:
    """Clear what a killed save left; a checkpoint that was only moved out of the way for its new version comes back."""
    for doomed in folder.glob(".old-*"):
        target = folder / doomed.name.removeprefix(".old-")
        if target.exists() or recovery.verify(doomed):
            shutil.rmtree(doomed, ignore_errors=True)
        else:
            doomed.rename(target)
    for unfinished in folder.glob(".tmp-*"):
        shutil.rmtree(unfinished, ignore_errors=True)


def write(folder: Path, step: int, snapshot: Snapshot) -> Written:
    """Write `folder`/step-<n>. Raises OSError or RuntimeError (see `is_disk_full`) and leaves nothing half done."""
    return publish(folder, f"step-{step}", snapshot.write, step=step)


def has_room(folder: Path, size: int) -> None:
    """Raises OSError (ENOSPC) where so many bytes do not fit; a file system that does not tell is believed."""
    folder.mkdir(parents=True, exist_ok=True)
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if status.f_blocks and free < size + BESIDE:
        raise OSError(errno.ENOSPC, f"it takes {human_bytes(size + BESIDE)}, and {human_bytes(free)} are free")


def restore(checkpoint: Checkpoint, trainee: Trainee, optimizer: Any, scaler: Any, rank: int = 0) -> None:
    """Put weights, optimiser, scaler and this rank's random number generators back to a checkpoint.

    A rank that the checkpoint has not goes on with the generators it has.
    """
    load_weights(trainee, checkpoint.path)
    state = torch.load(checkpoint.path / STATE, map_location="cpu", weights_only=True)
    optim.restore(optimizer, trainee.model, state["optimizer"])
    if scaler and state["scaler"]:
        scaler.load_state_dict(state["scaler"])
    generators = [state["rng"], *state.get("others", [])]
    if rank < len(generators):
        rng.restore(generators[rank])


def load_weights(trainee: Trainee, folder: Path) -> None:
    """Back from `save_weights`, into a model of the same form."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    if trainee.lora:
        set_peft_model_state_dict(trainee.model, load_file(folder / ADAPTER_WEIGHTS), adapter_name=ADAPTER)
        return
    weights: dict[str, Any] = {}
    for file in sorted(folder.glob("model*.safetensors")):
        weights |= load_file(file)
    missing = trainee.base.load_state_dict(weights, strict=False).missing_keys
    tied = set(getattr(trainee.base, "_tied_weights_keys", None) or ())
    if set(missing) - tied:
        del weights
        trainee.base.load_state_dict(_renamed(trainee.base, folder))
    trainee.base.tie_weights()


def _renamed(model: Any, folder: Path) -> Any:
    """Weights under the names that a model has them by: its file has each expert's, where the model has one tensor."""
    found, said = type(model).from_pretrained(
        folder, dtype=model.dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
    )
    if lost := sorted(said["missing_keys"]):
        raise ValueError(f"{folder} lacks {', '.join(lost[:5])}")
    return found.state_dict()


def publish(folder: Path, name: str, fill: Callable[[Path], None], *, step: int | None = None) -> Written:
    """Fill a folder under another name, sync all of it, then give it its name; with a step it gets a complete.json."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary, target = folder / f".tmp-{name}", folder / name
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        fill(temporary)
        if step is not None:
            size = recovery.write_complete(temporary, step)
        else:
            size = _sync_all(temporary)
        doomed = _aside(target)
        temporary.rename(target)
        sync_folder(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(doomed, ignore_errors=True)  # only now: killed before, one of the two is whole
    return Written(target, size)


def rotate(folder: Path, keep: int, best: str, in_use: str = "") -> None:
    """Remove all complete checkpoints but the last `keep`, the folder named `best` and one that is being copied."""
    steps = sorted((int(p.name[5:]), p) for p in folder.glob("step-*") if p.name[5:].isdigit())
    for _, path in steps[: -max(1, keep)]:
        if path.name not in (best, in_use):
            discard(path)


def discard(path: Path) -> None:
    """Remove a folder so that a kill in between leaves nothing that looks like a checkpoint."""
    shutil.rmtree(_aside(path), ignore_errors=True)


def _aside(path: Path) -> Path:
    """Move a folder, where there is one, out of the way; gives where it would be now."""
    doomed = path.with_name(f".old-{path.name}")
    if path.exists():
        shutil.rmtree(doomed, ignore_errors=True)
        path.rename(doomed)
    return doomed


def _sync_all(folder: Path) -> int:
    size = 0
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
        size += path.stat().st_size
    sync_folder(folder)
    return size


def is_disk_full(error: BaseException) -> bool:
    """Whether a save failed for want of space; torch and safetensors hide the error number in a text or a cause."""
    while True:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left" in str(error) or "os error 28" in str(error) or "Disk quota" in str(error):
            return True
        following = error.__cause__ or error.__context__
        if following is None:
            return False
        error = following
