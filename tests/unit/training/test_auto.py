"""Every auto value: what docs/training.md promises."""

from __future__ import annotations

import pytest

from llamahome_tui.training import auto
from llamahome_tui.training.auto import Micro, Shape


def test_steps_count_a_short_last_step_and_max_steps_wins() -> None:
    assert auto.steps_per_epoch(33, 16) == 3
    assert auto.total_steps(33, 16, 2, 0) == 6
    assert auto.total_steps(33, 16, 0.5, 0) == 2
    assert auto.total_steps(33, 16, 1, 7) == 7
    assert auto.total_steps(1, 16, 1, 0) == 1


@pytest.mark.parametrize(
    ("setting", "total", "steps"),
    [
        ("auto", 1000, 30),  # 3%
        ("auto", 200, 10),  # at least 10
        ("auto", 50, 5),  # at most 10%
        ("auto", 3, 0),
        (25, 1000, 25),
        (0.5, 100, 50),
        (0, 100, 0),
        (500, 100, 100),
    ],
)
def test_warmup(setting: str | float, total: int, steps: int) -> None:
    assert auto.warmup_steps(setting, total) == steps


def test_learning_rate_by_method_and_size() -> None:
    assert auto.learning_rate("auto", lora=True, parameters=1_000_000_000) == 2e-4
    assert auto.learning_rate("auto", lora=True, parameters=30_000_000_000) == 1e-4
    assert auto.learning_rate("auto", lora=True, parameters=1, preference=True) == 5e-6
    assert auto.learning_rate("auto", lora=False, parameters=1) == 1e-5
    assert auto.learning_rate(3e-3, lora=True, parameters=1) == 3e-3


def test_optimizer_weight_decay_and_precision() -> None:
    assert (auto.optimizer("auto", lora=True), auto.optimizer("auto", lora=False)) == ("adamw", "adamw_8bit")
    assert auto.optimizer("sgd", lora=True) == "sgd"
    assert (auto.weight_decay("auto", lora=True), auto.weight_decay("auto", lora=False)) == (0.0, 0.01)
    assert auto.precision("auto", device="cpu", bf16=True) == "fp32"
    assert auto.precision("auto", device="cuda", bf16=True) == "bf16"
    assert auto.precision("auto", device="cuda", bf16=False) == "fp16"
    assert auto.precision("bf16", device="cpu", bf16=False) == "bf16"


def test_evaluation_at_the_start_about_ten_times_and_at_the_end() -> None:
    every = auto.evaluation_every("auto", 104)
    steps = [s for s in range(105) if auto.evaluates_at(s, every, 104)]
    assert steps == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 104]
    assert auto.evaluation_every("auto", 3) == 1
    assert [s for s in range(6) if auto.evaluates_at(s, 0, 5)] == [0, 5]


def test_known_metrics_know_their_direction() -> None:
    assert not auto.higher_is_better("eval_loss", False)
    assert auto.higher_is_better("eval_exact", False)


def test_micro_batch_limits() -> None:
    rows, tokens = Micro("rows", 4), Micro("tokens", 100)
    assert rows.fits(4, 10_000) and not rows.fits(5, 1)
    assert tokens.fits(10, 10) and not tokens.fits(11, 10)
    assert tokens.fits(1, 500)
    assert rows.halved(4, 10) == Micro("rows", 2)
    assert tokens.halved(5, 20) == Micro("tokens", 40)
    assert Micro("tokens", 100, 7).halved(5, 20) == Micro("tokens", 40, 7)


SHAPE = Shape(layers=32, hidden=4096, bytes_per_value=2)


def test_micro_batch_on_a_cpu_and_with_given_rows() -> None:
    common = {"global_batch": 16, "longest": 512, "shape": SHAPE, "free_bytes": 1 << 30}
    assert auto.micro_batch("auto", "auto", device="cpu", **common) == (Micro("tokens", 4096, 64), False)
    assert auto.micro_batch(4, True, device="cpu", **common) == (Micro("rows", 4), True)
    assert auto.micro_batch(64, "auto", device="cpu", **common)[0] == Micro("rows", 16)


def test_micro_batch_on_a_gpu_follows_the_free_memory() -> None:
    common = {"global_batch": 16, "longest": 2048, "shape": SHAPE}
    roomy, plain = auto.micro_batch("auto", "auto", device="cuda", free_bytes=120 << 30, **common)
    assert not plain and roomy.limit > 4096
    tight, checkpointed = auto.micro_batch("auto", "auto", device="cuda", free_bytes=8 << 30, **common)
    assert checkpointed and tight.limit >= 2048
    tiny, checkpointed = auto.micro_batch("auto", "auto", device="cuda", free_bytes=1 << 20, **common)
    assert checkpointed and tiny == Micro("tokens", 2048, 1024)  # one row is always tried


def test_gradients_are_checkpointed_of_all_layers_or_of_some() -> None:
    settings = {False: 0, 0.01: 1, 0.5: 16, 0.99: 32, 2: 2, 5.0: 5, 40: 32}
    assert {setting: auto.checkpointed_layers(setting, 32) for setting in settings} == settings
    assert auto.checkpointed_layers(True, 32) == 32 and auto.checkpointed_layers(1, 32) == 1
    held = [SHAPE.activation_bytes(checkpointing=setting) for setting in (False, 1, 0.5, 31)]
    assert held[0] > held[1] > held[2] > held[3]
    # The last layer is computed again before any other has let go, so that checkpointing it saves nothing.
    assert SHAPE.activation_bytes(checkpointing=True) - held[3] == SHAPE.hidden * SHAPE.bytes_per_value


def test_batching_is_packed_only_where_kernels_and_padding_make_it_pay() -> None:
    def never() -> float:
        raise AssertionError("a whole epoch is laid out for nothing")

    for word in ("packed", "sorted", "plain"):
        chosen = auto.batching(word, device="cpu", bounded_kernels=False, sorted_padding=never)
        assert chosen == (word, "the spec says so")
    assert auto.batching("auto", device="cpu", bounded_kernels=True, sorted_padding=never)[0] == "sorted"
    assert auto.batching("auto", device="cuda", bounded_kernels=False, sorted_padding=never)[0] == "sorted"
    much = auto.batching("auto", device="cuda", bounded_kernels=True, sorted_padding=lambda: 0.31)
    assert much == ("packed", "sorted rows would be 31% padding")
    little = auto.batching("auto", device="cuda", bounded_kernels=True, sorted_padding=lambda: 0.02)
    assert little == ("sorted", "only 2% of sorted rows is padding")
