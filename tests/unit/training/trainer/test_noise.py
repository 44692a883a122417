"""NEFTune: transformers' formula, training only, and each packed row with its own length."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llamahome_tui.training.trainer.noise import add_noise, row_lengths  # noqa: E402
from tests.tinymodel import write_model  # noqa: E402

pytestmark = pytest.mark.torch

IDS = torch.arange(10, 50).view(2, 20)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoModelForCausalLM

    folder: Path = write_model(tmp_path_factory.mktemp("model"))
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def embedded(model: Any, ids: Any, **given: Any) -> Any:
    """What goes into the first layer."""
    seen = []
    hook = model.model.layers[0].register_forward_pre_hook(lambda _m, args: seen.append(args[0].detach()))
    torch.manual_seed(7)
    with torch.no_grad():
        model(input_ids=ids, **given)
    hook.remove()
    return seen[0]


def test_it_is_the_noise_of_transformers(base: Any) -> None:
    from transformers.integrations.neftune import activate_neftune

    ours, theirs = copy.deepcopy(base).train(), copy.deepcopy(base).train()
    add_noise(ours, 5.0)
    activate_neftune(theirs, 5.0)
    found, wanted = embedded(ours, IDS), embedded(theirs, IDS)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert (found - embedded(base, IDS)).abs().max() > 0.1


def test_there_is_none_without_training(base: Any) -> None:
    model = copy.deepcopy(base)
    add_noise(model, 5.0)
    assert torch.equal(embedded(model.eval(), IDS), embedded(base.eval(), IDS))


def test_a_packed_row_gets_the_noise_of_its_own_length(base: Any) -> None:
    model = copy.deepcopy(base).train()
    add_noise(model, 5.0)
    positions = torch.tensor([[*range(4), *range(1), *range(35)]])
    lengths = row_lengths(positions, torch.zeros(1, 40, 32))
    assert lengths.view(-1).tolist() == [4.0] * 4 + [1.0] + [35.0] * 35
    ids = IDS.view(1, 40)
    change = (embedded(model, ids, position_ids=positions) - embedded(base.train(), ids, position_ids=positions)).abs()
    for begin, end in ((0, 4), (4, 5), (5, 40)):
        limit = 5.0 / ((end - begin) * 32) ** 0.5
        assert 0.8 * limit < change[0, begin:end].max() <= limit * 1.0001


def test_it_works_beside_checkpointed_gradients_and_a_trained_embedding(base: Any) -> None:
    from peft import LoraConfig, get_peft_model

    inner = copy.deepcopy(base)
    config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens"], task_type="CAUSAL_LM")
    model = get_peft_model(inner, config).train()
    add_noise(inner, 5.0)
    inner.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    inner.enable_input_require_grads()
    losses = []
    for _ in range(2):
        loss = model(input_ids=IDS, labels=IDS).loss
        loss.backward()
        losses.append(loss.item())
    assert losses[0] != losses[1]
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
