"""Exports by their real process: what comes out loads anywhere, and no fault leaves a folder that looks whole."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.config.settings import Settings
from llamahome_tui.context import Context
from llamahome_tui.errors import IntegrityError, LlamaHomeError, NotFoundError, ResourceError, UsageError
from llamahome_tui.export import folder
from llamahome_tui.export.commands import order_of
from llamahome_tui.export.order import KEY, MERGED, Order
from llamahome_tui.jobs.exports import kept
from llamahome_tui.jobs.journal import read
from llamahome_tui.jobs.store import Run, RunStore
from tests.forge import Forge
from tests.integration.trainer_runs import Bench, checkpoint_steps, of, show
from tests.small_disk import mounted
from tests.standin import QUANTIZE
from tests.tinymodel import write_tokenizer

BEGIN = """
import os
from pathlib import Path
from llamahome_tui.export import folder
from llamahome_tui.workers.export import merge, shards, stages
from llamahome_tui.workers.export.main import main
"""

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A trained run on a base in several files; trained once, exported often."""
    with Forge() as forge:
        made = Bench.make(forge, tmp_path_factory.mktemp("exports"))
        whole = made.model / "model.safetensors"
        subprocess.run(
            [os.sys.executable, "-c", SHARD, str(whole)], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )  # fmt: skip
        write_tokenizer(made.model)
        yield made


# A base in five files, parted by hand: torch is not for this process.
SHARD = """
import json, sys
from pathlib import Path
from safetensors import safe_open
from safetensors.numpy import save_file
whole = Path(sys.argv[1])
with safe_open(whole, "np") as file:
    tensors = {name: file.get_tensor(name) for name in file.keys()}
names = sorted(tensors)
table = {}
for at in range(5):
    name = f"model-{at + 1:05}-of-00005.safetensors"
    part = {one: tensors[one] for one in names[at::5]}
    save_file(part, whole.with_name(name), metadata={"format": "pt"})
    table |= dict.fromkeys(part, name)
whole.unlink()
index = {"metadata": {}, "weight_map": table}
whole.with_name("model.safetensors.index.json").write_text(json.dumps(index))
"""


@pytest.fixture(scope="module")
def trained(bench: Bench) -> Run:
    run = bench.run("tuned")
    events = bench.finish(run)
    assert of(events, "end")[-1]["reason"] == "completed", show(events)
    return run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small", "4m") as place:
        yield place


def context_of(bench: Bench) -> Context:
    return Context(bench.places, Settings(), {**os.environ, **bench.environ}, bench.places.state, "test")


def ordered(bench: Bench, run: Run, to: Path, *, merge: bool = True, checkpoint: str = "", **changes: Any) -> Order:
    order, unknown = order_of(context_of(bench), RunStore(bench.places), run, str(to), merge, checkpoint, None)
    assert not unknown
    return replace(order, **changes)


def job_of(bench: Bench, order: Order) -> Run:
    return RunStore(bench.places).create({"name": "x-export-x", "kind": "export", KEY: order.to_dict()})


def attempt(bench: Bench, job: Run, before: str = "") -> tuple[int, list[dict[str, Any]]]:
    """One attempt of an export's process: its status and the events so far."""
    doing = f"{BEGIN}\n{before}\nos._exit(main(Path({str(job.dir)!r})))"
    trainer = bench.train(job, before=doing)
    status = trainer.wait()
    return status, list(read(job.events_path))


def nothing_published(place: Path) -> None:
    assert not place.exists()
    assert not any(one.name.startswith(place.name) for one in place.parent.iterdir())


