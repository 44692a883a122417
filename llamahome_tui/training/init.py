"""`train init`: a commented spec made from the schema; read back, it holds the defaults and starts as it is."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from llamahome_tui import plugins
from llamahome_tui.errors import UsageError
from llamahome_tui.outcome import Outcome, Result
from llamahome_tui.training.methods import Method, method_of
from llamahome_tui.training.sinks.known import BUILT_IN
from llamahome_tui.training.spec import PLUGGED, SCHEMA
from llamahome_tui.training.support import LIMITS

if TYPE_CHECKING:
    from llamahome_tui.context import Context

# What has no default of its own: an example, which runs where the embedded data fit the method.
_EXAMPLES: dict[str, Any] = {"name": "first", "model.id": "demo", "data.train": ("demo",)}
# What stands in place of a default where a method wants something else, and why.
_FITTING: dict[str, dict[str, tuple[Any, str]]] = {
    "pretrain": {
        "data.train": (("texts.txt",), "texts with blank lines between them, or rows with a text each"),
        "data.long": ("split", "drop | truncate | split | error; a text goes on in the next row"),
    },
    "dpo": {"data.train": (("pairs.jsonl",), 'rows as {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}')},
    "orpo": {"data.train": (("pairs.jsonl",), 'rows as {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}')},
    "kto": {"data.train": (("labels.jsonl",), 'rows as {"prompt": "2 + 2?", "completion": "5", "label": false}')},
    "simpo": {
        "data.train": (("pairs.jsonl",), 'rows as {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}'),
        "method.beta": (2.0, "strength; of means over tokens, which are small: its authors took 2 to 2.5"),
        "method.gamma": (1.0, "target margin, to be chosen together with beta"),
    },
}
_OF_ROWS = {"pairs": "dpo", "labels": "kto"}  # whose rows fit a plug-in's method
# Writing these is consent, even to the default: they stand as comments.
_SAID_IS_MEANT = ("data.long",)
_HEAD = """\
# A training spec. Start it:  llamahome --batch train start THIS_FILE
# Everything but model.id and data.train may be left out; what stands here are {what}.
# Relative paths start at this file's folder; ${{VAR}} is replaced from the environment."""
_COLUMN = 42


def init(
    context: Context,
    method: str | None = None,
    from_: str | None = None,
    dialect: str | None = None,
    to: str | None = None,
) -> Iterator[Outcome]:
    """A commented spec as the result's `text`: for a method, or made from another tool's configuration.

    With `to` it is also written to that file, which must be new, and `path` says where it is.
    """
    if from_ is not None:
        from llamahome_tui.training.imports.commands import imported

        for outcome in imported(context, from_, dialect=dialect, method=method):
            yield _written(context, outcome, to) if isinstance(outcome, Result) else outcome
        return
    if dialect is not None:
        raise UsageError(
            "--dialect says whose the file of --from is, and there is none",
            hint="as in: llamahome --batch train init --from axolotl.yaml --dialect axolotl",
        )
    kind = method or "sft"
    yield _written(context, Result({"method": kind, "text": spec_text(kind)}), to)


def _written(context: Context, result: Result, to: str | None) -> Result:
    """The result, with its text in a new file where one is named. Raises UsageError where that can't be made."""
    if to is None:
        return result
    path = context.path(to)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(result.data["text"])
    except OSError as error:
        raise UsageError(
            f"--to: {to} can't be made: {error.strerror}",
            code="init.not_written",
            hint="name a new file: llamahome --batch train init --to spec.toml",
        ) from None
    data = {**result.data, "path": str(path)}
    return Result(data, changed=True, next=(f"llamahome --batch train plan {shlex.quote(to)}",))


def spec_text(method: str = "sft") -> str:
    """A spec with every key that has an effect with a method, its default or what fits better, and what it means.

    Raises ConfigError where a plug-in brings the method and does not load.
    """
    chosen = method_of(method)
    fitting = _FITTING.get(method, {})
    if not fitting and chosen.rows in _OF_ROWS:
        fitting = {"data.train": _FITTING[_OF_ROWS[chosen.rows]]["data.train"]}
    other = "the defaults, or what fits the method" if fitting else "the defaults"
    lines = [_HEAD.format(what=other)]
    table = ""
    for key, entry in SCHEMA.items():
        if key in LIMITS and len(LIMITS[key][0]) == 1:
            continue  # there is nothing to choose yet
        if _without_effect(key, chosen):
            continue
        *tables, name = key.split(".")
        if tables and tables[0] != table:
            table = tables[0]
            lines.append(f"\n[{table}]")
        elif not tables and len(lines) == 1:
            lines.append("")
        value, told = fitting.get(key, (_EXAMPLES.get(key, entry.default), _told(key, chosen)))
        value = method if key == "method.kind" else value
        mark = "# " if key in _SAID_IS_MEANT and key not in fitting else ""
        lines += _line(f"{mark}{name} = {_toml(value)}", told)
    return "\n".join(lines) + "\n"


def _told(key: str, method: Method) -> str:
    """What a key means, and what it may be where that is not all that its help says."""
    if key == "evaluation.metric":
        return f"what decides which checkpoint is best: {' | '.join(method.allowed)}"
    if key == "data.train_on" and method.preference:
        return "assistant | last | completion"
    if key in LIMITS:
        return " | ".join(str(one) for one in LIMITS[key][0])
    more = plugins.names(plugins.Group.SINKS, BUILT_IN) if key == "report.to" else ()
    if key in PLUGGED:
        more = plugins.names(PLUGGED[key], SCHEMA[key].field.words)
    return (", " if key == "report.to" else " | ").join([SCHEMA[key].field.help, *more])


def _without_effect(key: str, method: Method) -> bool:
    """Whether nothing can be chosen here with this method."""
    table, _, name = key.rpartition(".")
    if table == "method":
        return name != "kind" and name not in method.keys
    return (
        (key == "data.train_on" and method.whole)
        or (key == "evaluation.generate_rows" and not method.generates)
        or (key == "lora.enabled" and method.reference)
        or key == "evaluation.higher_is_better"
    )


def _line(written: str, told: str) -> list[str]:
    """A key with its help behind it, or above it where that is long."""
    beside = f"{written:<{_COLUMN}}# {told}"
    if len(beside) <= 118 and len(written) <= _COLUMN:
        return [beside]
    return [*(f"# {one}" for one in textwrap.wrap(told, 100)), written]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    return "{}" if isinstance(value, dict) else str(value)
