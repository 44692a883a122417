"""What names of a spec mean in a model; experts of one piece are named or said to be frozen; what learns is fp32."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llamahome_tui.errors import SpecError  # noqa: E402
from llamahome_tui.training.spec import Spec  # noqa: E402
from llamahome_tui.training.trainer import adapter, counts  # noqa: E402
from llamahome_tui.training.trainer.adapter import Targets, targets_of  # noqa: E402

pytestmark = pytest.mark.torch

TEXT: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
IDS = torch.arange(5, 45).view(2, 20)


def build(kind: str, **more: Any) -> Any:
    """A tiny model with random weights of a real architecture; on the meta device inside `with torch.device`."""
    import transformers as t

    made: dict[str, Callable[[], Any]] = {
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**TEXT, **more)),
        "mixtral": lambda: t.MixtralForCausalLM(t.MixtralConfig(**TEXT, num_local_experts=4)),
        "qwen3_moe": lambda: t.Qwen3MoeForCausalLM(
            t.Qwen3MoeConfig(**TEXT, head_dim=8, moe_intermediate_size=24, num_experts=4, num_experts_per_tok=2, **more)
        ),
        "gpt_oss": lambda: t.GptOssForCausalLM(
            t.GptOssConfig(
                **TEXT, head_dim=8, num_local_experts=4, num_experts_per_tok=2, rope_parameters={"rope_type": "default"}
            )
        ),
        "deepseek_v3": lambda: t.DeepseekV3ForCausalLM(
            t.DeepseekV3Config(
                **TEXT | {"num_key_value_heads": 4}, moe_intermediate_size=24, n_routed_experts=4,
                num_experts_per_tok=2, n_group=1, topk_group=1, first_k_dense_replace=1, kv_lora_rank=8,
                q_lora_rank=8, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8,
            )
        ),
    }  # fmt: skip
    return made[kind]()


def on_meta(kind: str, **more: Any) -> Any:
    with torch.device("meta"):
        return build(kind, **more)


def spec(targets: Any = "all-linear", **lora: Any) -> Spec:
    return Spec.from_dict({"lora": {"r": 4, "targets": targets, **lora}})


def found(kind: str, targets: Any = "all-linear", **lora: Any) -> Targets:
    return targets_of(spec(targets, **lora), on_meta(kind), partial(on_meta, kind))


def trained(kind: str, targets: Any, **lora: Any) -> Any:
    """A real model with the adapter that a spec asks for."""
    torch.manual_seed(0)
    wanted = spec(targets, **lora)
    return adapter.put_on(build(kind), adapter.config_of(wanted, found(kind, targets, **lora)))


@cache
def adapted(kind: str, *targets: str) -> frozenset[str]:
    model = trained(kind, list(targets))
    names = (n for n, p in model.named_parameters() if p.requires_grad)
    return frozenset(n.partition("layers.1.")[2].partition(".lora_")[0] for n in names if ".layers.1." in n)


def test_a_plain_model_leaves_all_linear_to_peft() -> None:
    assert found("llama") == Targets(modules="all-linear")
    assert found("llama", "q_proj").modules == ("q_proj",)
    assert found("llama", ["q_proj", "self_attn.k_proj"]).modules == ("q_proj", "self_attn.k_proj")


def test_all_linear_and_a_name_more() -> None:
    names = found("llama", ["all-linear", "embed_tokens", "q_proj"]).modules
    assert len(names) == 2 * 7 + 1 and "embed_tokens" in names and "model.layers.0.mlp.down_proj" in names
    assert not any("lm_head" in name for name in names)


@pytest.mark.parametrize("key", ["targets", "train_also"])
def test_an_unknown_name_is_told_with_the_nearest(key: str) -> None:
    with pytest.raises(SpecError) as error:
        found("llama", **{"targets": ["q_proj"], key: ["q_proj", "qproj", "w_pack"]})
    assert error.value.error_code == "model.unknown_target" and error.value.exit == 3
    errors = error.value.data["errors"]
    assert [e["key"] for e in errors] == [f"lora.{key}"] * 2
    assert "q_proj" in errors[0]["nearest"] and "w_pack" in errors[1]["reason"]
    assert "down_proj" in error.value.hint


def test_what_is_no_matrix_is_refused() -> None:
    with pytest.raises(SpecError, match="self_attn is a LlamaAttention"):
        found("llama", ["self_attn"])


def test_trained_in_full_are_the_modules_of_that_name_alone() -> None:
    """peft takes whatever ends in the letters: "norm" would be every norm of the model."""
    assert found("llama", train_also=["norm"]).also == ("model.norm",)
    model = trained("llama", "q_proj", train_also=["norm", "lm_head"])
    whole = [n for n, p in model.named_parameters() if p.requires_grad and "lora" not in n]
    assert len(whole) == 2 and "model.norm." in whole[0] and "lm_head." in whole[1]


def test_tied_modules_stay_tied() -> None:
    wanted = spec(train_also=["lm_head"])
    model = build("llama", tie_word_embeddings=True)
    targets = targets_of(wanted, model, lambda: None)
    assert targets.tied and not found("llama", train_also=["lm_head"]).tied
    put = adapter.put_on(model, adapter.config_of(wanted, targets))
    whole = [n for n, p in put.named_parameters() if p.requires_grad and "lora" not in n]
    assert len(whole) == 1
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


@pytest.mark.parametrize("variant", ["lora", "dora"])
def test_what_learns_is_float32_on_a_base_in_bf16(variant: str) -> None:
    wanted = spec(variant=variant, train_also=["lm_head", "norm"])
    base = build("llama").to(torch.bfloat16)
    model = adapter.put_on(base, adapter.config_of(wanted, targets_of(wanted, base, lambda: None)))
    kinds = {(p.requires_grad, p.dtype) for p in model.parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(input_ids=IDS, labels=IDS).loss.backward()
    assert all(p.grad.dtype is torch.float32 for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe", "gpt_oss", "deepseek_v3"])
def test_all_linear_leaves_experts_of_one_piece_alone_and_says_their_share(kind: str) -> None:
    targets = found(kind)
    assert not targets.parameters
    assert {"experts.gate_up_proj", "experts.down_proj"} <= set(targets.left)
    real = build(kind)
    ends = tuple(f".{name}{tail}" for name in targets.left for tail in ("", ".weight"))
    frozen = sum(p.numel() for n, p in real.named_parameters() if n.endswith(ends))
    assert targets.left_share == pytest.approx(frozen / sum(p.numel() for p in real.parameters()))
    said = adapter.frozen(targets)
    assert f"{targets.left_share:.0%}" in said and '"experts.gate_up_proj"' in said
    names = adapted(kind, "all-linear")
    assert names and not any("expert" in n and "shared" not in n for n in names)
    assert any("self_attn" in n for n in names)


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe", "gpt_oss"])
def test_named_experts_are_adapted_and_learn(kind: str, tmp_path: Path) -> None:
    """Each expert gets rank r; the saved adapter gives the same loss on plain peft."""
    from peft import PeftModel

    model = trained(kind, ["all-linear", "experts.gate_up_proj", "experts.down_proj"])
    base = build(kind)
    base.load_state_dict(
        {n.replace(".base_layer", ""): p for n, p in model.get_base_model().state_dict().items() if "lora_" not in n}
    )
    stacked = [p for n, p in model.named_parameters() if ".experts." in n and ".lora_A." in n]
    assert len(stacked) == 4 and all(p.shape[0] == 4 * 4 for p in stacked)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for _ in range(3):
        loss = model(input_ids=IDS, labels=IDS).loss
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
        optimizer.zero_grad()
    assert losses[-1] < losses[0]
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        wanted = model.eval()(input_ids=IDS, labels=IDS).loss
        loaded = PeftModel.from_pretrained(base, tmp_path).eval()(input_ids=IDS, labels=IDS).loss
    assert loaded.item() == pytest.approx(wanted.item(), rel=1e-6)


def test_what_peft_cannot_tell_apart_is_refused_by_name() -> None:
    """In DeepSeek-V3 peft takes down_proj for the experts' and leaves that of shared experts and dense layers out."""
    with pytest.raises(SpecError) as error:
        found("deepseek_v3", ["q_a_proj", "down_proj"])
    assert error.value.error_code == "model.unknown_target" and "down_proj" in error.value.message
    left = found("deepseek_v3").left
    assert "shared_experts.down_proj" in left


