"""Where batch output goes: outcomes to stdout and stderr through one of two writers, people's lines or JSON Lines."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from llamahome_tui.errors import LlamaHomeError
from llamahome_tui.operations import Operation
from llamahome_tui.outcome import Accepted, Item, Outcome, Record, Result, Text


class Output(Protocol):
    """Shows the outcomes of one operation and how it ended."""

    def show(self, outcome: Outcome) -> None:
        """One outcome, as it comes."""

    def fail(self, error: LlamaHomeError) -> None:
        """The end of an operation that failed; always the last call."""


class JsonLines:
    """CONTRACT: Output with `--json`. Stdout carries JSON objects only; the last one is a result or an error."""

    def __init__(self, operation: Operation | None, stdout: TextIO, people: Output) -> None:
        self._stream = operation is not None and operation.answer == "stream"
        self._stdout = stdout
        self._people = people  # progress and notes still go to stderr

    def show(self, outcome: Outcome) -> None:
        match outcome:
            case Result():
                line: dict[str, Any] = {"type": "result", "ok": outcome.exit_code == 0, "changed": outcome.changed}
                line["data"] = outcome.data
                if outcome.exit_code:
                    line["exit"] = outcome.exit_code
                if outcome.hint:
                    line["hint"] = outcome.hint
                self._line(line)
            case Accepted():
                self._line({"type": "accepted", "id": outcome.id})
            case Record():
                self._line({"type": "event", "run": outcome.run, "source": outcome.source, "record": outcome.record})
            case Item():
                self._line({"type": outcome.type, "data": outcome.data})
            case Text():
                if self._stream:
                    self._line({"type": "text", "text": outcome.text})
            case _:
                self._people.show(outcome)

    def fail(self, error: LlamaHomeError) -> None:
        self._line(error.as_record())

    def _line(self, fields: Mapping[str, Any]) -> None:
        self._stdout.write(to_json({"v": 1, **fields}) + "\n")
        self._stdout.flush()


def to_json(value: Any) -> str:
    """One line of JSON; numbers that are not finite become null, paths and enums their text. ASCII, so no byte of it
    can steer a terminal."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"), default=_plain)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
