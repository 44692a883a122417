"""One way of merging, in a process of its own: `python export_bench.py ours|peft BASE ADAPTER TO`.

Prints {"seconds", "cpu", "before", "peak"} as its last line: MiB after a small merge, and at most (VmHWM).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def of_status(name: str) -> float:
    """MiB of this process alone; ru_maxrss begins with what the parent had when it forked."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{name}:")[2].split()[0]) / 1024


def ours(base: Path, adapter: Path, to: Path) -> None:
    """Tensor by tensor."""
    from llamahome_tui.export.tensors import stored_in_file
    from llamahome_tui.models.folder import weight_files
    from llamahome_tui.workers.export import shards
    from llamahome_tui.workers.export.main import give_back_at_once
    from llamahome_tui.workers.export.merge import MergedTensors

    give_back_at_once()
    tensors = MergedTensors(base, adapter)
    for name, names in shards.parts_of(tensors, [(f.name, list(stored_in_file(f))) for f in weight_files(base)]):
        shards.write(tensors, names, to / name, lambda _: None)


def peft(base: Path, adapter: Path, to: Path) -> None:
    """As peft's documentation does it."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(to, max_shard_size="64MB")


def main(way: str, base: str, adapter: str, to: str) -> None:
    import peft as library
    import torch
    from transformers import LlamaForCausalLM

    assert library and LlamaForCausalLM
    torch.set_num_threads(1)
    work = {"ours": ours, "peft": peft}[way]
    for place in (to, f"{to}-small"):
        Path(place).mkdir()
    # What libraries load and keep at their first use is theirs.
    work(Path(f"{base}-small"), Path(f"{adapter}-small"), Path(f"{to}-small"))
    before, began, cpu = of_status("VmRSS"), time.perf_counter(), time.process_time()
    work(Path(base), Path(adapter), Path(to))
    found = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu, "before": before}
    sys.stdout.write("\n" + json.dumps(found | {"peak": of_status("VmHWM")}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
