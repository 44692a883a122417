"""What can be done to runs, from the list and from a run's page alike; what can't be taken back is asked first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from llamahome_tui.errors import LlamaHomeError, NotFoundError
from llamahome_tui.jobs.view import RunView
from llamahome_tui.outcome import Level, Result
from llamahome_tui.tui.runner import run_operation
from llamahome_tui.tui.widgets.confirm import Confirm
from llamahome_tui.tui.widgets.prompt import Prompt

if TYPE_CHECKING:
    from llamahome_tui.tui.app import LlamaHomeApp


def where(view: RunView) -> str:
    """`gsm8k, step 120 of 400`."""
    if view.step is None:
        return f"{view.name}, before its first step"
    return f"{view.name}, step {view.step}" + (f" of {view.steps}" if view.steps else "")


def stop(home: LlamaHomeApp, views: Sequence[RunView], after: Callable[[], None]) -> None:
    """Ask, then stop these runs; one that is stopping already is offered to be killed."""
    live = [view for view in views if not view.ended and not view.remote]
    if not live:
        home.toast(
            "nothing here to stop: "
            + ("it runs on another machine" if any(v.remote for v in views) else "it has ended")
        )
        return
    now = all(view.status == "stopping" for view in live)
    plan = [where(view) for view in live]
    if now:
        plan += [
            "",
            "It was asked to stop and is about to save. Killed now, it loses what came after its last checkpoint.",
        ]
    else:
        plan += ["", *what_stopping_does(live)]

    def agreed(yes: bool | None) -> None:
        if yes:
            for view in live:
                run_operation(home, "runs stop", {"id": view.id, "now": now}, on_result=lambda _: after())
            saves = any(_saves(view) for view in live)
            home.toast("killing" if now else "stopping: checkpoint, then end" if saves else "stopping")

    title = ("Kill " if now else "Stop ") + (live[0].name if len(live) == 1 else f"{len(live)} runs")
    home.push_screen(Confirm(title, plan, "Kill now" if now else "Stop"), agreed)


def _saves(view: RunView) -> bool:
    """Whether the run writes a checkpoint when told to stop: a waiting run has nothing yet, a command its own."""
    return view.kind == "train" and view.status != "queued"


def what_stopping_does(live: Sequence[RunView]) -> list[str]:
    """One line for each kind of run among these."""
    one = len(live) == 1
    waiting = [view for view in live if view.status == "queued"]
    commands = [view for view in live if view.status != "queued" and view.kind == "exec"]
    exports = [view for view in live if view.status != "queued" and view.kind == "export"]
    lines = []
    if any(_saves(view) for view in live):
        who = "It writes" if one else "A run that trains writes"
        lines.append(f"{who} a checkpoint and ends. Press r later to go on exactly from there.")
    if commands:
        lines.append(("Its command" if one else "A command") + " gets SIGTERM; what it saves is its own affair.")
    if exports:
        lines.append(("It keeps" if one else "An export keeps") + " the files it has finished. Press r later to go on.")
    if waiting:
        lines.append(("It leaves" if one else "A waiting run leaves") + " the queue before it has begun.")
    return lines


def resume(home: LlamaHomeApp, view: RunView, after: Callable[[], None]) -> None:
    """Go on from the newest complete checkpoint."""

    def started(_: Result) -> None:
        home.toast(f"{view.name} goes on")
        after()

    run_operation(home, "runs resume", {"id": view.id, "detach": True}, on_result=started)


def remove(home: LlamaHomeApp, views: Sequence[RunView], after: Callable[[], None]) -> None:
    """Show what would be deleted, ask, then delete."""
    from llamahome_tui.batch.results import lines_of
    from llamahome_tui.tui.runner import named

    asked, views = views, [view for view in views if view.ended]
    if len(views) < len(asked):
        going = [view.name for view in asked if not view.ended]
        home.toast(
            (f"{going[0]} has not ended" if len(going) == 1 else f"{len(going)} of these have not ended")
            + "; x stops, then d deletes",
            Level.WARNING,
        )
    plans: list[list[str]] = []
    operation = named("runs remove")

    def planned(result: Result) -> None:
        plans.append(list(lines_of(operation, result.data)))
        if len(plans) == len(views):
            ask()

    def agreed(yes: bool | None) -> None:
        if yes:
            for view in views:
                run_operation(home, "runs remove", {"id": view.id}, on_result=removed)

    def removed(_: Result) -> None:
        after()

    def ask() -> None:
        title = f"Delete {views[0].name}" if len(views) == 1 else f"Delete {len(views)} runs"
        home.push_screen(Confirm(title, [line for plan in plans for line in (*plan, "")][:-1], "Delete"), agreed)

    for view in views:
        run_operation(home, "runs remove", {"id": view.id, "dry_run": True}, on_result=planned)


def start(home: LlamaHomeApp, opened: Callable[[str], None]) -> None:
    """Ask for a spec file and start it; `opened` gets the new run's id."""
    folder = home.context.cwd
    found = sorted(path.name for path in folder.glob("*.toml") if path.name != "pyproject.toml")[:6]
    notes = [f"A file in {folder}, or any path." + (f" Here: {', '.join(found)}" if found else "")]
    notes += [
        "",
        "A commented one to begin with:  llamahome --batch train init > spec.toml",
        "Or see it all at once:          llamahome --batch demo",
    ]

    def check(text: str) -> None:
        from pathlib import Path

        if not (folder / Path(text).expanduser()).is_file():
            raise NotFoundError(f"no file {text}", hint="make one: llamahome --batch train init > spec.toml")

    def chosen(text: str | None) -> None:
        if not text:
            return
        from pathlib import Path

        def started(result: Result) -> None:
            data = result.data if isinstance(result.data, dict) else {}
            if data.get("id"):
                opened(str(data["id"]))

        home.toast("checking spec, model and data")
        spec = str(folder / Path(text).expanduser())
        run_operation(home, "train start", {"spec": spec, "detach": True}, on_result=started, on_error=failed)

    def failed(error: LlamaHomeError) -> None:
        home.report(error)

    value = found[0] if len(found) == 1 else ""
    home.push_screen(
        Prompt(
            "Start a run from a spec", value=value, suggested=True, placeholder="spec.toml", notes=notes, check=check
        ),
        chosen,
    )


