"""Evaluation: what the objective measures on held-out rows, and how often the model's own greedy answer is theirs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from llamahome_tui.jobs.answers import Answer
from llamahome_tui.training.auto import Micro
from llamahome_tui.training.trainer import memory
from llamahome_tui.training.trainer.batches import Batching, Item, Items, MicroBatch, Row
from llamahome_tui.training.trainer.model import Trainee
from llamahome_tui.training.trainer.objectives import Objective
from llamahome_tui.training.trainer.ranks import ALONE, Ranks

GENERATION_ROWS = 64  # answers written at a time

Made = Callable[[Sequence[int]], MicroBatch]
Each = Callable[[MicroBatch], Mapping[str, Any]]


class Interrupted(Exception):
    """The run is asked to stop while it evaluates; what was measured so far is dropped."""


@contextlib.contextmanager
def evaluating(trainee: Trainee) -> Iterator[None]:
    """No dropout and no gradients inside; no random number is drawn, so training goes on as if nothing was."""
    training = trainee.model.training
    trainee.model.eval()
    try:
        with torch.no_grad(), trainee.autocast():
            yield
    finally:
        trainee.model.train(training)


def measure(
    trainee: Trainee,
    objective: Objective,
    items: Items,
    batching: Batching,
    micro: Micro,
    poll: Callable[[], None],
    ranks: Ranks = ALONE,
) -> dict[str, float]:
    """What the objective measures over all rows, "loss" among it; a mean over rows or tokens, however they are split.

    Each of several ranks takes its share and all call this. `poll` is called between batches and may raise
    Interrupted, which then all do.
    """
    batching = batching.evaluating()

    def added(count: int, room: Sequence[int], made: Made, each: Each) -> dict[str, Any]:
        sums = _together(ranks, lambda: added_here(ranks.share(range(count), room), room, made, each))
        return {name: sum(one.get(name, 0) for one in sums) for name in dict.fromkeys(n for one in sums for n in one)}

    def added_here(mine: Sequence[int], room: Sequence[int], made: Made, each: Each) -> dict[str, Any]:
        groups = batching.groups(mine, room, micro)
        total: dict[str, Any] = {}
        while groups:
            poll()
            batch = made(groups[0]).to(trainee.device)
            sums: Mapping[str, Any] | None = None
            try:
                sums = each(batch)
            except (RuntimeError, MemoryError) as error:
                if not memory.is_exhausted(error) or len(groups[0]) == 1:
                    raise
            if sums is None:
                memory.release()
                middle = len(groups[0]) // 2
                groups[:1] = [groups[0][:middle], groups[0][middle:]]
                continue
            for name, value in sums.items():
                total[name] = total.get(name, 0) + value.double().cpu()
            groups.pop(0)
        return total

    def summed(sequences: Sequence[Row], each: Callable[[MicroBatch], Any]) -> Any:
        lengths = [len(one.ids) for one in sequences]
        found = added(
            len(sequences),
            lengths,
            lambda group: batching.batch([sequences[i] for i in group]),
            lambda batch: {"": each(batch)},
        )
        return found[""].float().to(trainee.device)

    with evaluating(trainee):
        whole = objective.whole(items, summed)
        sums = added(
            len(items),
            batching.room(items),
            lambda group: objective.batch([items[i] for i in group], batching),
            lambda batch: objective.judge(batch, whole),
        )
    return objective.metrics({name: float(value) for name, value in sums.items()}, whole.weight)


def _together(ranks: Ranks, work: Callable[[], dict[str, Any]]) -> list[dict[str, Any]]:
    """What each rank's work gives; Interrupted in all of them where one was."""
    mine: dict[str, Any] | None = None
    try:
        mine = work()
    except Interrupted:
        if ranks.size == 1:
            raise
        if ranks.rank == 0:
            ranks.halt()
    each = ranks.gather(mine)
    found = [one for one in each if one is not None]
    if len(found) < len(each):
        ranks.go_on()
        raise Interrupted
    return found


