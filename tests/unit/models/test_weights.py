"""Headers of safetensors files: sound ones are counted, every kind of lie is refused with the file's name."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamahome_tui.demo.paths import demo_model_dir
from llamahome_tui.errors import IntegrityError
from llamahome_tui.models.weights import read_header
from tests.unit.models.disk import safetensors, weights


def _raw(header: object, data: bytes = b"") -> bytes:
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def test_counts_parameters_by_dtype(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(weights())
    header = read_header(file)
    assert header.parameters == {"BF16": 32, "F32": 4}
    assert header.tensors == ("embed", "norm")


def test_reads_the_embedded_model() -> None:
    assert read_header(demo_model_dir() / "model.safetensors").parameters == {"F32": 1_282_400}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "header cannot be"),
        (b"<html>not found</html>", "header cannot be"),
        (struct.pack("<Q", 1 << 40) + b"{}", "header cannot be"),
        (struct.pack("<Q", 4) + b"nope", "not JSON"),
        (_raw([]), "not a JSON object"),
        (_raw({"a": 1}), "no description"),
        (_raw({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)), "no sound dtype"),
        (_raw({"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, bytes(4)), "no sound dtype"),
        (_raw({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}, bytes(4)), "no sound dtype"),
        (_raw({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, bytes(4)), "size its shape says"),
        (_raw({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, bytes(8)), "gap or overlap"),
        (weights()[:-5], "5 bytes are missing"),
        (weights() + b"more", "4 bytes belong to no tensor"),
        (b"[" * 100 and struct.pack("<Q", 200_000) + b"[" * 200_000, "not JSON"),
    ],
)
def test_refuses_what_cannot_be_true(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(IntegrityError, match=said) as caught:
        read_header(file)
    assert caught.value.exit == 8
    assert caught.value.error_code == "model.broken"
    assert str(file) in caught.value.message


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 200), flip=st.integers(0, 199), to=st.integers(0, 255))
def test_damaged_files_are_refused_or_read_never_more(tmp_path: Path, cut: int, flip: int, to: int) -> None:
    data = bytearray(safetensors(a=("F16", [3, 5], 30)))
    data[flip % len(data)] = to
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(data[: len(data) - cut % len(data)]))
    try:
        read_header(file)
    except IntegrityError as error:
        assert error.exit == 8
