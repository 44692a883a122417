"""JSON Schema of what scripts rely on: the spec, a run's events, the results; more fields may always be added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from llamahome_tui.outcome import Outcome, Result

if TYPE_CHECKING:
    from llamahome_tui.context import Context

DIALECT = "https://json-schema.org/draft/2020-12/schema"

TEXT: dict[str, Any] = {"type": "string"}
BOOL: dict[str, Any] = {"type": "boolean"}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
NUMBER: dict[str, Any] = {"type": "number"}
TIME: dict[str, Any] = {"type": "string", "format": "date-time"}
OBJECT: dict[str, Any] = {"type": "object"}


def or_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same, or null: what is not known is null in JSON."""
    return {"anyOf": [dict(schema), {"type": "null"}]}


def shape(fields: Mapping[str, Mapping[str, Any]], optional: str = "") -> dict[str, Any]:
    """An object with these fields; those named in `optional` (words) may be missing, and others may be there."""
    required = [name for name in fields if name not in optional.split()]
    return {"type": "object", "properties": {k: dict(v) for k, v in fields.items()}, "required": required}


def array(item: Mapping[str, Any]) -> dict[str, Any]:
    """A list of such items."""
    return {"type": "array", "items": dict(item)}


def word(*words: str | int) -> dict[str, Any]:
    """One of these words."""
    return {"enum": list(words)}


BEST = or_null(shape({"metric": TEXT, "value": or_null(NUMBER), "step": COUNT, "path": or_null(TEXT)}, "path"))
_FRAME: dict[str, Mapping[str, Any]] = {"v": {"const": 1}, "seq": COUNT, "t": NUMBER, "mono": NUMBER, "type": TEXT}
_PROCESS: dict[str, Mapping[str, Any]] = {"host": TEXT, "boot_id": TEXT, "pid": COUNT, "start_ticks": COUNT}
_ANSWER: dict[str, Mapping[str, Any]] = {
    "request": TEXT, "outcome": word("applied", "superseded", "refused"), "reason": TEXT,
}  # fmt: skip

# CONTRACT: Events of a run. type -> (fields, words of the fields that may be missing)
TRAINER_EVENTS: dict[str, tuple[dict[str, Mapping[str, Any]], str]] = {
    "start": (
        {
            "attempt": COUNT, "from_step": COUNT, "exact": BOOL, "reason": TEXT, **_PROCESS,
            "versions": OBJECT, "devices": {}, "spec_hash": TEXT, "replay_of": TEXT,
        },
        "exact reason versions devices spec_hash from_step replay_of",
    ),
    "phase": ({"phase": word("fetch", "data", "model", "train", "eval", "save"), "base": OBJECT}, "base"),
    "progress": ({"step": COUNT, "steps": COUNT, "epoch": NUMBER, "tokens": COUNT, "eta_s": or_null(NUMBER)},
                 "steps epoch tokens eta_s"),
    "metrics": ({"step": COUNT}, "step"),
    "sample": ({"step": COUNT, "prompt": TEXT, "text": TEXT}, ""),
    "checkpoint": ({"step": COUNT, "path": TEXT, "bytes": COUNT, "best": BEST}, "best"),
    "control": ({**_ANSWER, "step": or_null(COUNT)}, "reason step"),
    "warning": ({}, ""),
    "degrade": ({"what": TEXT, "why": TEXT}, ""),
    "artifact": ({"kind": TEXT, "path": TEXT, "bytes": COUNT, "sha256": TEXT}, "bytes sha256"),
    "error": ({"code": TEXT, "exception": TEXT, "message": TEXT, "hint": TEXT, "exit": COUNT}, "exception hint exit"),
    "end": ({"reason": word("completed", "stopped", "paused", "failed"), "totals": OBJECT, "best": BEST},
            "totals best"),
}  # fmt: skip
SUPERVISOR_EVENTS: dict[str, tuple[dict[str, Mapping[str, Any]], str]] = {
    "begin": ({"attempt": COUNT, "supervisor": COUNT, "host": TEXT, "boot_id": TEXT}, ""),
    "spawn": (_PROCESS, "host boot_id start_ticks pid"),
    "exit": (
        {"code": or_null({"type": "integer"}), "signal": or_null(TEXT), "retry": BOOL, "stop": BOOL},
        "retry stop",
    ),
    "retry": ({}, ""),
    "stall": ({}, ""),
    "adopt": (_PROCESS, "host boot_id start_ticks pid"),
    "kill": ({}, ""),
    "control": ({**_ANSWER, "step": or_null(COUNT)}, "reason step"),
    "artifact": ({"kind": TEXT, "path": TEXT, "bytes": COUNT, "sha256": TEXT}, "bytes sha256"),
    "notify": ({"command": {}, "code": or_null({"type": "integer"})}, "command code"),
}

