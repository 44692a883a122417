"""What a run answers at its evaluations: `artifacts/eval-STEP.jsonl`, each whole or not there, and not too many.

Of very many files the middle is thinned; the first and the newest stay.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from llamahome_tui.jobs.samples import Written
from llamahome_tui.jobs.store import Run, write_text

FILES: Final = 64
ROWS: Final = 200  # of a file
LONGEST: Final = 4000  # characters of a text; of a prompt its end counts
_MOST: Final = 32 << 20  # bytes of a file that is read
_NAME: Final = re.compile(r"eval-(\d{1,12})\.jsonl")


@dataclass(frozen=True, slots=True)
class Answer:
    """What was written to held-out row `row`, beside what should have been; white space at the ends aside."""

    row: int
    prompt: str
    expected: str
    text: str
    right: bool


def leave(run: Run, step: int, answers: Sequence[Answer]) -> None:
    """Put the answers of a step among the artifacts, in place of earlier ones of this step. Raises OSError."""
    run.artifacts_dir.mkdir(mode=0o700, exist_ok=True)
    lines = [json.dumps(asdict(_bounded(one)), ensure_ascii=False) for one in answers[:ROWS]]
    write_text(_path(run, step), "".join(f"{line}\n" for line in lines))
    steps = steps_of(run)
    if len(steps) > FILES:
        for middle in steps[1:-1:2]:
            _path(run, middle).unlink(missing_ok=True)


def forget_after(run: Run, step: int) -> None:
    """Remove what an earlier attempt answered past this step: it is about to be trained again."""
    for late in steps_of(run):
        if late > step:
            with contextlib.suppress(OSError):  # that nothing can be written there is said when it is tried
                _path(run, late).unlink(missing_ok=True)


def steps_of(run: Run) -> list[int]:
    """The steps that have answers, in their order."""
    try:
        names = [path.name for path in run.artifacts_dir.iterdir()]
    except OSError:
        return []
    return sorted(int(found[1]) for name in names if (found := _NAME.fullmatch(name)))


def read(run: Run, step: int) -> tuple[Answer, ...]:
    """The answers of a step, nothing where there are none; what is no answer is passed over."""
    path = _path(run, step)
    try:
        if path.is_symlink() or path.stat().st_size > _MOST:
            return ()
        lines = path.read_text("utf-8", "replace").split("\n")
    except OSError:
        return ()
    return tuple(one for line in lines[:ROWS] if (one := _answer(line)) is not None)


class Answers:
    """All answers of a run by row, for a view that asks again and again: only a new file is read."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._read: dict[int, tuple[int, tuple[Answer, ...]]] = {}  # by step: when it was written, and what it holds

    def told(self) -> tuple[Written, ...]:
        """The state now, in the order of the rows."""
        found: dict[int, tuple[int, tuple[Answer, ...]]] = {}
        for step in steps_of(self._run):
            try:
                written = _path(self._run, step).stat().st_mtime_ns
            except OSError:
                continue  # thinned a moment ago
            known = self._read.get(step)
            found[step] = known if known and known[0] == written else (written, read(self._run, step))
        self._read = found
        return by_row({step: answers for step, (_, answers) in found.items()})


def by_row(answers: Mapping[int, Sequence[Answer]]) -> tuple[Written, ...]:
    """What was written to each row over time; the newest reference counts."""
    rows: dict[int, list[tuple[int, Answer]]] = {}
    for step, found in sorted(answers.items()):
        for one in found:
            rows.setdefault(one.row, []).append((step, one))
    return tuple(
        Written(
            one[-1][1].prompt,
            tuple((step, answer.text) for step, answer in one),
            one[-1][1].expected,
            frozenset(step for step, answer in one if answer.right),
        )
        for _, one in sorted(rows.items())
    )


def _path(run: Run, step: int) -> Path:
    return run.artifacts_dir / f"eval-{step}.jsonl"


def _bounded(one: Answer) -> Answer:
    return Answer(one.row, one.prompt[-LONGEST:], one.expected[:LONGEST], one.text[:LONGEST], one.right)


def _answer(line: str) -> Answer | None:
    try:
        value: Any = json.loads(line)
        prompt, expected, text = (str(value[name]) for name in ("prompt", "expected", "text"))
        return Answer(int(value["row"]), prompt, expected, text, value["right"] is True)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
