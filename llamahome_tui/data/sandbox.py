"""Jinja's immutable sandbox with what chat templates expect of transformers; a tape tells how its text came about.

The loop over the messages is found in a template's code, and tells the tape where each message's text begins and ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from llamahome_tui.data.lookahead import Tape

if TYPE_CHECKING:
    from jinja2 import Template, nodes

_PER_CHAT = ("messages", "tools", "documents", "self")


def compiled(text: str, now: datetime | None) -> tuple[Template, bool]:
    """A template ready to render, and whether its tape can tell where messages begin. Raises Jinja's TemplateError.

    `now` is what `strftime_now` tells; None: the clock.
    """
    from jinja2 import Template

    environment = sandbox(now)
    tree = environment.parse(text)
    loop = _message_loop(tree, frozenset(environment.globals))
    if loop is not None:
        loop.body.insert(0, environment.told("opened"))
        loop.body.append(environment.told("closed"))
    code = environment.compile(tree)
    return Template.from_code(environment, code, environment.make_globals(None)), loop is not None


def sandbox(now: datetime | None) -> Any:
    """The environment: filters, functions and the {% generation %} tag as in transformers."""
    import jinja2.ext
    import jinja2.nodes
    import jinja2.sandbox
    import jinja2.utils

    class Generation(jinja2.ext.Extension):
        """`{% generation %}` ... `{% endgeneration %}`: notes where in the text its body stands."""

        tags = {"generation"}

        def __init__(self, environment: Any) -> None:
            super().__init__(environment)
            self._tape: Tape | None = None
            environment.extend(recording=self.recording, told=self.told)

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_note"), [], [], body).set_lineno(line)

        def told(self, what: str) -> Any:
            """A statement that tells the tape `what` by reading one of the two below: a sandboxed call is dear."""
            return jinja2.nodes.ExprStmt(self.attr(what, lineno=1), lineno=1)

        def _note(self, caller: Any) -> str:
            said: str = caller()
            if self._tape is not None:
                self._tape.marks.append((self._tape.at, said))
            return said

        @property
        def opened(self) -> None:
            if self._tape is not None:
                self._tape.opened()

        @property
        def closed(self) -> None:
            if self._tape is not None:
                self._tape.closed()

        @contextmanager
        def recording(self, tape: Tape) -> Iterator[None]:
            self._tape = tape
            try:
                yield
            finally:
                self._tape = None

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
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = _raise
    # The local date where none is fixed, as transformers writes it.
    environment.globals["strftime_now"] = lambda form: (now or datetime.now()).strftime(form)  # noqa: DTZ005
    environment.globals["dict"] = _Dict()
    environment.globals["namespace"] = OpenNamespace
    return environment


def _message_loop(tree: nodes.Template, functions: frozenset[str]) -> nodes.For | None:
    """The last loop of a template, if what follows it is the same for every chat and alone asks for a prompt's end.

    Then a prompt is the text up to where that loop asks for the next message, and a constant.
    """
    from jinja2 import nodes

    loops = [at for at, node in enumerate(tree.body) if isinstance(node, nodes.For)]
    elsewhere = (nodes.Block, nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport)
    if not loops or any(tree.find(kind) for kind in elsewhere):
        return None
    loop = tree.body[loops[-1]]
    if not isinstance(loop, nodes.For) or loop.recursive or loop.test or loop.else_:
        return None
    before, after = (nodes.Template(part) for part in (tree.body[: loops[-1] + 1], tree.body[loops[-1] + 1 :]))
    if any(name.name == "add_generation_prompt" for name in before.find_all(nodes.Name)):
        return None
    stored = {name.name for name in tree.find_all(nodes.Name) if name.ctx != "load"}
    stored |= {macro.name for macro in tree.find_all(nodes.Macro)} | {*functions, *_PER_CHAT}
    if any(name.name in stored for name in after.find_all(nodes.Name)) or after.find(nodes.NSRef):
        return None
    return loop


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


def to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """transformers' `tojson`: Jinja's own escapes HTML and sorts keys, which would change what the model reads."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    import jinja2

    raise jinja2.exceptions.TemplateError(message)
