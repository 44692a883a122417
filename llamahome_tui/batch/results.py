"""Results of operations as lines for people; an operation without a form of its own gets names and values."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from llamahome_tui.batch.paper import Paper
from llamahome_tui.batch.tables import fields, table
from llamahome_tui.operations import Operation
from llamahome_tui.text import clean
from llamahome_tui.units import human_bytes, human_count, human_duration

Form: TypeAlias = Callable[[Any], Iterator[str]]


# Queries whose failures hold what they found all the same, as `data` of the error.
TOLD_ALL_THE_SAME = frozenset({"data stats"})


def lines_of(operation: Operation | None, data: Any, paper: Paper | None = None) -> Iterator[str]:
    """The lines that stand for `data` on a person's screen; without `paper` on a plain one."""
    if data is None:
        return iter(())
    name = operation.name if operation else ""
    if name in _ON_PAPER:
        form_on: Callable[[Any, Paper], Iterator[str]] = _imported(_ON_PAPER[name])
        return form_on(data, paper or Paper())
    return _FORMS.get(name, _anything)(data)


def _runs_list(data: Any) -> Iterator[str]:
    if not data:
        yield "no runs"
        return
    rows = []
    for run in data:
        metrics = run.get("metrics") or {}
        loss = metrics.get("loss")
        rows.append((
            run.get("id"), _status(run), _steps(run), "" if loss is None else f"{loss:.4g}",
            run.get("model") or "", human_duration(run.get("elapsed_s")), " ".join(run.get("tags") or ()),
        ))  # fmt: skip
    yield from table(("ID", "STATUS", "STEP", "LOSS", "MODEL", "ELAPSED", "TAGS"), rows, right="STEP LOSS ELAPSED")


def _run_show(run: Any) -> Iterator[str]:
    best = run.get("best") or {}
    value = best.get("value")
    memory = run.get("memory") or {}
    rows: list[tuple[object, ...]]
    yield from fields((
        ("run", run.get("id")),
        ("status", _because(run)),
        ("model", run.get("model")),
        ("replay of", run.get("replay_of")),
        ("tags", " ".join(run.get("tags") or ())),
        ("attempt", run.get("attempt")),
        ("step", _steps(run)),
        ("started", run.get("started_at")),
        ("elapsed", human_duration(run.get("elapsed_s"))),
        ("left", human_duration(run.get("eta_s")) if run.get("eta_s") is not None else ""),
        ("best", "" if value is None else f"{best.get('metric')} {value:.4g} at step {best.get('step')}"),
        ("memory", _memory(memory)),
        ("host", f"{run.get('host')} (another machine: read only)" if run.get("remote") else run.get("host")),
        ("folder", run.get("dir")),
    ))  # fmt: skip
    if run.get("metrics"):
        yield ""
        yield from fields((name, _number(value)) for name, value in run["metrics"].items())
    if run.get("checkpoints"):
        yield ""
        rows = [
            (c.get("step"), human_bytes(c.get("bytes")), "complete" if c.get("complete") else "partial", c.get("path"))
            for c in run["checkpoints"]
        ]
        yield from table(("CHECKPOINT", "SIZE", "STATE", "PATH"), rows, right="CHECKPOINT SIZE")
    if run.get("artifacts"):
        yield ""
        rows = [(a.get("kind"), human_bytes(a.get("bytes")), a.get("path")) for a in run["artifacts"]]
        yield from table(("ARTIFACT", "SIZE", "PATH"), rows, right="SIZE")
    if run.get("recoveries"):
        yield ""
        rows = [
            (r.get("attempt"), r.get("from_step"), "yes" if r.get("exact") else "no", r.get("reason") or "")
            for r in run["recoveries"]
        ]
        yield from table(("ATTEMPT", "FROM STEP", "EXACT", "WHY"), rows)


def _run_ended(data: Any) -> Iterator[str]:
    for run in data if isinstance(data, list) else [data]:
        yield clean(f"{run.get('id')}  {run.get('status')}")
        if run.get("dir"):
            yield clean(f"  {run['dir']}")


def _models_list(data: Any) -> Iterator[str]:
    if not data:
        yield "no models on this machine yet; the embedded one is always there: llamahome --batch demo"
        return
    rows = [
        (m.get("id"), human_bytes(m.get("size_bytes")), human_count(m.get("parameters")), m.get("dtype") or "",
         m.get("format") or "", m.get("state"), (m.get("revision") or "")[:8])
        for m in data
    ]  # fmt: skip
    heads = ("ID", "SIZE", "PARAMETERS", "DTYPE", "FORMAT", "STATE", "REVISION")
    yield from table(heads, rows, right="SIZE PARAMETERS")


