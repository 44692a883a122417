"""Completion scripts: what a real bash completes with them, and that no name can run a command."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from llamahome_tui.completion import bash_script, fish_script, zsh_script
from llamahome_tui.operations import NOUNS, OPERATIONS


def complete(line: str, names: str = "") -> list[str]:
    """What bash offers at the end of `line`; `names` is what the listings print below their head line."""
    words = line.split(" ")
    script = f"""
        llamahome() {{ printf 'HEAD\\n%s\\n' '{names}'; }}
        {bash_script()}
        COMP_WORDS=({" ".join(f"'{w}'" for w in words)}) COMP_CWORD={len(words) - 1}
        _llamahome
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.split()


def test_nouns_verbs_and_flags():
    assert {"--batch", "training", *NOUNS} <= set(complete("llamahome "))
    assert complete("llamahome run") == ["runs"]
    assert complete("llamahome --batch runs st") == ["stop"]
    assert complete("llamahome --batch runs list --st") == ["--status"]
    assert complete("llamahome --batch logs show error --level w") == ["warning"]
    assert "--json" in complete("llamahome --batch demo --")
    assert "--max-tokens" in complete("llamahome generate x --m")


def test_names_come_from_the_program_itself():
    assert complete("llamahome --batch runs stop 2026", "20260101-101010-a  running") == ["20260101-101010-a"]
    assert complete("llamahome --batch generate de", "demo  5 MiB") == ["demo"]


def test_a_hostile_name_runs_nothing(tmp_path):
    mark = tmp_path / "mark"
    assert complete("llamahome --batch runs stop ", f"$(touch {mark}) running\n`touch {mark}`\n;x\nok") == ["ok"]
    assert not mark.exists()


def test_files_complete_where_files_are_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.toml").touch()
    assert complete("llamahome --batch train start sp") == ["spec.toml"]


@pytest.mark.parametrize(("shell", "script"), [("bash", bash_script), ("zsh", zsh_script), ("fish", fish_script)])
def test_scripts_parse_and_name_every_operation(shell, script):
    text = script()
    for operation in OPERATIONS:
        assert operation.name in text
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=text, text=True, check=True, timeout=20)
