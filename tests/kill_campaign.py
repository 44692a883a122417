"""The long forms of test_kills.py and test_objective_kills.py, whose results stand in docs/reliability.md.

python tests/kill_campaign.py --kills 600 --page docs/reliability.md
python tests/kill_campaign.py --objectives --kills 600 --page docs/reliability.md
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
from tests import objective_kills
from tests.conftest import clean_environ, end_processes_of
from tests.forge import Forge as ForgeOfTrainers
from tests.killing import Campaign, Forge, training_runs

MARKS = {  # around each result in the page
    False: ("<!-- kill campaign -->", "<!-- end of kill campaign -->"),
    True: ("<!-- objective kills -->", "<!-- end of objective kills -->"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objectives", action="store_true", help="trainers of every objective, compared bit by bit")
    parser.add_argument("--kills", type=int, default=600, help="SIGKILLs to send, at least")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the result here as JSON")
    parser.add_argument("--page", type=Path, help="replace the result in this page")
    parser.add_argument("--quiet", action="store_true", help="no line for each scenario")
    given = parser.parse_args()
    begun = time.time()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        found = (of_objectives if given.objectives else of_runs)(Path(folder), given)
    result = {
        **found, "seed": given.seed, "seconds": round(time.time() - begun),
        "date": time.strftime("%Y-%m-%d", time.gmtime()), "kernel": platform.release(), "cores": os.cpu_count(),
        "python": platform.python_version(),
    }  # fmt: skip
    text = json.dumps(result, indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")
    if given.page:
        page, (begin, end) = given.page.read_text(), MARKS[given.objectives]
        before, after = page.split(begin)[0], page.split(end)[1]
        table = (objectives_table if given.objectives else as_table)(result)
        given.page.write_text(f"{before}{begin}\n\n{table}\n{end}{after}")
    return 0


def of_runs(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Trainers and supervisors killed."""
    home = folder / "home"
    (home / "user").mkdir(parents=True)
    environ = clean_environ(home)
    places = Places.from_environ(environ)
    places.ensure()
    forge = Forge(environ)
    try:
        campaign = Campaign(forge.supervise, training_runs(places, folder), given.seed)
        while campaign.tally.kills < given.kills:
            line = campaign.round()
            if not given.quiet:
                print(f"{campaign.tally.kills:>4}  {line}", flush=True)
    finally:
        forge.close()
        end_processes_of(home)
    return campaign.tally.as_dict()


def of_objectives(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Trainers of every objective killed; the first run that is not bitwise the undisturbed one ends it."""
    with ForgeOfTrainers() as forge:
        return objective_kills.campaign(objective_kills.make_bench(forge, folder), given.kills, given.seed).as_dict()


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


def objectives_table(result: dict[str, Any]) -> str:
    """The same for the kills of every objective."""
    where, cores = result["fell_into"], result["cores"]
    stages, random = where["stage"], {name: number for name, number in where.items() if name != "stage"}
    rows = [
        ("SIGKILLs", str(result["sigkills"])),
        ("by objective", _counts(result["by_objective"])),
        ("at a stage of the writing", f"{stages}; of {result['stages']} stages {result['stages_missed']} had none"),
        ("at a random moment, in the phase", _counts(random)),
        ("runs ended and compared, not bitwise the undisturbed one", f"{result['runs_compared']}, 0"),
        ("how", f"seed {result['seed']}, {result['seconds']} s, {cores} cores, {result['date']}"),
    ]
    return "\n".join(["| what | result |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)]) + "\n"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items(), key=lambda item: -item[1]))


if __name__ == "__main__":
    sys.exit(main())