class Writer:
    """Lets the model write greedily; knows the tokenizer and where an answer ends."""

    def __init__(self, folder: Path, trainee: Trainee) -> None:
        from tokenizers import Tokenizer

        self._trainee = trainee
        self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._special = {i for i, token in self._tokenizer.get_added_tokens_decoder().items() if token.special}
        end = getattr(trainee.base.generation_config, "eos_token_id", None)
        self._ends: set[int] = set(end) if isinstance(end, list) else {end} if end is not None else set()

    def answer(self, items: Sequence[Item], poll: Callable[[], None]) -> list[Answer]:
        """What the model writes for the last trained turn of each row that has one, beside that turn.

        It is right where the two are the same, white space around them aside.
        """
        numbers = [(row, turn) for row, item in enumerate(items) if (turn := last_turn(item.sequences[0])) is not None]
        turns = [turn for _, turn in numbers]
        ends = self._ends | ({self._end_of(answer) for _, answer in turns} - {-1})
        order = sorted(range(len(turns)), key=lambda i: (-len(turns[i][0]), i))
        texts: dict[int, str] = {}
        at_once = GENERATION_ROWS
        while order:
            chosen = [turns[i] for i in order[:at_once]]
            longest = max(len(answer) for _, answer in chosen)
            written: list[str] | None = None
            try:
                written = self.write([prompt for prompt, _ in chosen], longest, poll, ends=ends)
            except (RuntimeError, MemoryError) as error:
                if not memory.is_exhausted(error) or len(chosen) == 1:
                    raise
            if written is None:
                memory.release()
                at_once = len(chosen) // 2
                continue
            texts.update(zip(order[:at_once], written, strict=True))
            order = order[at_once:]
        found = []
        for i, (row, (prompt, answer)) in enumerate(numbers):
            expected = self._text(answer)
            found.append(Answer(row, self._text(prompt), expected, texts[i], texts[i] == expected))
        return found

    def write(
        self, prompts: Sequence[Sequence[int]], tokens: int, poll: Callable[[], None], *, ends: set[int] | None = None
    ) -> list[str]:
        """Greedy continuations of tokenised prompts, of at most `tokens` tokens, without special tokens."""
        from transformers import GenerationConfig, StoppingCriteriaList

        stops = sorted(self._ends if ends is None else ends)
        padding = stops[0] if stops else 0
        width = max(len(prompt) for prompt in prompts)
        ids = torch.full((len(prompts), width), padding, dtype=torch.int64)
        seen = torch.zeros_like(ids)
        for i, prompt in enumerate(prompts):
            ids[i, width - len(prompt) :] = torch.as_tensor(list(prompt))
            seen[i, width - len(prompt) :] = 1

        def asked(given: Any, _scores: Any, **_: Any) -> Any:
            poll()
            return torch.zeros(given.shape[0], dtype=torch.bool, device=given.device)

        with evaluating(self._trainee):
            written = self._trainee.model.generate(
                input_ids=ids.to(self._trainee.device),
                attention_mask=seen.to(self._trainee.device),
                generation_config=GenerationConfig(
                    do_sample=False,
                    max_new_tokens=tokens,
                    pad_token_id=padding,
                    eos_token_id=stops or None,
                    use_cache=True,
                ),
                stopping_criteria=StoppingCriteriaList([asked]),
            )
        return [self._text(_until(answer, set(stops))) for answer in written[:, width:].tolist()]

    def encode(self, text: str) -> list[int]:
        """The ids of a text that holds its own special tokens."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _text(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text.strip()

    def _end_of(self, answer: Sequence[int]) -> int:
        """The special token that ends a turn, -1 where none does; a template may put a line break behind it."""
        return next((token for token in reversed(answer[-2:]) if token in self._special), -1)


def last_turn(row: Row) -> tuple[list[int], list[int]] | None:
    """A row's ids up to its last trained stretch, and that stretch."""
    mask = list(row.mask)
    if 1 not in mask[1:]:
        return None
    end = len(mask) - mask[::-1].index(1)
    start = end
    while start > 1 and mask[start - 1]:
        start -= 1
    ids = list(row.ids)
    return ids[:start], ids[start:end]


def _until(ids: Sequence[int], ends: set[int]) -> list[int]:
    """Ids before the first that ends a turn."""
    return list(ids[: next((i for i, token in enumerate(ids) if token in ends), len(ids))])
