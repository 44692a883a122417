"""The report as files among a run's artifacts, each there whole or not at all; a later end of the run replaces them."""

from __future__ import annotations

from typing import Any, Final

from llamahome_tui.jobs.reader import tail
from llamahome_tui.jobs.recovery import sha256_of
from llamahome_tui.jobs.report import Report
from llamahome_tui.jobs.report_text import markdown
from llamahome_tui.jobs.store import Run, write_object, write_text

KIND: Final = "report"
_LONG: Final = 8 << 20  # bytes of a journal
_NEAR: Final = 64 << 10  # bytes of a journal's end: the report comes just before `end`


def leave(run: Run, report: Report) -> list[dict[str, Any]]:
    """Write `artifacts/report.json` and `.md`; gives what the `artifact` event of each holds. Raises OSError."""
    run.artifacts_dir.mkdir(mode=0o700, exist_ok=True)
    data, text = run.artifacts_dir / "report.json", run.artifacts_dir / "report.md"
    write_object(data, report.to_dict())
    write_text(text, markdown(report))
    return [
        {"kind": KIND, "path": f"artifacts/{path.name}", "bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in (data, text)
    ]


def why_not(error: Exception) -> str:
    """What a person is told of a report that could not be made or written."""
    return f"{error.strerror}" if isinstance(error, OSError) else f"{type(error).__name__}: {error}"


def takes_long(run: Run) -> bool:
    """Whether the journal is so long that to read all of it for a report keeps somebody waiting."""
    return run.events_path.exists() and run.events_path.stat().st_size > _LONG


def left_by_trainer(run: Run) -> bool:
    """Whether the newest attempt has left its report itself, as one that came to its end does."""
    newest = tail(run.events_path, 1, {"artifact", "start"}, limit_bytes=_NEAR)
    return bool(newest) and newest[0].get("kind") == KIND
