"""The line of every key, found in whatever form TOML lets it be written."""

from __future__ import annotations

import pytest

from llamahome_tui.config.toml_lines import key_lines, line_of, parse

TEXT = '''# comment = 1
name = "a" # trailing = 2

[model]
id = """
lines = 3
"quoted"""
  "re vision" = 'x = ['
[data] # table
train = [
  "a", # ] not here
  "b]",
]
columns = { a = "}", b = 2 }
nested.deep.key = 1
[a."b.c"]
d = 1
[[runs]]
x = 1
'''


def test_lines() -> None:
    assert parse(TEXT, "t")[1] is None
    lines = key_lines(TEXT)
    assert lines == {
        "name": 2, "model": 4, "model.id": 5, "model.re vision": 8, "data": 9, "data.train": 10, "data.columns": 14,
        "data.nested.deep.key": 15, "data.nested": 15, "data.nested.deep": 15, "a.b.c": 16, "a.b.c.d": 17, "runs": 18,
        "runs.x": 19,
    }  # fmt: skip
    assert line_of(lines, "data.columns.a") == 14
    assert line_of(lines, "nothing.here") == 0


@pytest.mark.parametrize(
    ("text", "line"),
    [("a = 1\nb = \n", 2), ("a = 1\na = 2\n", 2), ("[x\n", 1), ('a = "\n', 1), ("a = 1\n\n\nb = [1,\n", 5)],
)
def test_what_is_no_toml_names_its_line(text: str, line: int) -> None:
    tables, broken = parse(text, "f.toml")
    assert tables == {}
    assert broken is not None
    assert broken.line == line


def test_deep_nesting_and_giant_files_are_refused() -> None:
    assert parse("a = " + "[" * 100_000, "f")[1] is not None
    assert parse("#" * (2 << 20), "f")[1] is not None
