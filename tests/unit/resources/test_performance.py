"""What the terminal application keeps of its samples, and the words for them."""

from __future__ import annotations

import dataclasses

from llamahome_tui.context import Context
from llamahome_tui.resources.performance import line, recorder
from llamahome_tui.resources.snapshot import GpuState
from llamahome_tui.resources.wording import doctor_lines, of_total, system_lines
from tests import machines


def test_one_line_a_minute_and_none_while_nothing_is_known(context: Context) -> None:
    now = 100.0
    record = recorder(context, lambda: now)
    path = context.places.logs / "system" / "performance.log"
    record(dataclasses.replace(machines.bare(), state=GpuState.PENDING))
    assert not path.exists()
    for now in (100.0, 101.0, 159.0, 161.0):  # noqa: B007 - the clock reads it
        record(machines.box(2))
    written = path.read_text().splitlines()
    assert len(written) == 2
    assert "INFO" in written[0] and "gpu0_runs=20260921" not in written[0]


def test_the_line_leaves_out_what_is_unknown() -> None:
    full = line(machines.box(1)).split()
    assert "gpu0_percent=0" in full and f"gpu0_used={4 * machines.GIB}" in full
    assert "gpu0_runs=20261123-101500-gsm8k-lora" in full
    hung = line(machines.hung())
    assert "gpu0_used" not in hung and 'problem="the NVIDIA driver does not answer for 12 s"' in hung
    split = line(machines.faulty())
    assert f"gpu0.mig1_used={machines.GIB}" in split and 'gpu1_problem="GPU is lost"' in split


def test_a_hung_driver_is_a_warning(context: Context) -> None:
    recorder(context)(machines.hung())
    assert "WARNING" in (context.places.logs / "system" / "performance.log").read_text()


def test_words_for_people() -> None:
    text = "\n".join(system_lines(machines.faulty().to_dict()))
    assert "n/a  4.0/80.0 GiB" in text and "(split by MIG)" in text
    assert "MIG 1" in text and "GPU is lost" in text and "run 20261123-101500-gsm8k-lora" in text
    assert "no NVIDIA driver" in "\n".join(system_lines(machines.bare().to_dict()))
    check = {"name": "gpu", "state": "warn", "message": "no NVIDIA driver", "command": "nvidia-smi"}
    assert list(doctor_lines({"checks": [check]})) == ["warn  gpu       no NVIDIA driver", " " * 16 + "nvidia-smi"]
    assert of_total(None, None) == "n/a" and of_total(None, 2**30) == "n/a/1.0 GiB"


def test_hostile_names_are_cleaned() -> None:
    gpu = dataclasses.replace(machines.box(1).gpus[0], name="\x1b]52;c;AAAA\x07evil\x9b2J")
    record = dataclasses.replace(machines.box(1), gpus=(gpu,)).to_dict()
    assert all(word.isprintable() for word in system_lines(record))
