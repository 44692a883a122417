"""The process that talks to the Hub: ended when nobody waits for it, begun again when it died, in nobody's way."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")

from llamahome_tui.errors import AuthError, HubError, LlamaHomeError
from llamahome_tui.jobs.store import Run
from llamahome_tui.training.trainer import fetching
from llamahome_tui.training.trainer.mirroring import Mirroring
from llamahome_tui.training.trainer.uploading import HubTarget, Uploader
from tests.conftest import eventually
from tests.loopback_hub import TOKEN, Hub, loopback_hub
from tests.unit.training.trainer.test_mirroring import run, save

pytestmark = pytest.mark.torch
NAME = "me/copies"
__all__ = ["run"]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with loopback_hub() as found:
        yield found


@pytest.fixture
def handed(tmp_path: Path) -> Iterator[int]:
    """The token as a supervisor hands it down."""
    fd = os.memfd_create("token")
    os.write(fd, TOKEN.encode())
    yield fd
    os.close(fd)


def plain(hub: Hub, tmp_path: Path) -> dict[str, str]:
    """An environment without a token and without a saved login."""
    return {**os.environ, **hub.environ(), "HF_HOME": str(tmp_path), "HF_TOKEN": ""}


def test_a_copy_that_hangs_is_ended_with_the_run_and_said(hub: Hub, handed: int, run: Run, tmp_path: Path) -> None:
    release = threading.Event()
    hub.fault = lambda _method, path: 500 if "/commit/" in path and release.wait() else None
    uploader = Uploader(NAME, run, handed, plain(hub, tmp_path))
    copying = Mirroring(HubTarget(f"hf://{NAME}", uploader), run, keep=2)
    copying.offer(save(run, 1), "")
    eventually(lambda: any("/commit/" in line for line in hub.asked), "a commit that hangs", timeout=120)
    copying.finish(0.05)
    assert copying.words() == [f"the mirror hf://{NAME} lacks step-1, after 0 s were waited for it"]
    with pytest.raises(HubError, match="has ended"):
        uploader.ask({"do": "send"})
    release.set()


def test_it_is_gone_with_whoever_asked_also_in_the_middle_of_a_commit(
    hub: Hub, handed: int, run: Run, tmp_path: Path
) -> None:
    release = threading.Event()
    hub.fault = lambda _method, path: 500 if "/commit/" in path and release.wait() else None
    uploader = Uploader(NAME, run, handed, plain(hub, tmp_path))
    Mirroring(HubTarget(f"hf://{NAME}", uploader), run, keep=2).offer(save(run, 1), "")
    eventually(lambda: any("/commit/" in line for line in hub.asked), "a commit that hangs", timeout=120)
    process = uploader._process
    assert process is not None and process.stdin is not None
    process.stdin.close()  # as a kill of the trainer does
    assert process.wait(60) == 0
    uploader.end()
    release.set()


def test_a_copy_from_a_disk_that_hangs_can_be_left() -> None:
    asked = iter([False, False, True])
    with pytest.raises(fetching.Left):
        fetching.beside(lambda: threading.Event().wait() and (None, []), lambda: next(asked))  # type: ignore[arg-type]
    assert fetching.beside(lambda: (None, ["torn"]), lambda: False) == (None, ["torn"])
    with pytest.raises(AuthError):
        fetching.beside(lambda: (_ for _ in ()).throw(AuthError("no")), lambda: False)


def test_one_that_died_is_begun_again(hub: Hub, handed: int, run: Run, tmp_path: Path) -> None:
    uploader = Uploader(NAME, run, handed, plain(hub, tmp_path))
    source = run.checkpoints_dir / save(run, 1)
    target = HubTarget(f"hf://{NAME}", uploader)
    try:
        target.copy(run, source, 2, "")
        process = uploader._process
        assert process is not None
        process.terminate()  # as a whole machine that goes down says it to all: the last checkpoint is still to come
        target.copy(run, source, 2, "")
        process.kill()
        with pytest.raises(HubError, match="has died"):
            target.copy(run, source, 2, "")
        target.copy(run, source, 2, "")
        assert hub.messages == [f"{run.id} step-1"]
        with pytest.raises(HubError, match="took too long"):
            uploader.ask({"do": "send"}, leaving=lambda: True)
    finally:
        target.end()


def test_what_the_hub_refuses_is_the_error_that_it_is(hub: Hub, run: Run, tmp_path: Path) -> None:
    source = run.checkpoints_dir / save(run, 1)
    without = Uploader(NAME, run, None, plain(hub, tmp_path))
    with pytest.raises(LlamaHomeError, match="there is none") as lacking:
        HubTarget("", without).copy(run, source, 2, "")
    without.end()
    assert lacking.value.exit == 3
    wrong = Uploader(NAME, run, None, {**plain(hub, tmp_path), "HF_TOKEN": "hf_wrong12345"})
    with pytest.raises(LlamaHomeError, match="401") as refused:
        HubTarget("", wrong).copy(run, source, 2, "")
    wrong.end()
    assert refused.value.exit == AuthError.exit_code and "hf_wrong" not in refused.value.message
