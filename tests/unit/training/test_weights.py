"""What a model's files say against a spec: refusals with key, code and way out, before anything is loaded."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.errors import LlamaHomeError, ModelError, SpecError
from llamahome_tui.models.locate import Located
from llamahome_tui.training import weights
from llamahome_tui.training.spec import Spec, read_spec

LAYER = "model.layers.0"
BASE = {
    "model.embed_tokens.weight": (50, 8),
    f"{LAYER}.self_attn.q_proj.weight": (16, 8),
    f"{LAYER}.mlp.down_proj.weight": (8, 32),
    f"{LAYER}.input_layernorm.weight": (8,),
    "lm_head.weight": (50, 8),
}


def tensors(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """A safetensors file of zeros."""
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))


def model(folder: Path, shapes: dict[str, tuple[int, ...]] | None = None, **config: Any) -> Located:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    tensors(folder / "model.safetensors", BASE if shapes is None else shapes)
    return Located(folder, str(folder))


def adapter(
    folder: Path, base: str, *, kind: str = "LORA", width: int = 8, module: str = f"{LAYER}.self_attn.q_proj"
) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": kind, "base_model_name_or_path": base}))
    name = f"base_model.model.{module}"
    tensors(
        folder / "adapter_model.safetensors",
        {f"{name}.lora_A.weight": (4, width), f"{name}.lora_B.weight": (16, 4)},
    )
    return folder


def spec(**tables: Any) -> Spec:
    return Spec.from_dict(tables)


def refusal(wanted: Spec, located: Located, *, cpu: bool = True) -> LlamaHomeError:
    with pytest.raises((SpecError, ModelError)) as error:
        weights.check(wanted, located, cpu=cpu)
    assert error.value.exit == 3 and ("llamahome --batch" in error.value.hint or "ls " in error.value.hint)
    assert error.value.data["errors"][0]["key"] in error.value.message
    return error.value


def test_names_are_found_in_the_headers(tmp_path: Path) -> None:
    located = model(tmp_path / "m")
    for targets in ("all-linear", "q_proj", ["all-linear", "embed_tokens"], ["self_attn.q_proj", "mlp.down_proj"]):
        weights.check(spec(lora={"targets": targets, "train_also": ["lm_head"]}), located, cpu=True)
    error = refusal(spec(lora={"targets": ["q_proj", "q_prj"], "train_also": ["lm_heads"]}), located)
    assert error.error_code == "model.unknown_target"
    assert [(e["key"], e["nearest"].split(", ")[0]) for e in error.data["errors"]] == [
        ("lora.targets", "q_proj"),
        ("lora.train_also", "lm_head"),
    ]
    assert "q_prj" in error.message and "named q_proj" not in error.message
    assert "down_proj" in error.hint


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("self_attn.down_proj", "no module named self_attn.down_proj"),
        ("nowhere.q_proj", "no module named nowhere.q_proj"),
        ("input_layernorm", "input_layernorm is no matrix"),
        ("self_attn", "self_attn is no matrix"),
    ],
)
def test_what_no_adapter_goes_on_is_found_in_the_headers_too(tmp_path: Path, target: str, said: str) -> None:
    error = refusal(spec(lora={"targets": ["q_proj", target]}), model(tmp_path / "m"))
    assert error.error_code == "model.unknown_target" and said in error.message
    assert "lora.targets=all-linear" in error.hint


def test_the_hint_is_about_the_key_that_is_wrong(tmp_path: Path) -> None:
    error = refusal(spec(lora={"train_also": ["nope"]}), model(tmp_path / "m"))
    assert "lora.train_also=" in error.hint and "all-linear" not in error.hint


def test_a_tied_head_and_experts_have_no_tensor_of_their_own_name(tmp_path: Path) -> None:
    shapes = {"model.embed_tokens.weight": (50, 8), f"{LAYER}.block_sparse_moe.experts.0.w1.weight": (8, 8)}
    located = model(tmp_path / "m", shapes)
    weights.check(spec(lora={"targets": ["experts.gate_up_proj"], "train_also": ["lm_head"]}), located, cpu=True)


def test_full_fine_tuning_looks_at_no_targets(tmp_path: Path) -> None:
    weights.check(spec(lora={"enabled": False, "targets": "nothing"}), model(tmp_path / "m"), cpu=True)


def test_fp16_on_a_cpu_is_refused(tmp_path: Path) -> None:
    located, wanted = model(tmp_path / "m"), spec(training={"precision": "fp16"})
    assert refusal(wanted, located).error_code == "training.precision"
    weights.check(wanted, located, cpu=False)
    weights.check(spec(training={"precision": "bf16"}), located, cpu=True)


def test_a_quantised_base(tmp_path: Path) -> None:
    located = model(tmp_path / "m", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    weights.check(spec(), located, cpu=True)
    full = refusal(spec(lora={"enabled": False}), located)
    assert full.error_code == "model.quantised" and "lora.enabled" in full.message and "bitsandbytes" in full.message
    again = refusal(spec(model={"quantization": "nf4"}), located)
    assert again.error_code == "model.quantised" and "model.quantization" in again.message


def test_an_adapter_of_this_base_goes_on(tmp_path: Path) -> None:
    located = model(tmp_path / "m")
    here = adapter(tmp_path / "a", str(located.path))
    weights.check(spec(model={"adapter": str(here)}), located, cpu=True)
    (tmp_path / "link").symlink_to(located.path)
    other_name = adapter(tmp_path / "b", str(tmp_path / "link"))
    weights.check(spec(model={"adapter": str(other_name)}), located, cpu=True)
    moved = adapter(tmp_path / "c", "/no/such/folder")
    weights.check(spec(model={"adapter": str(moved)}), located, cpu=True)


def test_an_adapter_for_another_base_is_refused_by_name(tmp_path: Path) -> None:
    located, other = model(tmp_path / "m"), model(tmp_path / "other")
    stranger = adapter(tmp_path / "a", str(other.path))
    error = refusal(spec(model={"adapter": str(stranger)}), located)
    assert error.error_code == "model.adapter"
    assert str(other.path) in error.message and str(located.path) in error.message
    assert f"model.id={other.path}" in error.hint and "adapter_config.json" in error.hint


@pytest.mark.parametrize("cached", [True, False])
def test_hub_ids_tell_bases_apart(tmp_path: Path, cached: bool) -> None:
    folder = tmp_path / "models--org--small" / "snapshots" / ("a" * 40)
    plain = model(folder)
    located = plain if cached else Located(folder, "org/small", "a" * 40)
    same = adapter(tmp_path / "a", "Org/Small")
    weights.check(spec(model={"adapter": str(same)}), located, cpu=True)
    error = refusal(spec(model={"adapter": str(adapter(tmp_path / "b", "org/small-instruct"))}), located)
    assert "belongs to org/small-instruct" in error.message


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"width": 24}, "width 8 here and 24 there"),
        ({"module": "transformer.h.0.attn.c_attn"}, "no module that this model has"),
        ({"kind": "IA3"}, "IA3"),
    ],
)
def test_an_adapter_that_does_not_fit(tmp_path: Path, change: dict[str, Any], word: str) -> None:
    located = model(tmp_path / "m")
    error = refusal(spec(model={"adapter": str(adapter(tmp_path / "a", "", **change))}), located)
    assert error.error_code == "model.adapter" and word in error.message


def test_a_run_brings_its_own_adapter(tmp_path: Path) -> None:
    plain = model(tmp_path / "m")
    located = Located(plain.path, plain.id, adapter=adapter(tmp_path / "a", plain.id), run="20260101-000000-x")
    weights.check(spec(), located, cpu=True)
    both = refusal(spec(model={"adapter": str(tmp_path / "a")}), located)
    assert "20260101-000000-x" in both.message
    full = refusal(spec(lora={"enabled": False}), located)
    assert "lora.enabled" in full.message and str(tmp_path / "a") in full.message


def test_a_checkpoint_takes_what_learns_and_its_state(tmp_path: Path) -> None:
    """As the trainer writes it: an integration test compares a real one."""
    located = model(tmp_path / "m")
    both = 4 * ((16 + 8) + (8 + 32))
    assert weights.checkpoint_bytes(spec(lora={"r": 4}), located) == both * 12
    assert weights.checkpoint_bytes(spec(lora={"r": 4, "targets": ["q_proj"]}), located) == 4 * (16 + 8) * 12
    head = spec(lora={"r": 4, "train_also": ["lm_head"]}, training={"optimizer": "sgd"})
    assert weights.checkpoint_bytes(head, located) == (both + 50 * 8) * 8
    full = spec(lora={"enabled": False})
    others = 16 * 8 + 8 * 32 + 8 + 50 * 8
    assert weights.checkpoint_bytes(full, located) == pytest.approx(others * 6.1 + 50 * 8 * 12, abs=1)
    earlier = adapter(tmp_path / "a", located.id)
    assert weights.checkpoint_bytes(spec(model={"adapter": str(earlier)}), located) == 4 * (8 + 16) * 12
    fused = model(
        tmp_path / "f", {f"{LAYER}.mlp.experts.down_proj": (4, 8, 16), f"{LAYER}.self_attn.q_proj.weight": (8, 8)}
    )
    assert weights.checkpoint_bytes(spec(lora={"r": 2}), fused) == 2 * 16 * 12
    named = spec(lora={"r": 2, "targets": ["experts.down_proj"]})
    assert weights.checkpoint_bytes(named, fused) == 4 * 2 * 24 * 12


def test_a_step_larger_than_the_data() -> None:
    with pytest.raises(SpecError, match=r"training\.global_batch.* 16 rows .* 5 to train on") as error:
        weights.refuse_small_data(spec(), 5)
    assert error.value.exit == 3 and error.value.hint.endswith("training.global_batch=5")
    weights.refuse_small_data(spec(), 16)


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({}, ""),
        ({"model": {"quantization": "int8"}}, "model.quantization = int8"),
        ({"lora": {"enabled": False}}, "training.optimizer = adamw_8bit"),
        ({"training": {"optimizer": "lion_8bit"}}, "training.optimizer = lion_8bit"),
        ({"lora": {"enabled": False}, "training": {"optimizer": "adamw"}}, ""),
    ],
)
def test_what_needs_bitsandbytes(tables: dict[str, Any], said: str) -> None:
    assert weights.needs_bitsandbytes(spec(**tables)) == said


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[lora]\nenabled = false\n[model]\nquantization = "nf4"', "model.quantization"),
        ('[lora]\nenabled = false\n[model]\nadapter = "/a"', "model.adapter"),
        ("[lora]\ntargets = []", "lora.targets"),
        ('[lora]\ntrain_also = [""]', "lora.train_also"),
        ("[lora]\nplus_ratio = 0.5", "lora.plus_ratio"),
    ],
)
def test_rules_between_keys(tmp_path: Path, text: str, key: str) -> None:
    least = text.replace("[model]", '[model]\nid = "m"') if "[model]" in text else f'[model]\nid = "m"\n{text}'
    with pytest.raises(SpecError) as error:
        read_spec(f'{least}\n[data]\ntrain = ["demo"]', source="spec.toml", folder=tmp_path, environ={})
    assert [e["key"] for e in error.value.data["errors"]] == [key]
