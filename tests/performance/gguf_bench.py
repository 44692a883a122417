"""One way of writing a model, in a process of its own: `python gguf_bench.py f16|q8_0|plain MODEL TO`.

Prints {"seconds", "cpu", "before", "peak"} as its last line: MiB after a small model, and at most (VmHWM).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

PLAIN_TIMES = 5  # it is a copy of pages: one is too short to measure


def of_status(name: str) -> float:
    """MiB of this process alone; ru_maxrss begins with what the parent had when it forked."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{name}:")[2].split()[0]) / 1024


def ours(kind: str, model: Path, to: Path) -> None:
    """Written, and read back."""
    from llamahome_tui.workers.export.main import give_back_at_once
    from llamahome_tui.workers.export.merge import PlainTensors
    from llamahome_tui.workers.gguf.write import Plan, write

    give_back_at_once()
    write(Plan(PlainTensors(model), kind), to / "x.gguf", "x")


def plain(_: str, model: Path, to: Path) -> None:
    """Load and save, as transformers' documentation does it."""
    import torch
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).save_pretrained(to)


def main(kind: str, model: str, to: str) -> None:
    import torch

    torch.set_num_threads(1)
    work = plain if kind == "plain" else ours
    for place in (to, f"{to}-small"):
        Path(place).mkdir()
    # What libraries load and keep at their first use is theirs.
    work(kind, Path(f"{model}-small"), Path(f"{to}-small"))
    before, began, cpu = of_status("VmRSS"), time.perf_counter(), time.process_time()
    times = PLAIN_TIMES if kind == "plain" else 1
    for _ in range(times):
        work(kind, Path(model), Path(to))
    took = {"seconds": (time.perf_counter() - began) / times, "cpu": (time.process_time() - cpu) / times}
    found = {**took, "before": before}
    sys.stdout.write("\n" + json.dumps(found | {"peak": of_status("VmHWM")}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
