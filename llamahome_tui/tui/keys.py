"""The key table: every key of the terminal application, declared once; bindings, footer and help are made from it.

A key stands here with the scope it works in; no screen or widget declares keys of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.binding import BindingType


@dataclass(frozen=True, slots=True)
class Key:
    """One action and the keys that start it.

    `keys` are Textual key names, separated by commas; `shown` is what footer and help print.
    `rank` orders the footer (low first, 0: only in the help); a narrow footer drops the highest ranks.
    """

    scope: str
    keys: str
    action: str
    shown: str
    label: str
    help: str
    rank: int = 0
    priority: bool = False

    @property
    def id(self) -> str:
        """The name a key map file uses, `training.stop`."""
        return f"{self.scope}.{self.action.replace('(', '-').replace(')', '').replace(chr(39), '')}"


# Scopes in the order the help shows them, with their titles.
SCOPES: dict[str, str] = {
    "app": "Everywhere",
    "table": "In lists",
    "models": "Models",
    "training": "Training: runs",
    "run": "Training: one run",
    "samples": "Training: samples of a run",
    "report": "Training: report of a run",
    "compare": "Training: runs compared",
    "evaluate": "An evaluation",
    "data": "Training: data",
    "rows": "In the rows of a data set",
    "tokens": "In the tokens of a row",
    "cache": "Cache",
    "logs": "Logs",
    "text": "In text and logs",
    "dialog": "When asked",
    "prompt": "When typing",
    "form": "When filling in",
    "new_run": "In the form of a new run",
    "palette": "Commands",
    "sheet": "In results and help",
}

KEYS: tuple[Key, ...] = (
    Key("app", "1,f1", "open('models')", "1 F1", "Models", "models on this machine"),
    Key("app", "2,f2", "open('training')", "2 F2", "Training", "runs: start, watch, control"),
    Key("app", "3,f3", "open('cache')", "3 F3", "Cache", "what takes disk"),
    Key("app", "4,f4", "open('logs')", "4 F4", "Logs", "logs of LlamaHome and of runs"),
    Key("app", "colon,ctrl+p", "palette", ":", "commands", "every operation by name (also ctrl+p)", 80, priority=False),
    Key("app", "question_mark", "help", "?", "help", "this page", 81),
    Key("app", "q,escape", "back", "q", "back", "back, or close what is open (also Esc)", 90),
    Key("app", "R", "panel", "R", "", "resources: grid, one line, every process"),
    Key("app", "T", "next_theme", "T", "theme", "next theme: dark, light, contrast"),
    Key("app", "ctrl+q", "leave", "ctrl+q", "quit", "leave LlamaHome; runs go on", 91, priority=True),
    Key("table", "down,j", "down", "↓ j", "", "next line"),
    Key("table", "up,k", "up", "↑ k", "", "line before"),
    Key("table", "pagedown,ctrl+f", "page_down", "PgDn", "", "next page"),
    Key("table", "pageup,ctrl+b", "page_up", "PgUp", "", "page before"),
    Key("table", "home,g", "top", "g", "", "first line"),
    Key("table", "end,G", "bottom", "G", "", "last line"),
    Key("table", "enter", "choose", "⏎", "open", "open the line", 10),
    Key("table", "slash", "filter", "/", "filter", "show only lines with these words, while typing", 60),
    Key("table", "s", "sort", "s", "sort", "sort by the next column", 61),
    Key("table", "S", "reverse", "S", "", "turn the order round"),
    Key("table", "space", "mark", "space", "mark", "mark the line", 62),
    Key("table", "a", "mark_all", "a", "", "mark all lines, or none"),
    Key("text", "down,j", "down", "↓ j", "", "next line"),
    Key("text", "up,k", "up", "↑ k", "", "line before"),
    Key("text", "pagedown,space", "page_down", "PgDn", "", "next page"),
    Key("text", "pageup", "page_up", "PgUp", "", "page before"),
    Key("text", "home,g", "top", "g", "", "first line"),
    Key("text", "end,G", "bottom", "G", "end", "last line, and follow", 60),
    Key("models", "y", "copy", "y", "copy id", "copy the model's id", 63),
    Key("models", "v", "evaluate", "v", "evaluate", "measure the model on rows of data", 20),
    Key("models", "r", "reread", "r", "look again", "look at the disk again", 64),
    Key("cache", "y", "copy", "y", "copy path", "copy the path", 63),
    Key("cache", "r", "reread", "r", "measure", "measure the disk again", 64),
    Key("cache", "c", "category", "c", "category", "only the next category, or all", 20),
    Key("logs", "slash", "pattern", "/", "filter", "only lines that match a regular expression, while typing", 30),
    Key("logs", "v", "level", "v", "level", "only this level and above: all, info, warning, error", 31),
    Key("logs", "tab", "other", "tab", "", "to the list, or to the log"),
    Key("logs", "y", "copy", "y", "copy path", "copy the log's path", 63),
    Key("logs", "q,escape", "shut", "q", "back", "drop the filter, then back to the list", 90),
    Key("training", "n", "start", "n", "new", "start a run from a spec file", 20),
    Key("training", "N", "new_run", "N", "", "start a run from a model and data, with what it takes as you type"),
    Key("training", "x", "stop", "x", "stop", "stop the selected run: checkpoint, then end", 21),
    Key("training", "r", "resume", "r", "resume", "go on from the newest complete checkpoint", 22),
    Key("training", "d", "remove", "d", "delete", "delete a run that has ended, after showing what goes", 23),
    Key("training", "l", "log", "l", "log", "the log of the selected run", 24),
    Key("training", "D", "data", "D", "data", "the rows it trains on, token by token, and their statistics", 25),
    Key("training", "E", "export", "E", "export", "write what it has trained as a folder that others load", 32),
    Key(
        "training", "equals_sign", "compare", "=", "compare", "the marked runs side by side: curves, spec, results", 33
    ),
    Key("training", "y", "copy", "y", "copy id", "copy the run's id", 63),
    Key("run", "x", "stop", "x", "stop", "stop the run: checkpoint, then end", 21),
    Key("run", "r", "resume", "r", "resume", "go on from the newest complete checkpoint", 22),
    Key("run", "d", "remove", "d", "delete", "delete the run once it has ended, after showing what goes", 23),
    Key("run", "l", "log", "l", "log", "the log over the whole page, and back", 24),
    Key("run", "e", "events", "e", "events", "the events over the whole page, and back", 25),
    Key("run", "p", "plots", "p", "plots", "the plots of every metric over the whole page, and back", 26),
    Key("run", "D", "data", "D", "data", "the rows it trains on, token by token, and their statistics", 27),
    Key("run", "c", "control", "c", "ask", "ask the run: save, eval, sample, pause, continue, lr=X, stop", 28),
    Key("run", "s", "samples", "s", "samples", "what it writes to its prompts and to held-out rows, over time", 29),
    Key("run", "o", "report", "o", "report", "everything about the run as one text", 30),
    Key("run", "v", "evaluate", "v", "evaluate", "measure it on rows of data, alone or beside its base", 31),
    Key("run", "E", "export", "E", "export", "write what it has trained as a folder that others load", 32),
    Key("run", "y", "copy", "y", "copy id", "copy the run's id", 63),
    Key("samples", "right,l", "step", "→ l", "later", "the second text a step later", 20),
    Key("samples", "left,h", "step_back", "← h", "earlier", "the second text a step earlier", 21),
    Key("samples", "right_square_bracket", "first_step", "]", "", "the first text a step later"),
    Key(
        "samples",
        "left_square_bracket",
        "first_step_back",
        "[",
        "first",
        "the first text a step earlier ([) or later (])",
        22,
    ),
    Key("samples", "n", "next_prompt", "n", "next", "the next prompt", 23),
    Key("samples", "p", "prompt_before", "p", "", "the prompt before"),
    Key("samples", "v", "all_steps", "v", "all", "the texts of all steps, or two side by side", 24),
    Key("report", "r", "read_again", "r", "again", "make the report again", 20),
    Key("compare", "x", "axis", "x", "axis", "curves by step, tokens or seconds of work", 20),
    Key("compare", "m", "metric", "m", "metric", "the curves of the next metric", 21),
    Key("evaluate", "x", "stop_it", "x", "end it", "end the evaluation; nothing of it is kept", 20),
    Key("evaluate", "q,escape", "shut", "q", "back", "end what goes on, then back", 90),
    Key("data", "r", "rows", "r", "rows", "the rows, a line each", 20),
    Key("data", "t", "stats", "t", "statistics", "count lengths, what is learned, cut off or stands twice", 21),
    Key("data", "b", "bad", "b", "bad rows", "the rows that cannot be used, and why", 22),
    Key("data", "n", "next_row", "n", "next", "the next row", 30),
    Key("data", "p", "row_before", "p", "", "the row before"),
    Key("data", "v", "raw", "v", "raw", "the row as it stands in the file, or its tokens", 31),
    Key("data", "m", "model", "m", "model", "name the model that the rows are meant for", 40),
    Key("data", "o", "other_file", "o", "other", "look at another file, or at the data of a spec", 41),
    Key("data", "x", "cancel_count", "x", "cancel", "end the counting", 23),
    Key("data", "y", "copy", "y", "copy place", "copy the row's file and line", 63),
    Key("data", "tab", "across", "tab", "", "to the rows, or to the row beside them"),
    Key("data", "q,escape", "shut", "q", "back", "drop the filter, then back", 39),
    Key("rows", "down,j", "down", "↓ j", "", "next row"),
    Key("rows", "up,k", "up", "↑ k", "", "row before"),
    Key("rows", "pagedown,space,ctrl+f", "page_down", "PgDn", "", "next page"),
    Key("rows", "pageup,ctrl+b", "page_up", "PgUp", "", "page before"),
    Key("rows", "home,g", "top", "g", "", "first row"),
    Key("rows", "end,G", "bottom", "G", "", "last row"),
    Key("rows", "enter", "choose", "⏎", "tokens", "the row as the model sees it, token by token", 10),
    Key("rows", "slash", "filter", "/", "filter", "only rows with these words; also bad, file:x, format:x", 60),
    Key("tokens", "right,l", "step", "→ l", "step", "the next token: its number, its text, whether it is learned", 32),
    Key("tokens", "left,h", "step_back", "← h", "", "the token before"),
    Key("tokens", "e", "edges", "e", "edges", "a line between tokens, or none", 33),
    Key("dialog", "left,right,tab,h,l", "other", "← →", "", "the other answer"),
    Key("dialog", "enter,space", "answer", "⏎", "", "take this answer"),
    Key("dialog", "y", "yes", "y", "", "yes"),
    Key("dialog", "n,escape,q", "no", "n Esc", "", "no"),
    Key("prompt", "tab", "complete", "tab", "", "complete what is typed"),
    Key("prompt", "escape", "cancel", "Esc", "", "close without an answer"),
    Key("form", "tab", "complete", "tab", "", "complete what is typed, or to the next line", priority=True),
    Key("form", "down", "after", "↓", "", "next line", priority=True),
    Key("form", "up,shift+tab", "before", "↑", "", "line before", priority=True),
    Key("form", "right", "turn(1)", "→", "", "the next choice"),
    Key("form", "left", "turn(-1)", "←", "", "the choice before"),
    Key("form", "enter", "finish", "⏎", "", "take what stands there"),
    Key("form", "escape", "cancel", "Esc", "", "close without an answer"),
    Key("new_run", "f5", "take_plan", "F5", "", "set what the best plan that fits sets"),
    Key("sheet", "q,escape,question_mark", "cancel", "q Esc", "", "close"),
    Key("palette", "escape", "cancel", "Esc", "", "close"),
    Key("palette", "down,ctrl+n", "down", "↓", "", "next command"),
    Key("palette", "up", "up", "↑", "", "command before"),
)


def keys_of(*scopes: str) -> tuple[Key, ...]:
    """The keys of these scopes, in table order."""
    return tuple(key for key in KEYS if key.scope in scopes)


def bindings(*scopes: str) -> list[BindingType]:
    """Textual bindings of these scopes, for a `BINDINGS` declaration."""
    from textual.binding import Binding

    return [
        Binding(key.keys, key.action, key.label or key.help, key_display=key.shown, priority=key.priority, id=key.id)
        for key in keys_of(*scopes)
    ]


def footer(scopes: Iterable[str]) -> list[Key]:
    """The keys a footer offers for these scopes, the ones that matter most first."""
    wanted = tuple(scopes)
    return sorted((key for key in keys_of(*wanted) if key.rank), key=lambda key: key.rank)


def plain(shown: str) -> str:
    """A key's name without arrows, for terminals that show ASCII only."""
    for sign, word in {"⏎": "Enter", "↓": "Down", "↑": "Up", "←": "Left", "→": "Right"}.items():
        shown = shown.replace(sign, word)
    return shown
