"""Learning-rate schedules."""

from __future__ import annotations

import pytest

from llamahome_tui.training.trainer.schedule import factor


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant", "wsd"])
def test_warms_up_to_the_peak_and_never_leaves_the_range(kind: str) -> None:
    values = [factor(kind, step, 100, 10) for step in range(100)]
    assert values[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert values[10] == 1.0
    assert all(0.0 < v <= 1.0 for v in values)


def test_shapes() -> None:
    assert factor("cosine", 55, 100, 10) == pytest.approx(0.5)
    assert factor("linear", 55, 100, 10) == pytest.approx(0.5)
    assert factor("constant", 99, 100, 10) == 1.0
    assert [factor("wsd", s, 100, 10) for s in (50, 79, 80, 90, 99)] == pytest.approx([1, 1, 1, 0.5, 0.05])


@pytest.mark.parametrize("kind", ["cosine", "linear", "wsd"])
def test_ends_near_zero_but_still_learns(kind: str) -> None:
    assert 0.0 < factor(kind, 99, 100, 10) < 0.06


def test_without_warmup_and_with_one_step() -> None:
    assert factor("cosine", 0, 1, 0) == 1.0
    assert factor("linear", 0, 1, 1) == 1.0


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["linear", "cosine", "constant", "wsd"])
@pytest.mark.parametrize("warmup", [0, 7])
def test_schedules_are_those_of_transformers(kind: str, warmup: int) -> None:
    """Equal from the end of the warm-up on; in it ours is one step ahead: theirs takes the first step at rate 0."""
    torch = pytest.importorskip("torch")
    import transformers

    total = 50
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = {
        "linear": lambda: transformers.get_linear_schedule_with_warmup(optimizer, warmup, total),
        "cosine": lambda: transformers.get_cosine_schedule_with_warmup(optimizer, warmup, total),
        "constant": lambda: transformers.get_constant_schedule_with_warmup(optimizer, warmup),
        "wsd": lambda: transformers.get_wsd_schedule(
            optimizer, warmup, num_decay_steps=10, num_training_steps=total, decay_type="linear"
        ),
    }[kind]()
    theirs = []
    for _ in range(total):
        theirs.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    ours = [factor(kind, step, total, warmup) for step in range(total)]
    assert ours[warmup:] == pytest.approx(theirs[warmup:], abs=1e-12)
    assert ours[: max(0, warmup - 1)] == pytest.approx(theirs[1:warmup])
    assert warmup == 0 or (theirs[0] == 0.0 and ours[0] == pytest.approx(1 / warmup))
