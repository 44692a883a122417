"""Publishing and rotating checkpoint folders, counters on disk, and reasons why a resume is not exact."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import save_file

from llamahome_tui.jobs import recovery
from llamahome_tui.training import sameness
from llamahome_tui.training.auto import Micro
from llamahome_tui.training.spec import Spec
from llamahome_tui.training.trainer import checkpoint, rng
from llamahome_tui.training.trainer.counters import Best, Counters, Interval
from llamahome_tui.training.trainer.model import Trainee
from llamahome_tui.training.trainer.snapshot import Weights

pytestmark = pytest.mark.torch


def step(folder: Path, number: int) -> None:
    checkpoint.publish(folder, f"step-{number}", lambda into: _fill(into, number), step=number)


def _fill(into: Path, number: int) -> None:
    (into / "state").write_text(str(number))


def test_a_published_folder_is_whole_and_replaces_one_of_its_name(tmp_path: Path) -> None:
    step(tmp_path, 3)
    written = checkpoint.publish(tmp_path, "step-3", lambda into: _fill(into, 33), step=3)
    assert (written.path / "state").read_text() == "33" and written.bytes == 2
    assert json.loads((written.path / "complete.json").read_text())["files"].keys() == {"state"}
    assert [p.name for p in tmp_path.iterdir()] == ["step-3"]


def test_killed_while_the_one_before_is_removed_the_new_one_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step(tmp_path, 3)
    remove = shutil.rmtree

    def killed(path: Path, ignore_errors: bool = False) -> None:
        if path.name == ".old-step-3" and path.exists():
            (path / "state").unlink()
            raise KeyboardInterrupt
        remove(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.publish(tmp_path, "step-3", lambda into: _fill(into, 33), step=3)
    assert recovery.verify(tmp_path / "step-3") == [] and (tmp_path / "step-3" / "state").read_text() == "33"


def test_a_whole_model_comes_back_whose_file_names_its_weights_otherwise(tmp_path: Path) -> None:
    """A mixture of experts has one tensor for all of them, and its file one for each."""
    import transformers

    config = transformers.MixtralConfig(
        vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=2,
    )  # fmt: skip
    saved, other = transformers.MixtralForCausalLM(config), transformers.MixtralForCausalLM(config)
    Weights(saved.state_dict(), None, saved).write(tmp_path)
    checkpoint.load_weights(cast("Trainee", SimpleNamespace(lora=False, base=other)), tmp_path)
    assert all(torch.equal(saved.state_dict()[name], weight) for name, weight in other.state_dict().items())
    (tmp_path / "model.safetensors").unlink()
    save_file({"lm_head.weight": saved.lm_head.weight.detach()}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="lacks model"):
        checkpoint.load_weights(cast("Trainee", SimpleNamespace(lora=False, base=other)), tmp_path)


def test_a_failed_save_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken(into: Path) -> None:
        (into / "state").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left") as error:
        checkpoint.publish(tmp_path, "step-1", broken, step=1)
    assert checkpoint.is_disk_full(error.value)
    assert not list(tmp_path.iterdir())


def test_rotation_keeps_the_last_and_the_best(tmp_path: Path) -> None:
    for number in (2, 10, 9, 30):
        step(tmp_path, number)
    (tmp_path / "step-7.partial").mkdir()
    checkpoint.rotate(tmp_path, keep=2, best="step-2")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-10", "step-2", "step-30", "step-7.partial"]


def test_what_killed_saves_left_is_cleared_and_a_replaced_checkpoint_comes_back(tmp_path: Path) -> None:
    from llamahome_tui.jobs.store import Run

    run = Run("r", tmp_path)
    folder = run.checkpoints_dir
    for number in (1, 2, 3):
        step(folder, number)
        (folder / f"step-{number}" / "counters.json").write_text('{"counters": {}}')
    (folder / "step-3").rename(folder / ".old-step-3")  # killed just before the new version got the name
    (folder / "step-2").rename(folder / ".old-step-2")
    (folder / ".old-step-2" / "state").unlink()  # killed while it was removed
    (folder / ".tmp-step-4").mkdir()
    found, aside = checkpoint.newest(run)
    assert found is not None and found.step == 3 and not aside
    assert sorted(p.name for p in folder.iterdir()) == ["step-1", "step-3"]


def test_disk_full_is_known_by_number_text_and_cause() -> None:
    wrapped = RuntimeError("write failed")
    wrapped.__cause__ = OSError(errno.EDQUOT, "Disk quota exceeded")
    assert checkpoint.is_disk_full(wrapped)
    assert checkpoint.is_disk_full(RuntimeError("I/O error: No space left on device (os error 28)"))
    assert not checkpoint.is_disk_full(OSError(errno.EACCES, "Permission denied"))


def test_counters_come_back_from_json() -> None:
    counters = Counters(Micro("tokens", 77), 0.1, step=5, best=Best("eval_loss", 0.1 + 0.2, 4, "checkpoints/step-4"))
    counters.interval = Interval(1.1, 3)
    assert Counters.from_dict(json.loads(json.dumps(counters.to_dict())) | {"of_a_later_version": 1}) == counters


def test_random_numbers_go_on_where_they_were() -> None:
    import random

    import numpy as np
    import torch

    rng.seed(7)
    random.gauss(0, 1)
    state = rng.snapshot()
    first = (random.random(), random.gauss(0, 1), np.random.rand(), torch.rand(1).item())
    rng.restore(state)
    assert (random.random(), random.gauss(0, 1), np.random.rand(), torch.rand(1).item()) == first


def test_every_reason_why_a_resume_is_not_exact_is_named(tmp_path: Path) -> None:
    now = {"host": "a", "versions": {"torch": "2"}, "threads": 2, "device": "cpu", "instructions": "AVX2"}
    spec = Spec.from_dict({"training": {"epochs": 2, "log_every": 5}})
    before = Spec.from_dict({"training": {"epochs": 2, "log_every": 50}}).to_dict()
    assert sameness.differences(now, now, before, spec) == []
    was = now | {"host": "b", "versions": {"torch": "1", "peft": "0"}, "threads": 4}
    reasons = sameness.differences(was, now, Spec.from_dict({"lora": {"r": 4}}).to_dict(), spec)
    assert reasons == [
        "host was b",
        "peft was 0, is None",
        "torch was 1, is 2",
        "threads was 4, is 2",
        "lora.r, training.epochs changed",
    ]
    assert sameness.differences(now | {"device": "H200"}, now | {"device": "H200"}, before, spec) == [
        "a GPU adds in no fixed order"
    ]
    data = tmp_path / "rows"
    data.write_text("x")
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    assert sameness.changed_files({str(data): digest}) == []
    data.write_text("y")
    assert sameness.changed_files({str(data): digest, str(tmp_path / "gone"): digest}) == [
        str(data),
        str(tmp_path / "gone"),
    ]
