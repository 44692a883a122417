"""A model's chat template, rendered in Jinja's sandbox exactly as transformers renders it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamahome_tui.data.caller import TRAIN, on
from llamahome_tui.data.dialect import FAULTS, Reads, handed_over, reads_of
from llamahome_tui.data.lookahead import Tape, Unread
from llamahome_tui.data.sandbox import compiled, sandbox
from llamahome_tui.errors import DataError, ModelError

if TYPE_CHECKING:
    from jinja2 import Template

MAX_FILE = 4 << 20
_SPECIAL_NAMES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
TRIES = 64  # chats after which a template whose tape tells nothing is not followed any more


class RenderError(Exception):
    """The template refused these messages (`raise_exception`), or failed on them."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The text of a chat, and the spans that the template itself marks with {% generation %}.

    `misplaced`: the template marks text that it moves, so that the spans hold something else. `starts` are characters
    at which messages begin, by number, where all text before them is the same without that message (lookahead.py).
    """

    text: str
    marked: tuple[tuple[int, int], ...]
    misplaced: bool = False
    starts: Mapping[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Program:
    """A compiled template; `reads`: how it wants messages; `follow`: chats more to try if its tape tells anything."""

    template: Template
    reads: Reads
    follow: int


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """One template with the special tokens it may name. Two with the same text and tokens render the same."""

    text: str
    special: Mapping[str, str]
    tool_text: str = ""  # a second template, for chats with tools, where the model brings one
    source: str = ""
    now: datetime | None = None  # what `strftime_now` tells; None: the clock
    known: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)  # what is learned of it (answers.py)
    _programs: dict[str, _Program] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def load(
        cls, model_dir: Path, override: str | Path = "", now: datetime | None = None, caller: str = TRAIN
    ) -> ChatTemplate | None:
        """The template in `override`, or the model's own; None where the model has none.

        The model's: chat_template.jinja, chat_template.json, `chat_template` in tokenizer_config.json (a text, or a
        list of named ones, of which default and tool_use are used). Raises DataError for an override that cannot be
        read, ModelError for broken model files, either for a template that does not compile; the command `caller`
        stands in their hints.
        """
        special = special_tokens(model_dir)
        another = f"set data.template to a template file that works, then {on(caller)}"
        if override:
            path = Path(override)
            text = _read(path, DataError, f"data.template: {path}", another)
            template = cls(text, special, source=str(path), now=now)
        else:
            texts, source = _own_templates(model_dir)
            text = texts.get("default", "")
            if not text:
                return None
            template = cls(text, special, texts.get("tool_use", ""), source, now)
        template._check_syntax(DataError if override else ModelError, another)
        return template

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = False,
        tools: Sequence[Mapping[str, Any]] = (),
        **options: Any,
    ) -> str:
        """The text of `messages`. Raises RenderError with what the template says against them."""
        return self.rendered(messages, add_generation_prompt=add_generation_prompt, tools=tools, **options).text

    def rendered(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = False,
        tools: Sequence[Mapping[str, Any]] = (),
        **options: Any,
    ) -> Rendered:
        """The text with the marked spans, and where messages begin. Raises RenderError."""
        values = {**self.special, **options}
        values["tools"] = [dict(tool) for tool in tools] or None
        values["documents"] = None
        values["add_generation_prompt"] = add_generation_prompt
        program = self._program(self.tool_text if tools and self.tool_text else self.text)
        given = [handed_over(message, program.reads) for message in messages]
        if program.follow:
            try:
                tape = Tape()
                found = _written(program, tape, values | {"messages": Unread(tape, given)})
            except RenderError:  # it will say so again below, or needs a plain list
                program.follow -= 1
            else:
                # A template that looks through all messages first (for the last question) is not worth following.
                program.follow = TRIES if found.starts else program.follow - 1
                return found
        return _written(program, Tape(), values | {"messages": given})

    @property
    def knows_tools(self) -> bool:
        """Whether tool calls show in what it renders; a template that never names them would drop them silently."""
        return "tool_calls" in (self.tool_text or self.text)

    @property
    def tells_time(self) -> bool:
        """Whether what it renders depends on the date."""
        return "strftime_now" in self.text + self.tool_text

    def _program(self, text: str) -> _Program:
        if text not in self._programs:
            from jinja2 import TemplateError

            try:
                template, followed = compiled(text, self.now)
            except TemplateError as error:
                raise RenderError(str(error.message or error)[:500]) from None
            self._programs[text] = _Program(template, reads_of(template, self.special), TRIES if followed else 0)
        return self._programs[text]

    def _check_syntax(self, error: type[DataError] | type[ModelError], hint: str) -> None:
        from jinja2 import TemplateSyntaxError

        for text in filter(None, (self.text, self.tool_text)):
            try:
                # Parsed, not compiled: compiling works constants out, and a hostile 'x' * 10 ** 10 is one.
                sandbox(self.now).parse(text)
            except TemplateSyntaxError as broken:
                raise error(
                    f"{self.source}:{broken.lineno}: the chat template is no Jinja: {broken.message}",
                    code="template.invalid",
                    hint=hint,
                ) from None


def template_files(model_dir: Path, override: str | Path = "") -> list[Path]:
    """The files that a template and its special tokens may come from, there or not."""
    named = [model_dir / name for name in ("special_tokens_map.json", "tokenizer_config.json")]
    if override:
        return [*named, Path(override)]
    own = [model_dir / name for name in ("chat_template.jinja", "chat_template.json")]
    return [*named, *own, *sorted((model_dir / "additional_chat_templates").glob("*.jinja"))]


def special_tokens(model_dir: Path) -> dict[str, str]:
    """The special tokens by name (`bos_token`: "<s>"), as the tokenizer's files have them."""
    found: dict[str, str] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        values = _json(model_dir / name)
        more = values.get("model_specific_special_tokens")
        named = {key: values.get(key) for key in _SPECIAL_NAMES} | (more if isinstance(more, dict) else {})
        extra = values.get("extra_special_tokens")
        named |= extra if isinstance(extra, dict) else {}
        for key, value in named.items():
            content = value.get("content") if isinstance(value, Mapping) else value
            if isinstance(content, str):
                found[key] = content
    return found


