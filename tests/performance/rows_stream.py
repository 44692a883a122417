"""Reading large files: made, validated and indexed, with the memory of the process that does it.

`python -m tests.performance.rows_stream --gib 10` does it once with a file of that size in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from llamahome_tui.data.browse import RowIndex
from llamahome_tui.data.check import validate

MIB = 1 << 20
ROWS = 1000  # that differ


def make(path: Path, size: int) -> int:
    """Chats of about 900 bytes, some with accents, until there are `size` bytes; the number of rows."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"question {n}: " + "word " * (20 + n % 60)},
                {"role": "assistant", "content": "é answer " * (30 + n % 50)},
            ]
        }
        for n in range(ROWS)
    ]
    lines = [json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows]
    block = b"".join(lines)
    whole, left = divmod(size, len(block))
    count = whole * ROWS
    with path.open("wb") as stream:
        for _ in range(whole):
            stream.write(block)
        for line in lines:
            if left <= 0:
                break
            left -= len(line)
            count += 1
            stream.write(line)
    return count


def bare(path: Path) -> int:
    """The floor: json.loads of every line, and nothing else."""
    with path.open("rb") as stream:
        return sum(1 for line in stream if json.loads(line))


def checked(path: Path) -> int:
    found = validate([path])
    assert not found.bad_count, found.bad[0]
    return found.rows


def indexed(path: Path) -> int:
    index = RowIndex(path)
    index.scan(3600)
    assert index.read(index.count - 1, 1)
    return index.count


WORK = {"bare": bare, "validate": checked, "index": indexed}


def apart(work: str, path: Path) -> tuple[int, float, float]:
    """(rows, seconds, peak MiB) of some work in a process of its own."""
    command = [sys.executable, "-m", "tests.performance.rows_stream", "--do", work, str(path)]
    repository = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    rows, seconds, peak = json.loads(done.stdout)
    return int(rows), float(seconds), float(peak)


def _do(work: str, path: Path) -> None:
    begun = time.perf_counter()
    rows = WORK[work](path)
    seconds = time.perf_counter() - begun
    # VmHWM is of this process alone; ru_maxrss begins with what the parent had when it forked.
    peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
    print(json.dumps([rows, seconds, peak]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gib", type=float, default=1)
    parser.add_argument("--do", choices=WORK)
    parser.add_argument("path", nargs="?", type=Path)
    given = parser.parse_args()
    if given.do:
        return _do(given.do, given.path)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "large.jsonl")
        count = make(path, int(given.gib * (1 << 30)))
        print(f"{path.stat().st_size / (1 << 30):.2f} GiB, {count:,} rows")
        for work in ("validate", "index"):
            rows, seconds, peak = apart(work, path)
            assert rows == count
            print(f"{work}: {seconds:.1f} s, {path.stat().st_size / MIB / seconds:.0f} MiB/s, peak {peak:.0f} MiB")
    return None


if __name__ == "__main__":
    main()
