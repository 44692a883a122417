"""A training spec: every mistake at once with its place, the order of values, paths, variables and overrides."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamahome_tui.data.formats import FORMATS
from llamahome_tui.errors import NotFoundError, SpecError
from llamahome_tui.training.init import spec_text
from llamahome_tui.training.launch import processes
from llamahome_tui.training.spec import REQUIRED, SCHEMA, Spec, make_spec, read_spec, read_spec_file, schema
from llamahome_tui.training.support import LIMITS

LEAST = '[model]\nid = "demo"\n[data]\ntrain = ["demo"]\n'


def read(text: str, *overrides: str, source: str = "spec.toml", folder: str = "/w", **environ: str) -> Spec:
    return read_spec(text, source=source, folder=Path(folder), environ=environ, overrides=overrides)


def mistakes(text: str, *overrides: str, **environ: str) -> list[dict[str, Any]]:
    with pytest.raises(SpecError) as error:
        read(text, *overrides, **environ)
    assert error.value.exit == 3
    found: list[dict[str, Any]] = error.value.data["errors"]
    assert all(one["reason"] for one in found)
    return found


def test_three_mistakes_are_three() -> None:
    text = LEAST + 'formatt = "auto"\n[training]\nepochs = "many"\n[lora]\nr = 0\n'
    found = mistakes(text)
    assert [(one["file"], one["line"], one["key"], one["nearest"]) for one in found] == [
        ("spec.toml", 5, "data.formatt", "data.format"),
        ("spec.toml", 7, "training.epochs", ""),
        ("spec.toml", 9, "lora.r", ""),
    ]
    with pytest.raises(
        SpecError, match=r"(?s)3 mistakes.*spec\.toml:5: data\.formatt.*nearest known key is data\.format"
    ):
        read(text)


def test_nearest_keys_from_other_tools() -> None:
    found = mistakes(LEAST + "[training]\nlr = 1\nmicro_batch_size = 2\n[lora]\nlora_alpha = 3\n[optimizer]\nlr = 2\n")
    assert [one["nearest"] for one in found] == [
        "training.learning_rate",
        "training.batch_size",
        "lora.alpha",
        "training.learning_rate",
    ]


def test_defaults_and_required_keys() -> None:
    spec = read(LEAST)
    assert spec.name == "spec"
    assert spec.training.learning_rate == "auto"
    assert spec.lora.targets == "all-linear"
    assert spec.given == ("data.train", "model.id")
    assert [one["key"] for one in mistakes("")] == list(REQUIRED)
    assert [one["key"] for one in mistakes('[model]\nid = ""\n[data]\ntrain = []\n')] == list(REQUIRED)


@pytest.mark.parametrize(
    ("source", "name"),
    [("my spec (2).toml", "my-spec-2"), ("<stdin>", "run"), ("/x/...toml", "run"), ("x/a.b.toml", "a.b")],
)
def test_the_name_comes_from_the_file(source: str, name: str) -> None:
    assert read(LEAST, source=source).name == name


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('name = "a/b"', "name"),
        ('tags = ["ok", "not ok"]', "tags"),
        ("[training]\nepochs = nan", "training.epochs"),
        ("[training]\nlearning_rate = -1", "training.learning_rate"),
        ("[training]\nmax_steps = 1.5", "training.max_steps"),
        ("[training]\nmax_steps = true", "training.max_steps"),
        ("[training]\nwarmup = 1.5", "training.warmup"),
        ("[training]\nglobal_batch = 4\nbatch_size = 8", "training.batch_size"),
        ('[training]\nprecision = "fp8"', "training.precision"),
        ("[training]\ntraining = 1", "training.training"),
        ("[lora]\nenabled = false\nr = 8", "lora.r"),
        ('[evaluation]\nmetric = "eval_exact"', "evaluation.metric"),
        ('[evaluation]\nmetric = "bleu"', "evaluation.metric"),
        ("[samples]\nevery_steps = 5", "samples.every_steps"),
        ("[samples]\nmax_new_tokens = 5", "samples.max_new_tokens"),
        ("[launch]\ndevices = []", "launch.devices"),
        ("[launch]\ndevices = 0", "launch.devices"),
        ("[launch]\ndevices = [0, 0]", "launch.devices"),
        ("[launch]\ndevices = true", "launch.devices"),
        ("[checkpoint]\nkeep = 0", "checkpoint.keep"),
        ("[data.template_options]\nday = 2024-01-01", "data.template_options"),
        ("[data.template_options]\nx = [inf]", "data.template_options"),
        ('[data.columns]\npromt = "question"', "data.columns.promt"),
        ('[data.columns]\nprompt = "q"\ncompletion = "q"', "data.columns"),
        ("training = 3", "training"),
        ('[notify]\non_end = "a\\u0000b"', "notify.on_end"),
        ("[lora]\nalpha = 1e30", "lora.alpha"),
        ("[lora]\nalpha = 1e-300", "lora.alpha"),
        ("[training]\nepochs = 1e300", "training.epochs"),
        ("[training]\nweight_decay = 1e9", "training.weight_decay"),
        ("[training]\nneftune = 1e9", "training.neftune"),
        ("[training]\nmax_steps = 100\nwarmup = 200", "training.warmup"),
        ("[launch]\ndevices = 17", "training.global_batch"),
        ("[evaluation]\nevery_steps = 0\npatience = 3", "evaluation.patience"),
        ('[samples]\nprompts = ["Hi", " "]', "samples.prompts"),
    ],
)
def test_what_is_wrong_alone_or_together(line: str, key: str) -> None:
    text = line + "\n" + LEAST if "[" not in line.split("\n")[0] or "=" in line.split("\n")[0] else LEAST + line
    assert key in [one["key"] for one in mistakes(text)]


@pytest.mark.parametrize(
    ("train", "weights", "key"),
    [
        ("['a', 'b']", "[1, 2, 3]", "data.weights"),
        ("['a']", "[1e6]", "data.weights"),
        ("['a']", "[0]", "data.weights"),
        ("['a', 'a']", "[]", "data.train"),
    ],
)
def test_weights_are_one_for_each_entry_and_no_entry_stands_twice(train: str, weights: str, key: str) -> None:
    assert key in [one["key"] for one in mistakes(LEAST, f"data.train={train}", f"data.weights={weights}")]


def test_a_seed_of_the_split_is_a_number_of_64_bits() -> None:
    assert [one["key"] for one in mistakes(LEAST, f"data.split_seed={2**63}")] == ["data.split_seed"]


@pytest.mark.parametrize("key", ["patience=2", "generate_rows=4", "every_steps=10", "metric=eval_perplexity"])
def test_without_evaluation_nothing_can_be_asked_of_it(key: str) -> None:
    found = mistakes(LEAST, "data.eval=0", f"evaluation.{key}")
    assert [one["key"] for one in found] == ["evaluation." + key.partition("=")[0]]


def test_every_format_can_be_named() -> None:
    assert SCHEMA["data.format"].field.words == ("auto", *FORMATS)


@pytest.mark.parametrize("key", LIMITS)
def test_what_this_version_cannot_do_is_refused_and_not_ignored(key: str) -> None:
    allowed, reason = LIMITS[key]
    field = SCHEMA[key].field
    other: Any = next((word for word in field.words if word not in allowed), None)
    if other is None:
        other = {"bool": True, "int": 3, "number": 0.3, "text": "x", "texts": ["x"], "numbers": [0.3]}[field.kinds[0]]
    found = mistakes(LEAST, f"{key}={json.dumps(other)}")
    assert [(one["key"], one["file"]) for one in found] == [(key, "--set")]
    assert reason in found[0]["reason"]
    for value in allowed:
        read(LEAST, f"{key}={json.dumps(value)}", f"launch.devices={2 if value == 'ddp' else 1}")


@pytest.mark.parametrize(
    ("devices", "strategy", "wrong"),
    [
        ("2", "single", "launch.strategy"),
        ("[0, 1]", "single", "launch.strategy"),
        ("1", "ddp", "launch.devices"),
        ('"auto"', "ddp", "launch.devices"),
        ("[3]", "ddp", "launch.devices"),
        ("2", "fsdp", "launch.strategy"),
    ],
)
def test_devices_and_strategy_say_the_same(devices: str, strategy: str, wrong: str) -> None:
    found = mistakes(LEAST, f"launch.devices={devices}", f'launch.strategy="{strategy}"')
    assert [one["key"] for one in found] == [wrong]


@pytest.mark.parametrize(
    ("devices", "strategy", "number"),
    [("auto", "auto", 1), ("1", "single", 1), ("[3]", "auto", 1), ("2", "auto", 2), ("[0, 3, 5]", "ddp", 3)],
)
def test_each_device_has_a_process(devices: str, strategy: str, number: int) -> None:
    assert processes(read(LEAST, f"launch.devices={devices}", f"launch.strategy={strategy}")) == number


def test_overrides_are_toml_or_bare_words() -> None:
    spec = read(
        LEAST,
        "training.epochs=2.5",
        "name=hello",
        'tags=["a", "b"]',
        "data.columns.prompt=question",
        "data.columns.completion=answer",
        "lora.targets=q_proj",
        "training.max_steps = 7",
    )
    assert (spec.training.epochs, spec.name, spec.tags, spec.training.max_steps) == (2.5, "hello", ("a", "b"), 7)
    assert spec.data.columns == {"prompt": "question", "completion": "answer"}
    assert spec.lora.targets == "q_proj"
    found = mistakes(LEAST, "training.epoch=2", "nonsense", "lora.r=x")
    assert [(one["file"], one["key"]) for one in found] == [
        ("--set", "nonsense"),
        ("--set", "training.epoch"),
        ("--set", "lora.r"),
    ]


def test_lists_are_overridden_with_plain_words() -> None:
    spec = read(LEAST, "data.train=a.jsonl, b.jsonl", "tags=quick")
    assert (spec.data.train, spec.tags) == (("/w/a.jsonl", "/w/b.jsonl"), ("quick",))
    assert [one["key"] for one in mistakes(LEAST + 'eval = 0\n[lora]\ntrain_also = "x"\n')] == ["lora.train_also"]


def test_targets_are_a_word_or_several() -> None:
    assert read(LEAST, "lora.targets=all-linear").lora.targets == "all-linear"
    assert read(LEAST, "lora.targets=q_proj, mlp.up_proj").lora.targets == ("q_proj", "mlp.up_proj")
    assert [one["key"] for one in mistakes(LEAST + '[lora]\ntargets = "q_proj,v_proj"\n')] == ["lora.targets"]


def test_the_page_tells_what_every_auto_means() -> None:
    page = (Path(__file__).parents[3] / "docs" / "training.md").read_text()
    table = page.partition('## What "auto" means')[2].partition("\n## ")[0]
    missing = [key for key, entry in SCHEMA.items() if entry.default == "auto" and f"`{key}`" not in table]
    assert not missing


def test_an_override_mends_the_file() -> None:
    assert read(LEAST + "[lora]\nr = 0\n", "lora.r=4").lora.r == 4


def test_variables() -> None:
    text = '[model]\nid = "${WHO}/m"\n[data]\ntrain = ["${D}/a.jsonl"]\n[notify]\non_end = "echo $${WHO} $WHO"\n'
    spec = read(text, WHO="me", D="/data")
    assert (spec.model.id, spec.data.train) == ("me/m", ("/data/a.jsonl",))
    assert spec.notify.on_end == "echo ${WHO} $WHO"
    assert [(one["key"], one["line"]) for one in mistakes(text, WHO="me")] == [("data.train", 4)]
    secret = LEAST + '[notify]\non_end = "x ${HF_TOKEN}"\n'
    found = mistakes(secret, HF_TOKEN="canary")
    assert found[0]["key"] == "notify.on_end"
    assert "canary" not in json.dumps(found)


def test_relative_paths_start_at_the_specs_folder(tmp_path: Path) -> None:
    (tmp_path / "org" / "model").mkdir(parents=True)
    text = (
        '[model]\nid = "org/model"\nadapter = "./a"\n'
        '[data]\ntrain = ["x.jsonl", "../y/*.jsonl", "/z.jsonl", "demo", "~/h.jsonl"]\n'
        'eval = "e.jsonl"\ntemplate = "t.jinja"\n'
    )
    spec = read(text, folder=str(tmp_path), HOME="/home/u")
    parent = tmp_path.parent
    assert spec.model.id == str(tmp_path / "org" / "model")
    assert spec.model.adapter == str(tmp_path / "a")
    assert spec.data.train == (
        str(tmp_path / "x.jsonl"), str(parent / "y" / "*.jsonl"), "/z.jsonl", "demo", "/home/u/h.jsonl",
    )  # fmt: skip
    assert (spec.data.eval, spec.data.template) == (str(tmp_path / "e.jsonl"), str(tmp_path / "t.jinja"))
    assert read(text, folder="/elsewhere").model.id == "org/model"


def test_there_and_back() -> None:
    spec = read(LEAST, "data.columns.prompt=q", "lora.targets=['a','b']", "training.warmup=0.1", "data.long=drop")
    again = Spec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert again.given == spec.given
    assert again.digest() == spec.digest()
    assert read(LEAST).digest() != spec.digest()
    older = spec.to_dict()
    older["training"]["from_the_future"] = 1
    del older["recovery"]
    assert Spec.from_dict(older) == spec


def test_files_and_documents(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    with pytest.raises(NotFoundError):
        read_spec_file(file, environ={})
    file.write_bytes(b"\xff")
    with pytest.raises(SpecError, match="UTF-8"):
        read_spec_file(file, environ={})
    file.write_text("\ufeff" + LEAST.replace("demo", "./m"))
    assert read_spec_file(file, environ={}).model.id == str(tmp_path / "m")
    document = {"model": {"id": "demo"}, "data": {"train": ["a.jsonl"]}}
    spec = make_spec(document, source="<options>", folder=tmp_path, environ={})
    assert spec.data.train == (str(tmp_path / "a.jsonl"),)


def test_init_reads_back_to_the_defaults() -> None:
    text = spec_text()
    spec = read(text)
    assert spec == read(LEAST, "name=first")
    assert "data.long" not in spec.given
    for line in text.splitlines():
        assert len(line) <= 120
    written = tomllib.loads(text)
    assert written["method"] == {"kind": "sft", "label_smoothing": 0.0}
    assert "nodes" not in written["launch"]


def test_the_contracts_spec_is_known_key_by_key() -> None:
    """A key that is renamed or lost breaks the specs people have."""
    published = (
        "name tags model.id model.revision model.adapter model.quantization model.trust_remote_code data.train "
        "data.weights data.eval data.format data.columns data.template data.template_options data.train_on "
        "data.max_length data.long data.batching data.split_seed data.group method.kind method.loss method.beta "
        "method.gamma method.label_smoothing lora.enabled lora.r lora.alpha lora.dropout lora.targets lora.variant "
        "lora.plus_ratio lora.train_also training.epochs training.max_steps training.global_batch training.batch_size "
        "training.learning_rate training.scheduler training.warmup training.optimizer training.weight_decay "
        "training.clip training.precision training.gradient_checkpointing training.attention training.kernels "
        "training.compile training.neftune training.max_workers training.log_every training.seed "
        "evaluation.every_steps evaluation.metric evaluation.higher_is_better evaluation.patience "
        "evaluation.generate_rows samples.prompts samples.every_steps samples.max_new_tokens checkpoint.every_steps "
        "checkpoint.every_minutes checkpoint.keep checkpoint.mirror recovery.retries recovery.oom recovery.nan_limit "
        "recovery.stall_s recovery.grace_s launch.target launch.devices launch.strategy launch.nodes launch.python "
        "notify.on_end notify.on_fail report.to report.project"
    )
    assert set(published.split()) == set(SCHEMA)


def test_schema_is_json_schema() -> None:
    found = schema()
    assert found["additionalProperties"] is False
    assert found["properties"]["model"]["required"] == ["id"]
    assert found["properties"]["training"]["properties"]["batch_size"]["anyOf"][0] == {"enum": ["auto"]}
    json.dumps(found)


def test_the_reader_needs_the_standard_library_only() -> None:
    code = (
        "import sys; before = set(sys.modules); import llamahome_tui.training.spec\n"
        "third = {m.split('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names)\n"
        "print(sorted(third))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['llamahome_tui']"


@given(st.text(max_size=200))
def test_any_text_is_a_spec_error_or_a_spec(text: str) -> None:
    try:
        read(text)
    except SpecError as error:
        assert error.data["errors"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "train", "r", "x"]), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_any_document_is_a_spec_error_or_a_spec(inner: Any) -> None:
    document = {"model": inner, "data": inner, "lora": {"r": inner}, "launch": {"devices": inner}, "tags": inner}
    try:
        make_spec(document, source="<options>", folder=Path("/"), environ={})
    except SpecError as error:
        assert error.data["errors"]
