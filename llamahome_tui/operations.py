"""The registry: every thing a user can do, declared once; parsers, palette, help and docs/parity.md are made from it.

Standard library only, and nothing is imported until an operation is bound: functions stand here by name.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from llamahome_tui.context import Context
    from llamahome_tui.outcome import Outcome

Shape: TypeAlias = Literal["positional", "option", "flag", "rest"]
Kind: TypeAlias = Literal["text", "int", "float", "duration", "size"]
Completes: TypeAlias = Literal["", "run", "model", "file", "folder", "setting", "log"]


@dataclass(frozen=True, slots=True)
class Argument:
    """One word a user may give. `name` is the keyword the function gets it under; `rest` takes all after `--`.

    `duration` values reach the function in seconds (float), `size` values in bytes (int), `many` values as a tuple.
    """

    name: str
    help: str
    shape: Shape = "option"
    kind: Kind = "text"
    required: bool = False
    many: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()
    metavar: str = ""
    plugged: str = ""  # the group of entry points that bring more choices
    completes: Completes = ""
    greedy: bool = False  # a `many` option that takes several words after one flag, as --data A B

    @property
    def flag(self) -> str:
        """The option's spelling, `--older-than`."""
        return "--" + self.name.rstrip("_").replace("_", "-")  # from_ is --from, which Python keeps for itself

    def words(self) -> tuple[str, ...]:
        """Every value it may have, those that plug-ins bring too; empty where any text will do."""
        if not self.plugged:
            return self.choices
        from llamahome_tui import plugins

        return (*self.choices, *plugins.names(plugins.Group(self.plugged), self.choices))


@dataclass(frozen=True, slots=True)
class Operation:
    """Something a user can do; `function` is `module:name`, called as f(context, **arguments) -> Iterator[Outcome]."""

    noun: str
    verb: str  # "" where the noun is the whole command
    help: str
    function: str
    arguments: tuple[Argument, ...] = ()
    changes: bool = False  # may change something: the access log and the palette tell it apart
    destructive: bool = False  # the terminal application asks first, with Cancel focused
    example: str = ""
    mends_configuration: bool = False  # works with a broken configuration too
    # stream: what it yields on the way is the answer (logs, events) and --json prints it; result: the last line is all
    answer: Literal["result", "stream"] = "result"

    @property
    def name(self) -> str:
        """The words a user types, `runs list`."""
        return f"{self.noun} {self.verb}".strip()

    def bind(self) -> Callable[..., Iterator[Outcome]]:
        """Import the function behind this operation."""
        module, _, attribute = self.function.partition(":")
        bound: Callable[..., Iterator[Outcome]] = getattr(importlib.import_module(f"llamahome_tui.{module}"), attribute)
        return bound

    def __call__(self, context: Context, **arguments: Any) -> Iterator[Outcome]:
        """Run with defaults filled in for what is not given."""
        filled = {a.name: (() if a.many and a.default is None else a.default) for a in self.arguments}
        filled.update({a.name: False for a in self.arguments if a.shape == "flag"})
        unknown = arguments.keys() - filled.keys()
        if unknown:
            raise TypeError(f"{self.name}: no such argument: {', '.join(sorted(unknown))}")
        return self.bind()(context, **(filled | arguments))


def _positional(name: str, help: str, **more: Any) -> Argument:
    return Argument(name, help, shape="positional", required=more.pop("required", True), **more)


def _flag(name: str, help: str) -> Argument:
    return Argument(name, help, shape="flag", default=False)


_RUN = _positional("id", "run id, a unique prefix of one, a live run's name, or latest", metavar="ID", completes="run")
_SET = Argument("set", "override a key of the spec, as training.epochs=2", many=True, metavar="KEY=VALUE")
_WHAT_TO_TRAIN = (
    _positional("spec", "spec file, or - for stdin", required=False, metavar="SPEC|-", completes="file"),
    _SET,
    Argument("model", "Hub id, folder, run id or demo (instead of a spec)", metavar="ID", completes="model"),
    Argument("data", "training files (instead of a spec)", many=True, metavar="FILE", completes="file", greedy=True),
)
_DETACH = _flag("detach", "start it and return at once")
_FILES = _positional(
    "file", "data files, globs or demo; or one training spec (.toml)", metavar="FILE", many=True, completes="file"
)
_MODEL = Argument("model", "Hub id, folder, run id or demo; a spec names its own", metavar="ID", completes="model")

