"""Makes a run and puts it in line, all at once or not at all: one live run for each name, however many ask."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from llamahome_tui.errors import BusyError, ResourceError
from llamahome_tui.jobs import control, devices
from llamahome_tui.jobs.queue import Locked, Queue
from llamahome_tui.jobs.status import derive
from llamahome_tui.jobs.store import Run, RunStore

if TYPE_CHECKING:
    from llamahome_tui.context import Context

_LEAVING_S: Final = 5.0


def submit(context: Context, job: Mapping[str, Any], *, may_wait: bool = True) -> Run:
    """The new run, last in the queue; nothing runs yet.

    Raises BusyError `run.name_busy` when its name is live, BusyError `queue.devices_taken` when it would have to wait
    and may not, ResourceError when the machine lacks the devices, and what `RunStore.create` raises. After an error no
    run is left.
    """
    store = RunStore(context.places)
    store.prepare()
    present = devices.gpus_present()
    kind, shared = str(job.get("kind", "train")), devices.share_the_cpu(job)
    wanted = devices.claim(job.get("devices", "auto"), kind, context.environ, present, shared=shared)
    with _line(store, str(job["name"]), wanted, may_wait) as queue:
        run = store.create({**job, "request_id": context.request_id})
        queue.add(run, wanted, bool(present))
    return run


def resubmit(context: Context, run: Run, changes: Mapping[str, Any], *, may_wait: bool = True) -> None:
    """Ask for another attempt of a run that has ended, and put it in line; `changes` are dotted keys of its spec."""
    store = RunStore(context.places)
    store.prepare()
    present = devices.gpus_present()
    job = run.effective_job()
    asked = changes.get("launch.devices", devices.asked(job))
    kind, shared = str(job.get("kind", "train")), devices.share_the_cpu(job, changes)
    wanted = devices.claim(asked, kind, context.environ, present, shared=shared)
    with _line(store, run.name, wanted, may_wait) as queue:
        try:
            control.drop(run, "resume", {"set": dict(changes), "request_id": context.request_id})
        except OSError as error:
            raise ResourceError(
                f"{run.dir} can't be written: {error.strerror}",
                code="run.not_writable",
                hint="see what takes space: llamahome --batch cache usage",
            ) from error
        queue.add(run, wanted, bool(present))


@contextmanager
def _line(store: RunStore, name: str, wanted: devices.Claim, may_wait: bool) -> Iterator[Locked]:
    """The queue to oneself once a job of this name may come in. Raises BusyError when it may not."""
    deadline = time.monotonic() + _LEAVING_S
    while True:
        with Queue(store.state).locked() as queue:
            _name_is_free(store, queue, name)
            if may_wait or queue.free_for(wanted):
                yield queue
                return
            users = [entry.run for entry in queue.entries]
        leaving = any(_is_over(store, user) for user in users)
        if not leaving or time.monotonic() >= deadline:
            raise _taken(users, wanted)
        time.sleep(0.05)  # a run that has just ended gives its devices back in a moment


def _name_is_free(store: RunStore, queue: Locked, name: str) -> None:
    # A run that was submitted a moment ago has no process yet: only the queue knows it. One whose supervisor is still
    # telling somebody about its end is over.
    known = [run.id for run in store.list() if run.live and run.name == name] + queue.named(name)
    busy = next((one for one in known if not _is_over(store, one)), None)
    if busy is not None:
        raise BusyError(
            f"a run named {name} is already live: {busy}",
            code="run.name_busy",
            hint=f"follow it: llamahome --batch runs watch {busy}",
            data={"id": busy, "name": name},
        )


def _is_over(store: RunStore, run_id: str) -> bool:
    folder = store.runs / run_id
    return not folder.is_dir() or derive(Run(run_id, folder)).status.ended


def _taken(users: list[str], wanted: devices.Claim) -> BusyError:
    return BusyError(
        f"the devices are taken by {', '.join(users[:3])}" + (f" and {len(users) - 3} more" if len(users) > 3 else ""),
        code="queue.devices_taken",
        hint="leave --no-queue out to wait for them; see who has them: llamahome --batch runs list",
        data={"runs": users, "candidates": list(wanted.candidates)},
    )
