"""The ranks after the first: each builds the same model and optimiser, then does what the first one tells it.

They hold no lock, write no journal and hear no signal but SIGKILL: all of that is the first rank's.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from llamahome_tui.config.places import Places
from llamahome_tui.data.prepare import prepare
from llamahome_tui.jobs.store import Run
from llamahome_tui.training.spec import Spec
from llamahome_tui.training.trainer import assembly, company, evaluate, model, rng
from llamahome_tui.training.trainer.batches import Items
from llamahome_tui.training.trainer.counters import Counters
from llamahome_tui.training.trainer.evaluate import Interrupted
from llamahome_tui.training.trainer.ranks import Ranks
from llamahome_tui.training.trainer.step import Stepper, StepTooLarge


def follow(run_dir: Path) -> int:
    """Be one of the ranks after the first until that one lets it go; gives the exit status."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    company.die_with_parent(os.environ)
    os.umask(0o077)
    ranks = company.enter(run_dir, os.environ)
    plan = ranks.told()
    if plan:
        _work(Run.open(run_dir), ranks, *plan)
    return 0


def _work(run: Run, ranks: Ranks, resumed: Any, created: Any) -> None:
    spec = Spec.from_dict(run.effective_job()["spec"])
    places = Places.from_environ(os.environ)
    device = model.pick_device(ranks.rank)
    located = assembly.find_model(spec, places)
    data = prepare(spec, located.path, places.prepared, now=created)  # the first rank has put it there
    trainee = assembly.loaded(spec, located, device, _silent, resumed)
    items = Items.of(data.train)
    reading = assembly.reading_of(spec, trainee, data.train, items, _unsaid)
    settled, batching = ranks.told()
    counters = Counters.from_dict(settled)
    stepper = assembly.stepper_of(spec, trainee, items, counters, reading, batching, resumed, ranks, _silent, _unsaid)
    held = Items.of(data.eval)
    while order := ranks.told():
        _do(ranks, stepper, held, *order)


def _do(ranks: Ranks, stepper: Stepper, held: Items, what: str, *about: Any) -> None:
    """One thing that all ranks do together; what ends it early is for the first one to say."""

    def poll() -> None:
        if ranks.halted:
            raise Interrupted

    try:
        if what == "take":
            stepper.take(*about)
        elif what == "measure":
            evaluate.measure(stepper.trainee, stepper.objective, held, stepper.batching, stepper.micro, poll, ranks)
        else:
            ranks.gather(rng.snapshot())
    except (StepTooLarge, Interrupted):
        return


def _silent(_message: str) -> None:
    """The first rank says the same to whoever watches."""


def _unsaid(_what: str, _why: str) -> None:
    """The same for what is made smaller or slower."""
