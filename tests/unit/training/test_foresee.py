"""Forecasts by formula against published sizes and hand sums; plans that fit; what earlier runs teach."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llamahome_tui.config.places import Places
from llamahome_tui.data.ahead import Ahead
from llamahome_tui.errors import ModelError
from llamahome_tui.jobs.store import Run
from llamahome_tui.training import fit
from llamahome_tui.training.architecture import Architecture
from llamahome_tui.training.earlier import Ended, learned, speed
from llamahome_tui.training.estimate import estimate, flops_per_token, learning_of
from llamahome_tui.training.fit_file import write_into
from llamahome_tui.training.forecast import Forecast, Parts, Target, Variant
from llamahome_tui.training.foresee import Foresight, _foreseen
from llamahome_tui.training.planned_for import Room
from llamahome_tui.training.rejected import rejected
from llamahome_tui.training.spec import Spec, make_spec

GIB = 1 << 30
LLAMA_8B = {
    "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "intermediate_size": 14336, "vocab_size": 128256,
}  # fmt: skip
LLAMA_70B = {**LLAMA_8B, "hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64,
             "intermediate_size": 28672}  # fmt: skip
QWEN_05B = {
    "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
    "intermediate_size": 4864, "vocab_size": 151936, "tie_word_embeddings": True,
}  # fmt: skip
CARD = Target("cuda", "a card", 80 * GIB)


def spec_of(**tables: dict[str, Any]) -> Spec:
    document = {"model": {"id": "demo"}, "data": {"train": ["demo"]}} | tables
    return make_spec(document, source="test", folder=Path("/"), environ={})


@pytest.mark.parametrize(
    ("config", "parameters"),
    [(LLAMA_8B, 8_030_261_248), (LLAMA_70B, 70_553_706_496), (QWEN_05B, 494_032_768)],
    ids=["8B", "70B", "0.5B"],
)
def test_a_config_tells_the_published_number_of_parameters(config: dict[str, Any], parameters: int) -> None:
    # Qwen's query, key and value have biases, which no estimate of memory needs.
    assert Architecture.of(config, "config.json").parameters == pytest.approx(parameters, rel=1e-4)


def test_a_config_that_says_too_little_is_named() -> None:
    with pytest.raises(ModelError, match="num_hidden_layers") as failed:
        Architecture.of({"hidden_size": 64, "num_attention_heads": 4, "vocab_size": 100}, "/m/config.json")
    assert failed.value.exit == 3


def test_the_parts_are_what_is_summed_by_hand() -> None:
    model = Architecture.of(LLAMA_8B, "")
    assert learning_of(spec_of(), model).adapter == 41_943_040  # as peft counts it for r = 16
    lora = estimate(spec_of(), model, CARD, Variant({}, 1, 2048)).parts
    assert lora.weights == 2 * model.parameters
    assert (lora.adapter, lora.gradients, lora.optimizer) == (4 * 41_943_040, 4 * 41_943_040, 8 * 41_943_040)
    full = spec_of(lora={"enabled": False}, training={"optimizer": "adamw"})
    whole = estimate(full, model, CARD, Variant({}, 1, 2048)).parts
    assert (whole.weights, whole.gradients, whole.optimizer) == tuple(n * model.parameters for n in (4, 4, 8))
    small = estimate(spec_of(model={"id": "demo", "quantization": "nf4"}), model, CARD, Variant({}, 1, 2048)).parts
    assert small.weights < 0.4 * lora.weights
    checkpointed = spec_of(training={"gradient_checkpointing": True})
    less = estimate(checkpointed, model, CARD, Variant({}, 1, 2048)).parts.activations
    assert less < 0.2 * lora.activations
    assert estimate(spec_of(), model, CARD, Variant({}, 3, 2048)).parts.activations == 3 * lora.activations


def test_a_full_step_costs_six_operations_a_weight() -> None:
    model = Architecture.of(LLAMA_8B, "")
    weights = sum(one.parameters for one in model.matrices()) + model.embedding
    full = spec_of(lora={"enabled": False})
    assert flops_per_token(full, model, 1) == pytest.approx(6 * weights, rel=1e-3)
    assert flops_per_token(spec_of(), model, 1) == pytest.approx(4 * weights, rel=0.02)


def asking(model: Architecture, target: Target, length: int) -> Any:
    def asked(spec: Spec) -> Forecast:
        rows = spec.training.batch_size if isinstance(spec.training.batch_size, int) else 1
        most = spec.data.max_length if isinstance(spec.data.max_length, int) else length
        return estimate(spec, model, target, Variant({}, rows, min(length, most)))

    return asked


@pytest.mark.parametrize("room", [10, 16, 24, 40])
def test_plans_fit_keep_the_batch_and_stand_in_order(room: int) -> None:
    spec = spec_of(training={"batch_size": 8})
    asked = asking(Architecture.of(LLAMA_8B, ""), CARD, 4096)
    found = fit.plans(spec, 4096, room * GIB, asked, 100.0)
    assert found
    for plan in found:
        changed = fit.changed(spec, plan.set)
        assert asked(changed).predicted_bytes == plan.predicted_bytes <= room * GIB
        assert changed.training.global_batch == spec.training.global_batch
        assert plan.note and plan.seconds_per_epoch is not None and plan.seconds_per_epoch >= 100
    sets = [plan.set.items() for plan in found]
    assert not any(one <= other for one in sets for other in sets if one is not other)
    ranks = ["data.max_length" in plan.set for plan in found]
    assert all(one <= other for one, other in pairwise(ranks))  # what leaves text out comes last
    if room == 40:  # here checkpointing and smaller parts are enough, and cost no fidelity
        assert found[0].set.keys() <= {"training.batch_size", "training.gradient_checkpointing"}


def test_nothing_fits_a_device_that_is_far_too_small() -> None:
    assert fit.plans(spec_of(), 4096, GIB, asking(Architecture.of(LLAMA_70B, ""), CARD, 4096), None) == ()


def test_a_plan_goes_into_a_spec_with_its_comments_kept(tmp_path: Path) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text('# mine\nname = "x"\n[model]\nid = "demo" # small\n')
    spec.chmod(0o640)
    write_into(spec, {"model.quantization": "nf4", "training.batch_size": 1, "training.gradient_checkpointing": 0.5})
    text = spec.read_text()
    assert text.startswith('# mine\nname = "x"\n[model]\nid = "demo" # small\nquantization = "nf4"\n')
    assert "[training]\nbatch_size = 1\ngradient_checkpointing = 0.5\n" in text
    assert spec.stat().st_mode & 0o777 == 0o640
    assert [one.name for one in tmp_path.iterdir()] == ["spec.toml"]


def test_line_ends_stay_as_they_are(tmp_path: Path) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_bytes(b'name = "x"\r\n[model]\r\nid = "demo" # small\r\n')
    write_into(spec, {"model.revision": "v2"})
    assert spec.read_bytes().startswith(b'name = "x"\r\n[model]\r\nid = "demo" # small\r\nrevision = "v2"')


def test_what_servers_reject_is_said() -> None:
    assert list(rejected(spec_of())) == []
    said = list(rejected(spec_of(lora={"r": 32, "variant": "dora", "train_also": ["lm_head"]})))
    assert [line.partition(":")[0] for line in said] == ["lora.r", "lora.variant", "lora.train_also"]


def ended(forecast: int, measured: int, device: str = "cpu") -> Ended:
    spec = spec_of().to_dict()
    return Ended(Run("20260101-000000-x", Path("/x")), spec, device, forecast, measured, 500.0)


def test_a_devices_constant_is_learned_within_bounds() -> None:
    cpu = Target("cpu", "cpu", 8 * GIB)
    mib = 1 << 20
    runs = [ended(500 * mib, 540 * mib), ended(600 * mib, 650 * mib), ended(700 * mib, 5000 * mib)]
    assert learned(runs[:2], cpu).runs == 0  # too few
    assert learned(runs, cpu).applied(GIB) == GIB + 50 * mib  # the median: one that went astray changes nothing
    assert learned([ended(1000, 900, "a card")] * 3, CARD).applied(1000) == 900
    assert learned([ended(1000, 9000, "a card")] * 3, CARD).applied(1000) == 1250
    assert learned([ended(1000, 900, "another")] * 3, CARD).applied(1000) == 1000
    assert "3 runs on this device" in learned(runs, cpu).words


def test_the_speed_of_an_earlier_run_counts_for_the_same_model_and_device_only() -> None:
    cpu = Target("cpu", "cpu", 8 * GIB)
    assert speed([ended(1, 1)], cpu, spec_of()) == (500.0, "20260101-000000-x")
    assert speed([ended(1, 1)], CARD, spec_of()) is None
    assert speed([ended(1, 1)], cpu, spec_of(lora={"enabled": False})) is None
    other = replace(ended(1, 1), spec={"model": {"id": "other"}, "method": {}, "lora": {}})
    assert speed([other], cpu, spec_of()) is None


def foresight(trace: Any, room_bytes: int, here: Path) -> Foresight:
    room = Room(Target("cuda", "a card", room_bytes), room_bytes, here=False)
    seen = Ahead(1000, 1024, 1_024_000, True, "all rows")
    context: Any = SimpleNamespace(places=Places(here, here, here, here, here))
    model = Architecture.of(LLAMA_8B, "")
    return _foreseen(context, spec_of(), model, room, seen, [], plans=True, trace=trace)


def test_a_trace_takes_the_formulas_place_and_is_asked_about_the_plans_too(tmp_path: Path) -> None:
    asked: list[int] = []

    def twice(target: Target, questions: Any) -> list[Forecast]:
        asked.append(len(questions))
        found = []
        for spec, variant in questions:
            parts = estimate(spec, Architecture.of(LLAMA_8B, ""), target, variant).parts
            doubled = Parts(**{name: 2 * size for name, size in parts.to_dict().items()})
            # The third plan turns out to take more than anything has.
            if len(asked) > 1 and len(found) == 2:
                doubled = replace(doubled, workspace=1 << 50)
            found.append(Forecast(doubled, doubled.total, traced=True, reason="a trace"))
        return found

    by_formula, traced = foresight(None, 24 * GIB, tmp_path), foresight(twice, 24 * GIB, tmp_path)
    assert by_formula.fits and not by_formula.traced
    assert traced.traced and not traced.fits and traced.reason == "a trace"
    assert traced.predicted_bytes == 2 * by_formula.predicted_bytes
    assert asked[0] == 1 and asked[1] == len(traced.alternatives) + 1
    assert all(plan.predicted_bytes <= 24 * GIB for plan in traced.alternatives)


def test_what_cannot_be_traced_stays_an_estimate_and_says_why(tmp_path: Path) -> None:
    def refused(_target: Target, questions: Any) -> list[Forecast]:
        return [Forecast(Parts(), 0, reason="it looks at values") for _ in questions]

    found = foresight(refused, 80 * GIB, tmp_path)
    assert not found.traced and "it looks at values" in found.reason and "config" in found.reason
    assert found.predicted_bytes == foresight(None, 80 * GIB, tmp_path).predicted_bytes
