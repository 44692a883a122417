"""Makes a run and puts it in line, all at once or not at all: one live run for each name, however many ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llamahome_tui.errors import BusyError, ResourceError
from llamahome_tui.jobs import control, devices
from llamahome_tui.jobs.queue import Locked, Queue
from llamahome_tui.jobs.store import Run, RunStore

if TYPE_CHECKING:
    from llamahome_tui.context import Context


def submit(context: Context, job: Mapping[str, Any], *, may_wait: bool = True) -> Run:
    """The new run, last in the queue; nothing runs yet.

    Raises BusyError `run.name_busy` when its name is live, BusyError `queue.devices_taken` when it would have to wait
    and may not, ResourceError when the machine lacks the devices, and what `RunStore.create` raises. After an error no
    run is left.
    """
    store = RunStore(context.places)
    store.prepare()
    present = devices.gpus_present()
    wanted = devices.claim(job.get("devices", "auto"), str(job.get("kind", "train")), context.environ, present)
    with Queue(store.state).locked() as queue:
        _name_is_free(store, queue, str(job["name"]))
        _devices_are_free(queue, wanted, may_wait)
        run = store.create({**job, "request_id": context.request_id})
        queue.add(run, wanted, bool(present))
    return run


def resubmit(context: Context, run: Run, changes: Mapping[str, Any], *, may_wait: bool = True) -> None:
    """Ask for another attempt of a run that has ended, and put it in line; `changes` are dotted keys of its spec."""
    store = RunStore(context.places)
    store.prepare()
    present = devices.gpus_present()
    job = run.effective_job()
    spec = job.get("spec")
    launch = spec.get("launch") if isinstance(spec, dict) else None
    asked = changes.get("launch.devices", launch.get("devices") if isinstance(launch, dict) else None)
    wanted = devices.claim(
        job.get("devices", "auto") if asked is None else asked, str(job.get("kind", "train")), context.environ, present
    )
    with Queue(store.state).locked() as queue:
        _name_is_free(store, queue, run.name)
        _devices_are_free(queue, wanted, may_wait)
        try:
            control.drop(run, "resume", {"set": dict(changes), "request_id": context.request_id})
        except OSError as error:
            raise ResourceError(
                f"{run.dir} can't be written: {error.strerror}",
                code="run.not_writable",
                hint="see what takes space: llamahome --batch cache usage",
            ) from error
        queue.add(run, wanted, bool(present))


def _name_is_free(store: RunStore, queue: Locked, name: str) -> None:
    live = store.live(name)
    # One that was submitted a moment ago has no process yet: then only the queue knows it.
    busy = live.id if live is not None else queue.live_name(name)
    if busy is not None:
        raise BusyError(
            f"a run named {name} is already live: {busy}",
            code="run.name_busy",
            hint=f"follow it: llamahome --batch runs watch {busy}",
            data={"id": busy, "name": name},
        )


def _devices_are_free(queue: Locked, wanted: devices.Claim, may_wait: bool) -> None:
    if may_wait or queue.free_for(wanted):
        return
    users = [entry.run for entry in queue.entries]
    raise BusyError(
        f"the devices are taken by {', '.join(users[:3])}" + (f" and {len(users) - 3} more" if len(users) > 3 else ""),
        code="queue.devices_taken",
        hint="leave --no-queue out to wait for them; see who has them: llamahome --batch runs list",
        data={"runs": users, "candidates": list(wanted.candidates)},
    )
