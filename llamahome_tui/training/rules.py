"""Rules between the keys of a spec: each value is right alone, and together they would mislead or do nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from llamahome_tui.config.fields import plain
from llamahome_tui.hub.names import is_hub, repo_of
from llamahome_tui.training import launch
from llamahome_tui.training.method_rules import of_method
from llamahome_tui.training.shape import SCHEMA

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_WEIGHT = 1000  # a row that counts more often than this is a slip of the pen
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,254}")


def broken_rules(values: Mapping[str, Any], given: frozenset[str]) -> Iterator[tuple[str, str]]:
    """(key, reason) for each broken rule. `values` has every dotted key; `given` are those that the user wrote."""
    yield from _names(values)
    yield from _data(values)
    yield from of_method(values, given)
    yield from _without_effect(values, given)
    yield from _evaluation(values)
    yield from _training(values)
    yield from _weights(values)
    yield from _report(values)
    mirror = values["checkpoint.mirror"]
    if is_hub(mirror) and not repo_of(mirror):
        yield "checkpoint.mirror", f'"{mirror[:80]}" is no repository of the Hub: write "hf://owner/name"'


def _names(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not NAME.fullmatch(values["name"]):
        yield "name", "must be 1 to 64 letters, digits, dots, dashes or underscores, and start with a letter or digit"
    for tag in values["tags"]:
        if not NAME.fullmatch(tag):
            yield "tags", f'"{tag[:64]}" is no tag: letters, digits, dots, dashes and underscores, at most 64'
    revision = values["model.revision"]
    if not _REVISION.fullmatch(revision) or ".." in revision:
        yield "model.revision", "is no branch, tag or commit"
    local = values["model.id"] == "demo" or values["model.id"].startswith("/")
    if local and revision != "main":
        yield "model.revision", "means nothing for a folder: leave it out"


def _data(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if any(not entry for entry in values["data.train"]):
        yield "data.train", "has an empty entry"
    entries, weights = values["data.train"], values["data.weights"]
    if weights and len(weights) != len(entries):
        yield (
            "data.weights",
            f"must have a number for each entry of data.train: {len(entries)}, not {len(weights)}",
        )
    if any(not weight <= MAX_WEIGHT for weight in weights):
        yield "data.weights", f"must be at most {MAX_WEIGHT}"
    if len(set(entries)) != len(entries):
        yield "data.train", "has an entry twice: say with data.weights how often its rows count"
    share = values["data.eval"]
    if isinstance(share, bool) or (isinstance(share, float) and not share.is_integer() and share >= 1):
        yield "data.eval", "must be a share below 1, a whole number of rows, a file, or 0"
    if share == "":
        yield "data.eval", 'is empty: write 0 for no evaluation, or "auto"'
    yield from _columns(values["data.columns"])
    if values["data.template_options"].keys() & {"messages", "add_generation_prompt", "tools", "documents"}:
        yield "data.template_options", "sets what the rows or LlamaHome decide"


def _columns(columns: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not columns:
        return
    from llamahome_tui.data.formats import FIELDS

    for name, column in columns.items():
        if not isinstance(column, str) or not column:
            yield f"data.columns.{name}", "must name a column"
        elif name not in FIELDS:
            yield f"data.columns.{name}", f"is no field of a format: {', '.join(FIELDS)}"
    named = [column for column in columns.values() if isinstance(column, str)]
    for column in sorted({column for column in named if named.count(column) > 1}):
        yield "data.columns", f'names the column "{column[:60]}" twice'


def _without_effect(values: Mapping[str, Any], given: frozenset[str]) -> Iterator[tuple[str, str]]:
    if not values["lora.enabled"]:
        for key in sorted(given):
            if key.startswith("lora.") and key != "lora.enabled" and values[key] != plain(SCHEMA[key].default):
                yield key, "has no effect with lora.enabled = false"
    for key in ("samples.every_steps", "samples.max_new_tokens"):
        if not values["samples.prompts"] and values[key] != SCHEMA[key].default:
            yield key, "has no effect without samples.prompts"
    if not all(prompt.strip() for prompt in values["samples.prompts"]):
        yield "samples.prompts", "has an empty entry"


def _evaluation(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if values["evaluation.metric"] == "eval_exact" and not values["evaluation.generate_rows"]:
        yield "evaluation.metric", "eval_exact needs evaluation.generate_rows over 0"
    every = values["evaluation.every_steps"]
    if values["data.eval"] == 0:
        for key in ("evaluation.patience", "evaluation.generate_rows"):
            if values[key]:
                yield key, "has no effect with data.eval = 0"
        if every not in ("auto", 0):
            yield "evaluation.every_steps", "has no effect with data.eval = 0"
        if values["evaluation.metric"] != SCHEMA["evaluation.metric"].default:
            yield "evaluation.metric", "has no effect with data.eval = 0"
    elif values["evaluation.patience"] and every == 0:
        yield "evaluation.patience", "has no effect with evaluation.every_steps = 0: nothing is measured on the way"


def _report(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    names = values["report.to"]
    if not names and not values["report.project"]:
        return
    from llamahome_tui.training.sinks.known import BUILT_IN, wrong_names

    for reason in wrong_names(names):
        yield "report.to", reason
    if values["report.project"] and all(name in BUILT_IN and not BUILT_IN[name].projects for name in names):
        with_projects = " or ".join(name for name, known in BUILT_IN.items() if known.projects)
        yield "report.project", f"has no effect without {with_projects} in report.to"


def _weights(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not values["lora.enabled"]:
        if values["model.quantization"] != "none":
            yield "model.quantization", "needs an adapter: quantised weights cannot be trained in full (lora.enabled)"
        if values["model.adapter"]:
            yield "model.adapter", "has no effect with lora.enabled = false"
    targets = values["lora.targets"]
    if not targets or (isinstance(targets, list) and not all(targets)):
        yield "lora.targets", 'names nothing: write "all-linear", or names of modules'
    elif any("," in name for name in ([targets] if isinstance(targets, str) else targets)):
        yield "lora.targets", 'has a comma in a name: write a list, as ["q_proj", "v_proj"]'
    if not all(values["lora.train_also"]):
        yield "lora.train_also", "has an empty entry"
    if 0 < values["lora.plus_ratio"] < 1:
        yield "lora.plus_ratio", "must be 0, or from 1: B matrices learn faster than A, not slower"


def _training(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    warmup = values["training.warmup"]
    if isinstance(warmup, float) and warmup > 1 and not warmup.is_integer():
        yield "training.warmup", "must be a share up to 1, or a whole number of steps"
    most = values["training.max_steps"]
    if isinstance(warmup, int | float) and warmup >= 1 and 0 < most < warmup:
        yield "training.warmup", f"is longer than the run: training.max_steps is {most}"
    layers = values["training.gradient_checkpointing"]
    if isinstance(layers, float) and layers > 1 and not layers.is_integer():
        yield "training.gradient_checkpointing", "must be a share of the layers below 1, or a whole number of them"
    attention = values["training.attention"]
    if attention.startswith("flash") and values["training.precision"] == "fp32":
        yield "training.attention", f"{attention} computes in 16 bits, and training.precision is fp32"
    micro, whole = values["training.batch_size"], values["training.global_batch"]
    if isinstance(micro, int) and micro > whole:
        yield "training.batch_size", f"is over training.global_batch ({whole})"
    devices = values["launch.devices"]
    if devices == 0 or devices == []:
        yield "launch.devices", 'names no device: write "auto", 1, or [0]'
    if isinstance(devices, list) and (len(set(devices)) != len(devices)):
        yield "launch.devices", "names a device twice"
    if isinstance(devices, bool):
        yield "launch.devices", 'must be "auto", a number, or a list'
    else:
        yield from launch.problems(values)
