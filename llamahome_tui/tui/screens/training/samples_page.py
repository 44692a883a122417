"""What a run writes to its prompts and to held-out rows, over time: two steps side by side, or all of them."""

from __future__ import annotations

from typing import Any

from textual.app import ComposeResult
from textual.containers import Container, Vertical

from llamahome_tui.jobs.answers import Answers
from llamahome_tui.jobs.reader import JournalReader
from llamahome_tui.jobs.samples import Samples, Written
from llamahome_tui.jobs.store import Run
from llamahome_tui.text import clean
from llamahome_tui.tui.base import BaseScreen
from llamahome_tui.tui.keys import bindings
from llamahome_tui.tui.runner import Poll
from llamahome_tui.tui.widgets.cells import Value
from llamahome_tui.tui.widgets.lines import Line, Lines
from llamahome_tui.tui.widgets.sheet import broken

READ_EVERY_S = 1.0
EMPTY = (
    "no samples yet; samples.prompts in the spec are answered at the start and at the end, "
    "and evaluation.generate_rows held-out rows at each evaluation"
)


class SampleFeed:
    """Reads a run's samples in the thread of its Poll."""

    def __init__(self, run: Run) -> None:
        self._reader = JournalReader(run.events_path)
        self._samples = Samples()
        self._answers = Answers(run)

    def read(self) -> tuple[Written, ...]:
        """All samples and answers so far; a journal that was replaced is begun again."""
        before = self._reader.replaced
        while records := self._reader.poll():
            if self._reader.replaced != before:
                before, self._samples = self._reader.replaced, Samples()
            self._samples.take(records)
        return self._samples.told() + self._answers.told()


class SamplesPage(BaseScreen):
    """The page over a run's page."""

    NAME = "training"
    SCOPES = ("samples", "text")
    BINDINGS = bindings("samples")
    CSS_PATH = "samples_page.tcss"

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        self.written: tuple[Written, ...] = ()
        self._prompt = 0
        self._left: int | None = None  # a step; None is the first one
        self._right: int | None = None  # a step; None is the newest one

    def compose_body(self) -> ComposeResult:
        """The prompt, the steps, two texts, or all of them."""
        yield Value(id="samples-prompt")
        yield Value(id="samples-expected")
        yield Value(id="samples-steps")
        with Container(id="samples-pair"):
            for side in ("left", "right"):
                with Vertical(classes="pane", id=f"pane-{side}"):
                    yield Value(id=f"caption-{side}", classes="caption")
                    yield Lines(empty=EMPTY if side == "left" else "", id=f"text-{side}")
        yield Lines(empty=EMPTY, id="samples-all")

    def on_mount(self) -> None:
        """Begin to read."""
        self.poll = Poll(self.home, f"samples {self.run.id}", SampleFeed(self.run).read, READ_EVERY_S)
        self.query_one("#text-left").focus()

    def polls(self) -> tuple[Poll[Any], ...]:
        """The run's journal."""
        return (self.poll,)

    def subject(self) -> dict[str, str]:
        """This run."""
        return {"run": self.run.id, "model": self.run.id}

    def tick(self, now: float) -> None:
        """Paint what is new."""
        if self.poll.changed() and self.poll.value is not None:
            self.written = self.poll.value
            self._paint()

    def on_resize(self) -> None:
        """Break the texts anew."""
        self.call_after_refresh(self._paint)

    def _paint(self) -> None:
        if not self.written:
            return
        self._prompt %= len(self.written)
        one = self.written[self._prompt]
        steps = [step for step, _ in one.texts]
        left, right = self._chosen(steps)
        kind = "Prompt" if one.expected is None else "Held-out row"
        said = f"{kind} {self._prompt + 1} of {len(self.written)}: {one.prompt}"
        self._value("samples-prompt", said, "strong")
        self._value("samples-expected", f"expected: {one.expected}" if one.expected is not None else "")
        self.query_one("#samples-expected").display = one.expected is not None
        self._value("samples-steps", _steps(steps, left, right, max(20, self.size.width - 4)), "dim")
        texts = dict(one.texts)
        self.query_one("#pane-right").display = left != right  # beside itself a text tells nothing
        for side, step in (("left", left), ("right", right)):
            newest = ", the newest" if step == steps[-1] else ""
            self._value(f"caption-{side}", f"Step {step}{newest}{_verdict(one, step)}")
            self._text(f"text-{side}", _lines(texts[step]))
        everything: list[Line] = []
        for step, text in one.texts:
            everything += [(f"Step {step}{_verdict(one, step)}", "head"), *_lines(text), ("", "")]
        self._text("samples-all", everything)

    def _chosen(self, steps: list[int]) -> tuple[int, int]:
        left = steps[0] if self._left is None or self._left not in steps else self._left
        right = steps[-1] if self._right is None or self._right not in steps else self._right
        return left, right

    def _value(self, id: str, text: str, tone: str = "") -> None:
        self.query_one(f"#{id}", Value).show(text, tone)

    def _text(self, id: str, lines: list[Line]) -> None:
        view = self.query_one(f"#{id}", Lines)
        view.show(broken(lines, max(20, view.size.width - 1)))

    # Keys.

    def _move(self, left: int, right: int) -> None:
        if not self.written:
            return
        steps = [step for step, _ in self.written[self._prompt].texts]
        before = self._chosen(steps)
        places = [steps.index(step) for step in before]
        places = [min(max(0, at + by), len(steps) - 1) for at, by in zip(places, (left, right), strict=True)]
        self._left = steps[places[0]] if left else self._left
        if right:
            self._right = steps[places[1]] if places[1] < len(steps) - 1 else None
        self._paint()

    def action_step(self) -> None:
        """The second text a step later."""
        self._move(0, 1)

    def action_step_back(self) -> None:
        """The second text a step earlier."""
        self._move(0, -1)

    def action_first_step(self) -> None:
        """The first text a step later."""
        self._move(1, 0)

    def action_first_step_back(self) -> None:
        """The first text a step earlier."""
        self._move(-1, 0)

    def action_next_prompt(self) -> None:
        """The next prompt."""
        self._prompt += 1
        self._paint()

    def action_prompt_before(self) -> None:
        """The prompt before."""
        self._prompt -= 1
        self._paint()

    def action_all_steps(self) -> None:
        """All steps, or two of them."""
        on = self.toggle_class("-all").has_class("-all")
        self.query_one("#samples-all" if on else "#text-left").focus()
        self.call_after_refresh(self._paint)


def _verdict(one: Written, step: int) -> str:
    return "" if one.expected is None else ": right" if step in one.right else ": wrong"


def _lines(text: str) -> list[Line]:
    return [(line, "") for line in clean(text, limit=20_000, keep_newlines=True).split("\n")]


def _steps(steps: list[int], left: int, right: int, width: int) -> str:
    """`steps [0] 20 [40]`: the two that are shown in brackets; where there is no room, only the ends and the chosen."""
    words = [f"[{step}]" if step in (left, right) else str(step) for step in steps]
    said = "steps " + " ".join(words)
    if len(said) <= width:
        return said
    kept = sorted({steps[0], left, right, steps[-1]})
    return f"{len(steps)} steps: " + " .. ".join(f"[{step}]" if step in (left, right) else str(step) for step in kept)
