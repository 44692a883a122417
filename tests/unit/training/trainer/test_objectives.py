"""Each objective is what TRL's trainer computes on the same tokens, however a step is split and laid out."""

from __future__ import annotations

import contextlib
import math
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from llamahome_tui.training.auto import Micro  # noqa: E402
from llamahome_tui.training.layout import Mode  # noqa: E402
from llamahome_tui.training.shape import Method  # noqa: E402
from llamahome_tui.training.trainer.batches import Batching, Item, Items, collate  # noqa: E402
from llamahome_tui.training.trainer.evaluate import measure  # noqa: E402
from llamahome_tui.training.trainer.loss import reader_of  # noqa: E402
from llamahome_tui.training.trainer.model import Trainee  # noqa: E402
from llamahome_tui.training.trainer.objectives import objective_of  # noqa: E402
from llamahome_tui.training.trainer.objectives.kto import mismatched  # noqa: E402
from llamahome_tui.training.trainer.step import Stepper, StepTooLarge  # noqa: E402
from tests.tinymodel import write_model  # noqa: E402
from tests.unit.training.trainer import objective_cases as cases  # noqa: E402
from tests.unit.training.trainer.objective_cases import CASES, RATE, ROWS, Answered, Case  # noqa: E402

pytestmark = pytest.mark.torch

ROOT = Path(__file__).resolve().parents[4]


class Row:
    def __init__(self, prompt: list[int], answer: list[int]) -> None:
        self.ids = prompt + answer
        self.mask = [0] * len(prompt) + [1] * len(answer)


def item(kind: str, row: Answered) -> Item:
    if kind == "pretrain":
        return Item((Row([], row.prompt + row.chosen),))
    chosen, rejected = Row(row.prompt, row.chosen), Row(row.prompt, row.rejected)
    return Item((chosen, rejected) if kind in ("dpo", "simpo", "orpo") else (chosen,), row.good)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def oracle(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[int, Any]]:
    """What TRL computes, by case and number of micro-batches."""
    out = tmp_path_factory.mktemp("oracle") / "found.pt"
    script = Path(__file__).with_name("trl_oracle.py")
    quiet = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        [sys.executable, str(script), str(folder), str(out)],
        env=os.environ | quiet, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, dict[int, Any]] = torch.load(out)
    return found


def learner(folder: Path) -> Trainee:
    from peft import get_peft_model

    base = cases.load(folder)
    model = get_peft_model(base, cases.config())
    cases.fill(model)
    return Trainee(model.train(), base, torch.device("cpu"), "fp32", lora=True, parameters=0)


def stepper(
    trainee: Trainee, case: Case, items: Items, batching: Batching, micro: Micro, *, rate: float = 0.0
) -> Stepper:
    read, chunked = reader_of(trainee.model, trainee.base, collate(items[0].sequences), trainee.autocast)
    assert chunked
    return Stepper(
        trainee, objective_of(Method(kind=case.kind, **case.method), trainee, read, 64),
        torch.optim.AdamW(trainee.trainable, lr=rate, weight_decay=0.0), None, items, micro,
        clip=0.0, batching=batching, split_on_oom=True, degraded=lambda what, why: None,
    )  # fmt: skip


def gradients_of(taking: Stepper) -> Callable[[], dict[str, Any]]:
    """Keeps the gradients of the next step, by parameter."""
    kept: dict[str, Any] = {}
    named = [(n, p) for n, p in taking.trainee.model.named_parameters() if p.requires_grad]

    def keep(*_: Any) -> None:
        if not kept:
            kept.update((name, parameter.grad.clone()) for name, parameter in named)

    taking.optimizer.register_step_pre_hook(keep)
    return lambda: kept


def apart(found: dict[str, Any], wanted: dict[str, Any]) -> float:
    """How far two gradients are from one another, as a share of the length of the second one."""
    assert found.keys() == wanted.keys()
    difference = torch.cat([(found[name] - wanted[name]).flatten() for name in wanted])
    return float(difference.norm() / torch.cat([one.flatten() for one in wanted.values()]).norm())


