"""A new run from a model and data: what people change in one form, and below it what it would take, as it is typed.

What is shown is always of the values that stand there: while they are looked at it says so, and older answers are
dropped. Nothing here waits; rows and memory are looked at in a thread, without torch.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textual.content import Content
from textual.widgets import Input, Static

from llamahome_tui.errors import LlamaHomeError, UsageError
from llamahome_tui.text import clean
from llamahome_tui.tui.keys import bindings
from llamahome_tui.tui.runner import Task, run_operation
from llamahome_tui.tui.widgets.form import Field, Form
from llamahome_tui.units import human_bytes

if TYPE_CHECKING:
    from llamahome_tui.context import Context
    from llamahome_tui.outcome import Result
    from llamahome_tui.training.checks import Checked
    from llamahome_tui.training.foresee import Foresight
    from llamahome_tui.training.spec import Spec
    from llamahome_tui.tui.app import LlamaHomeApp

# The keys of a spec that the form has a line for, besides model, data and name: empty is the default.
KEYS = (
    "lora.r",
    "lora.alpha",
    "data.max_length",
    "training.global_batch",
    "training.batch_size",
    "training.learning_rate",
    "training.epochs",
    "training.max_steps",
)
CHOICES = ("model.quantization", "training.gradient_checkpointing")
_LOOK_S = 0.25
_HINT = "every key, explained: llamahome --batch train init"


def ask(home: LlamaHomeApp, opened: Callable[[str], None]) -> None:
    """Ask, start the run as `train start` does; `opened` gets its id."""
    form = NewRun(home)

    def started(result: Result) -> None:
        if isinstance(result.data, dict) and result.data.get("id"):
            opened(str(result.data["id"]))

    def chosen(values: Mapping[str, str] | None) -> None:
        if values is not None:
            home.toast("checking spec, model and data")
            run_operation(home, "train start", start_arguments(values, form.more) | {"detach": True}, on_result=started)

    home.push_screen(form, chosen)


def start_arguments(values: Mapping[str, str], more: Mapping[str, Any]) -> dict[str, Any]:
    """What `train start` is given for these lines and for keys that have no line. Raises UsageError."""
    try:
        data = shlex.split(values["data"])
    except ValueError as error:
        raise UsageError(f"data.train: a quote is open: {error}", hint=_HINT) from None
    if not values["model"] or not data:
        raise UsageError(f"{'data.train' if values['model'] else 'model.id'}: must be set", hint="demo is one for both")
    said = {key: values[_line(key)] for key in (*CHOICES, *KEYS) if values[_line(key)]}
    words = [f"{key}={text}" for key, text in said.items()]
    words += [f"{key}={json.dumps(value)}" for key, value in more.items() if key not in said]
    name = {"name": values["name"]} if values["name"] else {}
    return {"model": values["model"], "data": data, "set": words} | name


def spec_of(context: Context, values: Mapping[str, str], more: Mapping[str, Any]) -> Spec:
    """The spec that `train start` would read. Raises SpecError with every mistake, UsageError."""
    from llamahome_tui.training.commands import read_words

    said = start_arguments(values, more)
    return read_words(context, None, said["set"], said["model"], said["data"], said.get("name"))


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at these values has found."""

    values: Mapping[str, str]
    foresight: Foresight | None = None
    error: LlamaHomeError | None = None


