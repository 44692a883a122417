"""A lint: text reaches a widget or stdout only through `text.clean`, and markup is never parsed in it (DESIGN 5)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

TUI = REPOSITORY / "llamahome_tui" / "tui"
MODULES = sorted(TUI.rglob("*.py"))

# Calls whose first argument is shown. A widget that takes text of its own cleans it and is checked where it does.
SHOWN = {"Static", "Label", "Content", "Button", "notify"}
PARSING = {"from_markup", "from_rich_text", "escape", "render_str", "Markdown", "RichLog", "MarkdownViewer"}
# Functions whose result cannot carry what a terminal obeys, whatever goes in.
SAFE = {
    "clean", "len", "int", "float", "round", "str_of_count", "human_bytes", "human_count", "human_duration",
    "short_duration", "utc", "min", "max", "sum", "abs", "cell_len", "plural",
}  # fmt: skip
NEUTRAL = {"join", "strip", "rstrip", "lstrip", "ljust", "rjust", "center", "upper", "lower", "title", "replace"}


class Module:
    """One parsed module: what is assigned to each name and attribute, to follow text back to where it is cleaned."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.values: dict[str, list[ast.expr]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    self._note(target, node.value)
            elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
                self._note(node.target, node.value)
            elif isinstance(node, (ast.For, ast.comprehension)):
                self._note(node.target, node.iter)

    def _note(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple):
            paired = isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts)
            for index, one in enumerate(target.elts):
                self._note(one, value.elts[index] if paired else value)
        elif (name := dotted(target)) is not None:
            self.values.setdefault(name, []).append(value)

    def safe(self, node: ast.expr, seen: frozenset[str] = frozenset()) -> bool:
        """Whether this expression is literal or has been cleaned, as far as this module shows."""
        match node:
            case ast.Constant():
                return True
            case ast.JoinedStr():
                return all(self.safe(part, seen) for part in node.values)
            case ast.FormattedValue():
                return numeric(node) or self.safe(node.value, seen)
            case ast.BinOp():
                return self.safe(node.left, seen) and self.safe(node.right, seen)
            case ast.IfExp():
                return self.safe(node.body, seen) and self.safe(node.orelse, seen)
            case ast.BoolOp():
                return all(self.safe(value, seen) for value in node.values)
            case ast.Tuple() | ast.List():
                return all(self.safe(element, seen) for element in node.elts)
            case ast.GeneratorExp() | ast.ListComp():
                return self.safe(node.elt, seen)
            case ast.Subscript():
                return self.safe(node.value, seen)
            case ast.Call():
                name = called(node)
                if name in SAFE:
                    return True
                if name in SHOWN:
                    return all(self.safe(a, seen) for a in node.args[:1])
                if name in NEUTRAL and isinstance(node.func, ast.Attribute):
                    return self.safe(node.func.value, seen) and all(self.safe(a, seen) for a in node.args)
                return False
            case ast.Name() | ast.Attribute():
                name = dotted(node)
                if name is None or name in seen:
                    return False
                if name.rpartition(".")[2].isupper():
                    return True  # a constant
                sources = self.values.get(name)
                return bool(sources) and all(self.safe(s, seen | {name}) for s in sources)
        return False


def called(node: ast.Call) -> str:
    """The last word of what is called: `notify` of `self.app.notify(...)`."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else dotted(node.func) or ""


def dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := dotted(node.value)) is not None:
        return f"{before}.{node.attr}"
    return None


def numeric(node: ast.FormattedValue) -> bool:
    """Whether the format makes a number of it (`{x:.3f}`), which refuses any text."""
    spec = node.format_spec
    if not isinstance(spec, ast.JoinedStr) or not spec.values or not isinstance(spec.values[-1], ast.Constant):
        return False
    return str(spec.values[-1].value)[-1:] in "dfgeEGF%x"


def violations(path: Path) -> Iterator[str]:
    module = Module(path)
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call):
            continue
        name = called(node)
        where = f"{path.relative_to(REPOSITORY)}:{node.lineno}"
        if name in PARSING:
            yield f"{where}: {name} parses markup"
        if name in SHOWN and node.args and not module.safe(node.args[0]):
            yield f"{where}: {name}({ast.unparse(node.args[0])}) shows text that is not cleaned in this module"
        if name in ("Static", "Label", "Button", "notify") and not _without_markup(node):
            yield f"{where}: {name} without markup=False"
        if name == "update" and node.args and dotted(node.args[0]) is not None and "query" in ast.unparse(node.func):
            yield f"{where}: update() with a bare value; give it Content(clean(...))"


def _without_markup(node: ast.Call) -> bool:
    if not node.args or all(isinstance(a, ast.Constant) and "[" not in str(a.value) for a in node.args):
        return True
    return any(
        k.arg == "markup" and isinstance(k.value, ast.Constant) and k.value.value is False for k in node.keywords
    )


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(TUI).as_posix())
def test_no_widget_bypasses_clean(path):
    assert list(violations(path)) == []


def test_only_widgets_draw_segments_and_they_know_clean():
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        if "Segment(" in text:
            assert path.parent.name == "widgets" or "clean(" in text, f"{path} draws without cleaning"


@pytest.mark.parametrize(
    "code",
    [
        "Static(name, markup=False)",
        "Static(f'{run.title}', markup=False)",
        "self.notify(str(error), markup=False)",
        "Content(names[0])",
        "Label('x' + row.name, markup=False)",
        "Static(Content(clean(x)))",
        "Text.from_markup(clean(x))",
        "t = error.message\nStatic(t, markup=False)",
    ],
)
def test_the_lint_finds_a_bypass(tmp_path, code, monkeypatch):
    path = tmp_path / "x.py"
    path.write_text(code)
    monkeypatch.setitem(globals(), "REPOSITORY", tmp_path)
    assert list(violations(path))


@pytest.mark.parametrize(
    "code",
    [
        "Static('plain')",
        "Static(Content(clean(x)), markup=False)",
        "t = clean(error.message)\nStatic(f'{t} {n:.2f} {human_bytes(b)}', markup=False)",
        "Content(' '.join(clean(n) for n in names))",
    ],
)
def test_the_lint_lets_clean_text_pass(tmp_path, code, monkeypatch):
    path = tmp_path / "x.py"
    path.write_text(code)
    monkeypatch.setitem(globals(), "REPOSITORY", tmp_path)
    assert not list(violations(path))
