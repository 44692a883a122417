"""Checkpoints in a Hub repo and back, through the real huggingface_hub and a Hub on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llamahome_tui.errors import AuthError, HubError, IntegrityError, LlamaHomeError
from llamahome_tui.hub.names import repo_of
from llamahome_tui.hub.repo import Repo, access, open_repo
from llamahome_tui.jobs import recovery
from llamahome_tui.training import hub_mirror
from tests.conftest import eventually
from tests.loopback_hub import TOKEN, Hub, loopback_hub
from tests.unit.training.test_mirror import FIRST, SECOND, checkpoint, contents, names

NAME = "me/copies"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content")  # huggingface_hub 2.4 on httpx2


@pytest.fixture
def hub() -> Iterator[Hub]:
    with loopback_hub() as found:
        yield found


@pytest.fixture
def repo(hub: Hub) -> Repo:
    return open_repo(NAME, hub.environ(), TOKEN)


def steps(hub: Hub, run: str) -> list[str]:
    return sorted({path.split("/")[1] for path in hub.repositories[NAME].files if path.startswith(f"{run}/")})


def large(folder: Path, step: int, **about: object) -> Path:
    """A checkpoint with a file that goes into large storage."""
    path = checkpoint(folder, step, **about)  # type: ignore[arg-type]
    (path / "weights").rename(path / "weights.safetensors")
    (path / "complete.json").unlink()
    recovery.write_complete(path, step)
    return path


def test_a_checkpoint_is_one_commit_in_a_private_repo_and_comes_back_as_it_was(
    hub: Hub, repo: Repo, tmp_path: Path
) -> None:
    here, into = tmp_path / "here", tmp_path / "run"
    into.mkdir()
    source = large(here, 3)
    assert hub_mirror.send(repo, FIRST, source, 2, "")
    assert hub.repositories[NAME].private and hub.messages == [f"{FIRST} step-3"]
    assert not hub_mirror.send(repo, FIRST, source, 2, "") and len(hub.messages) == 1
    assert any(line.startswith("PUT /large/") for line in hub.asked)
    found, passed = hub_mirror.fetch(repo, "mine", into)
    assert found is not None and (found.run, found.step, passed) == (FIRST, 3, [])
    assert contents(into / "step-3") == contents(source) and names(into) == ["step-3"]


def test_the_last_ones_and_the_best_are_kept_and_no_other_run_is_touched(hub: Hub, repo: Repo, tmp_path: Path) -> None:
    hub_mirror.send(repo, SECOND, large(tmp_path / "other", 1), 1, "")
    for step in (1, 2, 3, 4, 5):
        hub_mirror.send(repo, FIRST, large(tmp_path, step), 2, "step-2")
    assert steps(hub, FIRST) == ["step-2", "step-4", "step-5"] and steps(hub, SECOND) == ["step-1"]
    assert len(hub.messages) == 6  # what goes, goes in the commit that brings the new one


def test_a_repo_that_all_can_read_gets_nothing(hub: Hub, repo: Repo, tmp_path: Path) -> None:
    hub.make(NAME, private=False)
    with pytest.raises(AuthError, match="is public"):
        hub_mirror.send(repo, FIRST, large(tmp_path, 3), 2, "")
    assert not hub.messages


def test_what_is_altered_here_is_not_sent(hub: Hub, repo: Repo, tmp_path: Path) -> None:
    source = large(tmp_path, 3)
    (source / "weights.safetensors").write_bytes(b"x" * 4096)
    with pytest.raises(IntegrityError, match="sha256 differs"):
        hub_mirror.send(repo, FIRST, source, 2, "")
    assert not hub.messages


def relist(files: dict[str, bytes], name: str) -> None:
    path = f"{FIRST}/step-6/complete.json"
    listed = json.loads(files[path])
    listed["files"][name] = listed["files"].pop("weights.safetensors")
    files[path] = json.dumps(listed).encode()


def altered(files: dict[str, bytes], name: str, content: bytes | None) -> None:
    path = f"{FIRST}/step-6/{name}"
    files.pop(path)
    if content is not None:
        files[path] = content


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda files: altered(files, "weights.safetensors", b"x" * 4096), "sha256 differs"),
        (lambda files: altered(files, "weights.safetensors", b"short"), "lacks weights.safetensors, or"),
        (lambda files: altered(files, "weights.safetensors", None), "lacks weights.safetensors, or"),
        (lambda files: altered(files, "complete.json", None), "has no list"),
        (lambda files: altered(files, "complete.json", b"{"), "has no list"),
        (lambda files: relist(files, "../../../../secret"), "leads out of it"),
        (lambda files: relist(files, "/etc/passwd"), "leads out of it"),
        (lambda files: relist(files, ".cache"), "leads out of it"),
    ],
    ids=["flipped", "cut", "gone", "unfinished", "no-json", "up", "absolute", "hidden"],
)
def test_what_is_not_whole_is_passed_over_for_the_one_before(
    hub: Hub, repo: Repo, tmp_path: Path, damage: Callable[[dict[str, bytes]], None], reason: str
) -> None:
    into = tmp_path / "run"
    into.mkdir()
    before = large(tmp_path, 3)
    for source in (before, large(tmp_path, 6)):
        hub_mirror.send(repo, FIRST, source, 2, "")
    damage(hub.repositories[NAME].files)
    found, passed = hub_mirror.fetch(repo, "mine", into)
    assert found is not None and found.step == 3 and contents(into / "step-3") == contents(before)
    assert names(into) == ["step-3"] and len(passed) == 1 and reason in passed[0], passed


def test_the_newest_run_of_that_name_goes_first_and_brings_its_best(hub: Hub, repo: Repo, tmp_path: Path) -> None:
    into = tmp_path / "run"
    into.mkdir()
    hub_mirror.send(repo, FIRST, large(tmp_path / "a", 40), 2, "")
    hub_mirror.send(repo, SECOND, large(tmp_path / "b", 2), 2, "")
    hub_mirror.send(repo, SECOND, large(tmp_path / "b", 6, best={"path": "checkpoints/step-2"}), 2, "step-2")
    hub_mirror.send(repo, "20260103-000000-mine-too", large(tmp_path / "c", 9, name="mine-too"), 2, "")
    hub.repositories[NAME].files["../20260109-000000-mine/step-9/complete.json"] = b"{}"
    newest = hub_mirror.newest(NAME, "mine", {**hub.environ(), "HF_TOKEN": TOKEN})
    assert newest is not None and (newest.run, newest.step, newest.best) == (SECOND, 6, "step-2")
    found, passed = hub_mirror.fetch(repo, "mine", into)
    assert found is not None and (found.run, found.step, passed) == (SECOND, 6, [])
    assert names(into) == ["step-2", "step-6"]


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, AuthError, r"does not take the token for me/copies \(401\)"),
        (403, AuthError, r"no right to this in me/copies \(403\)"),
        (404, HubError, r"\(404\)"),
        (429, HubError, r"asks to come later"),
        (503, HubError, r"\(503\)"),
    ],
)
def test_each_refusal_has_words_of_its_own_and_no_token(
    hub: Hub, repo: Repo, tmp_path: Path, status: int, kind: type[LlamaHomeError], words: str
) -> None:
    hub.make(NAME)
    hub.fault = lambda _method, path: status if "/commit/" in path else None
    with pytest.raises(kind, match=words) as refused:
        hub_mirror.send(repo, FIRST, large(tmp_path, 3), 2, "")
    assert TOKEN not in f"{refused.value} {refused.value.hint}"
    hub.fault = lambda _method, _path: None
    assert hub_mirror.send(repo, FIRST, tmp_path / "step-3", 2, "")


def test_a_hub_that_is_not_there_or_says_nothing_is_no_hang(hub: Hub, tmp_path: Path) -> None:
    import threading

    with pytest.raises(HubError, match="can't be reached"):
        Repo(NAME, TOKEN, "http://127.0.0.1:9").tree()
    silent = threading.Event()
    hub.fault = lambda _method, _path: 500 if silent.wait(30) else None
    with pytest.raises(HubError, match="can't be reached"):
        Repo(NAME, TOKEN, hub.endpoint, quiet_s=0.1).tree()
    silent.set()


def test_a_hub_that_asks_to_come_back_tomorrow_is_not_waited_for(hub: Hub) -> None:
    hub.make(NAME)
    tomorrow = (429, {"error": "too many"}, {"Retry-After": "86400"})
    hub.fault = lambda _method, path: tomorrow if "/tree/" in path else None
    with pytest.raises(HubError, match="told nothing of me/copies"):
        hub_mirror.newest(NAME, "mine", {**hub.environ(), "HF_TOKEN": TOKEN}, patience_s=1)
    eventually(lambda: any("/tree/" in line for line in hub.asked), "the question that is put off")


def test_a_bad_token_is_no_missing_repo(hub: Hub) -> None:
    hub.make(NAME)
    with pytest.raises(AuthError, match="401"):
        Repo(NAME, "hf_other", hub.endpoint).tree()
    assert Repo("me/none", TOKEN, hub.endpoint).tree() is None


def test_a_token_is_needed_and_goes_over_no_open_line(tmp_path: Path) -> None:
    saved = {"HF_HOME": str(tmp_path)}
    with pytest.raises(LlamaHomeError, match="there is none"):
        access(saved)
    (tmp_path / "token").write_text(TOKEN)
    assert access(saved) == (TOKEN, "https://huggingface.co")
    with pytest.raises(LlamaHomeError, match="no https address"):
        access({**saved, "HF_ENDPOINT": "http://hub.example"})


@pytest.mark.parametrize(
    "text", ["hf://me", "hf://me/a/b", "hf://../a", "hf://me/..", "hf://me/a--b", "/me/a", "hf://"]
)
def test_other_names_are_no_repository(text: str) -> None:
    assert repo_of(text) == "" and repo_of("hf://me/copies.v1") == "me/copies.v1"
