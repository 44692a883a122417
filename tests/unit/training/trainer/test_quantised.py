"""A base in 4 or 8 bits: what is quantised, what is not, and that looking at it changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("bitsandbytes")

from llamahome_tui.errors import SpecError  # noqa: E402
from llamahome_tui.training.spec import Spec  # noqa: E402
from llamahome_tui.training.trainer import model, quantised  # noqa: E402
from llamahome_tui.training.trainer.counts import by_kind  # noqa: E402
from llamahome_tui.training.trainer.model import Source, Trainee  # noqa: E402
from tests.tinymodel import write_model  # noqa: E402

pytestmark = pytest.mark.torch

IDS = torch.arange(10, 50).view(2, 20)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Matrices of 172 and 688 values a side: no multiple of what a CPU's 4-bit kernels take at once."""
    return write_model(tmp_path_factory.mktemp("model"), hidden=344)


def load(folder: Path, quantization: str, said: list[str] | None = None, **tables: Any) -> Trainee:
    torch.manual_seed(0)
    spec = Spec.from_dict({"model": {"id": str(folder), "quantization": quantization}, "lora": {"r": 4}, **tables})
    return model.load(spec, Source(folder, str(folder)), CPU, (said if said is not None else []).append)


def loss_of(trainee: Trainee) -> Any:
    with trainee.autocast():
        return trainee.model(input_ids=IDS, labels=IDS).loss


@pytest.mark.parametrize(("quantization", "kind"), [("nf4", torch.uint8), ("int8", torch.int8)])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_linear_layers_are_quantised_and_nothing_else_changes_precision(
    folder: Path, quantization: str, kind: Any, precision: str
) -> None:
    trainee = load(folder, quantization, training={"precision": precision})
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    for name, parameter in trainee.model.named_parameters():
        if parameter.requires_grad:
            assert parameter.dtype is torch.float32 and ".lora_" in name
        elif "_proj" in name:
            assert parameter.dtype is kind, name
        else:
            assert parameter.dtype is dtype, name
    plain = load(folder, "none")
    assert trainee.parameters == plain.parameters
    assert {k.name: k.parameters for k in by_kind(trainee.model)} == {
        k.name: k.parameters for k in by_kind(plain.model)
    }
    loss = loss_of(trainee)
    loss.backward()
    assert all(p.grad is not None for p in trainee.trainable)
    assert loss.item() == pytest.approx(loss_of(plain).item(), rel=0.02)


def test_nf4_is_quantised_doubly_with_blocks_of_64(folder: Path) -> None:
    """Against bitsandbytes' own quantisation of the matrix in the file."""
    import bitsandbytes.functional as functional

    layer = load(folder, "nf4").base.model.layers[0].mlp.down_proj.base_layer.weight
    assert layer.quant_state.quant_type == "nf4" and layer.quant_state.nested and layer.quant_state.blocksize == 64
    exact = load(folder, "none").base.model.layers[0].mlp.down_proj.base_layer.weight
    packed, state = functional.quantize_4bit(exact.data, quant_type="nf4", compress_statistics=True)
    assert torch.equal(layer.data, packed)
    assert torch.equal(
        functional.dequantize_4bit(layer.data, layer.quant_state), functional.dequantize_4bit(packed, state)
    )


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_an_evaluation_changes_nothing_that_training_computes(folder: Path, quantization: str) -> None:
    trainee = load(folder, quantization)
    before = loss_of(trainee)
    trainee.model.eval()
    with torch.no_grad():
        seen = loss_of(trainee)
    trainee.model.train()
    assert torch.equal(loss_of(trainee), before)
    assert seen.item() == pytest.approx(before.item(), rel=1e-3)


def test_gradients_are_checkpointed_through_a_quantised_base(folder: Path) -> None:
    trainee = load(folder, "nf4")
    loss_of(trainee).backward()
    wanted = [p.grad.clone() for p in trainee.trainable]
    for parameter in trainee.trainable:
        parameter.grad = None
    trainee.checkpoint_gradients()
    loss_of(trainee).backward()
    for parameter, gradient in zip(trainee.trainable, wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_what_is_trained_in_full_is_not_quantised(folder: Path) -> None:
    trainee = load(folder, "nf4", lora={"r": 4, "targets": ["q_proj"], "train_also": ["v_proj", "lm_head"]})
    whole = {n: p for n, p in trainee.model.named_parameters() if p.requires_grad and ".lora_" not in n}
    assert len(whole) == 3 and all(p.dtype is torch.float32 for p in whole.values())
    assert trainee.base.model.layers[0].self_attn.k_proj.weight.dtype is torch.uint8


def test_a_base_that_is_quantised_in_its_files(folder: Path, tmp_path: Path) -> None:
    """It computes what the same base computes that was quantised when it was loaded."""
    import shutil

    wanted = loss_of(load(folder, "nf4")).item()
    bare = model._load_base(  # without an adapter, to be saved
        Source(folder, ""), torch.float32, "auto", CPU, quantised.settings("nf4", torch.float32, (), None)
    )
    packed = tmp_path / "packed"
    shutil.copytree(folder, packed)
    bare.save_pretrained(packed)
    trainee = load(packed, "none")
    assert loss_of(trainee).item() == pytest.approx(wanted, rel=1e-6)
    loss_of(trainee).backward()
    assert trainee.parameters == load(folder, "none").parameters
    with pytest.raises(SpecError, match=r"lora\.train_also.*quantised") as error:
        load(packed, "none", lora={"r": 4, "targets": ["q_proj"], "train_also": ["v_proj"]})
    assert error.value.exit == 3


def test_a_model_that_is_hardly_quantised_is_said_to_be_so(tmp_path: Path) -> None:
    said: list[str] = []
    folder = write_model(tmp_path / "wide", hidden=32, vocabulary=2000)
    load(folder, "nf4", said)
    assert any("in no linear layer" in word for word in said)
    assert quantised.unquantised_share(load(folder, "none").base) == 1.0
