"""CSV and TSV: the line where a row starts, quoted line ends, and a row with the wrong number of fields."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamahome_tui.data import limits
from llamahome_tui.data.rows import Row, read_rows
from tests.unit.data.readers.files import bad, good, write


def test_rows_have_the_line_they_start_on(tmp_path: Path) -> None:
    text = 'prompt,completion\r\n"a\nb, ""c""",d\r\n\r\ne,\r\n'
    wanted = [(2, {"prompt": 'a\nb, "c"', "completion": "d"}), (5, {"prompt": "e", "completion": ""})]
    assert good(write(tmp_path, "d.csv", text)) == wanted
    assert good(write(tmp_path, "bom.csv", b"\xef\xbb\xbf" + text.encode())) == wanted
    assert good(write(tmp_path, "D.TSV", 'a\tb\n1\t"x\ty"\n')) == [(2, {"a": "1", "b": "x\ty"})]
    assert good(write(tmp_path, "only.csv", "a,b\n")) == []


@pytest.mark.parametrize(
    ("text", "line", "field", "reason"),
    [
        (b"a,b\n1,2\n1,2,3\n1,2\n", 3, "", "has 3 fields, and the header has 2"),
        (b"a,b\n1,2\n1\n1,2\n", 3, "", "has 1 field, and the header has 2"),
        (b'a,b\n1,"x"y\n1,2\n', 2, "", "follows a closing quote (line 2)"),
        (b'a,b\n1,2\n"x,\n2\n', 3, "", "does not close"),
        (b"a;b\n1;2\n", 1, "", "semicolons"),
        (b"a\tb\n1\t2\n", 1, "", "tabs"),
        (b"a,b,a\n1,2,3\n", 1, "", 'the column "a" stands in the header twice'),
        (b"a,\xe9\n1,2\n", 1, "", "the name of column 2 is not UTF-8"),
        (b"a,b\n1,caf\xe9\n1,2\n", 2, "b", "is not UTF-8 (0xe9"),
        (b'a,b\n"x\n\x00",2\n', 2, "a", "NUL"),
        (b"a,b\r1,2\r", 1, "", "carriage return"),
        (b'{"a": 1}\n', 1, "", "holds JSON: rename it to .jsonl"),
        (b'[\n{"a": 1}]\n', 1, "", "holds JSON"),
    ],
)
def test_what_is_broken_names_its_line(tmp_path: Path, text: bytes, line: int, field: str, reason: str) -> None:
    ((found_line, found_field, found),) = bad(write(tmp_path, "d.csv", text))
    assert (found_line, found_field) == (line, field)
    assert reason in found


def test_a_broken_row_costs_that_row(tmp_path: Path) -> None:
    path = write(tmp_path, "d.csv", b"a,b\n1,2\n1,2,3\n\xff,2\n3,4\n")
    assert [isinstance(one, Row) for one in read_rows(path)] == [True, False, False, True]


def test_a_giant_row_and_a_quote_that_never_closes_end_the_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_ROW_BYTES", 1000)
    for name, row in (("line.csv", "x" * 2000), ("quote.csv", '"' + "x\n" * 2000)):
        path = write(tmp_path, name, f"a\n1\n{row}\n2\n")
        assert [(one.line, isinstance(one, Row)) for one in read_rows(path)] == [(2, True), (3, False)]
        assert "nothing after it is read" in bad(path)[0][2]


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=6)


@given(st.lists(st.tuples(CELLS, CELLS), max_size=5), st.sampled_from([",", "\t"]))
def test_what_the_csv_module_writes_is_read_back(rows: list[tuple[str, str]], separator: str) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *rows])
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), "d.csv" if separator == "," else "d.tsv", text.getvalue())
        assert [(value["a"], value["b"]) for _, value in good(path)] == rows


@given(st.binary(max_size=120), st.sampled_from(["d.csv", "d.tsv", "d.txt", "d.gz", "d.jsonl.zst", "d", "d.parquet"]))
def test_any_bytes_under_any_name_are_rows_or_reasons(content: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for one in read_rows(write(Path(folder), name, content)):
            assert isinstance(one, Row) or one.reason
