"""Very large and badly behaved log files."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamahome_tui.logs.reader import LONGEST_LINE, Change, LogReader


@given(
    st.lists(st.text(st.characters(exclude_characters="\n\r", codec="utf-8"), max_size=60), max_size=60),
    st.integers(1, 200),
    st.text(st.characters(exclude_characters="\n", codec="ascii"), max_size=5),
)
@settings(max_examples=150, deadline=None)
def test_forward_backward_and_by_number_agree(tmp_path_factory, lines, block, torn):
    import llamahome_tui.logs.reader as module

    path = tmp_path_factory.mktemp("logs") / "x.log"
    path.write_text("".join(line + "\n" for line in lines) + torn, encoding="utf-8")
    sizes = module._FORWARD, module._BACKWARD
    module._FORWARD = module._BACKWARD = block  # many block borders in little text
    try:
        with LogReader(path) as reader:
            assert [line.text for line in reader.forward()] == lines
            assert [line.text for line in reader.backward()] == lines[::-1]
            assert reader.count() == len(lines)
            assert [reader.line(i).text for i in range(len(lines))] == lines
            assert [line.text for line in reader.tail(3)] == lines[-3:]
            for line in reader.forward():
                assert reader.start_of_line_at(line.offset) == line.offset
                assert reader.start_of_line_at(line.end - 1) == line.offset
    finally:
        module._FORWARD, module._BACKWARD = sizes


def test_a_torn_tail_waits_for_its_newline(tmp_path):
    path = tmp_path / "x.log"
    path.write_text("one\ntw")
    reader = LogReader(path)
    assert [line.text for line in reader.forward()] == ["one"]
    with path.open("a") as file:
        file.write("o")
    assert reader.refresh() is Change.NONE
    with path.open("a") as file:
        file.write("\nthree\n")
    assert reader.refresh() is Change.GREW
    assert [line.text for line in reader.forward()] == ["one", "two", "three"]
    assert reader.refresh() is Change.NONE


def test_rotation_truncation_and_removal_are_said(tmp_path):
    path = tmp_path / "x.log"
    reader = LogReader(path)
    assert (reader.count(), reader.refresh()) == (0, Change.MISSING)
    path.write_text("one\ntwo\n")
    assert reader.refresh() is Change.GREW
    path.rename(tmp_path / "x.log.1")
    path.write_text("new\n")
    assert reader.refresh() is Change.REPLACED
    assert [line.text for line in reader.forward()] == ["new"]
    path.write_text("")  # cut in place, under an open reader
    assert list(reader.forward()) == []
    assert reader.refresh() is Change.REPLACED
    assert reader.count() == 0
    path.unlink()
    assert reader.refresh() is Change.MISSING


def test_a_giant_line_is_cut_and_its_neighbours_are_whole(tmp_path):
    path = tmp_path / "x.log"
    path.write_bytes(b"before\n" + b"x" * (3 << 20) + b"\nafter\n")
    reader = LogReader(path)
    assert [len(line.text) for line in reader.forward()] == [6, LONGEST_LINE + 1, 5]
    assert [len(line.text) for line in reader.backward()] == [5, LONGEST_LINE + 1, 6]
    assert reader.line(1).text.endswith("x…")


def test_the_tail_of_a_large_file_needs_no_reading_of_the_rest(tmp_path, monkeypatch):
    path = tmp_path / "x.log"
    with path.open("wb") as file:
        file.seek(20 << 30)  # a sparse file of 20 GiB
        file.write(b"\nlast\n")
    read = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda handle, count, at: read.append(count) or pread(handle, count, at))
    with LogReader(path) as reader:
        assert reader.tail(1)[0].text == "last"
    assert sum(read) < 1 << 20


def test_line_numbers_past_the_end_are_an_index_error(tmp_path):
    path = tmp_path / "x.log"
    path.write_text("one\n")
    with pytest.raises(IndexError):
        LogReader(path).line(1)
