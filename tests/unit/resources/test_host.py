"""CPU, memory and disk: what a container may use counts."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from llamahome_tui.resources.host import CpuReader, read_disks, read_memory
from llamahome_tui.resources.processes import ProcessTable


def test_cpu_is_a_percentage_from_the_first_reading_on() -> None:
    reader = CpuReader()
    for _ in range(2):
        cpu = reader.read()
        assert cpu.cores == len(os.sched_getaffinity(0))
        assert cpu.percent is None or 0 <= cpu.percent <= 100


def _group(folder: Path, limit: str, current: int, cached: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{current}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cached}\n")


def test_the_tightest_limit_of_the_control_groups_counts_and_file_cache_is_free(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("0::/slurm/job\n")
    groups = tmp_path / "fs"
    _group(groups / "slurm" / "job", "max", 5_000)
    _group(groups / "slurm", "1000000", 600_000, cached=100_000)
    memory = read_memory(groups, own)
    assert (memory.total_bytes, memory.used_bytes, memory.available_bytes, memory.limited) == (
        10**6,
        500_000,
        500_000,
        True,
    )


def test_without_a_limit_the_machine_counts(tmp_path: Path) -> None:
    memory = read_memory(tmp_path, tmp_path / "nothing")
    assert memory.total_bytes == psutil.virtual_memory().total and not memory.limited


def test_a_file_system_is_listed_once_and_a_folder_that_is_missing_counts_by_its_parent(tmp_path: Path) -> None:
    disks = read_disks([("models", tmp_path / "a" / "b"), ("state", tmp_path)])
    assert [d.purpose for d in disks] == ["models+state"]
    assert disks[0].path == str(tmp_path / "a" / "b")
    assert disks[0].free_bytes is not None and disks[0].total_bytes is not None
    assert 0 < disks[0].free_bytes <= disks[0].total_bytes


def test_a_reused_pid_is_another_process(tmp_path: Path) -> None:
    def plant(start: int, run: str) -> None:
        folder = tmp_path / "77"
        folder.mkdir(exist_ok=True)
        fields = " ".join(["S", "1", *["0"] * 17, str(start)])
        (folder / "stat").write_text(f"77 (odd) name) {fields}\n")
        (folder / "environ").write_bytes(b"A=1\0LLAMAHOME_RUN=" + run.encode() + b"\0")

    table = ProcessTable(tmp_path)
    plant(100, "first")
    assert (table.who(77).run, table.who(77).name) == ("first", "odd) name")
    plant(200, "second")
    assert table.who(77).run == "second"
    assert table.who(78).run is None
