"""Rules between [method] and the rest of a spec: what a method has no use for, and what it cannot be had without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llamahome_tui.config.fields import plain
from llamahome_tui.errors import ConfigError
from llamahome_tui.training.methods import HIGHER, method_of
from llamahome_tui.training.shape import SCHEMA


def of_method(values: Mapping[str, Any], given: frozenset[str]) -> Iterator[tuple[str, str]]:
    """(key, reason) for each rule that is broken; what `broken_rules` asks for."""
    kind = values["method.kind"]
    try:
        method = method_of(kind)
    except ConfigError as error:
        yield "method.kind", error.message
        return
    for name in ("loss", "beta", "gamma", "label_smoothing"):
        key = f"method.{name}"
        if name not in method.keys and _chosen(key, values, given):
            yield key, f'has no effect with method.kind = "{kind}"'
    if kind == "dpo" and values["method.label_smoothing"]:
        if values["method.loss"] == "ipo":
            yield "method.label_smoothing", 'has no effect with method.loss = "ipo"'
        elif values["method.label_smoothing"] == 0.5:
            yield "method.label_smoothing", "must be below 0.5, where neither answer is the better one"
    if method.whole and _chosen("data.train_on", values, given) and values["data.train_on"] != "all":
        yield "data.train_on", f'has no effect with method.kind = "{kind}", which learns every token'
    if method.reference and not values["lora.enabled"]:
        reason = "whose reference is the model without its adapter; orpo and simpo need none"
        yield "lora.enabled", f"must be true with method.kind = {kind}, {reason}"
    if method.preference:
        yield from _of_answers(kind, values)
    if kind == "kto" and values["training.global_batch"] < 2:
        yield "training.global_batch", "must be at least 2 with method.kind = kto, which compares answers with others"
    yield from _metrics(kind, values)


def _of_answers(kind: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if values["data.train_on"] == "all":
        yield "data.train_on", f"must not be all with method.kind = {kind}, which compares answers, not their prompts"
    if values["data.long"] == "split":
        yield "data.long", f"must not be split with method.kind = {kind}: half an answer is no better and no worse"


def _metrics(kind: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    method, metric = method_of(kind), values["evaluation.metric"]
    if metric not in method.allowed:
        allowed = ", ".join(method.allowed)
        yield "evaluation.metric", f'must be one of {allowed} with method.kind = {kind}, not "{metric[:60]}"'
    if HIGHER.get(metric) is False and values["evaluation.higher_is_better"]:
        yield "evaluation.higher_is_better", f"a higher {metric} is not better"
    if values["evaluation.generate_rows"] and not method.generates:
        yield "evaluation.generate_rows", f"must be 0 with method.kind = {kind}, whose rows have no right answer"


def _chosen(key: str, values: Mapping[str, Any], given: frozenset[str]) -> bool:
    return key in given and values[key] != plain(SCHEMA[key].default)
