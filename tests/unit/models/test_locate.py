"""What a user may call a model, and what is said when it is not there or cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamahome_tui.config.places import Places
from llamahome_tui.demo.paths import demo_model_dir
from llamahome_tui.errors import ConfigError, IntegrityError, LlamaHomeError, ModelError, NotFoundError, UsageError
from llamahome_tui.jobs.recovery import write_complete
from llamahome_tui.jobs.store import Run, RunStore
from llamahome_tui.models.locate import locate
from tests.unit.models import disk


def _run(store: RunStore, model: str, name: str = "r", revision: str = "main") -> Run:
    return store.create({"kind": "train", "name": name, "spec": {"model": {"id": model, "revision": revision}}})


def _adapter(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "adapter_config.json").write_text("{}")
    (path / "adapter_model.safetensors").write_bytes(disk.weights())
    return path


def test_demo_is_always_there(places: Places) -> None:
    located = locate("demo", places)
    assert (located.id, located.path, located.revision, located.adapter) == ("demo", demo_model_dir(), None, None)


def test_a_folder_by_path_and_by_name(places: Places, tmp_path: Path) -> None:
    made = disk.folder(tmp_path / "mine")
    assert locate(str(made), places).path == made
    assert locate("mine", places, folder=tmp_path).path == made
    assert locate("./mine", places, folder=tmp_path).path == made


def test_models_that_models_toml_names(places: Places, tmp_path: Path) -> None:
    one, two = disk.folder(tmp_path / "mine-1b"), disk.folder(tmp_path / "mine-3b")
    snapshot = disk.cached(places.hub_cache, "org/tiny")
    places.models_file.write_text(
        f'[models.pet]\npath = "{one}"\n[models.mine]\npath = "{tmp_path}/mine-{{version}}"\n'
        'versions = ["1b", "3b"]\ndefault_version = "1b"\n[models.hub]\nid = "org/tiny"\n'
    )
    assert locate("pet", places).path == one
    assert locate("mine", places).path == one
    assert locate("mine@3b", places).path == two
    assert locate("hub", places).path == snapshot
    with pytest.raises(NotFoundError, match="not its version '7b'"):
        locate("mine@7b", places)
    places.models_file.write_text("[models.pet]\npth = 3\n[models.b]\n")
    with pytest.raises(ConfigError, match="pth") as caught:
        locate("pet", places)
    assert len(caught.value.data["errors"]) >= 2


def test_hub_ids_with_and_without_revision(places: Places) -> None:
    first = disk.cached(places.hub_cache, "org/tiny")
    second = disk.cached(places.hub_cache, "org/tiny", disk.OTHER, ref="v2")
    assert locate("org/tiny", places).path == first
    assert locate("org/tiny@main", places).revision == disk.COMMIT
    assert locate("org/tiny@v2", places).path == second
    assert locate(f"org/tiny@{disk.OTHER}", places).path == second
    with pytest.raises(NotFoundError, match="not its revision v3"):
        locate("org/tiny@v3", places)


@pytest.mark.parametrize("revision", ["../../etc", "/etc", "a/../b", "", "a\nb", "-x"])
def test_revisions_that_could_leave_the_cache_are_refused(places: Places, revision: str) -> None:
    disk.cached(places.hub_cache, "org/tiny")
    with pytest.raises(UsageError, match="cannot be a revision"):
        locate(f"org/tiny@{revision}", places)


@pytest.mark.parametrize("name", ["nobody/nothing", "nothing", "/no/such/folder", "../x", "a--b", "..", "\0", ""])
def test_an_unknown_model_is_exit_4(places: Places, name: str) -> None:
    with pytest.raises(LlamaHomeError) as caught:
        locate(name, places, RunStore(places))
    assert caught.value.exit == 4 or name == ".."
    assert "llamahome --batch" in caught.value.hint


def test_links_out_of_the_cache_are_not_followed(places: Places, tmp_path: Path) -> None:
    snapshot = disk.cached(places.hub_cache, "org/tiny")
    secret = tmp_path / "secret"
    secret.write_text("{}")
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(secret)
    with pytest.raises(IntegrityError, match="outside its repository"):
        locate("org/tiny", places)


@pytest.mark.parametrize(
    ("name", "content", "error", "exit_code"),
    [
        ("config.json", None, ModelError, 3),
        ("config.json", b"{", ModelError, 3),
        ("config.json", b"[]", ModelError, 3),
        ("model.safetensors", None, ModelError, 3),
        ("model.safetensors", disk.weights()[:-1], IntegrityError, 8),
        ("tokenizer.json", None, ModelError, 3),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "model-2.safetensors"}}', ModelError, 3),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "../../x.safetensors"}}', ModelError, 3),
    ],
)
def test_a_broken_folder_names_the_file(
    places: Places, tmp_path: Path, name: str, content: bytes | None, error: type[LlamaHomeError], exit_code: int
) -> None:
    made = disk.folder(tmp_path / "mine")
    (made / name).unlink(missing_ok=True)
    if content is not None:
        (made / name).write_bytes(content)
    with pytest.raises(error) as caught:
        locate(str(made), places)
    assert caught.value.exit == exit_code
    assert str(made) in caught.value.message
    assert caught.value.hint


def test_pickle_weights_are_refused(places: Places, tmp_path: Path) -> None:
    made = disk.folder(tmp_path / "mine")
    (made / "model.safetensors").rename(made / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickle") as caught:
        locate(str(made), places)
    assert caught.value.error_code == "model.pickle"


def test_a_run_brings_its_base_and_its_finished_adapter(places: Places) -> None:
    store = RunStore(places)
    snapshot = disk.cached(places.hub_cache, "org/tiny", ref="v1")
    run = _run(store, "org/tiny", revision="v1")
    with pytest.raises(NotFoundError, match="no adapter or complete checkpoint"):
        locate(run.id, places, store)
    adapter = _adapter(run.artifacts_dir / "adapter")
    located = locate("latest", places, store)
    assert (located.path, located.adapter, located.run) == (snapshot, adapter, run.id)


def test_a_run_without_artifact_gives_its_newest_complete_checkpoint(places: Places) -> None:
    store = RunStore(places)
    run = _run(store, "demo")
    for step in (10, 20):
        folder = _adapter(run.checkpoints_dir / f"step-{step}")
        write_complete(folder, step)
    _adapter(run.checkpoints_dir / "step-30")  # half written: no complete.json
    assert locate(run.id, places, store).adapter == run.checkpoints_dir / "step-20"
    assert locate(run.id, places, store, checkpoint="10").adapter == run.checkpoints_dir / "step-10"
    assert locate(run.id, places, store, checkpoint="last").adapter == run.checkpoints_dir / "step-20"
    with pytest.raises(NotFoundError):
        locate(run.id, places, store, checkpoint="15")
    with pytest.raises(UsageError):
        locate(run.id, places, store, checkpoint="worst")
    with pytest.raises(IntegrityError, match=r"complete\.json"):
        locate(run.id, places, store, checkpoint="30")


def test_a_cached_model_wins_over_a_run_of_its_name(places: Places) -> None:
    store = RunStore(places)
    run = _run(store, "demo", "tiny")
    _adapter(run.artifacts_dir / "adapter")
    assert locate("tiny", places, store).run == run.id
    snapshot = disk.cached(places.hub_cache, "tiny")
    assert (locate("tiny", places, store).path, locate("tiny", places, store).run) == (snapshot, None)
    assert locate(run.id, places, store).run == run.id


def test_a_broken_adapter_is_exit_8(places: Places) -> None:
    store = RunStore(places)
    run = _run(store, "demo")
    adapter = _adapter(run.artifacts_dir / "adapter")
    (adapter / "adapter_model.safetensors").write_bytes(b"short")
    with pytest.raises(IntegrityError, match=r"adapter_model\.safetensors") as caught:
        locate(run.id, places, store)
    assert caught.value.exit == 8


def test_a_run_on_a_run_finds_the_base_and_a_circle_ends(places: Places) -> None:
    store = RunStore(places)
    first = _run(store, "demo", "one")
    _adapter(first.artifacts_dir / "adapter")
    second = _run(store, first.id, "two")
    adapter = _adapter(second.artifacts_dir / "adapter")
    located = locate(second.id, places, store)
    assert (located.id, located.adapter) == ("demo", adapter)

    job = json.loads((first.dir / "spec.json").read_text())
    job["spec"]["model"]["id"] = second.id
    (first.dir / "spec.json").write_text(json.dumps(job))
    with pytest.raises(ModelError, match="circle"):
        locate(second.id, places, store)
