"""Reading a training spec: every mistake is found at once, named with file, line, key and the nearest known key.

Standard library only: the trainer may run in an interpreter that has torch and nothing of ours.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llamahome_tui import plugins
from llamahome_tui.config.fields import Field, Mistake, build, flatten, json_schema, nearest_key, plain
from llamahome_tui.config.secrets import is_secret_name
from llamahome_tui.config.toml_lines import key_lines, line_of, parse
from llamahome_tui.errors import NotFoundError, SpecError
from llamahome_tui.hub.names import is_hub
from llamahome_tui.training.rules import NAME, broken_rules
from llamahome_tui.training.shape import (
    REQUIRED,
    SCHEMA,
    Checkpoint,
    Data,
    Evaluation,
    Launch,
    Lora,
    Method,
    Model,
    Notify,
    Recovery,
    Report,
    Samples,
    Spec,
    Training,
)
from llamahome_tui.training.sinks import known as sinks
from llamahome_tui.training.support import limits

__all__ = [
    "REQUIRED",
    "SCHEMA",
    "Checkpoint",
    "Data",
    "Evaluation",
    "Launch",
    "Lora",
    "Method",
    "Model",
    "Notify",
    "Recovery",
    "Report",
    "Samples",
    "Spec",
    "Training",
    "make_spec",
    "read_spec",
    "read_spec_file",
    "schema",
]

# What other tools call it.
_ELSEWHERE = {
    "lr": "training.learning_rate",
    "lr_scheduler_type": "training.scheduler",
    "num_train_epochs": "training.epochs",
    "num_epochs": "training.epochs",
    "max_grad_norm": "training.clip",
    "warmup_steps": "training.warmup",
    "warmup_ratio": "training.warmup",
    "micro_batch_size": "training.batch_size",
    "per_device_train_batch_size": "training.batch_size",
    "gradient_accumulation_steps": "training.global_batch",
    "sequence_len": "data.max_length",
    "max_seq_length": "data.max_length",
    "cutoff_len": "data.max_length",
    "dataset": "data.train",
    "datasets": "data.train",
    "base_model": "model.id",
    "model_name_or_path": "model.id",
    "rank": "lora.r",
    "lora_r": "lora.r",
    "lora_rank": "lora.r",
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "lora_target_modules": "lora.targets",
    "target_modules": "lora.targets",
    "load_in_4bit": "model.quantization",
    "early_stopping_patience": "evaluation.patience",
}
# Keys that name what plug-ins bring too.
PLUGGED = {"method.kind": plugins.Group.METHODS, "data.format": plugins.Group.FORMATS}
STDIN = "<stdin>"
OVERRIDE = "--set"
_VARIABLE = re.compile(r"\$(\$?)\{([^}]*)\}")
_DEPTH = 20


def read_spec_file(path: Path, *, environ: Mapping[str, str], overrides: Sequence[str] = ()) -> Spec:
    """The spec in a file; relative paths in it start at its folder. Raises NotFoundError or SpecError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no spec {path}",
            code="spec.not_found",
            hint=f"make one to start from: llamahome --batch train init > {path.name}",
        ) from None
    except UnicodeDecodeError:
        raise _error([Mistake(str(path), 0, "", "is not UTF-8 text")], str(path)) from None
    except OSError as error:
        raise _error([Mistake(str(path), 0, "", f"cannot be read: {error.strerror}")], str(path)) from None
    folder = Path(os.path.abspath(path)).parent  # noqa: PTH100 - a link's target may lie where its data does not
    return read_spec(text, source=str(path), folder=folder, environ=environ, overrides=overrides)


def read_spec(
    text: str, *, source: str, folder: Path, environ: Mapping[str, str], overrides: Sequence[str] = ()
) -> Spec:
    """The spec in `text`. `source` names it in messages (a path, or `<stdin>`), `folder` is where its paths start.

    `overrides` are `key=value` words, the value as TOML or as a bare word. Raises SpecError whose `data["errors"]`
    lists every mistake as {file, line, key, reason, nearest}.
    """
    tables, broken = parse(text, source)
    if broken:
        raise _error([broken], source)
    return _Reading(source, folder, environ, key_lines(text)).spec(tables, overrides)