def test_an_adapter_is_a_peft_folder_with_its_card(bench: Bench, trained: Run, tmp_path: Path) -> None:
    place = tmp_path / "adapter"
    status, events = attempt(bench, job_of(bench, ordered(bench, trained, place, merge=False)))
    assert status == 0, show(events)
    config = json.loads((place / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(bench.model)
    source = trained.artifacts_dir / "adapter" / "adapter_model.safetensors"
    assert (place / "adapter_model.safetensors").read_bytes() == source.read_bytes()
    card = (place / "README.md").read_text()
    assert 'library_name: "peft"' in card and "--max-lora-rank 8" in card and "chats.jsonl" in card
    manifest = json.loads((place / folder.MANIFEST).read_text())
    assert manifest["proof"]["kind"] == "held_out" and manifest["proof"]["rows"] == 8
    assert [one["path"] for one in kept(trained) if one["path"] == str(place)]
    # It goes to others: where things lie here is not theirs to know.
    assert str(bench.model.parent) not in card and str(tmp_path) not in card


def test_a_merge_keeps_the_files_of_its_base_and_is_proved(bench: Bench, trained: Run, tmp_path: Path) -> None:
    place = tmp_path / "merged"
    order = ordered(bench, trained, place)
    status, events = attempt(bench, job_of(bench, order))
    assert status == 0, show(events)
    names = {one.name for one in bench.model.glob("*.safetensors")}
    assert {one.name for one in place.glob("*.safetensors")} == names and len(names) == 5
    manifest = json.loads((place / folder.MANIFEST).read_text())
    assert manifest["proof"]["difference"] < 1e-5
    assert set(manifest["files"]) == {one.name for one in place.iterdir()} - {folder.MANIFEST}
    assert folder.standing(place, order.key) is not None
    with pytest.raises(UsageError):  # another export never takes its place
        folder.standing(place, {**order.key, "form": "adapter"})


def test_what_was_published_just_before_a_kill_is_noted_by_the_next_attempt(
    bench: Bench, trained: Run, tmp_path: Path
) -> None:
    place = tmp_path / "adapter"
    job = job_of(bench, ordered(bench, trained, place, merge=False))
    dying = """
from llamahome_tui.jobs import exports
exports.note = lambda *_: os.kill(os.getpid(), 9)
"""
    assert attempt(bench, job, dying)[0] == -9
    assert folder.standing(place, json.loads((place / folder.MANIFEST).read_text())["key"]) is not None
    assert not [one for one in kept(trained) if one["path"] == str(place)]
    status, events = attempt(bench, job)
    assert status == 0, show(events)
    assert [one["path"] for one in of(events, "artifact")] == [str(place)]
    assert len([one for one in kept(trained) if one["path"] == str(place)]) == 1


def test_an_export_of_any_run_is_found_again(bench: Bench, trained: Run, tmp_path: Path) -> None:
    from llamahome_tui.export.commands import _MARK, _NAME, _earlier

    store = RunStore(bench.places)
    for name in ("x" * 64, "\u65e5\u672c"):
        order = ordered(bench, trained, tmp_path / name)
        job = store.create({"name": f"{name[:_NAME]}-{_MARK}{order.form}", "kind": "export", KEY: order.to_dict()})
        found = _earlier(store, order)
        assert found is not None and found.id == job.id


def test_a_killed_export_goes_on_with_the_files_it_has(bench: Bench, trained: Run, tmp_path: Path) -> None:
    place = tmp_path / "merged"
    job = job_of(bench, ordered(bench, trained, place))
    dying = """
made = shards.write
def write(tensors, names, path, each):
    if path.name.endswith("4-of-00005.safetensors"):
        path.write_bytes(b"half")
        os.kill(os.getpid(), 9)
    made(tensors, names, path, each)
shards.write = write
"""
    status, _ = attempt(bench, job, dying)
    assert status == -9
    nothing_published(place)
    before = {one.name: one.stat().st_ino for one in folder.partial_of(place).glob("model*.safetensors")}
    assert len(before) == 3
    status, events = attempt(bench, job)
    assert status == 0, show(events)
    after = {one.name: one.stat().st_ino for one in place.glob("model*.safetensors")}
    assert before.items() <= after.items() and len(after) == 5
    assert not folder.partial_of(place).exists() and not list(place.glob(".*"))


def test_a_file_that_changed_while_nobody_looked_is_written_again(bench: Bench, trained: Run, tmp_path: Path) -> None:
    place = tmp_path / "merged"
    order = ordered(bench, trained, place)
    job = job_of(bench, order)
    stop = "stages.prove = lambda *_: os.kill(os.getpid(), 9)"
    assert attempt(bench, job, stop)[0] == -9
    file = folder.partial_of(place) / "model-00002-of-00005.safetensors"
    data = bytearray(file.read_bytes())
    good = bytes(data)
    data[-1] ^= 1
    file.write_bytes(data)
    assert attempt(bench, job)[0] == 0
    assert (place / file.name).read_bytes() == good


@pytest.mark.parametrize("stage", ["config.json", "model-00003-of-00005.safetensors", "README.md", "publish"])
def test_a_full_disk_leaves_nothing_that_looks_whole(bench: Bench, trained: Run, small_disk: Path, stage: str) -> None:
    place = small_disk / "merged"
    job = job_of(bench, ordered(bench, trained, place))
    ballast = small_disk / "ballast"
    filling = f"""
def fill():
    with open({str(ballast)!r}, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
folder.require_room = lambda *_: None
made, published = folder.Partial.add, folder.Partial.publish
def add(self, name, write):
    if name == {stage!r}:
        fill()
    made(self, name, write)
def publish(self, about):
    if {stage!r} == "publish":
        fill()
    return published(self, about)
folder.Partial.add, folder.Partial.publish = add, publish
"""
    status, events = attempt(bench, job, filling)
    error = of(events, "error")[-1]
    assert status != 0 and error["code"] == "disk.full" and error["exit"] == 5, show(events)
    nothing_published(place)
    ballast.unlink()
    status, events = attempt(bench, job)
    assert status == 0, show(events)
    assert len(list(place.glob("*.safetensors"))) == 5


def test_too_little_room_is_told_before_anything_is_written(bench: Bench, trained: Run, small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(3_900_000))
    place = small_disk / "merged"
    with pytest.raises(ResourceError) as refused:
        folder.require_room(place, 300_000)
    assert refused.value.exit == 5
    assert refused.value.data["needed_bytes"] > 300_000 and refused.value.data["free_bytes"] < 400_000
    status, events = attempt(bench, job_of(bench, ordered(bench, trained, place)))
    assert status != 0 and of(events, "error")[-1]["exit"] == 5
    nothing_published(place)


def test_an_export_that_says_something_else_is_refused_and_kept_aside(
    bench: Bench, trained: Run, tmp_path: Path
) -> None:
    place = tmp_path / "merged"
    job = job_of(bench, ordered(bench, trained, place))
    wrong = "made = merge._delta\nmerge._delta = lambda module: -3 * made(module)"
    status, events = attempt(bench, job, wrong)
    error = of(events, "error")[-1]
    assert status != 0 and error["code"] == "export.refused" and error["exit"] == 8
    assert not place.exists()
    aside = folder.refused_of(place)
    assert aside.is_dir() and not (aside / folder.MANIFEST).exists()


def test_a_stop_leaves_what_is_finished(bench: Bench, trained: Run, tmp_path: Path) -> None:
    place = tmp_path / "merged"
    job = job_of(bench, ordered(bench, trained, place))
    asking = """
import signal
made = shards.write
def write(tensors, names, path, each):
    if path.name.endswith("3-of-00005.safetensors"):
        os.kill(os.getpid(), signal.SIGTERM)
    made(tensors, names, path, each)
shards.write = write
"""
    status, events = attempt(bench, job, asking)
    assert status == 0 and of(events, "end")[-1]["reason"] == "stopped", show(events)
    nothing_published(place)
    assert attempt(bench, job)[0] == 0
    assert place.is_dir()


def test_a_base_that_has_changed_is_named(bench: Bench, trained: Run, tmp_path: Path) -> None:
    order = ordered(bench, trained, tmp_path / "merged")
    file = bench.model / "model-00002-of-00005.safetensors"
    good = file.read_bytes()
    try:
        file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        with pytest.raises(IntegrityError) as changed:
            ordered(bench, trained, tmp_path / "merged")
        assert changed.value.exit == 8 and str(file) in changed.value.message
        status, events = attempt(bench, job_of(bench, order))  # changed after the order was given
        assert status != 0 and of(events, "error")[-1]["code"] == "export.base_changed"
    finally:
        file.write_bytes(good)
    nothing_published(tmp_path / "merged")


def test_a_checkpoint_is_chosen_by_its_step(bench: Bench, trained: Run, tmp_path: Path) -> None:
    first = checkpoint_steps(trained)[0]
    order = ordered(bench, trained, tmp_path / "early", merge=False, checkpoint=str(first))
    assert order.step == first and order.weights.endswith(f"step-{first}")
    with pytest.raises(NotFoundError):
        ordered(bench, trained, tmp_path / "none", checkpoint="7")
    with pytest.raises(NotFoundError) as nothing:
        ordered(bench, bench.run("untrained"), tmp_path / "none")
    assert nothing.value.error_code == "run.no_checkpoint"


def test_a_run_whose_data_are_gone_is_proved_on_drawn_tokens(bench: Bench, trained: Run, tmp_path: Path) -> None:
    place = tmp_path / "merged"
    aside = bench.data.with_name("moved.jsonl")
    shutil.move(bench.data, aside)
    try:
        status, events = attempt(bench, job_of(bench, ordered(bench, trained, place)))
    finally:
        shutil.move(aside, bench.data)
    assert status == 0, show(events)
    assert "drawn tokens" in of(events, "warning")[-1]["message"]
    assert json.loads((place / folder.MANIFEST).read_text())["proof"]["kind"] == "random"


def test_full_fine_tuning_and_a_quantised_base(bench: Bench, tmp_path: Path) -> None:
    whole = bench.run("whole", lora={"enabled": False}, training={"max_steps": 3, "learning_rate": 1e-3})
    assert of(bench.finish(whole), "end")[-1]["reason"] == "completed"
    place = tmp_path / "whole"
    status, events = attempt(bench, job_of(bench, ordered(bench, whole, place)))
    assert status == 0, show(events)
    assert json.loads((place / folder.MANIFEST).read_text())["proof"]["difference"] < 1e-5
    packed = bench.run("packed", model={"quantization": "nf4"})
    assert of(bench.finish(packed), "end")[-1]["reason"] == "completed"
    order = ordered(bench, packed, tmp_path / "packed")
    assert order.quantization == "nf4" and order.precision == "fp32"
    status, events = attempt(bench, job_of(bench, order))
    assert status == 0, show(events)
    # Into the original weights the same adapter says something else, and the proof sees it.
    careless = "from llamahome_tui.workers.export import quantised_base\nquantised_base.changes = lambda *_: {}"
    status, events = attempt(bench, job_of(bench, replace(order, place=str(tmp_path / "careless"))), careless)
    assert of(events, "error")[-1]["code"] == "export.refused"


def test_what_can_not_be_exported_is_refused(bench: Bench, trained: Run, tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    order = ordered(bench, trained, tmp_path / "foreign")
    with pytest.raises(LlamaHomeError) as taken:
        folder.standing(Path(order.place), order.key)
    assert taken.value.exit == 2 and taken.value.error_code == "export.taken"


def test_a_gguf_file_comes_with_its_modelfile_and_the_same_proof(
    bench: Bench, trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wanted(to: Path, kind: str = "q8_0") -> Order:
        order, _ = order_of(context_of(bench), RunStore(bench.places), trained, str(to), False, "", None, kind)
        return order

    job = job_of(bench, wanted(tmp_path / "refused"))
    status, events = attempt(bench, job)  # its tokenizer is a list of words, which llama.cpp does not have
    assert status != 0
    assert of(events, "error")[-1]["code"] == "export.gguf_tokenizer"
    nothing_published(tmp_path / "refused")

    file = bench.model / "tokenizer.json"
    words = json.loads(file.read_text())
    kept_text = file.read_text()
    vocabulary = {"\u2581" if token == " " else token: at for token, at in words["model"]["vocab"].items()}
    words["model"] = {
        "type": "BPE", "vocab": vocabulary, "merges": [], "byte_fallback": True, "unk_token": "\u2581",
    }  # fmt: skip
    words["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    words["pre_tokenizer"] = None
    words["decoder"] = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    try:
        file.write_text(json.dumps(words))
        order = wanted(tmp_path / "one")
        assert order.form == MERGED
        job = job_of(bench, order)
        status, events = attempt(bench, job)
        assert status == 0, show(events)
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(LlamaHomeError, match="llama-quantize is not on the PATH") as missing:
            wanted(tmp_path / "four", "q4_k_m")
        assert missing.value.exit == 4
        (tmp_path / "llama-quantize").write_text(QUANTIZE)
        (tmp_path / "llama-quantize").chmod(0o755)
        job = job_of(bench, wanted(tmp_path / "four", "q4_k_m"))
        status, events = attempt(bench, job, f"os.environ['PATH'] = {str(tmp_path)!r}")
    finally:
        file.write_text(kept_text)
    assert status == 0, show(events)
    found = json.loads((tmp_path / "four" / folder.MANIFEST).read_text())
    assert sorted(found["files"]) == ["Modelfile", "README.md", "four.gguf"]
    assert sorted(one.name for one in (tmp_path / "four").iterdir()) == sorted([*found["files"], folder.MANIFEST])
    assert found["proof"]["tolerance"] == 0.05
    found = json.loads((tmp_path / "one" / folder.MANIFEST).read_text())
    assert sorted(found["files"]) == ["Modelfile", "README.md", "one.gguf"]
    assert found["serve"] == f"ollama create one -f {tmp_path / 'one' / 'Modelfile'}"
    assert 0 < found["proof"]["difference"] <= found["proof"]["tolerance"]
    assert "FROM ./one.gguf\n" in (tmp_path / "one" / "Modelfile").read_text()
    assert kept(trained)[-1]["kind"] == "export-merged"

    config = bench.model / "config.json"
    kept_text = config.read_text()
    monkeypatch.setattr("llamahome_tui.export.base.changed", lambda *_: "")
    try:
        config.write_text(kept_text.replace("LlamaForCausalLM", "GPT2LMHeadModel"))
        with pytest.raises(LlamaHomeError, match="Gemma 2") as family:
            wanted(tmp_path / "two")
        assert family.value.exit == 3
    finally:
        config.write_text(kept_text)