@pytest.mark.parametrize("mode", ["plain", "packed"])
@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_what_trl_computes(
    folder: Path, oracle: dict[str, dict[int, Any]], case: Case, parts: int, mode: Mode
) -> None:
    """Loss and gradient of the first step within 1e-5, losses of ten steps within 1e-4.

    TRL estimates the divergence of KTO anew for each micro-batch, and so has another loss where a step is split; ours
    is that of the step at once.
    """
    wanted = oracle[case.name][1 if case.kind == "kto" else parts]
    items = Items.made([item(case.kind, row) for step in cases.steps() for row in step])
    size = ROWS // parts
    # Packed sequences are limited in tokens: of so many rows, all but one of about half the size.
    micro = Micro("rows", size) if mode == "plain" else Micro("tokens", max(size * 31, 62))
    taking = stepper(learner(folder), case, items, Batching(mode), micro, rate=RATE)
    gradients = gradients_of(taking)
    losses = []
    for first in range(0, len(items), ROWS):
        taken = taking.take(range(first, first + ROWS), RATE)
        assert taken.applied
        losses.append(taken.loss / taken.weight)
    assert losses[0] == pytest.approx(wanted["losses"][0], rel=1e-5)
    assert apart(gradients(), wanted["gradients"]) < 1e-5
    assert losses == pytest.approx(wanted["losses"], abs=1e-4)
    assert len({round(loss, 3) for loss in losses}) > 5, "the losses of ten steps should differ"


def uneven(kind: str, count: int = 9) -> Items:
    """Rows of very different lengths, so that a mean of means would be wrong."""
    chance = random.Random(3)

    def ids(most: int) -> list[int]:
        return [chance.randrange(5, 100) for _ in range(chance.randint(1, most))]

    return Items.made([item(kind, Answered(ids(6), ids(40), ids(40), chance.random() < 0.5)) for _ in range(count)])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_step_is_the_same_however_it_is_split(folder: Path, case: Case) -> None:
    """Also in micro-batches that hold one good answer, one bad, or one pair."""
    items = uneven(case.kind)
    found = []
    for batching, micro in (
        (Batching("plain"), Micro("rows", len(items))),
        (Batching("plain"), Micro("rows", 1)),
        (Batching("sorted"), Micro("tokens", 100, 8)),
        (Batching("packed", "bounds", 8), Micro("tokens", 120)),
    ):
        taking = stepper(learner(folder), case, items, batching, micro)
        gradients = gradients_of(taking)
        taken = taking.take(range(len(items)), 0.0)
        assert taken.tokens == sum(items.tokens) and taken.rows == len(items)
        found.append((taken, gradients()))
    first, wanted = found[0]
    for taken, gradients in found[1:]:
        assert taken.loss == pytest.approx(first.loss, rel=1e-5)
        assert apart(gradients, wanted) < 1e-5
        assert taken.sums == pytest.approx(first.sums, rel=1e-4, abs=1e-5)


@contextlib.contextmanager
def memory_for(trainee: Trainee, tokens: int) -> Iterator[list[int]]:
    """No pass over so many tokens; what was asked for is kept."""
    asked: list[int] = []

    def refuse(_module: Any, _given: Any, named: dict[str, Any]) -> None:
        asked.append(named["input_ids"].numel())
        if asked[-1] > tokens:
            raise torch.OutOfMemoryError("out of memory")

    hook = trainee.base.base_model.register_forward_pre_hook(refuse, with_kwargs=True)
    try:
        yield asked
    finally:
        hook.remove()


@pytest.mark.parametrize(
    ("kind", "mode"), [("dpo", "packed"), ("orpo", "sorted"), ("kto", "sorted"), ("kto", "packed")]
)
def test_out_of_memory_splits_the_step_and_keeps_its_gradient(folder: Path, kind: str, mode: Mode) -> None:
    case, items = Case(kind), uneven(kind)
    whole = stepper(learner(folder), case, items, Batching(mode), Micro("tokens", 1000))
    wanted = gradients_of(whole)
    first = whole.take(range(len(items)), 0.0)
    taking = stepper(learner(folder), case, items, Batching(mode), Micro("tokens", 1000))
    gradients = gradients_of(taking)
    most = max(items.filled) + 20
    with memory_for(taking.trainee, most) as asked:
        taken = taking.take(range(len(items)), 0.0)
    assert max(asked) > most >= asked[-1] and taking.micro.limit < 1000
    assert taken.loss == pytest.approx(first.loss, rel=1e-5)
    assert apart(gradients(), wanted()) < 1e-5
    assert taking.trainee.model.training
    longest = max(max(len(one.ids) for one in row.sequences) for row in items)
    with memory_for(taking.trainee, longest - 1), pytest.raises(StepTooLarge) as found:
        taking.take(range(len(items)), 0.0)
    assert found.value.rows == 1 and found.value.length <= most


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_evaluation_is_the_same_however_it_is_split(folder: Path, case: Case) -> None:
    items = uneven(case.kind)
    taking = stepper(learner(folder), case, items, Batching("plain"), Micro("rows", 1))

    def measured(batching: Batching, micro: Micro) -> dict[str, float]:
        return measure(taking.trainee, taking.objective, items, batching, micro, lambda: None)

    found = measured(Batching("plain"), Micro("rows", 100))
    for batching, micro in ((Batching("sorted"), Micro("rows", 1)), (Batching("packed"), Micro("tokens", 150))):
        assert measured(batching, micro) == pytest.approx(found, rel=1e-5, abs=1e-6)
    smooth = case.method.get("label_smoothing") and case.kind == "sft"
    taken = taking.take(range(len(items)), 0.0)
    assert (taken.loss / taken.weight == pytest.approx(found["loss"], rel=1e-5)) != bool(smooth)