def make_spec(
    document: Mapping[str, Any],
    *,
    source: str,
    folder: Path,
    environ: Mapping[str, str],
    overrides: Sequence[str] = (),
) -> Spec:
    """The spec in a document that was never TOML text (`train start --model --data`, a form)."""
    return _Reading(source, folder, environ, {}).spec(document, overrides)


def schema() -> dict[str, Any]:
    """The JSON Schema of a spec file, with the names that plug-ins bring; none of them is imported."""
    known = {key: replace(entry, field=_with_plugins(key, entry.field)) for key, entry in SCHEMA.items()}
    made = json_schema(known, "LlamaHome training spec", REQUIRED)
    made["properties"]["report"]["properties"]["to"]["items"] = {"enum": list(sinks.names())}
    return made


class _Reading:
    """One reading of one spec: mistakes are collected, never raised in the middle."""

    def __init__(self, source: str, folder: Path, environ: Mapping[str, str], lines: dict[str, int]) -> None:
        self.source = source
        self.folder = folder
        self.environ = environ
        self.lines = lines
        self.overridden: dict[str, str] = {}
        self.mistakes: list[Mistake] = []

    def spec(self, tables: Mapping[str, Any], overrides: Sequence[str]) -> Spec:
        flat = flatten(tables, SCHEMA) | self._overrides(overrides)
        values = {key: plain(entry.default) for key, entry in SCHEMA.items()}
        given: set[str] = set()
        for key, value in flat.items():
            if self._accepts(key, value):
                values[key] = self._expanded(key, plain(value), _DEPTH)
                given.add(key)
        if not values["name"]:
            values["name"] = self._name()
        self._required(values, flat)
        for key, reason in limits(values):
            self._mistake(key, reason)
        self._absolute_paths(values)
        wrong = {mistake.key for mistake in self.mistakes}
        for key, reason in broken_rules(values, frozenset(given)):
            if key not in wrong:
                self._mistake(key, reason)
        if self.mistakes:
            raise _error(self.mistakes, self.source)
        built: Spec = build(Spec, values)
        return replace(built, given=tuple(sorted(given)))

    def _overrides(self, overrides: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for word in overrides:
            key, equals, written = word.partition("=")
            key = key.strip()
            if not equals or not key:
                self.mistakes.append(Mistake(OVERRIDE, 0, word[:80], "must be written as KEY=VALUE"))
                continue
            found[key] = _toml_value(written)
            kinds = SCHEMA[key].field.kinds if key in SCHEMA else ()
            said = found[key]  # data.train=a.jsonl,b.jsonl
            if isinstance(said, str) and "texts" in kinds and ("text" not in kinds or "," in said):
                found[key] = [one.strip() for one in said.split(",")]
            self.overridden[key] = word
            # `data.columns.prompt=x` sets one entry of a table, which is then given whole.
            parent, _, name = key.rpartition(".")
            if key not in SCHEMA and parent in SCHEMA and isinstance(SCHEMA[parent].default, Mapping):
                found[parent] = {**found.get(parent, {}), name: found.pop(key)}
                self.overridden[parent] = word
        return found

    def _accepts(self, key: str, value: Any) -> bool:
        entry = SCHEMA.get(key)
        if entry is None:
            table = any(known.startswith(key + ".") for known in SCHEMA)
            reason = "is a table: write [" + key + "]" if table else "there is no such key"
            self._mistake(key, reason, "" if table else _nearest(key))
            return False
        problem = entry.field.problem(value)
        if problem and key in PLUGGED and isinstance(value, str):
            problem = _with_plugins(key, entry.field).problem(value)
        if problem:
            self._mistake(key, problem)
        return problem is None

    def _expanded(self, key: str, value: Any, depth: int) -> Any:
        """`${VAR}` from the environment in every text of a value; `$${VAR}` stays as `${VAR}`."""
        if depth == 0:
            self._mistake(key, "is nested too deep")
            return value
        if isinstance(value, list):
            return [self._expanded(key, one, depth - 1) for one in value]
        if isinstance(value, dict):
            return {name: self._expanded(key, one, depth - 1) for name, one in value.items()}
        if not isinstance(value, str) or "${" not in value:
            return value
        return _VARIABLE.sub(lambda found: self._variable(key, found), value)

    def _variable(self, key: str, found: re.Match[str]) -> str:
        escaped, name = found.groups()
        if escaped:
            return found[0][1:]
        if is_secret_name(name):
            self._mistake(
                key, f"${{{name[:60]}}} is a secret, and a spec is kept and shown: leave it to the environment"
            )
        elif name not in self.environ:
            self._mistake(key, f"${{{name[:60]}}} is not set in the environment")
        return self.environ.get(name, "")

    def _name(self) -> str:
        """A run's name from the spec file's: what is no letter, digit, dot, dash or underscore becomes a dash."""
        stem = "" if self.source.startswith("<") else Path(self.source).stem
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:64]
        return name if NAME.fullmatch(name) else "run"

    def _required(self, values: Mapping[str, Any], flat: Mapping[str, Any]) -> None:
        for key in REQUIRED:
            if not values[key] and (key not in flat or not flat[key]):
                self._mistake(key, "must be set")

    def _absolute_paths(self, values: dict[str, Any]) -> None:
        for key in ("model.id", "model.adapter"):
            values[key] = self._path(values[key], must_look_like_one=True)
        values["data.template"] = self._path(values["data.template"])
        if not is_hub(values["checkpoint.mirror"]):
            values["checkpoint.mirror"] = self._path(values["checkpoint.mirror"])
        values["data.train"] = [self._path(entry) if entry != "demo" else entry for entry in values["data.train"]]
        if isinstance(values["data.eval"], str) and values["data.eval"] not in ("auto", "demo"):
            values["data.eval"] = self._path(values["data.eval"])
        if "/" in values["launch.python"]:
            values["launch.python"] = self._path(values["launch.python"])

    def _path(self, value: str, *, must_look_like_one: bool = False) -> str:
        if not value:
            return value
        home = self.environ.get("HOME", "")
        if home and (value == "~" or value.startswith("~/")):
            value = home + value[1:]
        # A Hub id has the form of a relative path; it is one only where it says so or a folder of that name is there.
        if must_look_like_one and not value.startswith(("/", ".")) and not (self.folder / value).is_dir():
            return value
        if value == "demo" and must_look_like_one:
            return value
        return os.path.normpath(self.folder / value)

    def _mistake(self, key: str, reason: str, nearest: str = "") -> None:
        word = self.overridden.get(key)
        if word is not None:
            self.mistakes.append(Mistake(OVERRIDE, 0, key, reason, nearest))
        else:
            self.mistakes.append(Mistake(self.source, line_of(self.lines, key), key, reason, nearest))


