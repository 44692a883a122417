"""A run mirrored to a private Hub repo goes on from it on another box; the Hub's faults and the token stay outside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from llamahome_tui.jobs import spawn
from llamahome_tui.jobs.store import RunStore
from tests.conftest import eventually
from tests.integration.test_mirror import another_box, begin, goes_on, refused
from tests.integration.trainer_runs import Bench, of, show
from tests.loopback_hub import TOKEN, Hub, loopback_hub

pytestmark = pytest.mark.torch
NAME = "me/copies"
PLACE = f"hf://{NAME}"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    # It reads the environment once, at its import, which an earlier test may have made offline.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with loopback_hub() as found:
        yield found


def of_hub(bench: Bench, hub: Hub, *, token: str = TOKEN) -> Bench:
    """The same bench with a way to the Hub, and a saved login."""
    home = Path(bench.environ["HF_HOME"])
    home.mkdir(exist_ok=True)
    (home / "token").write_text(token)
    return replace(bench, environ={**bench.environ, **hub.environ()})


def steps(hub: Hub, run_id: str) -> list[int]:
    files = hub.repositories[NAME].files if NAME in hub.repositories else {}
    return sorted({int(path.split("/")[1][5:]) for path in files if path.startswith(f"{run_id}/")})


# These models train faster than anything is sent: each checkpoint waits for its copy, and what is there is known.
IN_STEP = """
import time
from llamahome_tui.training.trainer.mirroring import Mirroring
offer = Mirroring.offer
def offer_and_wait(self, name, best):
    offer(self, name, best)
    while name not in self._there:
        time.sleep(0.005)
Mirroring.offer = offer_and_wait
"""


def test_another_box_goes_on_from_the_hub(bench: Bench, hub: Hub, tmp_path: Path) -> None:
    whole = bench.run("whole", lora={"dropout": 0.1})
    assert bench.finish(whole)[-1]["reason"] == "completed"
    here = of_hub(bench, hub)
    run = here.run("mine", lora={"dropout": 0.1}, checkpoint={"mirror": PLACE})
    hub.fault = lambda _method, path: 503 if "/commit/" in path and len(hub.messages) >= 5 else None
    trainer = here.train(run, before=IN_STEP)
    eventually(lambda: sum("/commit/" in line for line in hub.asked) > 5, "five copies", timeout=120)
    trainer.kill()
    trainer.wait()
    newest = steps(hub, run.id)[-1]
    assert 0 < newest < 12 and hub.repositories[NAME].private
    hub.fault = lambda _method, _path: None

    box = of_hub(another_box(bench, tmp_path), hub)
    found = begin(box, PLACE, "mine")
    events = goes_on(box, found, run, newest, whole)
    assert 12 in steps(hub, found.id) and len(of(events, "warning")) == 1, show(events)
    written = b"".join(path.read_bytes() for path in found.dir.rglob("*") if path.is_file())
    assert TOKEN.encode() not in written + run.out_path.read_bytes()


def test_training_goes_on_while_the_hub_refuses(bench: Bench, hub: Hub) -> None:
    here = of_hub(bench, hub, token="hf_ofSomebodyElse01")
    run = here.run("refused", checkpoint={"mirror": PLACE}, recovery={"grace_s": 2})
    events = here.finish(run)
    assert events[-1]["reason"] == "completed", show(events)
    messages = [one["message"] for one in of(events, "warning")]
    assert "does not take the token for me/copies (401); training goes on" in messages[0] or len(messages) == 1
    assert f"the mirror {PLACE} lacks step-12" in messages[-1]
    assert not hub.repositories


def test_what_the_hub_needs_is_asked_for_before_anything_starts(bench: Bench) -> None:
    Path(bench.environ["HF_HOME"], "token").unlink(missing_ok=True)
    refused(bench, PLACE, r"checkpoint\.mirror: the Hub needs a token that may write, and there is none")


def test_the_token_of_the_environment_passes_the_trainer_by(tmp_path: Path) -> None:
    given = {"HF_TOKEN": TOKEN, "PATH": "/bin"}
    store = RunStore(tmp_path / "state")
    run = store.create({"name": "a", "kind": "train", "spec": {"checkpoint": {"mirror": PLACE}}})
    fd = spawn.token_file(run, given)
    assert fd is not None and os.pread(fd, 100, 0).decode() == TOKEN and not os.get_inheritable(fd)
    assert TOKEN not in spawn.child_environ(run, given, attempt=1, progress_fd=7, hub_fd=fd).values()
    os.close(fd)
    other = store.create({"name": "b", "kind": "train", "spec": {"checkpoint": {"mirror": str(tmp_path)}}})
    assert spawn.token_file(other, given) is None
    assert spawn.token_file(run, {}) is None