class NewRun(Form):
    """The form with the forecast below it; `more` are keys without a line that a chosen plan has set."""

    BINDINGS = bindings("new_run")

    def __init__(self, home: LlamaHomeApp) -> None:
        from llamahome_tui.training.spec import SCHEMA
        from llamahome_tui.tui.screens.training.data_ask import files_from

        self._home = home
        self._models = ["demo"]
        folder = home.context.cwd
        defaults = [Field(_line(key), key.partition(".")[2], placeholder=str(SCHEMA[key].default)) for key in KEYS]
        fields = [
            Field("model", "model", placeholder="demo", complete=self._models_from),
            Field("data", "data files", placeholder="demo", complete=lambda typed: files_from(folder, typed)),
            Field("name", "name", placeholder="run"),
            Field(_line(CHOICES[0]), "quantization", "none", choices=SCHEMA[CHOICES[0]].field.words),
            Field(_line(CHOICES[1]), "checkpointing", "auto", choices=("auto", "true", "false")),
            *defaults,
        ]
        super().__init__("New run", fields, check=lambda values: spec_of(home.context, values, self.more))
        self.more: dict[str, Any] = {}
        self._before: dict[str, str] = {}  # the values a tick ago: what changes is not looked at yet
        self.seen: Seen | None = None
        self._looking = False
        self._checked: tuple[tuple[Any, ...], Checked] | None = None

    def on_mount(self) -> None:
        """Type at once, and begin to look."""
        super().on_mount()
        self.query_one(".dialog-notes", Static).update(Content("Enter starts, tab completes, Esc closes."))

        def listed(task: Task[list[str]]) -> None:
            self._models = task.value or self._models

        Task(self._home, "models", lambda _: _models(self._home.context), listed)
        self.set_interval(_LOOK_S, self._look)

    def _models_from(self, typed: str) -> list[str]:
        return [name for name in self._models if name.startswith(typed)]

    def _look(self) -> None:
        """Ask for what the values come to, once they have stood still for a moment."""
        if not self.is_mounted or not self.is_current:
            return
        values = self.values
        still, self._before = values == self._before, values
        if self.seen is not None and self.seen.values == values:
            return
        if not values["model"] or not values["data"]:
            self._tell(["Enter starts, tab completes, Esc closes."])
            return
        self._tell(["memory: looking"])
        if still and not self._looking:
            self._looking = True
            Task(self._home, "forecast", lambda _: self._find(values, dict(self.more)), self._found)

    def _find(self, values: Mapping[str, str], more: Mapping[str, Any]) -> Seen:
        """In a thread: check what is cheap, and what depends on model and rows only where those have changed."""
        from llamahome_tui.training import checks, planned_for
        from llamahome_tui.training.foresee import foresee

        context = self._home.context
        try:
            spec = spec_of(context, values, more)
            key = (spec.model, spec.data, spec.method)
            if self._checked is None or self._checked[0] != key:
                self._checked = key, checks.check(context, spec)
            checked = self._checked[1]
            room = planned_for.here(checked.candidates)
            return Seen(values, foresee(context, spec, checked.located, room, checked.rows, quick=True))
        except LlamaHomeError as error:
            return Seen(values, error=error)

    def _found(self, task: Task[Seen]) -> None:
        self._looking = False
        self.seen = task.value or Seen(self._before, error=task.error)
        if self.is_mounted and self.seen.values == self.values:
            self._tell(told(self.seen.foresight, self.seen.error))

    def _tell(self, lines: list[str]) -> None:
        text = "\n".join(line[:300] for line in lines)
        self.query_one(".dialog-notes", Static).update(Content(clean(text, limit=4000, keep_newlines=True)))

    def action_take_plan(self) -> None:
        """Set what the best plan that fits sets."""
        seen = self.seen
        if seen is None or seen.foresight is None or seen.values != self.values or not seen.foresight.alternatives:
            self._home.toast("there is no other plan for these values")
            return
        for key, value in seen.foresight.alternatives[0].set.items():
            text = value if isinstance(value, str) else json.dumps(value)
            lines = self.query(f"#field-{_line(key)}").results(Input)
            if (line := next(iter(lines), None)) is not None:
                line.value = text
            else:
                self.more[key] = value
                self._use_choice(key, text)
        self.seen = None

    def _use_choice(self, key: str, text: str) -> None:
        from llamahome_tui.tui.widgets.form import Pick

        for pick in self.query(f"#field-{_line(key)}").results(Pick):
            self.more.pop(key, None)
            for _ in range(8):
                if pick.value != text:
                    pick.turn(1)


def told(foresight: Foresight | None, error: LlamaHomeError | None) -> list[str]:
    """What the form says below its lines: what is wrong, or memory by part, time, disk and other plans."""
    if error is not None:
        return error.message.splitlines()[:6]
    if foresight is None:
        return []
    parts = [f"{name} {human_bytes(size)}" for name, size in foresight.parts.to_dict().items() if size]
    fits = "fits" if foresight.fits else "DOES NOT FIT"
    lines = [f"memory: {fits}: {foresight.line}", "  " + ", ".join(parts)]
    if foresight.reason:
        lines.append(f"  {foresight.reason}")
    for plan in foresight.alternatives[:3]:
        words = " ".join(f"{key}={value}" for key, value in plan.set.items())
        lines.append(f"  fits with {words}: {human_bytes(plan.predicted_bytes)} ({plan.note})")
    return [*lines, *(["F5 takes the first of these"] if foresight.alternatives else []), *foresight.warnings]


def _line(key: str) -> str:
    """A key as the id of its line."""
    return key.replace(".", "-")


def _models(context: Context) -> list[str]:
    from llamahome_tui.models.inventory import list_models

    return ["demo", *sorted(model.id for model in list_models(context.places) if model.id != "demo")]
