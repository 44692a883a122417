"""A trace against hand counts, against the whole of a deep model, and against sums that a spec must come to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from llamahome_tui.training.forecast import Parts, Target, Variant
from llamahome_tui.training.spec import Spec
from llamahome_tui.workers.forecast.ledger import Ledger
from llamahome_tui.workers.forecast.packed_linear import packed_bytes
from llamahome_tui.workers.forecast.tracing import trace
from llamahome_tui.workers.plan import PlanRequest, answer

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::FutureWarning")]

CARD = Target("cuda", "a card", 80 << 30)
TINY = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 160,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 256,
    "max_position_embeddings": 1024, "tie_word_embeddings": False,
}  # fmt: skip


def folder(where: Path, **more: Any) -> Path:
    (where / "config.json").write_text(json.dumps({**TINY, **more}), encoding="utf-8")
    return where


def spec_of(values: dict[str, Any]) -> Spec:
    tables: dict[str, Any] = {"training": {"gradient_checkpointing": False}}
    for key, value in values.items():
        table, _, name = key.rpartition(".")
        tables.setdefault(table, {})[name] = value
    return Spec.from_dict(tables)


def test_a_ledger_counts_what_lives_at_once_and_views_once() -> None:
    held = torch.zeros(256)  # made outside: it does not count
    with Ledger(vocabulary=10, outside=[held]) as ledger:
        one = held + 1  # 1,024 bytes
        again = one.view(16, 16)
        two = again * 2  # 2,048 together
        del one, again
        three = two + 1  # 2,048 again, the first one being gone
        scores = torch.zeros(4, 10) + three[0, 0]  # 160 and 160 of logits
        del two
    assert ledger.peaks == {"activations": {"activations": 2048, "logits": 320, "workspace": 0, "gradients": 0}}
    assert scores.shape == (4, 10)


def test_what_is_there_before_a_step_is_what_a_spec_comes_to(tmp_path: Path) -> None:
    parts = trace(spec_of({"lora.r": 4}), folder(tmp_path), None, CARD, Variant({}, 2, 32))
    linear = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 160)
    adapter = 2 * 4 * (2 * (64 + 64) + 2 * (64 + 32) + 3 * (64 + 160))
    assert parts.adapter == 4 * adapter
    assert parts.optimizer == 8 * adapter
    inverse_frequencies = 2 * 8 * 4  # the rotation's, and a copy of them as they were
    assert parts.weights == pytest.approx(2 * (linear + 2 * 64 * 256 + 5 * 64), abs=inverse_frequencies)
    assert 0 < parts.gradients <= 4 * adapter


@pytest.mark.parametrize(
    ("more", "less"),
    [
        ({}, {"training.gradient_checkpointing": True}),
        ({"lora.r": 64}, {"lora.r": 8}),
        ({"training.precision": "fp32"}, {"training.precision": "bf16"}),
        ({"lora.enabled": False, "training.optimizer": "adamw"}, {"lora.enabled": False, "training.optimizer": "sgd"}),
        ({"lora.enabled": False, "training.optimizer": "adamw_8bit"}, {}),
        ({}, {"model.quantization": "nf4"}),
    ],
)
def test_what_takes_more_is_forecast_to(tmp_path: Path, more: dict[str, Any], less: dict[str, Any]) -> None:
    where = folder(tmp_path, num_hidden_layers=4)
    large, small = (trace(spec_of(one), where, None, CARD, Variant({}, 4, 128)) for one in (more, less))
    assert large.total > small.total


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"training.gradient_checkpointing": True},
        {"training.gradient_checkpointing": 12},
        {"model.quantization": "nf4"},
        {"lora.enabled": False},
        {"method.kind": "dpo"},
    ],
    ids=["lora", "checkpointing", "some-checkpointing", "nf4", "full", "dpo"],
)
def test_a_deep_model_drawn_out_is_the_whole_one(tmp_path: Path, values: dict[str, Any]) -> None:
    where = folder(tmp_path, num_hidden_layers=14)
    short, whole = (
        trace(spec_of(values), where, None, CARD, Variant({}, 2, 64), whole=one).to_dict() for one in (False, True)
    )
    assert short == pytest.approx(whole, rel=0.002)


def test_a_packed_weight_takes_what_bitsandbytes_makes_of_it() -> None:
    functional = pytest.importorskip("bitsandbytes").functional
    packed, state = functional.quantize_4bit(torch.randn(512, 1024), quant_type="nf4", compress_statistics=True)
    tensors = [packed, state.absmax, state.code, state.state2.absmax, state.state2.code, state.offset]
    assert packed_bytes(512 * 1024, 512, "nf4") == pytest.approx(
        sum(t.numel() * t.element_size() for t in tensors), abs=8
    )


def test_the_child_says_why_a_model_cannot_be_traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.llama.modeling_llama import LlamaMLP

    spec, said = spec_of({}), []
    request = PlanRequest(
        spec.to_dict(), str(folder(tmp_path)), "m", "", {"kind": "cuda", "name": "x", "memory_bytes": 1},
        [(spec.to_dict(), {"sequences": 1, "length": 16})],
    )  # fmt: skip
    request = PlanRequest.from_line(request.to_line())
    answer(request, lambda kind, **fields: said.append((kind, fields)))
    # A module that looks at its values, which a tensor without any cannot show.
    monkeypatch.setattr(LlamaMLP, "forward", lambda self, x: x * float(x.sum().item()))
    answer(request, lambda kind, **fields: said.append((kind, fields)))
    told = [fields for kind, fields in said if kind == "forecast"]
    assert Parts(**told[0]["parts"]).total > 0
    assert told[1]["parts"] is None and "DataDependent" in told[1]["reason"]
