"""The loss: equal to the plain formula, normalised over the step, and blind to what is masked or padded."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llamahome_tui.training.trainer.batches import collate  # noqa: E402
from llamahome_tui.training.trainer.loss import States, cross_entropy, judged, log_probabilities, reader_of  # noqa: E402
from tests.tinymodel import write_model  # noqa: E402

pytestmark = pytest.mark.torch


@dataclass
class Row:
    ids: list[int]
    mask: list[int]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


def load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def rows(count: int, seed: int = 0) -> list[Row]:
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        length = int(torch.randint(4, 20, (1,), generator=generator))
        ids = torch.randint(5, 90, (length,), generator=generator).tolist()
        mask = torch.randint(0, 2, (length,), generator=generator).tolist()
        made.append(Row(ids, [*mask[:-1], 1]))
    return made


def plain(model: Any, row: Row) -> Any:
    """The textbook formula on one row without padding."""
    logits = model(input_ids=torch.tensor([row.ids])).logits[0, :-1].float()
    each = torch.nn.functional.cross_entropy(logits, torch.tensor(row.ids[1:]), reduction="none")
    return (each * torch.tensor(row.mask[1:])).sum()


def loss_of(model: Any, sample: Row) -> tuple[Any, bool]:
    """A function from a micro-batch to its summed loss, and whether its logits come in chunks."""
    read, chunked = reader_of(model, model, collate([sample]), contextlib.nullcontext)
    return lambda batch: cross_entropy(read(batch)), chunked


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("trained_head", [False, True])
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_chunks_give_the_plain_loss_and_gradient(chunk: int, trained_head: bool, smoothing: float) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 50, bias=False).requires_grad_(trained_head)
    hidden = torch.randn(30, 16, requires_grad=True)
    labels = torch.randint(0, 50, (30,))
    plain = torch.nn.functional.cross_entropy
    wanted = plain(head(hidden), labels, reduction="sum", label_smoothing=smoothing)
    (wanted / 30).backward()
    gradient, hidden.grad = hidden.grad, None
    head_gradient, head.weight.grad = head.weight.grad, None
    states = States(hidden, labels, head)
    found = cross_entropy(states, chunk=chunk, smoothing=smoothing)
    (found / 30).backward()
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)
    torch.testing.assert_close(hidden.grad, gradient)
    if trained_head:
        torch.testing.assert_close(head.weight.grad, head_gradient)
    with torch.no_grad():
        again = cross_entropy(states, chunk=chunk, smoothing=smoothing)
        assert again.item() == pytest.approx(wanted.item(), rel=1e-6)
    entropy, right = judged(states, chunk=chunk)
    assert entropy.item() == pytest.approx(plain(head(hidden), labels, reduction="sum").item(), rel=1e-6)
    assert right.item() == int((head(hidden).argmax(-1) == labels).sum())


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_log_probabilities_in_chunks_have_the_plain_values_and_gradients(chunk: int, dropout: float) -> None:
    """Each token's gradient is weighted, as by a loss that depends on all of them; dropout keeps its masks."""
    torch.manual_seed(0)

    class Head(torch.nn.Linear):
        dropped = torch.nn.Dropout(dropout)

        def forward(self, given: Any) -> Any:
            return super().forward(self.dropped(given))

    head = Head(16, 50)
    head.dropped = torch.nn.Dropout(dropout)
    hidden = torch.randn(30, 16, requires_grad=True)
    labels = torch.randint(0, 50, (30,))
    weights = torch.randn(30)
    torch.manual_seed(1)
    each = [head(part) for part in hidden.split(chunk)]
    wanted = torch.log_softmax(torch.cat(each), -1).gather(1, labels[:, None])[:, 0]
    (wanted * weights).sum().sigmoid().backward()
    gradients = [hidden.grad, head.weight.grad, head.bias.grad]
    hidden.grad = head.weight.grad = head.bias.grad = None
    torch.manual_seed(1)
    found = log_probabilities(States(hidden, labels, head), chunk=chunk)
    (found * weights).sum().sigmoid().backward()
    torch.testing.assert_close(found, wanted)
    for mine, theirs in zip([hidden.grad, head.weight.grad, head.bias.grad], gradients, strict=True):
        torch.testing.assert_close(mine, theirs)
    states = States(torch.cat(each).detach(), labels, None)  # logits as they are
    torch.testing.assert_close(log_probabilities(states), wanted)


def test_padding_and_batching_change_nothing(folder: Path) -> None:
    model = load(folder)
    chats = rows(6)
    loss, chunked = loss_of(model, chats[0])
    assert chunked
    wanted = sum(plain(model, row) for row in chats)
    assert loss(collate(chats, multiple=8)).item() == pytest.approx(wanted.item(), rel=1e-5)


def test_micro_batches_add_up_to_the_gradient_of_the_whole_step(folder: Path) -> None:
    """Rows with very different numbers of trained tokens: a mean of means would be wrong."""
    model = load(folder)
    chats = [Row(list(range(10, 30)), [0] * 18 + [1] * 2), Row(list(range(30, 60)), [1] * 30), *rows(3)]
    trained = sum(sum(row.mask[1:]) for row in chats)
    (sum(plain(model, row) for row in chats) / trained).backward()
    wanted = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    loss, _ = loss_of(model, chats[0])
    for group in (chats[:1], chats[1:2], chats[2:]):
        (loss(collate(group)) / trained).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-4, atol=1e-6)


def test_masked_tokens_are_not_learned(folder: Path) -> None:
    model = load(folder)
    loss, _ = loss_of(model, rows(1)[0])
    one = loss(collate([Row([7, 8, 9, 10], [0, 0, 0, 1])]))
    other = plain(model, Row([7, 8, 9, 10], [0, 0, 0, 1]))
    assert one.item() == pytest.approx(other.item(), rel=1e-5)


@pytest.mark.parametrize("factor", [0.0625, 30.0])
def test_a_model_that_changes_its_logits_takes_the_whole_way(folder: Path, factor: float) -> None:
    """Scaled logits (Cohere, Granite) and capped ones (Gemma 2): the hidden states alone do not tell."""
    model = load(folder)
    forward = model.forward

    def changed(*args: Any, **given: Any) -> Any:
        out = forward(*args, **given)
        out.logits = out.logits * factor if factor < 1 else factor * torch.tanh(out.logits / factor)
        return out

    model.forward = changed
    loss, chunked = loss_of(model, rows(1)[0])
    assert not chunked
    chats = rows(3)
    wanted = sum(plain(model, row) for row in chats)
    assert loss(collate(chats)).item() == pytest.approx(wanted.item(), rel=1e-5)