@pytest.mark.parametrize("kind", ["simpo", "kto"])
def test_an_evaluation_that_runs_out_of_memory_goes_on_in_parts(folder: Path, kind: str) -> None:
    items = uneven(kind, 6)
    taking = stepper(learner(folder), Case(kind), items, Batching("plain"), Micro("rows", 1))
    found = []
    for tokens in (10_000, 2 * max(items.filled)):
        with memory_for(taking.trainee, tokens):
            micro = Micro("rows", 6)
            found.append(measure(taking.trainee, taking.objective, items, Batching("sorted"), micro, lambda: None))
    assert found[0] == pytest.approx(found[1], rel=1e-5, abs=1e-6)


def test_what_is_measured_of_a_likelihood(folder: Path) -> None:
    case = Case("sft")
    items = uneven("sft")
    taking = stepper(learner(folder), case, items, Batching("plain"), Micro("rows", 100))
    found = measure(taking.trainee, taking.objective, items, Batching("plain"), Micro("rows", 4), lambda: None)
    right = total = 0
    for one in items:
        (row,) = one.sequences
        with torch.no_grad():
            guess = taking.trainee.model(input_ids=torch.tensor([row.ids])).logits[0, :-1].argmax(-1).tolist()
        learned = [at for at in range(1, len(row.ids)) if row.mask[at]]
        right += sum(guess[at - 1] == row.ids[at] for at in learned)
        total += len(learned)
    assert found["token_accuracy"] == right / total
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))


def rewards(trainee: Trainee, row: Any, *, mean: bool) -> float:
    """How much likelier an answer is than by the reference, the textbook way."""

    def logarithm() -> float:
        with torch.no_grad():
            logits = trainee.model(input_ids=torch.tensor([row.ids])).logits[0, :-1]
        each = torch.log_softmax(logits, -1).gather(1, torch.tensor(row.ids[1:])[:, None])[:, 0]
        learned = each[torch.tensor(row.mask[1:], dtype=torch.bool)]
        return float(learned.mean() if mean else learned.sum())

    trainee.model.eval()
    mine = logarithm()
    with trainee.model.disable_adapter():
        theirs = 0.0 if mean else logarithm()
    trainee.model.train()
    return 0.1 * (mine - theirs)


@pytest.mark.parametrize("kind", ["dpo", "orpo"])
def test_what_is_measured_of_pairs(folder: Path, kind: str) -> None:
    items = uneven(kind)
    taking = stepper(learner(folder), Case(kind), items, Batching("plain"), Micro("rows", 100))
    found = measure(taking.trainee, taking.objective, items, Batching("sorted"), Micro("rows", 4), lambda: None)
    margins = [
        rewards(taking.trainee, chosen, mean=kind == "orpo") - rewards(taking.trainee, rejected, mean=kind == "orpo")
        for chosen, rejected in (one.sequences for one in items)
    ]
    assert found["preference_margin"] == pytest.approx(sum(margins) / len(margins), rel=1e-3, abs=1e-5)
    assert found["preference_accuracy"] == sum(margin > 0 for margin in margins) / len(margins)