_RUN: dict[str, Mapping[str, Any]] = {
    "id": TEXT, "name": TEXT, "status": TEXT, "attempt": COUNT, "step": or_null(COUNT), "steps": or_null(COUNT),
    "metrics": OBJECT, "best": BEST, "started_at": or_null(TIME), "elapsed_s": or_null(NUMBER),
    "eta_s": or_null(NUMBER), "memory": or_null(OBJECT), "host": or_null(TEXT), "remote": BOOL,
}  # fmt: skip
_RUN_LISTS: dict[str, Mapping[str, Any]] = {
    "checkpoints": array(shape({"step": COUNT, "path": TEXT, "bytes": COUNT, "complete": BOOL, "t": or_null(TIME)})),
    "artifacts": array(shape({"kind": TEXT, "path": TEXT, "bytes": or_null(COUNT), "sha256": or_null(TEXT)})),
    "recoveries": array(
        shape(
            {
                "t": TIME,
                "attempt": COUNT,
                "from_step": or_null(COUNT),
                "reason": or_null(TEXT),
                "exact": or_null(BOOL),
            }
        )
    ),
}
_STARTED = shape({"id": TEXT, "status": TEXT, "dir": TEXT})
_MODEL: dict[str, Mapping[str, Any]] = {
    "id": TEXT, "revision": or_null(TEXT), "size_bytes": COUNT, "freed_bytes": or_null(COUNT), "format": or_null(TEXT),
    "dtype": or_null(TEXT), "parameters": or_null(COUNT), "path": TEXT, "state": word("ok", "incomplete", "broken"),
    "pinned": BOOL, "last_used": or_null(TIME), "used_by": array(TEXT),
}  # fmt: skip
_GPU: dict[str, Mapping[str, Any]] = {
    "index": {}, "name": or_null(TEXT), "uuid": or_null(TEXT), "memory_used_bytes": or_null(COUNT),
    "memory_total_bytes": or_null(COUNT), "utilization": or_null(NUMBER), "temperature_c": or_null(NUMBER),
    "power_w": or_null(NUMBER), "processes": array(OBJECT),
}  # fmt: skip

_PART: dict[str, Mapping[str, Any]] = {
    "text": TEXT, "ids": array(COUNT), "pieces": array(TEXT), "mask": array(word(0, 1)), "special": array(word(0, 1)),
    "trained_tokens": COUNT,
}  # fmt: skip
_FETCH = shape({"id": TEXT, "file": TEXT, "command": TEXT})
_TOLD = shape({"key": TEXT, "value": TEXT, "reason": TEXT, "severity": word("harmless", "changes training")})
_BAD_ROW = shape({"file": TEXT, "line": COUNT, "field": TEXT, "reason": TEXT})
_TWINS: dict[str, Mapping[str, Any]] = {
    "exact": COUNT, "near": COUNT, "compared": COUNT,
    "examples": array(shape({"row": TEXT, "twin": TEXT, "likeness": NUMBER})),
}  # fmt: skip

_SETTING = shape({"key": TEXT, "value": {}, "origin": TEXT, "where": TEXT, "default": {}, "help": TEXT}, "where")

_SCORES = {"type": "object", "additionalProperties": or_null(NUMBER)}
_COMPARED = shape({
    "metric": TEXT, "base": or_null(NUMBER), "tuned": or_null(NUMBER), "difference": or_null(NUMBER),
    "low": or_null(NUMBER), "high": or_null(NUMBER), "rows": COUNT, "higher_is_better": BOOL,
})  # fmt: skip
_CHANGED = shape({
    "right_to_wrong": COUNT, "wrong_to_right": COUNT, "both_right": COUNT, "both_wrong": COUNT, "p": NUMBER,
})  # fmt: skip

