"""Time and memory of a preparation: `python -m tests.performance.preparation_growth --rows 1000000`.

Prints {"rows": ..., "seconds": ..., "peak_mib": ..., "tokens": ...} for one number of short rows; the peak is of the
process that prepares, without its children, over what it took before it began.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path


def measured(rows: int) -> dict[str, float]:
    import numpy  # noqa: F401 - imports are not counted

    from llamahome_tui.data import examples, table, writer  # noqa: F401
    from llamahome_tui.data.prepare import prepare
    from llamahome_tui.training.spec import read_spec
    from tests.unit.data import templates

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        templates.write_tokenizer(folder / "model", "bytes", templates.CHATML)
        with (folder / "rows.jsonl").open("w", encoding="utf-8") as stream:
            for number in range(rows):
                stream.write(json.dumps({"prompt": f"say {number}", "completion": f"it is fine {number}"}) + "\n")
        text = '[model]\nid = "./model"\n[data]\ntrain = ["rows.jsonl"]\n'
        spec = read_spec(text, source="s", folder=folder, environ={})
        before = peak_mib()
        began = time.perf_counter()
        made = prepare(spec, folder / "model", folder / "cache")
        seconds = time.perf_counter() - began
        peak = round(peak_mib() - before, 1)
        return {"rows": rows, "seconds": round(seconds, 2), "peak_mib": peak, "tokens": made.train.tokens}


def peak_mib() -> float:
    """The most memory this process has taken so far (getrusage tells what its parent took, where that was more)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split(maxsplit=1)[0]) / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    sys.stdout.write(json.dumps(measured(parser.parse_args().rows)) + "\n")
