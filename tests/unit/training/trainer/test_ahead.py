"""Micro-batches made while a step is still computed are those that would have been made after it."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llamahome_tui.training.auto import Micro  # noqa: E402
from llamahome_tui.training.trainer import step  # noqa: E402
from llamahome_tui.training.trainer.batches import Batching, Item, Items, collate  # noqa: E402
from llamahome_tui.training.trainer.loss import reader_of  # noqa: E402
from llamahome_tui.training.trainer.model import Trainee  # noqa: E402
from llamahome_tui.training.trainer.objectives.likelihood import Likelihood  # noqa: E402
from llamahome_tui.training.trainer.step import Stepper  # noqa: E402
from tests.tinymodel import write_model  # noqa: E402

pytestmark = pytest.mark.torch


class Row:
    def __init__(self, length: int, chance: random.Random) -> None:
        self.ids = [chance.randrange(5, 99) for _ in range(length)]
        self.mask = [1] * length


def stepper(folder: Path, *, ahead: bool) -> Stepper:
    from transformers import AutoModelForCausalLM

    chance = random.Random(0)
    rows = [Row(length, chance) for length in (9, 30, 12, 4, 25, 7, 18, 3)]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    trainee = Trainee(model.train(), model, torch.device("cpu"), "fp32", lora=False, parameters=0)
    read, _ = reader_of(model, model, collate(rows[:1]), contextlib.nullcontext)
    made = Stepper(
        trainee, Likelihood(read), torch.optim.AdamW(model.parameters(), lr=1e-3), None,
        Items.made([Item((row,)) for row in rows]), Micro("rows", 2), clip=1.0, batching=Batching("sorted"),
        split_on_oom=True, degraded=lambda what, why: None,
    )  # fmt: skip
    made.ahead = ahead
    return made


STEPS = [[0, 1, 2, 3], [4, 5, 6, 7], [1, 3, 5, 7], [0, 2, 4, 6]]


def test_steps_are_bitwise_the_same_and_each_micro_batch_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_model(tmp_path / "model")
    events: list[str] = []
    batch, finish = Stepper._batch, Stepper._finish
    monkeypatch.setattr(Stepper, "_batch", lambda self, *given: events.append("made") or batch(self, *given))
    monkeypatch.setattr(Stepper, "_finish", lambda self, *given: events.append("waited") or finish(self, *given))
    found: dict[bool, Any] = {}
    order = {}
    for ahead in (False, True):
        events.clear()
        one = stepper(folder, ahead=ahead)
        following = [*STEPS[1:], []]
        found[ahead] = [one.take(rows, 1e-3, after).loss for rows, after in zip(STEPS, following, strict=True)]
        order[ahead] = list(events)
        assert one._prepared.batches == {}
    assert found[True] == found[False]
    assert order[False] == ["made", "made", "waited"] * 4
    assert order[True] == ["made", "made", *["made", "made", "waited"] * 3, "waited"]


def test_a_limit_that_memory_makes_smaller_throws_away_what_was_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_model(tmp_path / "model")
    one, plain = stepper(folder, ahead=True), stepper(folder, ahead=False)
    one.take(STEPS[0], 1e-3, STEPS[1])
    plain.take(STEPS[0], 1e-3)
    assert one._prepared is not step.NOTHING
    one.micro = plain.micro = Micro("rows", 1)
    assert one.take(STEPS[1], 1e-3).loss == plain.take(STEPS[1], 1e-3).loss


def test_what_fails_while_it_is_prepared_fails_in_the_step(tmp_path: Path) -> None:
    one = stepper(write_model(tmp_path / "model"), ahead=True)
    with pytest.raises(IndexError):
        one.take(STEPS[0], 1e-3, [99])