def _own_templates(model_dir: Path) -> tuple[dict[str, str], str]:
    """Templates by name and the file they come from; a file of their own wins over the tokenizer's configuration."""
    texts: dict[str, str] = {}
    path = model_dir / "tokenizer_config.json"
    written = _json(path).get("chat_template")
    if isinstance(written, str):
        texts = {"default": written}
    elif isinstance(written, list):
        texts = {
            one["name"]: one["template"]
            for one in written
            if isinstance(one, dict) and isinstance(one.get("name"), str) and isinstance(one.get("template"), str)
        }
    legacy = _json(model_dir / "chat_template.json").get("chat_template")
    if isinstance(legacy, str):
        texts, path = {"default": legacy}, model_dir / "chat_template.json"
    own = model_dir / "chat_template.jinja"
    if own.is_file():
        texts, path = {"default": _read(own, ModelError, str(own))}, own
        for more in sorted((model_dir / "additional_chat_templates").glob("*.jinja")):
            texts[more.stem] = _read(more, ModelError, str(more))
    return texts, str(path)


def _read(path: Path, error: type[DataError] | type[ModelError], said: str, hint: str = "") -> str:
    hint = hint or _look_at(path)
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_FILE + 1)
        if len(raw) > MAX_FILE:
            raise error(f"{said} is larger than {MAX_FILE >> 20} MiB", code="template.invalid", hint=hint)
        # As Python's text mode reads it, which is how transformers does.
        return raw.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as problem:
        raise error(f"{said} cannot be read: {problem.strerror}", code="template.invalid", hint=hint) from None
    except UnicodeDecodeError:
        raise error(f"{said} is not UTF-8 text", code="template.invalid", hint=hint) from None


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    text = _read(path, ModelError, str(path))
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise ModelError(f"{path} is not JSON", code="model.broken", hint=_look_at(path)) from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} is no JSON object", code="model.broken", hint=_look_at(path))
    return value


def _look_at(path: Path) -> str:
    return f"see what is there: llamahome --batch models show {shlex.quote(str(path.parent))}"


def _written(program: _Program, tape: Tape, values: Mapping[str, Any]) -> Rendered:
    from jinja2 import TemplateError

    pieces: list[str] = []
    recorder: Any = program.template.environment
    try:
        with recorder.recording(tape):
            for piece in program.template.generate(**values):
                pieces.append(piece)
                tape.at += len(piece)
    except TemplateError as error:
        raise RenderError(str(error.message or error)[:500]) from None
    except FAULTS as error:
        raise RenderError(f"{type(error).__name__}: {error}"[:500]) from None
    text = "".join(pieces)
    marked = tuple((start, start + len(said)) for start, said in tape.marks)
    misplaced = any(not text.startswith(said, start) for start, said in tape.marks)
    return Rendered(text, marked, misplaced, tape.starts)
