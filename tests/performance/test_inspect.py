"""The first answer of `data inspect` on a file of many megabytes: a matter of the process, not of the file's size.

`LLAMAHOME_INSPECT_MIB=1024` measures the gigabyte of the promise; 200 MiB show as well that the size does not count.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import clean_environ
from tests.unit.data import templates

MIB = int(os.environ.get("LLAMAHOME_INSPECT_MIB", "200"))
ROUNDS = 7
LIMIT, SLACK = 1.1, 1.5


def write_chats(path: Path, mib: int) -> None:
    """Chats of about a kilobyte, a thousand different ones over and over."""
    draw = random.Random(1)
    words = templates.TEXT.split()
    rows = []
    for _ in range(1000):
        asked, told = (" ".join(draw.choices(words, k=100)) for _ in range(2))
        messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]
        rows.append(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
    block = "".join(rows).encode()
    with path.open("wb") as stream:
        while stream.tell() < mib << 20:
            stream.write(block)


@pytest.mark.performance
def test_first_answer_of_inspect_does_not_depend_on_the_size(home, tmp_path, capsys, record_property) -> None:
    model = templates.write_tokenizer(tmp_path / "m", "bytes", templates.CHATML)
    environ = clean_environ(home)
    commands = {}
    for name, mib in (("small", 1), ("large", MIB)):
        write_chats(tmp_path / f"{name}.jsonl", mib)
        command = [str(Path(sys.executable).parent / "llamahome"), "--batch", "data", "inspect"]
        commands[name] = [*command, str(tmp_path / f"{name}.jsonl"), "--model", str(model), "--json"]
    times: dict[str, list[float]] = {name: [] for name in commands}
    for command in commands.values():
        subprocess.run(command, env=environ, capture_output=True, check=True)
    for _ in range(ROUNDS):
        for name, command in commands.items():
            began = time.perf_counter()
            done = subprocess.run(command, env=environ, capture_output=True, check=True)
            times[name].append(time.perf_counter() - began)
            assert json.loads(done.stdout)["data"]["trained_tokens"] > 50
    (tmp_path / "large.jsonl").unlink()
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = medians["large"] / medians["small"]
    record_property("inspect_large_over_small", round(ratio, 3))
    with capsys.disabled():
        print(
            f"\ndata inspect, whole process: {MIB} MiB {medians['large'] * 1000:.0f} ms / 1 MiB "
            f"{medians['small'] * 1000:.0f} ms = {ratio:.2f} (at most {LIMIT})"
        )
    assert ratio <= LIMIT * SLACK
