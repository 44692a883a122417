"""One run's page: where it stands, how it learns, what happened, what it prints; painted from the newest state only."""

from __future__ import annotations

import math
from typing import Any

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from llamahome_tui.jobs.store import Run
from llamahome_tui.jobs.view import RunView
from llamahome_tui.tui.base import BaseScreen
from llamahome_tui.tui.keys import Key, bindings
from llamahome_tui.tui.runner import Poll
from llamahome_tui.tui.screens.training import actions
from llamahome_tui.tui.screens.training.feed import Feed, Page
from llamahome_tui.tui.screens.training.listing import about, place
from llamahome_tui.tui.screens.training.metric_plots import MetricPlots
from llamahome_tui.tui.widgets.bar import Bar
from llamahome_tui.tui.widgets.braille import Curve, label
from llamahome_tui.tui.widgets.cells import Value
from llamahome_tui.tui.widgets.lines import Lines
from llamahome_tui.tui.widgets.plot import Named, Plot
from llamahome_tui.tui.widgets.states import look, worded
from llamahome_tui.units import human_bytes, human_count, human_duration

READ_EVERY_S = 0.5
FACTS = ("elapsed", "epoch", "rate", "memory", "score", "best", "attempt")


class RunPage(BaseScreen):
    """The page over the list; `zoom` opens it with one part over the whole page."""

    NAME = "training"
    SCOPES = ("run", "text")
    BINDINGS = bindings("run")
    CSS_PATH = "page.tcss"

    def __init__(self, run: Run, *, zoom: str = "", feed: Feed | None = None) -> None:
        super().__init__()
        self.run = run
        self.feed = feed or Feed(run)
        self.view: RunView | None = None
        self._first_zoom = zoom

    def compose_body(self) -> ComposeResult:
        """Head, plots, texts."""
        with Vertical(id="head"):
            with Horizontal(classes="row"):
                yield Value(id="state")
                yield Value(self.run.id[16:], id="name", resize=True)
                yield Value(id="about")
                yield Value(self.run.id, id="run-id", resize=True)
            with Horizontal(classes="row"):
                yield Value(id="phase")
                yield Bar(id="progress")
                yield Value(id="steps")
            with Horizontal(id="facts"):
                for name in FACTS:
                    yield Value(id=f"fact-{name}", classes="fact", resize=True)
        yield Value(id="why", resize=True)
        with Horizontal(id="plots"):
            yield Plot("loss", empty="no loss measured yet", id="plot-loss")
            with Horizontal(id="lr-box"):
                yield Value(id="plot-gap")
                yield Plot("learning rate", empty="not reported", id="plot-lr")
            with Vertical(id="more"):
                yield Plot("learning rate", empty="not reported", id="plot-lr-2")
                yield Plot("tokens/s", empty="not reported", id="plot-rate")
        yield MetricPlots(id="metrics")
        with Vertical(id="texts"):
            with Vertical(id="events-pane", classes="pane"):
                yield Value("Events", classes="caption")
                yield Lines(follow=True, empty="nothing has happened yet", id="events")
            with Vertical(id="log-pane", classes="pane"):
                yield Value("Log", classes="caption")
                yield Lines(follow=True, empty="nothing printed yet", id="log")

    def on_mount(self) -> None:
        """Begin to read."""
        self.poll = Poll(self.home, f"run {self.run.id}", self.feed.read, READ_EVERY_S)
        self._log_dropped = 0
        if self._first_zoom:
            self._zoom(self._first_zoom)
        self.query_one("#log" if self._first_zoom == "log" else "#events").focus()

    def polls(self) -> tuple[Poll[Any], ...]:
        """The run's files."""
        return (self.poll,)

    def subject(self) -> dict[str, str]:
        """This run."""
        return {"run": self.run.id, "model": self.run.id}

    def footer_keys(self) -> list[Key]:
        """Only what can be done to the run in its present state."""
        keys = super().footer_keys()
        if self.view is None:
            return keys
        hidden = {"stop"} if self.view.ended else {"resume", "remove"}
        return [key for key in keys if key.action not in hidden]

    # Painting.

    def tick(self, now: float) -> None:
        """Paint what is new."""
        if self.feed.catching_up:
            self.poll.now()
        if not self.poll.changed():
            return
        if self.poll.error is not None:
            self._why(self.poll.error.message, "bad")
        page = self.poll.value
        if page is None:
            return
        ended = self.view.ended if self.view is not None else None
        self.view = page.view
        if ended != page.view.ended:
            self.show_keys()
        self._head(page)
        self._plots(page)
        self.query_one("#events", Lines).show(page.told.events)
        log = self.query_one("#log", Lines)
        log.show(page.log, dropped=page.log_dropped - self._log_dropped)
        self._log_dropped = page.log_dropped

    def _head(self, page: Page) -> None:
        view, told = page.view, page.told
        plain = self.app.has_class("-ascii")
        self._value("state", worded(view.status, plain) + place(view), look(view.status).tone)
        self._value("name", view.title or view.name)
        self._value("about", " · ".join(_about(view)) if not plain else ", ".join(_about(view)))
        step, steps = told.step or view.step or 0, told.steps or view.steps or 0
        share = min(1.0, step / steps) if steps else None
        self._value("phase", (told.phase or view.phase or "") if not view.ended else "", "busy")
        self.query_one(Bar).show(share, look(view.status).tone if view.ended else "")
        self._value("steps", _steps(step, steps, share))
        values = told.values
        memory = view.memory.get("measured_bytes") or values.get("memory_peak_bytes")
        rate = values.get("tokens_per_s") or view.tokens_per_s
        eta = "" if view.ended or view.eta_s is None else f"{human_duration(view.eta_s)} left"
        self._value("fact-elapsed", ", ".join(filter(None, (human_duration(view.elapsed_s), eta))))
        epoch = told.epoch if told.epoch is not None else view.epoch
        self._value("fact-epoch", "" if epoch is None else f"epoch {epoch:.2f}")
        self._value("fact-rate", "" if rate is None else f"{human_count(round(rate))} tok/s")
        self._value("fact-memory", "" if memory is None else f"peak {human_bytes(memory)}")
        score = values.get("eval_exact")
        self._value("fact-score", "" if score is None else f"exact {score:.0%}", "ok")
        self._value("fact-best", _best(view), "ok")
        self._value("fact-attempt", f"attempt {view.attempt}" if view.attempt > 1 else "", "warn")
        self._explain(page)

    def _explain(self, page: Page) -> None:
        view = page.view
        lines = [*page.notes]
        if view.remote:
            lines.append(f"this run belongs to {view.host or 'another machine'}: read only here")
        if page.behind:
            lines.append(f"reading the journal, {1 - page.behind:.0%}")
        if view.status in ("failed", "lost", "interrupted", "stalled", "unsupervised") or (view.reason and view.ended):
            said = "; ".join(part.rstrip(".") for part in (view.reason, view.hint) if part)
            lines[:0] = [said] if said and view.status != "completed" else []
        bad = view.status in ("failed", "lost")
        self._why("  ".join(lines), "bad" if bad else "warn" if lines else "")

    def _why(self, text: str, tone: str) -> None:
        why = self.query_one("#why", Value)
        why.show(text, tone)
        why.display = bool(text)

    def _plots(self, page: Page) -> None:
        curves, values = page.told.curves, page.told.values
        losses = [("train", "loss"), ("eval", "eval_loss")]
        self.query_one("#plot-loss", Plot).show(_named(curves, losses))
        rates = _named(curves, [("lr", "lr")])
        self.query_one("#plot-lr", Plot).show(rates)
        self.query_one("#plot-lr-2", Plot).show(rates)
        if "tokens_per_s" in curves:
            rate = values.get("tokens_per_s")
            shown = "" if rate is None else human_count(round(rate))
            self.query_one("#plot-rate", Plot).show([Named("tokens/s", curves["tokens_per_s"], shown)])
        self.query_one(MetricPlots).show(curves)

    def _value(self, id: str, text: str, tone: str = "") -> None:
        self.query_one(f"#{id}", Value).show(text, tone)

    # Keys.

    def _zoom(self, part: str) -> None:
        on = not self.has_class(f"-zoom-{part}")
        for name in ("log", "events", "plots"):
            self.set_class(on and name == part, f"-zoom-{name}")
        if part != "plots":
            self.query_one(f"#{part}").focus()

    def action_log(self) -> None:
        """The log over the whole page, and back."""
        self._zoom("log")

    def action_events(self) -> None:
        """The events over the whole page, and back."""
        self._zoom("events")

    def action_plots(self) -> None:
        """The plots over the whole page, and back."""
        self._zoom("plots")

    def action_stop(self) -> None:
        """Stop the run."""
        if self.view is not None:
            actions.stop(self.home, [self.view], self.poll.now)

    def action_resume(self) -> None:
        """Resume the run."""
        if self.view is not None:
            actions.resume(self.home, self.view, self.poll.now)

    def action_remove(self) -> None:
        """Delete the run, by plan, and go back to the list."""
        if self.view is not None:
            actions.remove(self.home, [self.view], self._gone)

    def _gone(self) -> None:
        if self.is_current:
            self.app.pop_screen()

    def action_data(self) -> None:
        """The data of the run."""
        from llamahome_tui.tui.screens.training import data_ask

        data_ask.open_run(self.home, self.run)

    def action_control(self) -> None:
        """Ask the run for something."""
        if self.view is not None:
            actions.ask(self.home, self.view, self.poll.now)

    def action_samples(self) -> None:
        """What the run writes to its prompts."""
        from llamahome_tui.tui.screens.training.samples_page import SamplesPage

        self.app.push_screen(SamplesPage(self.run))

    def action_evaluate(self) -> None:
        """Measure the run on rows of data."""
        from llamahome_tui.tui.screens.training import evaluate_ask

        evaluate_ask.ask(self.home, self.run.id, run=True)

    def action_export(self) -> None:
        """Export what the run has trained."""
        from llamahome_tui.jobs.store import Run
        from llamahome_tui.tui.screens.training import export_ask

        def opened(id: str) -> None:
            self.app.push_screen(RunPage(Run(id, self.run.dir.parent / id)))

        if self.view is not None:
            export_ask.ask(self.home, self.view, opened)

    def action_report(self) -> None:
        """Everything about the run as one text."""
        from llamahome_tui.tui.screens.training.report_page import ReportPage

        self.app.push_screen(ReportPage(self.run))

    def action_copy(self) -> None:
        """Copy the run's id."""
        actions.copy_id(self.home, self.run.id)


_KINDS = {"exec": "command", "export": "export"}


def _about(view: RunView) -> list[str]:
    parts = [about(view), view.method or _KINDS.get(view.kind, "")]
    parts.append(f"replay of {view.replay_of}" if view.replay_of else "")
    return [part for part in (*parts, *view.tags) if part]


def _steps(step: int, steps: int, share: float | None) -> str:
    if not steps:
        return f"step {step}" if step else ""
    return f"{step}/{steps}  {math.floor((share or 0) * 100):>3}%"


def _best(view: RunView) -> str:
    best = view.best or {}
    value = best.get("value")
    return "" if value is None else f"best {label(float(value))} at {best.get('step')}"


def _named(curves: Any, wanted: list[tuple[str, str]]) -> list[Named]:
    found: list[tuple[str, Curve]] = [(name, curves[metric]) for name, metric in wanted if metric in curves]
    return [Named(name, curve) for name, curve in found]