# Options that every operation takes, anywhere after the noun.
COMMON: tuple[tuple[str, str], ...] = (
    ("--json", "print JSON Lines on stdout"),
    ("--quiet", "no progress, notes or hints"),
    ("--yes", "consent to what the plan says"),
    ("--no-env-file", "do not read .env in this folder"),
)

NOUNS: dict[str, str] = {
    "demo": "see a real fine-tune in about a minute",
    "models": "models on this machine",
    "data": "look at data: formats, rows, masks, numbers",
    "train": "start training",
    "runs": "runs: list, follow, control",
    "generate": "let a model or a run write",
    "evaluate": "measure a model or a run on rows of data",
    "cache": "what takes disk",
    "logs": "logs of LlamaHome and of runs",
    "system": "GPUs, memory, disk, health",
    "config": "settings and where they come from",
    "schema": "JSON Schema of what scripts rely on",
    "completion": "shell completion",
}

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "demo",
        "",
        "fine-tune the embedded model and print its score before and after",
        "demo.commands:demo",
        (),
        changes=True,
        example="llamahome --batch demo --json",
    ),
    Operation("models", "list", "models on this machine", "models.commands:list_models"),
    Operation(
        "models",
        "show",
        "one model: size, dtype, parameters, architecture, files",
        "models.commands:show",
        (_positional("id", "Hub id, folder, or demo", metavar="ID", completes="model"),),
    ),
    Operation("data", "formats", "the formats of rows that are understood", "data.commands:formats"),
    Operation(
        "data",
        "inspect",
        "one row as the model sees it: its tokens, and which of them are learned",
        "data.commands:inspect",
        (
            _FILES,
            _MODEL,
            Argument("row", "which row; the first is 1", kind="int", default=1, metavar="N"),
            _SET,
        ),
        example="llamahome --batch data inspect gsm8k-train.jsonl --model demo --row 3",
    ),
    Operation(
        "data",
        "validate",
        "read every row; exit 3 and name file, line, field and reason where one is bad",
        "data.commands:validate",
        (_FILES, _SET),
        example="llamahome --batch data validate train/*.jsonl",
    ),
    Operation(
        "data",
        "stats",
        "lengths, what is learned and cut off, duplicates, overlap with the held-out rows, padding",
        "data.commands:stats",
        (
            _FILES,
            _MODEL,
            Argument("eval", "file of held-out rows to compare with", metavar="FILE", completes="file"),
            _SET,
        ),
        example="llamahome --batch data stats spec.toml --json",
    ),
    Operation(
        "train",
        "init",
        "print a commented spec to start from, or one made from another tool's configuration",
        "training.init:init",
        (
            Argument(
                "method",
                "training method (default: sft, or what the file says)",
                choices=("sft", "pretrain", "dpo", "orpo", "kto", "simpo"),
                plugged="llamahome.methods",
            ),
            Argument(
                "from_",
                "configuration or command line of Axolotl, LLaMA-Factory or TRL",
                metavar="FILE",
                completes="file",
            ),
            Argument("dialect", "whose it is, where that can't be told", choices=("axolotl", "llama-factory", "trl")),
            Argument("to", "write it to this new file", metavar="FILE", completes="file"),
        ),
        example="llamahome --batch train init --from axolotl.yaml > spec.toml",
    ),
    Operation(
        "train",
        "plan",
        "check a spec as a start would, and tell what would learn, and what it takes of memory, time and disk",
        "training.plan:plan",
        (
            *_WHAT_TO_TRAIN,
            Argument("gpu", 'plan for this GPU instead of what is here, as "A100 80GB"', metavar="NAME"),
            Argument("memory", "plan for a GPU with so much memory, as 24GiB", kind="size"),
            Argument("fit", "write this alternative into the spec; 1 is the best", kind="int", metavar="N"),
        ),
        changes=True,
        example='llamahome --batch train plan spec.toml --gpu "A100 80GB"',
    ),
    Operation(
        "train",
        "start",
        "start a run and follow it",
        "training.commands:start",
        (
            *_WHAT_TO_TRAIN,
            Argument("name", "name of the run"),
            _DETACH,
            _flag("foreground", "no session of its own: for containers, Slurm, systemd"),
            _flag("or_resume", "start, follow or resume the run of that name"),
            _flag("no_queue", "refuse instead of waiting for taken devices"),
        ),
        changes=True,
        example="llamahome --batch train start spec.toml --detach",
    ),
    Operation(
        "runs",
        "list",
        "all runs, newest first",
        "jobs.commands.listing:list_runs",
        (
            Argument("status", "only runs in this state"),
            Argument("tag", "only runs with this tag"),
            Argument("limit", "at most so many", kind="int"),
        ),
    ),
    Operation("runs", "show", "everything about one run", "jobs.commands.looking:show", (_RUN,)),
    Operation("runs", "watch", "follow a run until it ends", "jobs.commands.following:watch", (_RUN,)),
    Operation(
        "runs",
        "wait",
        "wait until runs have ended",
        "jobs.commands.following:wait",
        (
            _positional("id", "run ids", metavar="ID", many=True, completes="run"),
            Argument("timeout", "give up after so long (exit 124)", kind="duration"),
        ),
    ),
    Operation(
        "runs",
        "stop",
        "checkpoint and stop a run",
        "jobs.commands.changing:stop",
        (_RUN, _flag("now", "kill it without a checkpoint")),
        changes=True,
        destructive=True,
    ),
    Operation(
        "runs",
        "resume",
        "go on from the newest complete checkpoint",
        "jobs.commands.changing:resume",
        (_RUN, _SET, _DETACH),
        changes=True,
    ),
    Operation(
        "runs",
        "replay",
        "do a run again as a new one, with what it was asked after the same steps",
        "training.replay_command:replay_run",
        (_RUN, Argument("name", "name of the new run; by itself NAME-replay"), _DETACH),
        changes=True,
        example="llamahome --batch runs replay latest --detach",
    ),
    Operation(
        "runs",
        "control",
        "ask a live run for something",
        "jobs.commands.changing:ask",
        (_RUN, _positional("request", "save | eval | sample | pause | continue | lr=X | stop", metavar="REQUEST")),
        changes=True,
    ),
    Operation(
        "runs",
        "move",
        "move a waiting run in the queue",
        "jobs.commands.changing:move",
        (_RUN, _positional("position", "1 is next", kind="int", metavar="POSITION")),
        changes=True,
    ),
    Operation(
        "runs",
        "tag",
        "add a tag to a run, or take it off with -TAG",
        "jobs.commands.changing:tag",
        (_RUN, _positional("tag", "the tag", metavar="TAG")),
        changes=True,
    ),
    Operation(
        "runs",
        "assert",
        "exit 9 unless a metric holds",
        "jobs.commands.looking:assert_metric",
        (_RUN, _positional("condition", "as eval_loss<1.2", metavar="CONDITION")),
    ),
    Operation(
        "runs",
        "logs",
        "what the run printed",
        "jobs.commands.looking:logs",
        (_RUN, _flag("follow", "go on as it grows")),
        answer="stream",
    ),
    Operation(
        "runs",
        "events",
        "the run's journal records",
        "jobs.commands.looking:events",
        (
            _RUN,
            Argument("after", "only records after this sequence number", kind="int", metavar="SEQ"),
            _flag("follow", "go on as they come"),
        ),
        answer="stream",
    ),
    Operation(
        "runs",
        "report",
        "spec, curves, samples, requests, memory and recoveries of a run, as Markdown",
        "jobs.commands.reporting:report",
        (_RUN, Argument("to", "write it to this file; .json gets data", metavar="FILE", completes="file")),
        example="llamahome --batch runs report latest --to report.md",
    ),
    Operation(
        "runs",
        "compare",
        "runs side by side: spec, results, curves, and whether their held-out rows were the same",
        "jobs.commands.comparing:compare_runs",
        (
            _positional("id", "run ids, two or more", metavar="ID", many=True, completes="run", required=False),
            Argument("metric", "what the best one is best in; eval_loss where it was measured", default=""),
            Argument("axis", "what curves run along", choices=("step", "tokens", "time"), default="step"),
            Argument("tag", "instead of ids: all runs with this tag"),
            Argument("status", "instead of ids: all runs in this state"),
        ),
        example="llamahome --batch runs compare 20260921-141320-a latest --axis tokens",
    ),
    Operation(
        "runs",
        "export-table",
        "runs as CSV: one line each, or with --metrics one line for each measurement",
        "jobs.commands.table_export:export_table",
        (
            _positional("id", "run ids; none: all runs", metavar="ID", many=True, completes="run", required=False),
            Argument("to", "write it to this file", metavar="FILE", completes="file"),
            Argument("tag", "instead of ids: only runs with this tag"),
            Argument("status", "instead of ids: only runs in this state"),
            _flag("all", "every key of the spec, also those that are the same in all"),
            _flag("metrics", "long form: run, step, tokens, time_s, metric, value"),
        ),
        example="llamahome --batch runs export-table --tag sweep --to sweep.csv",
        answer="stream",
    ),
    Operation(
        "runs",
        "exec",
        "run any command with a run's queue, logs, survival and notification",
        "jobs.commands.wrapping:exec_command",
        (
            Argument("name", "name of the run", required=True),
            _DETACH,
            Argument("devices", "auto, a number, or [0, 1]", default="auto"),
            Argument("command", "the command", shape="rest", many=True, required=True, metavar="COMMAND"),
        ),
        changes=True,
        example="llamahome --batch runs exec --name axolotl -- axolotl train config.yaml",
    ),
    Operation(
        "runs",
        "export",
        "write what a run has trained as a folder that others load, proved to be the same",
        "export.commands:export",
        (
            _RUN,
            Argument("to", "the folder to make; by itself among the exports", metavar="DIR", completes="folder"),
            _flag("merge", "a whole model: the base with the adapter in it"),
            Argument("checkpoint", "best, last, or a step"),
            Argument("tolerance", "largest relative difference of the held-out loss", kind="float", metavar="X"),
            Argument(
                "format",
                "hf: safetensors; gguf: one file for llama.cpp and Ollama",
                choices=("hf", "gguf"),
                default="hf",
            ),
            Argument("type", "of the numbers in a GGUF file; f16 by itself", choices=("f16", "bf16", "q8_0", "q4_k_m")),
            _DETACH,
        ),
        changes=True,
        example="llamahome --batch runs export latest --merge",
    ),
    Operation(
        "runs",
        "remove",
        "delete a run that has ended, by plan",
        "jobs.commands.removing:remove",
        (_RUN, _flag("dry_run", "print the plan only")),
        changes=True,
        destructive=True,
    ),
    Operation(
        "generate",
        "",
        "write text with a model or a run's adapter",
        "workers.commands:generate",
        (
            _positional("model", "run id, Hub id, folder or demo", metavar="RUN|MODEL", completes="model"),
            Argument("adapter", "put this run's adapter on the model", metavar="RUN", completes="run"),
            Argument("prompt", "the prompt, or - for stdin"),
            Argument("input", "file of prompts: text lines or JSON lines", completes="file"),
            Argument("output", "file the replies go to, as JSON lines", completes="file"),
            Argument("max_tokens", "at most so many new tokens", kind="int", default=256),
            Argument("temperature", "0 takes the likeliest token", kind="float", default=0.0),
            Argument("top_p", "nucleus share", kind="float", default=1.0),
            Argument("seed", "seed of the sampling", kind="int", default=0),
            Argument("system", "system prompt"),
            Argument("checkpoint", "best, last, or a step"),
        ),
        example='llamahome --batch generate latest --prompt "Hello"',
    ),
    Operation(
        "evaluate",
        "",
        "measure a model or a run on rows of data, alone or beside its base",
        "evaluation.commands:evaluate",
        (
            _positional("model", "run id, Hub id, folder or demo", metavar="RUN|MODEL", completes="model"),
            Argument(
                "data",
                "data files, or a spec: its held-out rows; of a run they need no name",
                many=True,
                metavar="FILE",
                completes="file",
                greedy=True,
            ),
            Argument(
                "metric",
                "when a written answer is right; exact where nothing is said",
                choices=("exact", "contains", "regex", "command"),
            ),
            Argument("pattern", "regex: what must match; {expected} is the answer", default="", metavar="RE"),
            Argument("expect", "finds the answer in a longer text, as '#### *(.+)'", default="", metavar="RE"),
            Argument(
                "command", "command: it gets each row as JSON on stdin and exits 0 (right) or 1 (wrong)", default=""
            ),
            Argument("timeout", "seconds a command has for one row", kind="duration", default=30.0),
            Argument("compare", "do the same with the model that the run began with", choices=("base",)),
            Argument("checkpoint", "best, last, or a step"),
            Argument("rows", "so many rows, drawn by the seed; 0: all", kind="int", default=0, metavar="N"),
            Argument(
                "max_tokens", "at most so many new tokens; 0: a little over the longest answer", kind="int", default=0
            ),
            Argument("seed", "seed of the drawn rows and the intervals", kind="int", default=0),
            Argument("samples", "so many rows are shown with what was written", kind="int", default=8, metavar="N"),
            _SET,
        ),
        example="llamahome --batch evaluate latest --compare base",
    ),
    Operation("cache", "usage", "bytes per category", "cache.commands:usage"),
    Operation("cache", "list", "what takes disk, largest first", "cache.commands:list_entries"),
    Operation("logs", "list", "log files and their sizes", "logs.commands:list_logs"),
    Operation(
        "logs",
        "show",
        "a log, filtered",
        "logs.commands:show",
        (
            _positional("name", "as in logs list", metavar="NAME", completes="log"),
            Argument("since", "only what is younger than this, as 1h", kind="duration"),
            Argument("level", "this level and above", choices=("debug", "info", "warning", "error")),
            Argument("grep", "only lines that match", metavar="RE"),
            _flag("follow", "go on as it grows"),
        ),
        answer="stream",
    ),
    Operation("system", "show", "GPUs, CPU, memory, disk now", "resources.commands:show"),
    Operation("system", "watch", "the same, every second", "resources.commands:watch", answer="stream"),
    Operation("system", "doctor", "what is missing or wrong on this machine", "resources.commands:doctor"),
    Operation("config", "show", "every setting, its value and origin", "config.commands:show"),
    Operation(
        "config",
        "get",
        "one setting",
        "config.commands:get",
        (_positional("key", "as ui.theme", metavar="KEY", completes="setting"),),
    ),
    Operation(
        "config",
        "set",
        "write one setting to config.toml",
        "config.commands:set_value",
        (
            _positional("key", "as ui.theme", metavar="KEY", completes="setting"),
            _positional("value", "the new value", metavar="VALUE"),
        ),
        changes=True,
        mends_configuration=True,
    ),
    Operation("config", "path", "where everything lives", "config.commands:path", mends_configuration=True),
    Operation(
        "config", "validate", "check every configuration file", "config.commands:validate", mends_configuration=True
    ),
    Operation("schema", "spec", "JSON Schema of the training spec", "schemas:spec"),
    Operation("schema", "events", "JSON Schema of a run's events", "schemas:events"),
    Operation("schema", "results", "JSON Schema of what operations return", "schemas:results"),
    Operation("completion", "bash", "completion script for bash", "completion:bash"),
    Operation("completion", "zsh", "completion script for zsh", "completion:zsh"),
    Operation("completion", "fish", "completion script for fish", "completion:fish"),
)


def find(noun: str, verb: str = "") -> Operation | None:
    """The operation of that name, or None."""
    return next((o for o in OPERATIONS if o.noun == noun and o.verb == verb), None)


def verbs(noun: str) -> tuple[Operation, ...]:
    """All operations of a noun, in the order they are declared."""
    return tuple(o for o in OPERATIONS if o.noun == noun)