def test_what_is_measured_of_labels(folder: Path) -> None:
    items = uneven("kto")
    taking = stepper(learner(folder), Case("kto"), items, Batching("plain"), Micro("rows", 100))
    found = measure(taking.trainee, taking.objective, items, Batching("sorted"), Micro("rows", 4), lambda: None)
    each = [(one.good, rewards(taking.trainee, one.sequences[0], mean=False)) for one in items]
    good, bad = [r for is_good, r in each if is_good], [r for is_good, r in each if not is_good]
    assert found["preference_margin"] == pytest.approx(sum(good) / len(good) - sum(bad) / len(bad), rel=1e-3, abs=1e-5)
    others = [mismatched(items[i].sequences[0], items[i - 1].sequences[0], 1000) for i in range(len(items))]
    moved = max(0.0, sum(rewards(taking.trainee, other, mean=False) for other in others) / len(others) / 0.1)
    assert found["kl"] == pytest.approx(moved, rel=1e-3, abs=1e-4)
    right = sum((r > 0.1 * moved) == is_good for is_good, r in each)
    assert found["preference_accuracy"] == right / len(each)


def test_a_prompt_with_another_ones_answer() -> None:
    first, second = Row([1, 2, 3], [4, 5]), Row([6], [7, 8, 9])
    second.mask[2] = 0
    made = mismatched(first, second, 100)
    assert (made.ids, made.mask) == ([1, 2, 3, 7, 8, 9], [0, 0, 0, 1, 0, 1])
    assert mismatched(first, second, 4).ids == [1, 2, 3, 7]


def test_a_single_answer_has_not_moved(folder: Path) -> None:
    items = uneven("kto")
    taking = stepper(learner(folder), Case("kto"), items, Batching("plain"), Micro("rows", 100))
    assert taking.take([3], 0.0).sums["divergence"] == 0.0


@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_the_reference_is_the_model_the_run_began_with(folder: Path, tmp_path: Path, kind: str) -> None:
    """A new adapter changes nothing at first; one that the run goes on from is the reference itself."""
    from peft import PeftModel, get_peft_model

    from llamahome_tui.training.trainer.objectives import reference

    saved = learner(folder)
    saved.model.save_pretrained(tmp_path)
    fresh, later = cases.load(folder), cases.load(folder)
    new, old = get_peft_model(fresh, cases.config()), PeftModel.from_pretrained(later, tmp_path, is_trainable=True)
    starts = (
        (Trainee(new, fresh, torch.device("cpu"), "fp32", lora=True, parameters=0), None),
        (Trainee(old, later, torch.device("cpu"), "fp32", lora=True, parameters=0), tmp_path),
    )
    items = uneven(kind)
    for trainee, start in starts:
        trainee.model.train()
        before = [name for name, p in trainee.model.named_parameters() if p.requires_grad]
        reference.keep(trainee, start)
        random_state = torch.get_rng_state()
        taking = stepper(trainee, Case(kind), items, Batching("sorted"), Micro("tokens", 120), rate=0.01)
        taken = taking.take(range(len(items)), 0.01)
        begun = math.log(2) if kind == "dpo" else 0.5
        assert taken.loss / taken.weight == pytest.approx(begun, rel=1e-6)
        again = taking.take(range(len(items)), 0.01)
        assert again.loss / again.weight < begun - 1e-3
        assert [name for name, p in trainee.model.named_parameters() if p.requires_grad] == before
        assert torch.equal(random_state, torch.get_rng_state()) and trainee.model.training
    kept = {n: p for n, p in starts[1][0].model.named_parameters() if f".{reference.REFERENCE}." in n}
    for name, parameter in kept.items():
        wanted = saved.model.get_parameter(name.replace(f".{reference.REFERENCE}.", ".default."))
        assert torch.equal(parameter, wanted) and not parameter.requires_grad
    assert kept


@pytest.mark.parametrize("case", [one for one in CASES if not one.method], ids=lambda case: case.name)
def test_a_loss_that_is_not_finite_leaves_the_weights_alone(folder: Path, case: Case) -> None:
    items = uneven(case.kind)
    trainee = learner(folder)
    taking = stepper(trainee, case, items, Batching("sorted"), Micro("tokens", 200), rate=0.01)
    broken = trainee.trainable[3]
    kept, broken.data = broken.data.clone(), torch.full_like(broken.data, math.nan)
    taken = taking.take(range(len(items)), 0.01)
    assert not taken.applied and not taken.sound
    broken.data = kept
    assert taking.take(range(len(items)), 0.01).applied