@pytest.mark.parametrize("more", [{"dropout": 0.1}, {"variant": "dora"}])
def test_what_experts_cannot_have_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="does not go on this model"):
        found("qwen3_moe", ["experts.down_proj"], **more)


def test_parameters_are_counted_by_kind_of_module() -> None:
    model = trained("llama", ["q_proj", "down_proj"], train_also=["lm_head"])
    kinds = {kind.name: kind for kind in counts.by_kind(model)}
    assert kinds["q_proj"] == counts.Kind("q_proj", 2, 2 * 32 * 32, 2 * 4 * (32 + 32))
    assert kinds["down_proj"] == counts.Kind("down_proj", 2, 2 * 48 * 32, 2 * 4 * (48 + 32))
    assert kinds["lm_head"] == counts.Kind("lm_head", 1, 50 * 32, 50 * 32)
    assert kinds["embed_tokens"].trainable == kinds["k_proj"].trainable == 0
    plain = build("llama")
    fields = counts.as_fields(tuple(kinds.values()))
    assert fields["total"] == sum(p.numel() for p in plain.parameters())
    assert fields["trainable"] == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert fields["by_kind"] == {k: v.trainable for k, v in kinds.items() if v.trainable}
    whole = counts.as_fields(counts.by_kind(plain))
    assert whole["trainable"] == whole["total"] == fields["total"]


def test_experts_count_as_such_also_without_weights() -> None:
    model = adapter.put_on(
        on_meta("mixtral"), adapter.config_of(spec(), found("mixtral", ["experts.down_proj"])), empty=True
    )
    kinds = {kind.name: kind for kind in counts.by_kind(model)}
    assert kinds["experts"].modules == 2 and kinds["experts"].parameters == 2 * 4 * (96 * 32 + 32 * 48)
    assert kinds["experts"].trainable == 2 * 4 * 4 * (48 + 32)
