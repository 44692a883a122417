"""What each method takes of a spec: what has no effect is refused, and so is what it cannot do without."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from llamahome_tui.errors import SpecError
from llamahome_tui.training import auto
from llamahome_tui.training.init import spec_text
from llamahome_tui.training.methods import HIGHER, METHODS, Kind, data_of
from llamahome_tui.training.spec import SCHEMA, Spec, read_spec

LEAST = 'model.id = "m"\ndata.train = ["a"]\n'


def read(*overrides: str, text: str = LEAST) -> Spec:
    return read_spec(text, source="run.toml", folder=Path("/specs"), environ={}, overrides=overrides)


def refused(*overrides: str) -> dict[str, str]:
    with pytest.raises(SpecError) as found:
        read(*overrides)
    return {one["key"]: one["reason"] for one in found.value.data["errors"]}


def test_every_kind_a_spec_can_name_is_here() -> None:
    assert set(METHODS) == set(SCHEMA["method.kind"].field.words)
    assert {method.rows for method in METHODS.values()} == set(get_args(Kind))
    assert {metric for method in METHODS.values() for metric in method.allowed} == set(HIGHER)


@pytest.mark.parametrize("kind", METHODS)
def test_the_defaults_fit_every_method(kind: str) -> None:
    assert read(f"method.kind={kind}").method.kind == kind


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("sft", "method.beta", "0.2"),
        ("sft", "method.loss", "ipo"),
        ("pretrain", "method.gamma", "1.0"),
        ("pretrain", "data.train_on", "last"),
        ("dpo", "method.gamma", "1.0"),
        ("orpo", "method.label_smoothing", "0.1"),
        ("orpo", "method.loss", "ipo"),
        ("kto", "method.label_smoothing", "0.1"),
        ("simpo", "method.loss", "ipo"),
    ],
)
def test_what_has_no_effect_is_refused(kind: str, key: str, value: str) -> None:
    found = refused(f"method.kind={kind}", f"{key}={value}")
    assert found.keys() == {key} and "has no effect" in found[key]


@pytest.mark.parametrize(
    ("overrides", "key", "said"),
    [
        (("method.kind=dpo", "lora.enabled=false"), "lora.enabled", "orpo and simpo need none"),
        (("method.kind=kto", "lora.enabled=false"), "lora.enabled", "reference"),
        (("method.kind=kto", "training.global_batch=1"), "training.global_batch", "at least 2"),
        (("method.kind=dpo", "data.train_on=all"), "data.train_on", "answers"),
        (("method.kind=kto", "data.long=split"), "data.long", "half an answer"),
        (("method.kind=dpo", "method.loss=ipo", "method.label_smoothing=0.1"), "method.label_smoothing", "ipo"),
        (("method.kind=dpo", "method.label_smoothing=0.5"), "method.label_smoothing", "below 0.5"),
        (("method.kind=pretrain", "evaluation.generate_rows=4"), "evaluation.generate_rows", "no right answer"),
        (("method.kind=kto", "evaluation.generate_rows=4"), "evaluation.generate_rows", "no right answer"),
        (("evaluation.metric=eval_preference_margin",), "evaluation.metric", "eval_token_accuracy"),
        (("method.kind=dpo", "evaluation.metric=eval_perplexity"), "evaluation.metric", "eval_preference_accuracy"),
        (("evaluation.metric=bleu",), "evaluation.metric", "eval_exact"),
        (
            ("evaluation.metric=eval_perplexity", "evaluation.higher_is_better=true"),
            "evaluation.higher_is_better",
            "not better",
        ),
    ],
)
def test_what_a_method_cannot_do(overrides: tuple[str, ...], key: str, said: str) -> None:
    assert said in refused(*overrides)[key]


def test_reference_free_methods_train_in_full() -> None:
    for kind in ("sft", "pretrain", "orpo", "simpo"):
        assert not read(f"method.kind={kind}", "lora.enabled=false").lora.enabled


@pytest.mark.parametrize(("kind", "metric"), [(k, metric) for k, m in METHODS.items() for metric in m.allowed])
def test_a_metric_decides_which_is_best(kind: str, metric: str) -> None:
    rows = ("evaluation.generate_rows=2",) if metric == "eval_exact" else ()
    spec = read(f"method.kind={kind}", f"evaluation.metric={metric}", *rows)
    assert auto.higher_is_better(spec.evaluation.metric, False) == (metric not in ("eval_loss", "eval_perplexity"))


def test_pretraining_learns_every_token() -> None:
    assert data_of(read("method.kind=pretrain")).train_on == "all"
    assert data_of(read("method.kind=pretrain", "data.train_on=all")).train_on == "all"
    assert data_of(read("data.train_on=last")).train_on == "last"


@pytest.mark.parametrize("kind", METHODS)
def test_init_prints_a_spec_that_fits_the_method(kind: str) -> None:
    text = spec_text(kind)
    spec = read(text=text)
    assert spec.method.kind == kind
    written: list[Any] = [key for key in spec.given if key.startswith("method.")]
    assert written == sorted(["method.kind", *(f"method.{key}" for key in METHODS[kind].keys)])
    assert all(len(line) <= 120 for line in text.splitlines())
    assert (METHODS[kind].rows == "pairs") == ("pairs.jsonl" in text) and (kind == "kto") == ("labels.jsonl" in text)
    assert (kind == "pretrain") == (spec.data.long == "split")
    assert ("generate_rows" in text) == METHODS[kind].generates