# CONTRACT: Results that scripts lean on. operation -> the `data` of its result
RESULTS: dict[str, dict[str, Any]] = {
    "demo": shape({
        "score_before": {"type": "number", "minimum": 0, "maximum": 1},
        "score_after": {"type": "number", "minimum": 0, "maximum": 1},
        "run": TEXT, "loss_first": NUMBER, "loss_last": NUMBER, "seconds": NUMBER,
    }),
    "train init": shape({
        "method": TEXT, "text": TEXT, "path": TEXT, "dialect": TEXT, "source": TEXT,
        "left": array(_TOLD), "changed": array(_TOLD), "fetch": array(_FETCH),
    }, "path dialect source left changed fetch"),
    "train plan": shape({
        "model": TEXT, "revision": or_null(TEXT), "method": TEXT, "parameters": COUNT, "trainable_parameters": COUNT,
        "by_kind": array(shape({"name": TEXT, "modules": COUNT, "parameters": COUNT, "trainable": COUNT})),
        "settled": OBJECT, "checkpoint_bytes": COUNT, "disk_bytes": COUNT, "fits": BOOL, "predicted_bytes": COUNT,
        "forecast_bytes": COUNT, "free_bytes": COUNT, "traced": BOOL, "reason": TEXT, "devices": COUNT,
        "parts": shape({
            "weights": COUNT, "adapter": COUNT, "gradients": COUNT, "optimizer": COUNT, "activations": COUNT,
            "logits": COUNT, "workspace": COUNT,
        }),
        "device": shape({"kind": word("cuda", "cpu"), "name": TEXT, "memory_bytes": COUNT}),
        "micro_batch": shape({"sequences": COUNT, "length": COUNT}), "gradient_checkpointing": {}, "rows": COUNT,
        "tokens_per_epoch": COUNT, "rows_source": TEXT, "seconds_per_epoch": or_null(NUMBER),
        "time_source": or_null(TEXT),
        "disk": shape({"checkpoints": COUNT, "prepared": COUNT, "result": COUNT, "free": or_null(COUNT)}),
        "warnings": array(TEXT), "written": or_null(OBJECT),
        "alternatives": array(shape({
            "set": OBJECT, "predicted_bytes": COUNT, "seconds_per_epoch": or_null(NUMBER), "note": TEXT,
        })),
    }),
    "train start": _STARTED,
    "runs resume": _STARTED,
    "runs export": shape({
        "id": TEXT, "status": TEXT, "dir": TEXT, "path": TEXT, "form": TEXT, "step": or_null(COUNT), "bytes": COUNT,
        "files": array(TEXT), "serve": or_null(TEXT),
        "proof": or_null(shape({
            "kind": word("held_out", "random"), "rows": COUNT, "tokens": COUNT, "trained": NUMBER, "exported": NUMBER,
            "difference": NUMBER, "tolerance": NUMBER,
        })),
    }, "id status dir path form step bytes files proof serve"),
    "runs replay": shape({
        "id": TEXT, "status": TEXT, "dir": TEXT, "replay_of": TEXT, "differs": array(TEXT),
        "replays": array(
            shape({"step": COUNT, "op": word("save", "eval", "sample", "lr", "stop", "pause"), "value": {}})
        ),
    }),
    "runs show": shape({**_RUN, **_RUN_LISTS}),
    "runs list": array(shape(_RUN)),
    "models list": array(shape(_MODEL)),
    "models show": shape(_MODEL),
    "data formats": array(shape({"name": TEXT, "rule": TEXT, "example": TEXT, "learned": TEXT})),
    "data inspect": shape({
        "row": COUNT, "file": TEXT, "line": COUNT, "format": TEXT, **_PART, "chosen": shape(_PART),
        "rejected": shape(_PART),
    }, "chosen rejected"),
    "data validate": shape({"rows": COUNT, "format": TEXT, "bad": array(_BAD_ROW), "bad_count": COUNT}),
    "data stats": shape({
        "rows": COUNT, "format": TEXT, "tokens": COUNT, "trained_tokens": COUNT, "trained_share": NUMBER,
        "tokens_per_epoch": COUNT, "max_length": COUNT, "long_rows": COUNT, "long_share": NUMBER,
        "lost_trained_tokens": COUNT, "lost_trained_share": NUMBER, "untrained_rows": COUNT,
        "lengths": shape({
            "min": COUNT, "mean": NUMBER, "p50": COUNT, "p90": COUNT, "p95": COUNT, "p99": COUNT, "max": COUNT,
            "histogram": array(shape({"from": COUNT, "to": COUNT, "rows": COUNT})),
        }),
        "longest": array(shape({"file": TEXT, "line": COUNT, "tokens": COUNT})),
        "duplicates": shape(_TWINS),
        "overlap": shape({"against": word("file", "split", "none"), "rows": COUNT, **_TWINS}),
        "padding": shape({"plain": NUMBER, "sorted": NUMBER, "packed": NUMBER}),
        "messages": array(shape({"role": TEXT, "count": COUNT})), "bad": array(_BAD_ROW), "bad_count": COUNT,
        "warnings": array(TEXT),
    }),
    "generate": shape({"text": TEXT, "tokens": COUNT, "seconds": NUMBER}),
    "evaluate": shape({
        "rows": COUNT, "left_out": COUNT, "held_out": BOOL, "kept": or_null(TEXT), "metric": or_null(TEXT),
        "scores": _SCORES,
        "base_scores": or_null(_SCORES), "comparison": array(_COMPARED), "changed": or_null(_CHANGED),
        "samples": array(shape({
            "file": TEXT, "line": COUNT, "prompt": TEXT, "expected": TEXT, "text": TEXT, "score": or_null(NUMBER),
            "base_text": TEXT, "base_score": or_null(NUMBER),
        }, "base_text base_score")),
        "unjudged": COUNT, "failures": array(OBJECT), "max_tokens": COUNT, "seed": {"type": "integer"},
        "seconds": NUMBER,
    }),
    "runs compare": shape({
        "metric": TEXT, "higher_is_better": BOOL, "axis": word("step", "tokens", "time"), "comparable": BOOL,
        "best": or_null(shape({"run": TEXT, "value": NUMBER, "step": COUNT})), "why_not": array(TEXT),
        "same_eval_rows": or_null(BOOL), "same_objective": BOOL,
        "runs": array(shape({
            "id": TEXT, "name": TEXT, "kind": TEXT, "status": TEXT, "step": or_null(COUNT), "steps": or_null(COUNT),
            "attempts": or_null(COUNT), "remote": BOOL, "host": or_null(TEXT), "final": or_null(NUMBER),
            "best": or_null(shape({"value": NUMBER, "step": COUNT})), "loss": or_null(NUMBER), "evaluation": OBJECT,
            "tokens": or_null(NUMBER), "tokens_per_s": or_null(NUMBER), "memory_bytes": or_null(COUNT),
            "seconds": NUMBER, "unreadable_lines": COUNT, "fault": TEXT,
        })),
        "differences": array(shape({"key": TEXT, "values": OBJECT})),
        "curves": array(shape({"run": TEXT, "metric": TEXT, "measured": COUNT, "points": array(array(NUMBER))})),
        "aligned": array(shape({
            "metric": TEXT, "axis": word("step", "tokens", "time"), "x": array(NUMBER), "values": OBJECT,
        })),
        "answers": array(shape({
            "run": TEXT, "other": TEXT, "rows": COUNT, "wins": COUNT, "losses": COUNT, "ties": COUNT, "p": NUMBER,
            "difference": NUMBER, "low": or_null(NUMBER), "high": or_null(NUMBER),
            "samples": array(shape({
                "prompt": TEXT, "expected": TEXT, "text": TEXT, "right": BOOL, "other_text": TEXT, "other_right": BOOL,
            })),
        })),
    }),
    "cache usage": OBJECT,
    "logs list": array(shape({"name": TEXT, "size_bytes": COUNT, "modified": TIME, "kind": TEXT, "path": TEXT})),
    "system show": shape({
        "gpus": array(shape(_GPU)), "cpu": or_null(OBJECT), "memory": or_null(OBJECT), "disk": {},
        "driver": or_null(TEXT),
    }),
    "config show": shape({"settings": array(_SETTING)}),
    "config get": _SETTING,
}  # fmt: skip


