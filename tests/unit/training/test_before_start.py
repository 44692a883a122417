"""A start is held against its forecast: what cannot fit is refused with plans that do, what may not is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llamahome_tui.config.places import Places
from llamahome_tui.config.settings import Settings
from llamahome_tui.context import Context
from llamahome_tui.demo.paths import demo_model_dir
from llamahome_tui.errors import ResourceError
from llamahome_tui.models.locate import Located
from llamahome_tui.outcome import Level, Note
from llamahome_tui.training import before_start, planned_for
from llamahome_tui.training.checks import Checked
from llamahome_tui.training.forecast import Target
from llamahome_tui.training.spec import make_spec

MIB = 1 << 20


def looked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, free: int, **training: object
) -> before_start.Foresight | None:
    environ = {"LLAMAHOME_HOME": str(folder)}
    context = Context(Places.from_environ(environ), Settings(), environ, folder, "0" * 12)
    document = {"model": {"id": "demo"}, "data": {"train": ["demo"], "max_length": 256}, "training": training}
    spec = make_spec(document, source="test", folder=folder, environ={})
    room = planned_for.Room(Target("cpu", "cpu", free), free, here=True)
    monkeypatch.setattr(planned_for, "here", lambda candidates: room)
    return before_start.look_ahead(context, Checked(spec, Located(demo_model_dir(), "demo"), 2680, ("cpu",)))


def test_what_fits_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = looked(tmp_path, monkeypatch, 4096 * MIB)
    assert found is not None and found.fits and found.alternatives == ()
    kept = before_start.as_job(found)
    assert kept["predicted_bytes"] == found.parts.total
    notes = list(before_start.said(kept))
    assert [note.level for note in notes if isinstance(note, Note)] == [Level.INFO]
    assert list(before_start.said(None)) == []


def test_what_cannot_fit_is_refused_with_needed_and_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResourceError) as failed:
        looked(tmp_path, monkeypatch, 100 * MIB)
    error = failed.value
    assert error.exit == 5 and error.error_code == "resource.memory"
    assert error.data["needed_bytes"] > error.data["free_bytes"] == 100 * MIB
    assert error.data["alternatives"] == []  # its process alone needs more


def test_a_micro_batch_that_the_trainer_would_split_is_said_and_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ample = looked(tmp_path, monkeypatch, 4096 * MIB, batch_size=16)
    small = looked(tmp_path, monkeypatch, 4096 * MIB, batch_size=1)
    assert ample is not None and small is not None
    between = small.predicted_bytes + MIB
    assert between < ample.predicted_bytes
    tight = looked(tmp_path, monkeypatch, between, batch_size=16)
    assert tight is not None and not tight.fits
    kept = before_start.as_job(tight)
    assert [note.level for note in before_start.said(kept) if isinstance(note, Note)] == [Level.WARNING]
    assert replace(tight, free_bytes=ample.predicted_bytes).fits
