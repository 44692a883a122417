"""Every tensor of a merge, held against peft's own `merge_and_unload` from a fresh load."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, MixtralConfig, MixtralForCausalLM

from llamahome_tui.errors import ModelError
from llamahome_tui.export.tensors import stored_in_file
from llamahome_tui.models.folder import weight_files
from llamahome_tui.workers.export import quantised_base, shards
from llamahome_tui.workers.export.merge import MergedTensors, PlainTensors
from tests import tinymodel

pytestmark = pytest.mark.torch

LINEAR = ["q_proj", "v_proj", "gate_proj", "down_proj"]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    tinymodel.write_model(root / "plain")
    tinymodel.write_model(root / "tied", tied=True)
    half = AutoModelForCausalLM.from_pretrained(root / "plain", dtype=torch.bfloat16)
    half.save_pretrained(root / "half", max_shard_size="20KB")
    tinymodel.write_tokenizer(root / "half")
    torch.manual_seed(3)
    experts = MixtralConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, num_local_experts=4, num_experts_per_tok=2, max_position_embeddings=64,
    )  # fmt: skip
    MixtralForCausalLM(experts).save_pretrained(root / "experts")
    return {name: root / name for name in ("plain", "tied", "half", "experts")}


def adapter(base: Path, folder: Path, **options: Any) -> Path:
    """An adapter that changes everything it can, as a trained one would."""
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        LoraConfig(r=4, lora_alpha=16, task_type="CAUSAL_LM", **options),
    )
    torch.manual_seed(7)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder


def written(tensors: Any, base: Path, into: Path) -> Path:
    """The tensors as a folder that plain transformers loads."""
    into.mkdir()
    like = [(file.name, list(stored_in_file(file))) for file in weight_files(base)]
    parts = shards.parts_of(tensors, like)
    for name, names in parts:
        shards.write(tensors, names, into / name, lambda _: None)
    total = sum(shards.bytes_of(tensors, names) for _, names in parts)
    if table := shards.index(parts, total):
        (into / table[0]).write_text(table[1])
    (into / "config.json").write_text(json.dumps(tensors.config))
    return into


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("plain", {"target_modules": LINEAR}),
    "rslora": ("plain", {"target_modules": LINEAR, "use_rslora": True}),
    "dora": ("plain", {"target_modules": LINEAR, "use_dora": True}),
    "bf16 in shards": ("half", {"target_modules": LINEAR}),
    "saved modules": ("plain", {"target_modules": LINEAR, "modules_to_save": ["lm_head", "embed_tokens"]}),
    "embeddings": ("plain", {"target_modules": ["embed_tokens", "q_proj"]}),
    "tied and saved": (
        "tied", {"target_modules": LINEAR, "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    ),
    "experts": (
        "experts", {"target_modules": ["q_proj"], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_merge_is_pefts(bases: Mapping[str, Path], case: str, tmp_path: Path) -> None:
    name, options = CASES[case]
    base = bases[name]
    folder = adapter(base, tmp_path / "adapter", **options)
    merged = written(MergedTensors(base, folder), base, tmp_path / "merged")
    dtype = torch.bfloat16 if name == "half" else torch.float32
    fresh = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    expected = PeftModel.from_pretrained(fresh, folder).merge_and_unload().state_dict()
    found = AutoModelForCausalLM.from_pretrained(merged, dtype="auto").state_dict()
    assert found.keys() == expected.keys()
    changed = 0
    for key, value in expected.items():
        assert found[key].dtype == dtype
        tolerance = 2**-7 if name == "half" else 2e-6
        torch.testing.assert_close(found[key], value, rtol=tolerance, atol=tolerance, msg=lambda m, k=key: f"{k}: {m}")
        changed += not torch.equal(value, AutoModelForCausalLM.from_pretrained(base, dtype=dtype).state_dict()[key])
    assert changed
    assert [file.name for file in weight_files(merged)] == [file.name for file in weight_files(base)]


def test_a_tied_head_that_is_not_the_embeddings_any_more_gets_a_tensor(
    bases: Mapping[str, Path], tmp_path: Path
) -> None:
    base = bases["tied"]
    folder = adapter(base, tmp_path / "adapter", target_modules=["embed_tokens"])
    merged = written(MergedTensors(base, folder), base, tmp_path / "merged")
    before = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).eval()
    after = AutoModelForCausalLM.from_pretrained(merged).eval()
    ids = torch.arange(40)[None]
    torch.testing.assert_close(after(ids).logits, before(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_a_quantised_base_is_merged_as_the_run_saw_it(
    bases: Mapping[str, Path], quantization: str, tmp_path: Path
) -> None:
    from peft.utils.integrations import dequantize_module_weight
    from transformers import BitsAndBytesConfig

    base = bases["plain"]
    folder = adapter(base, tmp_path / "adapter", target_modules=LINEAR)
    through = quantised_base.changes(base, folder, quantization, torch.float32)
    merged = MergedTensors(base, folder, through)
    options: dict[str, Any] = {"load_in_8bit": True} if quantization == "int8" else {
        "load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": torch.float32,
    }  # fmt: skip
    loaded = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, device_map={"": "cpu"}, quantization_config=BitsAndBytesConfig(**options)
    )
    model = PeftModel.from_pretrained(loaded, folder)
    seen = 0
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight"):
            plain = name.removeprefix("base_model.model.") + ".weight"
            expected = dequantize_module_weight(module.base_layer).float() + module.get_delta_weight("default")
            torch.testing.assert_close(merged.read(plain), expected, rtol=1e-5, atol=1e-5)
            seen += 1
    assert seen == 8
    kept = "model.layers.0.self_attn.k_proj.weight"  # quantised, and not adapted
    assert not torch.equal(merged.read(kept), PlainTensors(base).read(kept))
    assert torch.equal(merged.read("lm_head.weight"), PlainTensors(base).read("lm_head.weight"))


def test_an_adapter_of_another_model_is_refused(bases: Mapping[str, Path], tmp_path: Path) -> None:
    folder = adapter(bases["plain"], tmp_path / "adapter", target_modules=LINEAR)
    other = tinymodel.write_model(tmp_path / "other", hidden=48)
    with pytest.raises(ModelError) as refused:
        MergedTensors(other, folder)
    assert refused.value.error_code == "model.adapter"