def _model_show(model: Any) -> Iterator[str]:
    words = {"size_bytes": ("size", human_bytes), "freed_bytes": ("freed by removing", human_bytes),
             "parameters": ("parameters", human_count)}  # fmt: skip
    pairs = []
    for key, value in model.items():
        name, form = words.get(key, (key.replace("_", " "), _value))
        if not isinstance(value, list | dict):
            pairs.append((name, form(value) if value is not None else ""))
    yield from fields(pairs)
    for key in (k for k, v in model.items() if isinstance(v, list) and v):
        yield ""
        yield from _anything({key: model[key]})


def _demo(data: Any) -> Iterator[str]:
    yield from fields((
        ("score before", f"{data['score_before']:.1%}"),
        ("score after", f"{data['score_after']:.1%}"),
        ("loss", f"{data['loss_first']:.4g} -> {data['loss_last']:.4g}"),
        ("seconds", f"{data['seconds']:.1f}"),
        ("run", data["run"]),
    ))  # fmt: skip


def _cache_usage(data: Any) -> Iterator[str]:
    categories = data.get("categories", data) if isinstance(data, Mapping) else data
    if not isinstance(categories, Mapping):
        yield from _anything(data)
        return
    sizes = [(name, value) for name, value in categories.items() if isinstance(value, int | float)]
    width = max((len(name) for name, _ in sizes), default=0)
    for name, value in sizes:
        yield f"{clean(str(name)):<{width}}  {human_bytes(value) if 'per' not in name else value:>10}"


def _sized(data: Any) -> Iterator[str]:
    """A list of things that take disk, whatever else each knows."""
    if not data or not isinstance(data, list):
        yield from _anything(data)
        return
    heads = [key for key in data[0] if not isinstance(data[0][key], list | dict)]
    rows = [[human_bytes(row.get(k)) if _is_bytes(k) else _value(row.get(k)) for k in heads] for row in data]
    titles = [_title(head) for head in heads]
    yield from table(titles, rows, right=" ".join(_title(h) for h in heads if _is_bytes(h)))


def _worded(name: str) -> Form:
    """A form that its own domain package words, as `resources.wording:system_lines`; imported when it is needed."""

    def form(data: Any) -> Iterator[str]:
        worded: Form = _imported(name)
        yield from worded(data)

    return form


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(f"llamahome_tui.{module}"), attribute)


def _config_show(data: Any) -> Iterator[str]:
    cells = [(r["key"], _value(r["value"]), r["where"] or r["origin"]) for r in data["settings"]]
    yield from table(("KEY", "VALUE", "ORIGIN"), cells)


def _config_get(data: Any) -> Iterator[str]:
    """The value alone, so that a script may take it; origin and the rest are in --json and `config show`."""
    yield clean(_value(data["value"]) if data["value"] is not None else "")


def _config_validate(data: Any) -> Iterator[str]:
    yield f"no mistake in {', '.join(clean(str(file)) for file in data['checked']) or 'the environment; no files yet'}"


def _spec(data: Any) -> Iterator[str]:
    """A spec, or where it was written and how much of its origin is told in it."""
    if not isinstance(data, Mapping) or "path" not in data:
        yield from _raw_text(data)
        return
    yield f"wrote {clean(str(data['path']))}"
    for name, said in (
        ("changed", "with another meaning"),
        ("left", "left out"),
        ("fetch", "to be fetched from the Hub"),
    ):
        if told := data.get(name):
            yield f"{len(told)} {said}: see its comments"


def _raw_text(data: Any) -> Iterator[str]:
    """Text that belongs on stdout as it is: a spec, a completion script, a schema."""
    if isinstance(data, str):
        yield from data.rstrip("\n").split("\n")
    elif isinstance(data, Mapping) and isinstance(data.get("text"), str):
        yield from clean(data["text"], limit=10_000_000, keep_newlines=True).rstrip("\n").split("\n")
    else:
        yield from _json(data)


def _json(data: Any) -> Iterator[str]:
    import json

    yield from json.dumps(data, indent=2, default=str).split("\n")


def _nothing(_: Any) -> Iterator[str]:
    """The answer has been streamed already."""
    yield from ()