def spec(context: Context) -> Iterator[Outcome]:
    """The schema of the training spec."""
    from llamahome_tui.training.spec import schema

    yield Result(schema())


def events(context: Context) -> Iterator[Outcome]:
    """The schema of one journal record, the trainer's or the supervisor's."""
    yield Result(events_schema())


def results(context: Context) -> Iterator[Outcome]:
    """The schema of the last line under --json, and under `$defs` the `data` of every operation that promises one."""
    yield Result(results_schema())


def events_schema() -> dict[str, Any]:
    """One record: the frame of all, and for each known type its fields. Unknown types are valid: readers skip them."""
    known = {**TRAINER_EVENTS, **SUPERVISOR_EVENTS}
    choices = []
    for kind, (fields, optional) in known.items():
        then = shape(fields, optional)
        choices.append({"if": {"properties": {"type": {"const": kind}}}, "then": then})
    return {"$schema": DIALECT, "title": "A record of a LlamaHome run", **shape(_FRAME, "mono"), "allOf": choices}


def results_schema() -> dict[str, Any]:
    """The closing line, and the data of operations under `$defs`."""
    good = shape({"v": {"const": 1}, "type": {"const": "result"}, "ok": BOOL, "changed": BOOL, "data": {}})
    bad = shape({
        "v": {"const": 1}, "type": {"const": "error"}, "ok": {"const": False}, "code": TEXT, "message": TEXT,
        "hint": TEXT, "exit": {"type": "integer"}, "data": OBJECT,
    })  # fmt: skip
    return {"$schema": DIALECT, "title": "The last line of --json", "anyOf": [good, bad], "$defs": RESULTS}
