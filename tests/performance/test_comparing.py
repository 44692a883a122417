"""Comparing long runs: time against reading their journals once, and memory that does not grow with them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runfolder import EPOCH, make_run

RUNS = 5
# Against parsing the same journals once with the reader: the look for later attempts, the summary and the folding.
LIMIT, SLACK = 2.6, 1.5
MEMORY_LIMIT_MIB = 40  # more for twenty times as many measurements

CHILD = """
import json, sys, time
from pathlib import Path
from llamahome_tui.jobs.comparison import compare, look
from llamahome_tui.jobs.reader import read
from llamahome_tui.jobs.store import Run
runs = [Run.open(Path(one)) for one in sys.argv[1:]]
begun = time.process_time()
for run in runs:
    for _ in read(run.events_path):
        pass
once = time.process_time()
found = compare([look(run) for run in runs], "loss", "tokens")
both = time.process_time()
assert len(found["curves"]) == len(runs)
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"ratio": (both - once) / (once - begun), "kib": peak}))
"""


def long_runs(state: Path, measured: int) -> list[str]:
    folders = []
    for at in range(RUNS):
        run = make_run(state, f"r{at}", begun=EPOCH + at, done=-1, end="")
        with run.events_path.open("a") as file:
            for n in range(1, measured + 1):
                frame = f'{{"v":1,"seq":{n + 10},"t":{EPOCH + n},"mono":{4e9 + n}'
                file.write(f'{frame},"type":"metrics","step":{n},"loss":{1 + 1 / n},"lr":0.0002,"grad_norm":1.5}}\n')
                if n % 10 == 0:
                    file.write(f'{frame},"type":"progress","step":{n},"tokens":{n * 2048}}}\n')
        folders.append(str(run.dir))
    return folders


def measured(folders: list[str]) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", CHILD, *folders], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


@pytest.mark.performance
def test_five_runs_of_a_hundred_thousand_measurements(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few, many = (measured(long_runs(tmp_path / str(count), count)) for count in (5_000, 100_000))
    more = (many["kib"] - few["kib"]) / 1024
    with capsys.disabled():
        print(
            f"\ncompare, {RUNS} runs of 100k measurements: {many['ratio']:.2f} times the CPU of parsing their journals"
            f" (at most {LIMIT}), peak {many['kib'] / 1024:.0f} MiB, {more:.0f} MiB more than for 5k each"
        )
    assert many["ratio"] <= LIMIT * SLACK
    assert more <= MEMORY_LIMIT_MIB