def _with_plugins(key: str, field: Field) -> Field:
    """What a key may name, with what plug-ins bring; looked for only where it is not one of ours."""
    if key not in PLUGGED:
        return field
    return replace(field, words=(*field.words, *plugins.names(PLUGGED[key], field.words)))


def _nearest(key: str) -> str:
    return _ELSEWHERE.get(key.rpartition(".")[2].lower()) or nearest_key(key, SCHEMA)


def _toml_value(written: str) -> Any:
    """A value as TOML would read it; a word that is no TOML is text."""
    tables, broken = parse(f"value = {written}", OVERRIDE)
    if broken or tables.keys() != {"value"}:
        return written
    value = tables["value"]
    return value if isinstance(value, bool | int | float | str | list | dict) else written


def _error(mistakes: list[Mistake], source: str) -> SpecError:
    ordered = sorted(mistakes, key=lambda mistake: (mistake.file == OVERRIDE, mistake.line or 1 << 30))
    said = [str(mistake) for mistake in ordered]
    message = said[0] if len(said) == 1 else f"{len(said)} mistakes in {source}:\n" + "\n".join(said)
    return SpecError(
        message,
        hint="see every key with its default: llamahome --batch train init",
        data={"errors": [mistake.as_dict() for mistake in ordered]},
    )
