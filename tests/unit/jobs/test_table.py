"""Runs as CSV: quoted as RFC 4180 has it, harmless in a spreadsheet, whole or not there."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.context import Context
from llamahome_tui.errors import NotFoundError, ResourceError, UsageError
from llamahome_tui.jobs.commands.table_export import export_table
from llamahome_tui.jobs.store import Run
from llamahome_tui.jobs.table import LONG, cell, wide, written
from llamahome_tui.outcome import Result, Text
from tests.runfolder import EPOCH, make_run


def a_run(state: Path, name: str, at: int, lr: float, note: str) -> Run:
    run = make_run(state, name, begun=EPOCH + at, done=40)
    job = json.loads((run.dir / "spec.json").read_text())
    job["spec"] |= {"training": {"lr": lr, "note": note}, "tags": ["x"]}
    (run.dir / "spec.json").write_text(json.dumps(job))
    return Run(run.id, run.dir)


def read_back(portions: Iterator[str]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO("".join(portions), newline="")))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", " =", "\r-"])
def test_a_text_is_no_formula_and_a_number_stays_one(start: str) -> None:
    said = cell(f"{start}cmd|' /C calc'!A0")
    assert isinstance(said, str) and said.startswith("'")
    assert (cell(-1.5), cell(-3), cell(True), cell(None), cell("plain"), cell([1, "a"])) == (
        -1.5, -3, "true", "", "plain", '[1, "a"]'
    )  # fmt: skip
    assert "\x1b" not in str(cell("\x1b[31mred"))


def test_quotes_and_commas_come_back_as_they_were() -> None:
    rows: list[Sequence[Any]] = [('a "b", c', 0.1, "é"), ("", 2, "x")]
    text = "".join(written(("x", "y", "z"), rows))
    assert text == 'x,y,z\r\n"a ""b"", c",0.1,é\r\n,2,x\r\n'
    many = "".join(written(("n",), ((n,) for n in range(1501))))
    assert many.split("\r\n")[1:-1] == [str(n) for n in range(1501)]


def test_a_line_for_each_run_with_what_differs(tmp_path: Path) -> None:
    runs = [a_run(tmp_path, "a", 0, 1e-4, "same"), a_run(tmp_path, "b", 9, 2e-4, "same")]
    found = read_back(wide(runs, every_key=False))
    assert [one["id"] for one in found] == [run.id for run in runs]
    assert [float(one["spec.training.lr"]) for one in found] == [1e-4, 2e-4]
    assert "spec.training.note" not in found[0]
    assert read_back(wide(runs, every_key=True))[0]["spec.training.note"] == "same"
    assert float(found[0]["eval_loss.lowest"]) == 2.75 and found[0]["tokens"] == "81920"


def test_a_line_for_each_measurement_on_stdout_and_in_a_file(context: Context, tmp_path: Path) -> None:
    run = a_run(context.places.state, "a", 0, 1e-4, "=1+1")
    *texts, result = export_table(context, (run.id,), metrics=True)
    text = "".join(one.text for one in texts if isinstance(one, Text))
    found = [one for one in read_back(iter([text])) if one["metric"] == "loss"]
    assert tuple(found[0]) == LONG
    assert [(one["step"], one["tokens"]) for one in found] == [(str(n), str(n * 2048)) for n in (10, 20, 30, 40)]
    assert float(found[0]["time_s"]) == 9.0  # begun at 1 s, measured at 10 s
    to = tmp_path / "out.csv"
    *_, result = export_table(context, to=str(to), metrics=True)
    assert isinstance(result, Result) and result.changed and to.read_bytes().decode() == text
    assert result.data["bytes"] == to.stat().st_size and [one.name for one in tmp_path.glob(".out*")] == []
    with pytest.raises(ResourceError, match="can't be written"):
        list(export_table(context, to=str(tmp_path / "none" / "x.csv")))
    for wrong in ("/", str(tmp_path)):
        with pytest.raises(UsageError, match="name of a file"):
            list(export_table(context, to=wrong))
    with pytest.raises(ResourceError):  # there is no such user: it is a folder's name, and that is not there
        list(export_table(context, to="~nobody-of-this-name/x.csv"))
    with pytest.raises(NotFoundError):
        list(export_table(context, tag="none"))