def _anything(data: Any) -> Iterator[str]:
    """Any JSON-ready value: a table for a list of objects, names and values for an object."""
    if isinstance(data, Mapping):
        flat = [(str(k).replace("_", " "), human_bytes(v) if _is_bytes(k) else _value(v))
                for k, v in data.items() if not _nested(v)]  # fmt: skip
        yield from fields(flat)
        for key, value in data.items():
            if _nested(value) and value:
                yield ""
                yield clean(str(key).replace("_", " ") + ":")
                yield from ("  " + line for line in _anything(value))
    elif isinstance(data, list | tuple):
        if data and all(isinstance(row, Mapping) for row in data):
            yield from _sized(list(data))
        else:
            yield from (clean(_value(item)) for item in data)
    else:
        yield clean(_value(data))


def _nested(value: Any) -> bool:
    listed = isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value)
    return listed or isinstance(value, Mapping)


def _is_bytes(key: object) -> bool:
    return str(key).endswith("bytes")


def _title(key: str) -> str:
    return key.removesuffix("_bytes").replace("_", " ").upper().replace(" ", "-")


def _value(value: Any) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return " ".join(_value(item) for item in value)
    return str(value)


def _number(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _steps(run: Mapping[str, Any]) -> str:
    step, steps = run.get("step"), run.get("steps")
    if step is None:
        return ""
    return f"{step}/{steps}" if steps else str(step)


def _because(run: Mapping[str, Any]) -> str:
    return _status(run) + (f": {run['reason']}" if run.get("reason") else "")


def _status(run: Mapping[str, Any]) -> str:
    place = run.get("queue_position")
    return f"{run.get('status')}" + (f" #{place}" if place else "")


def _memory(memory: Mapping[str, Any]) -> str:
    measured, predicted = memory.get("measured_bytes"), memory.get("predicted_bytes")
    parts = [f"{human_bytes(measured)} measured"] if measured else []
    parts += [f"{human_bytes(predicted)} predicted"] if predicted else []
    return ", ".join(parts)


def _planned(data: Any) -> Iterator[str]:
    total, learn = data["parameters"], data["trainable_parameters"]
    kinds = [
        (kind["name"], f"{kind['modules']:,}", f"{kind['parameters']:,}", f"{kind['trainable']:,}")
        for kind in data["by_kind"]
    ]
    yield from table(("MODULE", "COUNT", "PARAMETERS", "LEARN"), kinds, right="COUNT PARAMETERS LEARN")
    yield ""
    yield from fields((
        ("model", data["model"]),
        ("method", data["method"]),
        ("learn", f"{learn:,} of {total:,} ({learn / max(1, total):.2%})"),
        *data["settled"].items(),
        ("rows", f"{data['rows']:,}, {data['tokens_per_epoch']:,} tokens ({data['rows_source']})"),
        ("micro-batch", f"{data['micro_batch']['sequences']} x {data['micro_batch']['length']} tokens"),
        ("an epoch", f"{human_duration(data['seconds_per_epoch'])} ({data['time_source']})"
         if data["time_source"] else "n/a (no earlier run, and no peak known of this device)"),
        ("disk", _disk(data["disk_bytes"], data["disk"])),
    ))  # fmt: skip
    yield ""
    parts = [(name, human_bytes(size)) for name, size in data["parts"].items() if size]
    yield from table(("MEMORY", "SIZE"), parts, right="SIZE")
    verdict = "fits" if data["fits"] else "does NOT fit"
    yield clean(
        f"{human_bytes(data['predicted_bytes'])} {verdict} in {human_bytes(data['free_bytes'])} on "
        f"{data['device']['name']} ({data['reason']})"
    )
    if data["written"]:
        yield clean(f"written into the spec: {_set(data['written'])}")
    elif data["alternatives"]:
        yield ""
        yield "what fits, the best first (--fit N writes it into the spec):"
        for number, one in enumerate(data["alternatives"], 1):
            time = f", an epoch in {human_duration(one['seconds_per_epoch'])}" if one["seconds_per_epoch"] else ""
            yield clean(f"  {number}  {human_bytes(one['predicted_bytes'])}{time}: {_set(one['set'])}")
            yield clean(f"     {one['note']}")
    elif not data["fits"]:
        yield "no change of batch, checkpointing, optimiser, quantisation or length makes it fit"


def _set(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={_toml(value)}" for key, value in values.items())


def _disk(total: int, disk: Mapping[str, Any]) -> str:
    parts = ", ".join(f"{name} {human_bytes(disk[name])}" for name in ("checkpoints", "prepared", "result"))
    return f"{human_bytes(total)} ({parts}); {human_bytes(disk['free'])} free"


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _exported(data: Any) -> Iterator[str]:
    proof = data.get("proof")
    if not proof:
        yield from _run_ended(data)
        return
    yield clean(str(data["path"]), limit=1000)
    kind = "held-out rows" if proof["kind"] == "held_out" else "rows of drawn tokens"
    yield from fields((
        ("form", f"{data.get('form')}" + ("" if data.get("step") is None else f", step {data['step']}")),
        ("size", human_bytes(data.get("bytes") or 0)),
        ("loss as trained", f"{proof['trained']:.6f} on {proof['rows']} {kind}, {proof['tokens']} tokens"),
        ("loss of this export", f"{proof['exported']:.6f}"),
        ("difference", f"{proof['difference']:.2e} (allowed {proof['tolerance']:g})"),
    ))  # fmt: skip


def _evaluated(data: Any) -> Iterator[str]:
    yield clean(f"{data['rows']} rows" + (f", {data['left_out']} too long" if data["left_out"] else ""))
    if data["comparison"]:
        rows = [
            (c["metric"], *(_number(c[name]) if c[name] is not None else "" for name in ("base", "tuned")),
             "" if c["difference"] is None else f"{c['difference']:+.4g}",
             "" if c["low"] is None or c["high"] is None else f"{c['low']:+.4g} to {c['high']:+.4g}")
            for c in data["comparison"]
        ]  # fmt: skip
        yield from table(("METRIC", "BASE", "TUNED", "DIFFERENCE", "95%"), rows, right="BASE TUNED DIFFERENCE")
    else:
        yield from fields((name, _number(value)) for name, value in data["scores"].items() if value is not None)
    if found := data["changed"]:
        yield (
            f"wrong to right {found['wrong_to_right']}, right to wrong {found['right_to_wrong']}, "
            f"right both times {found['both_right']}, wrong both times {found['both_wrong']} (p {found['p']:.3g})"
        )
    for sample in data["samples"]:
        yield ""
        yield from fields((
            ("row", f"{sample['file']}:{sample['line']}"),
            ("prompt", sample["prompt"]),
            ("expected", sample["expected"]),
            *((("base", f"{sample['base_text']}{_verdict(sample['base_score'])}"),) if "base_text" in sample else ()),
            ("tuned" if "base_text" in sample else "written", f"{sample['text']}{_verdict(sample['score'])}"),
        ))  # fmt: skip


def _verdict(score: float | None) -> str:
    if score is None:
        return "  (no verdict)"
    return "  (right)" if score == 1 else "  (wrong)" if score == 0 else f"  ({score:.3g})"


# Forms that draw or mark, and so ask what they are written on.
_ON_PAPER = {
    "data formats": "batch.looking:formats_lines",
    "data inspect": "batch.looking:inspect_lines",
    "data stats": "batch.looking:stats_lines",
    "data validate": "batch.looking:validate_lines",
    "runs compare": "batch.comparing:compared_lines",
}
_FORMS: dict[str, Form] = {
    "demo": _demo,
    "models list": _models_list,
    "models show": _model_show,
    "train init": _spec,
    "train plan": _planned,
    "train start": _run_ended,
    "runs list": _runs_list,
    "runs show": _run_show,
    "runs watch": _run_ended,
    "runs wait": _run_ended,
    "runs stop": _run_ended,
    "runs resume": _run_ended,
    "runs replay": _run_ended,
    "runs exec": _run_ended,
    "runs export": _exported,
    "runs logs": _nothing,
    "runs events": _nothing,
    "runs report": _nothing,
    "runs export-table": _nothing,
    "generate": _nothing,
    "evaluate": _evaluated,
    "cache usage": _cache_usage,
    "cache list": _sized,
    "logs list": _sized,
    "logs show": _nothing,
    "system show": _worded("resources.wording:system_lines"),
    "system watch": _worded("resources.wording:system_lines"),
    "system doctor": _worded("resources.wording:doctor_lines"),
    "config get": _config_get,
    "config show": _config_show,
    "config validate": _config_validate,
    "schema spec": _json,
    "schema events": _json,
    "schema results": _json,
    "completion bash": _raw_text,
    "completion zsh": _raw_text,
    "completion fish": _raw_text,
}
