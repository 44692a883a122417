"""The `.env` reader: what it takes, what it refuses with a line, and what a foreign folder's file may not do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamahome_tui.config.env_file import MAX_BYTES, parse_env, read_env_file

PATH = Path("/w/.env")


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("HF_TOKEN=abc", "abc"),
        ("export HF_TOKEN = abc  # mine", "abc"),
        ("HF_TOKEN='a # b $x \\n'", "a # b $x \\n"),
        ('HF_TOKEN="a\\nb\\"c" # c', 'a\nb"c'),
        ("HF_TOKEN=", ""),
        ("HF_TOKEN=a#b", "a#b"),
        ("HF_TOKEN=# nothing", ""),
    ],
)
def test_values(line: str, value: str) -> None:
    found = parse_env(line, PATH)
    assert found.values == {"HF_TOKEN": value}
    assert not found.mistakes


def test_every_mistake_has_its_line() -> None:
    found = parse_env("# ok\n\nHF_TOKEN\nHF_HOME='x\nHF_HOME=\"\\q\"\nHF_HOME='a' b\nLLAMAHOME_ENV=development\n", PATH)
    assert [mistake.line for mistake in found.mistakes] == [3, 4, 5, 6]
    assert found.values == {"LLAMAHOME_ENV": "development"}
    assert found.lines == {"LLAMAHOME_ENV": 7}


def test_only_known_names_are_taken() -> None:
    found = parse_env("PATH=/evil\nLD_PRELOAD=/evil.so\nPYTHONPATH=/evil\nHF_HOME=/hf\n", PATH)
    assert found.values == {"HF_HOME": "/hf"}


def test_files_that_are_no_text(tmp_path: Path) -> None:
    assert read_env_file(tmp_path).values == {}
    (tmp_path / ".env").write_bytes(b"A=1\nHF_HOME=\xff\n")
    assert read_env_file(tmp_path).mistakes[0].line == 2
    (tmp_path / ".env").write_bytes(b"#" * (MAX_BYTES + 1))
    assert "longer" in read_env_file(tmp_path).mistakes[0].reason
    (tmp_path / ".env").unlink()
    (tmp_path / ".env").mkdir()
    assert read_env_file(tmp_path).values == {}


@given(st.text(max_size=200))
def test_no_text_breaks_it(text: str) -> None:
    parse_env(text, PATH)
