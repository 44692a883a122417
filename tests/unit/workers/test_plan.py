"""What `train plan` counts without weights is what the trainer counts with them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from llamahome_tui.demo.paths import demo_model_dir
from llamahome_tui.errors import ModelError, SpecError
from llamahome_tui.training.spec import make_spec
from llamahome_tui.training.trainer.counts import by_kind
from llamahome_tui.training.trainer.model import Source, load
from llamahome_tui.workers.plan import PlanRequest, answer

pytestmark = pytest.mark.torch


def spec_of(tables: dict[str, Any]) -> Any:
    document = {"model": {"id": "demo"}, "data": {"train": ["demo"]}} | tables
    return make_spec(document, source="test", folder=Path("/"), environ={})


def told(spec: Any, folder: Path, adapter: str = "") -> dict[str, Any]:
    said: list[tuple[str, dict[str, Any]]] = []
    request = PlanRequest(spec.to_dict(), str(folder), "demo", adapter)
    answer(PlanRequest.from_line(request.to_line()), lambda kind, **fields: said.append((kind, fields)))
    assert [kind for kind, _ in said] == ["plan", "end"]
    return said[0][1]


@pytest.mark.parametrize(
    "tables",
    [
        {},
        {"lora": {"variant": "dora", "r": 4}},
        {"lora": {"targets": ["q_proj", "down_proj"], "train_also": ["lm_head"]}},
        {"lora": {"train_also": ["embed_tokens", "norm"]}},
        {"lora": {"enabled": False}, "training": {"optimizer": "adamw"}},
    ],
    ids=["lora", "dora", "head", "embeddings", "full"],
)
def test_it_counts_what_the_trainer_counts(tables: dict[str, Any]) -> None:
    spec = spec_of(tables)
    trainee = load(spec, Source(demo_model_dir(), "demo"), torch.device("cpu"), lambda _: None)
    kinds = by_kind(trainee.model)
    found = told(spec, demo_model_dir())
    assert found["by_kind"] == [asdict(kind) for kind in kinds]
    assert found["trainable_parameters"] == sum(parameter.numel() for parameter in trainee.trainable)
    assert found["parameters"] == trainee.parameters
    assert found["settled"]["training.precision"] in ("fp32", "bf16", "fp16")


def test_an_earlier_adapter_has_its_own_form(tmp_path: Path) -> None:
    small = spec_of({"lora": {"r": 2, "targets": ["v_proj"]}})
    load(small, Source(demo_model_dir(), "demo"), torch.device("cpu"), lambda _: None).model.save_pretrained(tmp_path)
    found = told(spec_of({}), demo_model_dir(), str(tmp_path))
    assert {kind["name"] for kind in found["by_kind"] if kind["trainable"]} == {"v_proj"}
    assert found["trainable_parameters"] == told(small, demo_model_dir())["trainable_parameters"]


def test_what_cannot_be_built_or_adapted_is_said(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nobody_knows"}')
    with pytest.raises(ModelError, match="without its weights"):
        told(spec_of({}), tmp_path)
    with pytest.raises(SpecError, match="q_projj"):
        told(spec_of({"lora": {"targets": ["q_projj"]}}), demo_model_dir())
