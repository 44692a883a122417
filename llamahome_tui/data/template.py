"""A model's chat template, rendered in Jinja's sandbox exactly as transformers renders it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
_REASONING = ("reasoning_content", "thinking", "reasoning")


class RenderError(Exception):
    """The template refused these messages (`raise_exception`), or failed on them."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The text of a chat, and the spans that the template itself marks with {% generation %}."""

    text: str
    marked: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """One template with the special tokens it may name. Two with the same text and tokens render the same."""

    text: str
    special: Mapping[str, str]
    tool_text: str = ""  # a second template, for chats with tools, where the model brings one
    source: str = ""
    now: datetime | None = None  # what `strftime_now` tells; None: the clock
    _compiled: dict[str, Template] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def load(cls, model_dir: Path, override: str | Path = "", now: datetime | None = None) -> ChatTemplate | None:
        """The template in `override`, or the model's own; None where the model has none.

        The model's: chat_template.jinja, chat_template.json, `chat_template` in tokenizer_config.json (a text, or a
        list of named ones, of which default and tool_use are used). Raises DataError for an override that cannot be
        read, ModelError for broken model files, either for a template that does not compile.
        """
        special = special_tokens(model_dir)
        if override:
            path = Path(override)
            text = _read(path, DataError, f"data.template: {path}")
            template = cls(text, special, source=str(path), now=now)
        else:
            texts, source = _own_templates(model_dir)
            text = texts.get("default", "")
            if not text:
                return None
            template = cls(text, special, texts.get("tool_use", ""), source, now)
        template._check_syntax(DataError if override else ModelError)
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
        """The text with the marked spans. Raises RenderError."""
        from jinja2 import TemplateError

        pieces: list[str] = []
        marked: list[tuple[int, int]] = []
        values = {**self.special, **options}
        values["messages"] = [_normal(message) for message in messages]
        values["tools"] = [dict(tool) for tool in tools] or None
        values["documents"] = None
        values["add_generation_prompt"] = add_generation_prompt
        try:
            template = self._template(self.tool_text if tools and self.tool_text else self.text)
            tracker: Any = template.environment
            with tracker.tracking(pieces, marked):
                pieces.extend(template.generate(**values))
        except TemplateError as error:
            raise RenderError(str(error.message or error)[:500]) from None
        except (TypeError, ValueError, KeyError, AttributeError, IndexError, ArithmeticError, RecursionError) as error:
            # The template's own expressions fail in any of these ways on messages it was not written for.
            raise RenderError(f"{type(error).__name__}: {error}"[:500]) from None
        return Rendered("".join(pieces), tuple(marked))

    @property
    def knows_tools(self) -> bool:
        """Whether tool calls show in what it renders; a template that never names them would drop them silently."""
        return "tool_calls" in (self.tool_text or self.text)

    @property
    def tells_time(self) -> bool:
        """Whether what it renders depends on the date."""
        return "strftime_now" in self.text + self.tool_text

    def _template(self, text: str) -> Template:
        if text not in self._compiled:
            self._compiled[text] = _environment(self.now).from_string(text)
        return self._compiled[text]

    def _check_syntax(self, error: type[DataError] | type[ModelError]) -> None:
        from jinja2 import TemplateSyntaxError

        for text in filter(None, (self.text, self.tool_text)):
            try:
                # Parsed, not compiled: compiling works constants out, and a hostile 'x' * 10 ** 10 is one.
                _environment(self.now).parse(text)
            except TemplateSyntaxError as broken:
                raise error(
                    f"{self.source}:{broken.lineno}: the chat template is no Jinja: {broken.message}",
                    code="template.invalid",
                    hint="set data.template to a template file that works, then llamahome --batch train start SPEC",
                ) from None


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


def _read(path: Path, error: type[DataError] | type[ModelError], said: str) -> str:
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_FILE + 1)
        if len(raw) > MAX_FILE:
            raise error(f"{said} is larger than {MAX_FILE >> 20} MiB", code="template.invalid")
        # As Python's text mode reads it, which is how transformers does.
        return raw.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as problem:
        raise error(f"{said} cannot be read: {problem.strerror}", code="template.invalid") from None
    except UnicodeDecodeError:
        raise error(f"{said} is not UTF-8 text", code="template.invalid") from None


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    text = _read(path, ModelError, str(path))
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise ModelError(f"{path} is not JSON", code="model.broken") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} is no JSON object", code="model.broken")
    return value


def _normal(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as transformers hands it over: no empty keys, and reasoning under each of its names."""
    kept = {key: value for key, value in message.items() if value is not None and key != "train"}
    reasoning = next((kept[key] for key in _REASONING if key in kept), None)
    if reasoning is not None:
        kept = {"thinking": reasoning, **kept, "reasoning_content": reasoning}
    return kept


def _environment(now: datetime | None) -> Any:
    """Jinja's immutable sandbox with the filters, functions and the {% generation %} tag that chat templates expect."""
    import jinja2.ext
    import jinja2.nodes
    import jinja2.sandbox
    import jinja2.utils

    class Generation(jinja2.ext.Extension):
        """`{% generation %}` ... `{% endgeneration %}`: notes where in the text its body stands."""

        tags = {"generation"}

        def __init__(self, environment: Any) -> None:
            super().__init__(environment)
            self._pieces: list[str] | None = None
            self._marked: list[tuple[int, int]] = []
            environment.extend(tracking=self.tracking)

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_note"), [], [], body).set_lineno(line)

        def _note(self, caller: Any) -> str:
            said: str = caller()
            if self._pieces is not None:
                start = sum(map(len, self._pieces))
                self._marked.append((start, start + len(said)))
            return said

        @contextmanager
        def tracking(self, pieces: list[str], marked: list[tuple[int, int]]) -> Iterator[None]:
            self._pieces, self._marked = pieces, marked
            try:
                yield
            finally:
                self._pieces = None

    class OpenNamespace(jinja2.utils.Namespace):
        """Jinja's namespace without underscored names, which would reach into Python."""

        def __init__(*args: Any, **values: Any) -> None:
            given = dict(*args[1:], **values)
            for name in given:
                _no_underscore(name)
            jinja2.utils.Namespace.__init__(args[0], given)

        def __setitem__(self, name: str, value: Any) -> None:
            _no_underscore(name)
            super().__setitem__(name, value)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    # The local date where none is fixed, as transformers writes it.
    environment.globals["strftime_now"] = lambda form: (now or datetime.now()).strftime(form)  # noqa: DTZ005
    environment.globals["dict"] = _Dict()
    environment.globals["namespace"] = OpenNamespace
    return environment


def _no_underscore(name: Any) -> None:
    import jinja2

    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a template must not store {name!r}")


class _Dict:
    """`dict(...)` for templates, without the type behind it."""

    def __call__(self, *args: Any, **values: Any) -> dict[Any, Any]:
        return dict(*args, **values)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """transformers' `tojson`: Jinja's own escapes HTML and sorts keys, which would change what the model reads."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    import jinja2

    raise jinja2.exceptions.TemplateError(message)
