"""The list of models: sizes counted once, states with reasons, runs that use them, and no file outside touched."""

from __future__ import annotations

from pathlib import Path

from llamahome_tui.config.places import Places
from llamahome_tui.jobs.store import RunStore
from llamahome_tui.models.inventory import Model, list_models
from tests.conftest import RunCli
from tests.unit.models import disk


def _by_id(places: Places, store: RunStore | None = None) -> dict[str, Model]:
    return {model.id: model for model in list_models(places, store)}


def test_an_empty_machine_has_the_embedded_model(places: Places) -> None:
    (only,) = list_models(places)
    assert (only.id, only.state, only.dtype, only.architecture) == ("demo", "ok", "f32", "LlamaForCausalLM")
    assert only.parameters == 1_282_400
    assert 5_000_000 < only.size_bytes <= 6_000_000


def test_a_cached_model(places: Places) -> None:
    disk.cached(places.hub_cache, "org/tiny")
    model = _by_id(places)["org/tiny"]
    assert (model.state, model.reason, model.format, model.revision) == ("ok", "", "hf", disk.COMMIT)
    assert (model.parameters, model.dtype) == (36, "bf16")
    assert model.freed_bytes == model.size_bytes > 80
    assert model.last_used is not None and model.last_used.endswith("Z")


def test_what_two_revisions_share_is_freed_by_neither(places: Places) -> None:
    disk.cached(places.hub_cache, "org/tiny", shared="x")
    disk.cached(places.hub_cache, "org/tiny", disk.OTHER, ref="v2", shared="x")
    models = [model for model in list_models(places) if model.id == "org/tiny"]
    assert len(models) == 2
    for model in models:
        assert model.size_bytes - model.freed_bytes == len(disk.weights()) + len("{}")


def test_bad_ones_are_listed_with_their_reason(places: Places, tmp_path: Path) -> None:
    disk.cached(places.hub_cache, "org/good")
    (disk.cached(places.hub_cache, "org/torn") / "model.safetensors").resolve().write_bytes(b"short")
    (disk.cached(places.hub_cache, "org/gone") / "model.safetensors").resolve().unlink()
    planted = disk.cached(places.hub_cache, "org/planted")
    (planted / "tokenizer.json").unlink()
    (planted / "tokenizer.json").symlink_to("/etc/passwd")
    (places.hub_cache / "models--org--half" / "blobs").mkdir(parents=True)
    (places.hub_cache / "models--org--half" / "blobs" / "x.incomplete").write_bytes(bytes(10))
    disk.cached(tmp_path / "elsewhere", "org/linked")
    (places.hub_cache / "models--org--linked").symlink_to(tmp_path / "elsewhere" / "models--org--linked")
    outside = disk.cached(tmp_path / "elsewhere", "org/outside")
    moved = disk.cached(places.hub_cache, "org/moved").parent
    (moved / disk.COMMIT).rename(moved / disk.OTHER)
    (moved / disk.COMMIT).symlink_to(outside)
    models = _by_id(places)
    assert models["org/good"].state == "ok"
    assert (models["org/torn"].state, "header" in models["org/torn"].reason) == ("broken", True)
    assert (models["org/gone"].state, models["org/gone"].reason) == ("incomplete", "model.safetensors is missing")
    assert (models["org/planted"].state, "outside" in models["org/planted"].reason) == ("broken", True)
    assert (models["org/linked"].state, "outside" in models["org/linked"].reason) == ("broken", True)
    assert models["org/half"].state == "incomplete"
    assert models["org/moved"].revision == disk.OTHER


def test_runs_that_use_a_model(places: Places) -> None:
    disk.cached(places.hub_cache, "org/tiny")
    disk.cached(places.hub_cache, "org/tiny", disk.OTHER, ref="v2")
    store = RunStore(places)
    on_main = store.create({"name": "a", "spec": {"model": {"id": "org/tiny", "revision": "main"}}})
    on_v2 = store.create({"name": "b", "spec": {"model": {"id": "org/tiny", "revision": "v2"}}})
    on_demo = store.create({"name": "c", "spec": {"model": {"id": "demo"}}})
    store.create({"name": "d", "kind": "exec", "command": ["true"]})
    models = {(m.id, m.revision): m.used_by for m in list_models(places, store)}
    assert models["org/tiny", disk.COMMIT] == (on_main.id,)
    assert models["org/tiny", disk.OTHER] == (on_v2.id,)
    assert models["demo", None] == (on_demo.id,)


def test_other_forms(places: Places, tmp_path: Path) -> None:
    for name, file in (("g", "m.gguf"), ("m", "consolidated.00.pth")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_bytes(b"x")
    (tmp_path / "m" / "params.json").write_text("{}")
    places.models_file.write_text("".join(f'[models.{n}]\npath = "{tmp_path / n}"\n' for n in "gm"))
    models = _by_id(places)
    assert (models["g"].format, models["g"].state) == ("gguf", "ok")
    assert (models["m"].format, models["m"].state) == ("meta", "ok")


def test_the_commands(places: Places, run_cli: RunCli) -> None:
    disk.cached(places.hub_cache, "org/tiny")
    listed = run_cli("models", "list", "--json").data
    assert [model["id"] for model in listed] == ["org/tiny", "demo"]
    assert listed[0]["used_by"] == [] and listed[0]["pinned"] is False
    shown = run_cli("models", "show", "org/tiny", "--json").data
    assert [file["name"] for file in shown["files"]] == ["config.json", "model.safetensors", "tokenizer.json"]
    for words, status in ((("models", "show", "no/such"), 4), (("models", "show", "org/tiny@v9"), 4)):
        refused = run_cli(*words, "--json")
        assert (refused.status, refused.last["code"]) == (status, "model.not_found")
    assert "org/tiny" in run_cli("models", "list").out