def ask(home: LlamaHomeApp, view: RunView, after: Callable[[], None]) -> None:
    """Ask what a run shall do, and say what it answers."""
    from llamahome_tui.jobs.commands.changing import request_of

    notes = [
        "save         a checkpoint now",
        "eval         evaluate now",
        "sample       answer samples.prompts now",
        "lr=5e-5      another peak of the learning-rate schedule",
        "pause        checkpoint and end, which frees the device",
        "continue     go on after a pause",
        "stop         checkpoint and end",
    ]

    def answered(result: Result) -> None:
        data = result.data if isinstance(result.data, dict) else {}
        said = data.get("outcome") or data.get("status") or "asked"
        home.toast(f"{view.name}: {said}" + (f", {data['reason']}" if data.get("reason") else ""))
        after()

    def chosen(text: str | None) -> None:
        if text:
            run_operation(home, "runs control", {"id": view.id, "request": text.strip()}, on_result=answered)

    home.push_screen(
        Prompt(f"Ask {view.name}", placeholder="save", notes=notes, check=lambda text: request_of(text.strip())), chosen
    )


def copy_id(home: LlamaHomeApp, id: str) -> None:
    """Copy a run's id to the clipboard."""
    from llamahome_tui.tui.copying import copy

    copy(
        id,
        home.context.environ,
        plain=lambda text: home.later(home.copy_to_clipboard, text),
        done=lambda way: home.later(home.toast, f"copied {id} to {way}"),
    )
