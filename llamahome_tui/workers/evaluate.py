"""The child that evaluates: one loaded model reads the rows' answers and writes its own, with and without its adapter.

`python -m llamahome_tui.workers.evaluate`: a request line on stdin, JSON lines on stdout (`turn`, `measured`, `reply`,
`end`, `error`). Regular expressions run here too, where one that never ends can be killed.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from llamahome_tui.errors import DataError, ResourceError
from llamahome_tui.evaluation.scoring import Rule
from llamahome_tui.workers import generate
from llamahome_tui.workers.encode import Encoder
from llamahome_tui.workers.generate import Author
from llamahome_tui.workers.request import GenerateRequest

_LOGITS = 8  # times fewer tokens are read together than are written: each of them has logits
ROOM = 16  # tokens that an answer may be longer than the longest expected one, where nothing else is said


@dataclass(frozen=True, slots=True)
class EvaluateRequest:
    """`rows` are {"sequences": [[ids, mask], ...], "good": bool}; `generate` says with what and how to write.

    `metric` "" writes nothing. `base`: do the same without the adapter, or with the model in `base_path`.
    """

    generate: GenerateRequest
    rows: Sequence[Mapping[str, Any]]
    metric: str = ""
    pattern: str = ""
    expect: str = ""
    base: bool = False
    base_path: str = ""

    def to_line(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> EvaluateRequest:
        """The request in a line that `to_line` wrote."""
        values = json.loads(line)
        values["generate"] = GenerateRequest.from_line(json.dumps(values["generate"]))
        return cls(**values)


@dataclass(frozen=True, slots=True)
class _Sequence:
    ids: Sequence[int]
    mask: Sequence[int]


def answer(request: EvaluateRequest, emit: Callable[..., None]) -> None:
    """Measure and write with one model after the other. Raises DataError, with the row's `index`, before one loads.

    Raises ResourceError where the model, or a single row, does not fit into memory.
    """
    try:
        _answer(request, emit)
    except (RuntimeError, MemoryError) as error:
        from llamahome_tui.training.trainer import memory

        if not memory.is_exhausted(error):
            raise
        raise ResourceError(
            "the memory does not hold the model and a single row of the data",
            code="resource.memory",
            hint="see what takes it, free some of it and try again: llamahome --batch system show",
        ) from None


def _answer(request: EvaluateRequest, emit: Callable[..., None]) -> None:
    encoder = Encoder(request.generate)
    rule = Rule(request.metric, request.pattern, request.expect)
    rows = [[_Sequence(*one) for one in row["sequences"]] for row in request.rows]
    turns = _turns(request, rows, encoder, rule)
    for index, (_, expected, _) in turns.items():
        emit("turn", index=index, expected=expected)
    most = request.generate.max_tokens or max((size for _, _, size in turns.values()), default=0) + ROOM
    asked = replace(request.generate, max_tokens=most)
    began = time.monotonic()
    author: Author | None = Author(asked, encoder)
    assert author is not None
    _both(author, "tuned", rows, turns, rule, encoder, emit)
    if request.base and request.base_path:
        author = None  # its memory is for the next one
        author = Author(replace(asked, path=request.base_path, adapter=""), encoder)
    if request.base:
        with contextlib.nullcontext() if request.base_path else author.model.disable_adapter():
            _both(author, "base", rows, turns, rule, encoder, emit)
    emit("end", seconds=time.monotonic() - began, max_tokens=most, device=author.device.type)


_Turns = dict[int, tuple[list[int], str, int]]


def _turns(request: EvaluateRequest, rows: Sequence[Sequence[_Sequence]], encoder: Encoder, rule: Rule) -> _Turns:
    """Of each row that is to be answered: the tokens to answer, the expected text, and its number of tokens."""
    from llamahome_tui.training.trainer.evaluate import last_turn

    found: _Turns = {}
    for index, sequences in enumerate(rows):
        turn = last_turn(sequences[0]) if request.metric and request.rows[index]["good"] else None
        if turn is None:
            continue
        expected = encoder.decode(turn[1]).strip()
        if not expected:
            raise _unusable(index, "has an answer without text")
        if not rule.found(expected):
            raise _unusable(index, f"has an answer in which --expect {request.expect!r} finds nothing")
        found[index] = (turn[0], expected, len(turn[1]))
    return found


def _unusable(index: int, reason: str) -> DataError:
    return DataError(
        reason,
        code="evaluate.no_answer",
        hint="look at it: llamahome --batch data inspect FILE --model ID",
        data={"index": index},
    )


def _both(
    author: Author,
    name: str,
    rows: Sequence[Sequence[_Sequence]],
    turns: _Turns,
    rule: Rule,
    encoder: Encoder,
    emit: Callable[..., None],
) -> None:
    budget = generate.BATCH_TOKENS[author.device.type]
    sequences = [one for row in rows for one in row]
    for group in generate.together([len(one.ids) for one in sequences], 0, budget // _LOGITS):
        sums = measure(author, [sequences[i] for i in group])
        emit("measured", model=name, sums=[[i, *each] for i, each in zip(group, sums, strict=True)])
    indexes = list(turns)
    most = author.max_tokens
    for group in generate.together([len(turns[i][0]) for i in indexes], most, budget):
        chosen = [indexes[i] for i in group]
        replies = generate.write_all(author, [turns[i][0] for i in chosen], None)
        for index, reply in zip(chosen, replies, strict=True):
            score = rule.score(turns[index][1], reply.text)
            emit("reply", model=name, index=index, text=reply.text, tokens=reply.tokens, finish=reply.finish,
                 score=score)  # fmt: skip


def measure(author: Author, sequences: Sequence[_Sequence]) -> list[tuple[float, int, int]]:
    """Of each sequence: summed cross-entropy, tokens found likeliest, and tokens that count.

    Taken in halves where the memory does not hold all of them.
    """
    from llamahome_tui.training.trainer import memory

    try:
        return _measured(author, sequences)
    except (RuntimeError, MemoryError) as error:
        if not memory.is_exhausted(error) or len(sequences) == 1:
            raise
    memory.release()
    middle = len(sequences) // 2
    return measure(author, sequences[:middle]) + measure(author, sequences[middle:])


def _measured(author: Author, sequences: Sequence[_Sequence]) -> list[tuple[float, int, int]]:
    import torch

    from llamahome_tui.training.trainer.batches import collate

    batch = collate(sequences).to(author.device)
    found = torch.zeros(3, len(sequences), dtype=torch.float64)
    with torch.inference_mode():
        logits = author.model(input_ids=batch.ids, use_cache=False).logits.flatten(0, 1)
        for places, labels, owners in _pieces(batch.positions, batch.labels, batch.owners):
            scores = logits.index_select(0, places).float()
            entropy = torch.nn.functional.cross_entropy(scores, labels, reduction="none")
            parts = torch.stack((entropy, (scores.argmax(-1) == labels).float(), torch.ones_like(entropy)))
            found.index_add_(1, owners.cpu(), parts.double().cpu())
    return [(float(loss), int(right), int(count)) for loss, right, count in found.T.tolist()]


def _pieces(*tensors: Any) -> Iterator[tuple[Any, ...]]:
    """The same stretch of each, so that float32 copies of logits exist for a few positions only."""
    return zip(*(one.split(1024) for one in tensors), strict=True)


if __name__ == "__main__":
    generate.run(EvaluateRequest.from_line, answer)
