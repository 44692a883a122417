"""What a step holds until its backward pass: never all logits, and no activations of layers that are recomputed."""

from __future__ import annotations

import contextlib
import random
import weakref
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from llamahome_tui.training.shape import Method  # noqa: E402
from llamahome_tui.training.trainer import loss  # noqa: E402
from llamahome_tui.training.trainer.batches import Batching, Item, collate  # noqa: E402
from llamahome_tui.training.trainer.loss import reader_of  # noqa: E402
from llamahome_tui.training.trainer.model import Trainee  # noqa: E402
from llamahome_tui.training.trainer.objectives import objective_of  # noqa: E402
from tests.tinymodel import write_model  # noqa: E402
from tests.unit.training.trainer import objective_cases as cases  # noqa: E402
from tests.unit.training.trainer.objective_cases import CASES, Case  # noqa: E402

pytestmark = pytest.mark.torch

WIDE = 4096  # a vocabulary far wider than the hidden states, as of real models
LAYERS = 4


class Row:
    def __init__(self, ids: list[int], start: int) -> None:
        self.ids = ids
        self.mask = [0] * start + [1] * (len(ids) - start)


class Held(TorchDispatchMode):
    """Counts the bytes of all storages that are made inside and still alive, and keeps the most there ever were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = operation(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, torch.Tensor):
                self._see(one.untyped_storage())
        return made

    def _see(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), vocabulary=WIDE, layers=LAYERS)


def learner(folder: Path) -> Trainee:
    from peft import get_peft_model

    base = cases.load(folder)
    model = get_peft_model(base, cases.config())
    cases.fill(model)
    return Trainee(model.train(), base, torch.device("cpu"), "fp32", lora=True, parameters=0)


def items(kind: str) -> list[Item]:
    chance = random.Random(0)

    def row() -> Row:
        return Row([chance.randrange(5, 100) for _ in range(64)], 8)

    pair = kind in ("dpo", "simpo", "orpo")
    return [Item((row(), row()) if pair else (row(),), chance.random() < 0.6) for _ in range(8)]


def step(trainee: Trainee, case: Case) -> tuple[int, float, list[Any]]:
    """The most bytes that a micro-batch's forward and backward held at a time, its loss and gradients."""
    rows = items(case.kind)
    read, chunked = reader_of(trainee.model, trainee.base, collate([rows[0].sequences[0]]), contextlib.nullcontext)
    assert chunked
    objective = objective_of(Method(kind=case.kind, **case.method), trainee, read, 64)
    batch = objective.batch(rows, Batching("plain"))
    whole = objective.whole(rows, lambda sequences, each: each(collate(sequences)))
    for parameter in trainee.trainable:
        parameter.grad = None
    with Held() as held:
        part = objective.learn(batch, whole)
        part.loss.backward()
    return held.most, part.loss.item(), [one.grad.clone() for one in trainee.trainable]


def counted(layers: Any) -> list[int]:
    """How often each of these layers is computed from now on."""
    calls = [0] * len(layers)

    def count(at: int) -> None:
        calls[at] += 1

    for number, layer in enumerate(layers):
        layer.mlp.register_forward_pre_hook(lambda *_, at=number: count(at))
    return calls


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_objective_ever_holds_all_logits(folder: Path, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same loss and gradient with chunks of 16 positions as with all at once, in far less memory."""
    trainee = learner(folder)
    monkeypatch.setitem(loss.CHUNK_LOGITS, "cpu", 1 << 30)
    whole, wanted, gradients = step(trainee, case)
    monkeypatch.setitem(loss.CHUNK_LOGITS, "cpu", 16 * WIDE)
    chunked, found, others = step(trainee, case)
    positions = 8 * 56 * (2 if case.kind in ("dpo", "simpo", "orpo") else 1)
    logits = 4 * positions * WIDE
    # Logits and what is computed from them (their gradient takes their place): what is measured is there to be seen.
    assert whole > 1.5 * logits
    assert chunked < whole - 0.9 * logits
    assert chunked < logits
    assert found == pytest.approx(wanted, rel=1e-5)
    for mine, theirs in zip(others, gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_recomputing_some_layers_holds_less_than_none_and_more_than_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradient is bitwise the same, and just the layers that were asked for are computed twice."""
    monkeypatch.setitem(loss.CHUNK_LOGITS, "cpu", 16 * WIDE)
    found = {}
    for setting in (False, 1, 0.5, 3.0, 9, True):
        trainee = learner(folder)
        if setting:
            assert trainee.checkpoint_gradients(setting)
        calls = counted(trainee.base.model.layers)
        torch.manual_seed(0)
        held, _loss, gradients = step(trainee, Case("sft"))
        found[repr(setting)] = held, [number - min(calls) for number in calls], gradients
    assert [again for _, again, _ in found.values()] == [
        [0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0],
    ]  # fmt: skip
    holds = [held for held, _, _ in found.values()]
    assert holds[0] > holds[1] > holds[2] > holds[3] > 0 and holds[4] == holds[5] < holds[2]
    _, _, wanted = found["False"]
    for _, _, gradients in found.values():
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(gradients, wanted, strict=True))
