"""Other tools' configurations as specs: their own examples, their own defaults as oracle, and files that mean harm."""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamahome_tui.context import Context
from llamahome_tui.errors import ConfigError, LlamaHomeError, NotFoundError, UsageError
from llamahome_tui.outcome import Result
from llamahome_tui.training.imports import axolotl, llama_factory, trl
from llamahome_tui.training.imports.axolotl_data import ENTRY as _ENTRY
from llamahome_tui.training.imports.book import Book
from llamahome_tui.training.imports.reading import Given
from llamahome_tui.training.imports.rules import Source
from llamahome_tui.training.imports.translation import Translation, settled, translate
from llamahome_tui.training.imports.yaml_text import load
from llamahome_tui.training.init import init
from llamahome_tui.training.spec import Spec, read_spec

EXAMPLES = Path(__file__).parent / "examples"
AXOLOTL = "base_model: m/x\nlearning_rate: 2e-4\nmicro_batch_size: 2\nadapter: lora\nlora_r: 8\nlora_alpha: 16\n"
DATA = "datasets: [{path: a.jsonl, type: alpaca}]\n"


def made(tmp_path: Path, text: str | bytes, name: str = "config.yaml", **more: Any) -> Translation:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return translate(path, name, cwd=tmp_path, **more)


def spec_of(made: Translation) -> Spec:
    return read_spec(made.text, source="spec.toml", folder=Path("/s"), environ={})


def refused(tmp_path: Path, text: str | bytes, name: str = "config.yaml", **more: Any) -> str:
    with pytest.raises(ConfigError) as found:
        made(tmp_path, text, name, **more)
    assert found.value.exit == 3 and "llamahome --batch" in found.value.hint
    return found.value.message


def left(made: Translation) -> dict[str, str]:
    return {one.key: one.severity.value for one in made.book.left}


@pytest.mark.parametrize("golden", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_their_own_examples_become_the_specs_that_were_read_by_eye(golden: Path) -> None:
    found = translate(EXAMPLES / golden.stem, golden.stem, cwd=EXAMPLES)
    assert found.text == golden.read_text(encoding="utf-8")
    spec_of(found)


@pytest.mark.parametrize(
    "example", sorted([*EXAMPLES.glob("*.yml"), *EXAMPLES.glob("*.yaml")]), ids=lambda path: path.name
)
def test_every_key_of_a_file_is_carried_or_named_or_silent_by_a_rule(example: Path) -> None:
    found = translate(example, example.name, cwd=EXAMPLES)
    table = {"axolotl": axolotl.KEYS, "llama-factory": llama_factory.KEYS, "trl": trl.KEYS}[found.dialect]
    assert set(load(example.read_text(encoding="utf-8"), "x").values) <= set(table)


def fields(package: str, file: str, *classes: str) -> dict[str, Any]:
    """The fields of dataclasses in an installed file, with their literal defaults (... where it is none)."""
    found = importlib.util.find_spec(package)
    assert found is not None and found.submodule_search_locations
    tree = ast.parse((Path(found.submodule_search_locations[0]) / file).read_text(encoding="utf-8"))
    values: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name in classes:
            for line in node.body:
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                    default = line.value
                    if isinstance(default, ast.Call):
                        default = next((word.value for word in default.keywords if word.arg == "default"), None)
                    try:
                        values[line.target.id] = ast.literal_eval(default) if default else ...
                    except ValueError:
                        values[line.target.id] = ...
    return values


@pytest.mark.parametrize(
    ("trainer", "file", "name"),
    [
        ("sft", "trainer/sft_config.py", "SFTConfig"),
        ("dpo", "trainer/dpo_config.py", "DPOConfig"),
        ("kto", "trainer/kto_config.py", "KTOConfig"),
    ],
)
def test_trls_arguments_are_all_known_and_its_defaults_are_in_the_spec(
    tmp_path: Path, trainer: str, file: str, name: str
) -> None:
    theirs = fields("transformers", "training_args.py", "TrainingArguments")
    theirs |= fields("trl", "trainer/base_config.py", "_BaseConfig") | fields("trl", file, name)
    theirs |= fields("trl", "trainer/model_config.py", "ModelConfig")
    theirs |= fields("trl", "scripts/utils.py", "ScriptArguments")
    assert {key for key in theirs if not key.startswith("_")} <= set(trl.KEYS)
    line = f"trl {trainer} --model_name_or_path m/x --dataset_name a/b --use_peft"
    spec = spec_of(made(tmp_path, line, "run.sh"))
    assert spec.training.learning_rate == theirs["learning_rate"]
    assert spec.training.epochs == theirs["num_train_epochs"] == 3
    assert spec.training.batch_size == spec.training.global_batch == theirs["per_device_train_batch_size"]
    assert spec.training.weight_decay == theirs["weight_decay"]
    assert spec.training.log_every == theirs["logging_steps"]
    assert spec.training.gradient_checkpointing is theirs["gradient_checkpointing"] is True
    assert spec.data.max_length == theirs["max_length"]
    assert (spec.lora.r, spec.lora.alpha, spec.lora.dropout) == tuple(
        theirs[key] for key in ("lora_r", "lora_alpha", "lora_dropout")
    )
    assert spec.checkpoint.every_steps == theirs["save_steps"]
    assert spec.data.eval == 0 and spec.training.warmup == 0 and spec.training.scheduler == "linear"
    if trainer != "sft":
        assert spec.method.beta == theirs["beta"]


def test_a_command_line_is_taken_apart_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    script = f"""#!/bin/bash
MODEL=m/x
export OUT="$(touch {mark})"
# --learning_rate 1
CUDA_VISIBLE_DEVICES=0,1 accelerate launch --num_processes=2 trl/scripts/sft.py \\
    --model_name_or_path "${{MODEL}}" --dataset_name rows.jsonl \\
    #--learning_rate 9e-9 \\
    --learning-rate=1e-4 --per_device_train_batch_size 4 --gradient_accumulation_steps ${{ACC:-2}} \\
    --lora_target_modules q_proj k_proj --use_peft --report_to wandb none > log.txt
"""
    found = made(tmp_path, script, "run.sh")
    spec = spec_of(found)
    assert not mark.exists()
    assert spec.model.id == "m/x" and spec.data.train == ("/s/rows.jsonl",)
    assert spec.training.learning_rate == 1e-4 and spec.lora.targets == ("q_proj", "k_proj")
    assert spec.training.global_batch == 4 * 2 * 2 and spec.launch.devices == 2 and spec.report.to == ("wandb",)


def test_a_command_goes_over_the_configuration_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "sft.yaml").write_text("model_name_or_path: m/x\ndataset_name: a/b\nlearning_rate: 1e-5\nseed: 7\n")
    spec = spec_of(made(tmp_path, "trl sft --config sft.yaml --learning_rate 3e-5", "run.sh"))
    assert (spec.training.learning_rate, spec.training.seed) == (3e-5, 7)
    with pytest.raises(NotFoundError):
        made(tmp_path, "axolotl train gone.yaml", "run.sh")


def test_what_changes_the_model_is_told_from_what_does_not(tmp_path: Path) -> None:
    text = (
        AXOLOTL + DATA + "optimizer: muon\ndeepspeed: zero3.json\nlora_mystery: 3\nfp8: false\nsample_packing: true\n"
    )
    found = made(tmp_path, text)
    assert left(found)["optimizer"] == left(found)["lora_mystery"] == "changes training"
    assert left(found)["deepspeed"] == "harmless" and "fp8" not in left(found)
    assert {"sample_packing", "datasets[0].type"} <= {one.key for one in found.book.changed}
    assert spec_of(found).training.optimizer == "adamw"  # and not LlamaHome's own auto


@pytest.mark.parametrize(
    ("entry", "format", "columns"),
    [
        ("type: alpaca", "alpaca", {}),
        ("type: chat_template, field_messages: talk, message_property_mappings: {role: who, content: said}", "messages",
         {"messages": "talk", "role": "who", "content": "said"}),
        ("type: chat_template, field_messages: conversations, message_property_mappings: {role: from, content: value}",
         "sharegpt", {}),
        ("type: completion, field: body", "text", {"text": "body"}),
        ("type: {field_instruction: q, field_output: a, format: '[INST] {instruction}'}", "alpaca",
         {"instruction": "q", "output": "a"}),
        ("type: mystery", "auto", {}),
    ],
)  # fmt: skip
def test_axolotls_types_as_formats_and_columns(
    tmp_path: Path, entry: str, format: str, columns: dict[str, str]
) -> None:
    spec = spec_of(made(tmp_path, AXOLOTL + f"datasets: [{{path: a.jsonl, {entry}}}]\n"))
    assert (spec.data.format, dict(spec.data.columns)) == (format, columns)


def test_pairs_of_axolotl_and_the_adapter_they_need(tmp_path: Path) -> None:
    text = AXOLOTL + "rl: dpo\nrl_beta: 0.3\ndatasets: [{path: a.jsonl, type: chatml.intel}]\n"
    spec = spec_of(made(tmp_path, text))
    assert (spec.method.kind, spec.method.beta, dict(spec.data.columns)) == ("dpo", 0.3, {"prompt": "question"})
    full = made(tmp_path, text.replace("adapter: lora\n", ""))
    assert spec_of(full).lora.enabled and any("adapter" in key for key in left(full))


@pytest.mark.parametrize(
    ("method", "type", "columns"),
    [
        ("orpo", "chat_template.argilla", {}),
        ("dpo", "llama3.icr", {"prompt": "input"}),
        ("dpo", "chatml.ultra", {}),
        ("kto", "llama3.argilla", {"prompt": "instruction"}),
        ("kto", "chatml.argilla_chat", {"messages": "completion"}),
        (
            "kto",
            "{field_prompt: q, field_completion: a, field_label: ok}",
            {"prompt": "q", "completion": "a", "label": "ok"},
        ),
    ],
)
def test_columns_of_axolotls_types_for_answers(tmp_path: Path, method: str, type: str, columns: dict[str, str]) -> None:
    found = spec_of(made(tmp_path, AXOLOTL + f"rl: {method}\ndatasets: [{{path: a.jsonl, type: {type}}}]\n"))
    assert dict(found.data.columns) == columns and found.method.kind == method


def test_a_pattern_of_modules_becomes_their_names(tmp_path: Path) -> None:
    text = AXOLOTL + DATA + "lora_target_modules: 'model.layers.[\\d]+.(mlp|self_attn).(up|down|q|v)_proj'\n"
    assert spec_of(made(tmp_path, text)).lora.targets == ("up_proj", "down_proj", "q_proj", "v_proj")


def test_names_of_data_sets_are_looked_up(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset_info.json").write_text((EXAMPLES / "data" / "dataset_info.json").read_text())
    plain = "model_name_or_path: m/x\nstage: sft\ndataset: {}\n"
    assert spec_of(made(tmp_path, plain.format("identity, alpaca_en_demo"))).data.train == (
        "/s/data/identity.json",
        "/s/data/alpaca_en_demo.json",
    )
    assert "config.yaml:3: dataset: nowhere is not in" in refused(tmp_path, plain.format("nowhere"))
    assert "photos has images" in refused(tmp_path, plain.format("photos"))
    json = '{"model_name_or_path": "m/x", "stage": "pt", "dataset": "identity", "val_size": 0.1, "stage": "pt"}'
    found = made(tmp_path, json, "config.json")
    assert spec_of(found).method.kind == "pretrain" and spec_of(found).data.eval == 0.1 and "stage" in left(found)


def test_a_name_from_the_hub_is_safe_to_paste(tmp_path: Path) -> None:
    text = AXOLOTL + "datasets: [{path: 'a/b', split: \"x'); import os #\", type: alpaca}]\n"
    found = made(tmp_path, text)
    assert [one.command for one in found.book.fetches] == [""] and "import os" not in found.text.replace(
        "-import-os-", ""
    )
    assert 'split="train[:5%]"' in made(tmp_path, AXOLOTL + "datasets: [{path: a/b, split: 'train[:5%]'}]\n").text


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdef", "bcdefg", strict=True)
)
MERGES = "a: &a {k: v}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 10)}]}}\n" for old, new in zip("abcdef", "bcdefg", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("base_model: x\nevil: !!python/object/apply:os.system ['true']\n", "config.yaml:2: has the tag"),
        ("base_model: !own x\n", "config.yaml:1: has the tag !own"),
        (BOMB, "unfolds its aliases"),
        (MERGES, "unfolds its aliases"),
        ("a: &a [*a]\n", "stands for what it is part of"),
        ("a: " + "[" * 40 + "]" * 40, "nested deeper"),
        ("a: 1\n---\nb: 2\n", "config.yaml:2: holds a second document"),
        ("a: [1, 2\nb: 3\n", "config.yaml:2: is not YAML"),
        ("? [1, 2]\n: 3\n", "is not YAML"),
        ("- a\n- b\n", "is a list"),
        ("just words\n", "is a single value"),
        ("", "is empty"),
        ("# only this\n", "is empty"),
        ("a: " + "9" * 5000, "can't be read"),
        ("x: " + "a" * (1 << 20), "longer than 1 MiB"),
        ("base_model: x\n".encode("utf-16"), "is UTF-16"),
        (b"base_model: x\nname: caf\xe9\n", "config.yaml:2: is not UTF-8"),
        ("base_model: x\nb: \0\n", "config.yaml:2: holds NUL"),
        ("\n".join(f"k{n}: [" + "1, " * 50 + "]" for n in range(500)), "more than 10,000 values"),
        ("\n".join(f"k{n}: 1" for n in range(1100)), "more than 1,000 keys"),
        ('{"a": [' + "1, " * 6000 + "1]}", "more than 5,000 values"),
        ("{" + '"a":{' * 40 + "}" * 41, "nested deeper"),
        ('{"a": NaN}', "no number"),
        ("learning_rate: 1\n", "can't be told whose"),
        ("compute_environment: LOCAL_MACHINE\n", "configuration of accelerate"),
        ("base_model: x\nlearning_rate: 1e-4\n", "names no data"),
        (AXOLOTL + DATA + "rl: grpo\n", "config.yaml:8: rl: grpo"),
        (AXOLOTL + "datasets: 7\n", "must be a list of data sets"),
        (AXOLOTL + DATA + "num_epochs: many\nseed: [1]\n", "2 mistakes in config.yaml"),
        ("trl sft --model_name_or_path 'x\n", "config.yaml:1: no closing quotation"),
        ("trl grpo --model_name_or_path x --dataset_name y", "trl grpo"),
    ],
)  # fmt: skip
def test_what_is_no_plain_configuration_is_refused_with_its_place(tmp_path: Path, text: str | bytes, said: str) -> None:
    assert said in refused(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "x" * 400_000,
        "#" + "y" * 400_000 + "\nb: 1",
        "a: " + "trl " * 60_000,
        "trl sft --a " + "${a-" * 60_000,
    ],
    ids=["word", "comment", "commands", "variables"],
)
def test_a_file_full_of_nothing_takes_no_longer_than_reading_it(tmp_path: Path, text: str) -> None:
    """Each would take minutes where a pattern or a loop went over the rest of the text at every word."""
    refused(tmp_path, text)


def test_a_file_that_is_not_there_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        translate(tmp_path / "none.yaml", "none.yaml")
    with pytest.raises(ConfigError):
        translate(tmp_path, "folder")


def test_folders_and_data_sets_that_are_named_twice(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    entries = "[{path: ./rows, type: alpaca}, {path: a/b, type: alpaca}, {path: a/b, type: alpaca}]"
    found = made(tmp_path, AXOLOTL + f"datasets: {entries}\nbf16: false\n")
    spec = spec_of(found)
    assert spec.data.train == ("/s/rows/*", "/s/a--b.jsonl") and spec.data.weights == (1.0, 2.0)
    assert len(found.book.fetches) == 1 and spec.training.precision == "fp32"


def test_keys_that_stand_twice_are_named(tmp_path: Path) -> None:
    found = made(tmp_path, AXOLOTL + DATA + "seed: 1\nseed: 2\n")
    reasons = [one.reason for one in found.book.left if one.key == "seed"]
    assert spec_of(found).training.seed == 2 and "lines 8 and 9" in reasons[0]


def test_no_token_of_the_file_gets_into_the_spec(tmp_path: Path) -> None:
    line = "trl sft --model_name_or_path m/x --dataset_name a/b --hub_token abc123secret --run_mystery hf_abcdefghijk"
    found = made(tmp_path, line + " --eos_token '<|end|>'", "run.sh")
    said = found.text + str(found.to_dict())
    assert "abc123secret" not in said and "hf_abcdefghijk" not in said and "[redacted]" in said and "<|end|>" in said


def test_the_file_is_new_and_says_where_it_is(tmp_path: Path, context: Context) -> None:
    context = replace(context, cwd=tmp_path)
    (context.cwd / "x.yaml").write_text(AXOLOTL + DATA)
    *_, result = init(context, from_="x.yaml", to="spec.toml")
    assert isinstance(result, Result) and result.changed and result.data["path"] == str(context.cwd / "spec.toml")
    assert (context.cwd / "spec.toml").read_text() == result.data["text"]
    with pytest.raises(UsageError, match="File exists"):
        list(init(context, from_="x.yaml", to="spec.toml"))
    with pytest.raises(UsageError, match="--dialect"):
        list(init(context, dialect="trl"))


def test_what_a_terminal_would_obey_is_taken_out(tmp_path: Path) -> None:
    text = AXOLOTL + DATA + 'wandb_project: "\\e[31mred\\x07${HOME}"\n"k\\e]52;c;x\\a": "\\e[2J"\n'
    found = made(tmp_path, text)
    assert "\x1b" not in found.text and "\x07" not in found.text
    assert spec_of(found).report.project.endswith("${HOME}")  # a text, and no variable


_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 1 << 40), st.floats(allow_nan=True), st.text(max_size=12),
    st.sampled_from(["auto", "dpo", "kto", "alpaca", "chat_template", "no", "1e-4", "all", "steps", "epoch"]),
    st.sampled_from(["flash_attention_2", "sigmoid", "simpo", "adamw_torch", "constant", "0.5", "true"]),
    st.lists(st.text(max_size=5), max_size=3), st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(data=st.data())
def test_whatever_a_key_says_the_reader_takes_the_spec_or_the_file_is_refused(data: st.DataObject) -> None:
    tool = data.draw(st.sampled_from([axolotl, llama_factory, trl]))
    keys = data.draw(st.lists(st.sampled_from(sorted(tool.KEYS)), min_size=1, max_size=6, unique=True))
    values: dict[str, Any] = {key: data.draw(_VALUES, label=key) for key in keys}
    least = {"base_model": "m", "datasets": [{"path": "a.jsonl"}], "adapter": "lora", "dataset": "a",
             "model_name_or_path": "m", "dataset_name": "a.jsonl", "use_peft": True}  # fmt: skip
    values |= {
        key: value for key, value in least.items() if key in tool.KEYS and (tool is not trl or key != "datasets")
    }
    if tool is not llama_factory and data.draw(st.booleans(), label="entry"):
        inside = data.draw(st.dictionaries(st.sampled_from(sorted(_ENTRY)), _VALUES, max_size=5), label="inside")
        values["datasets"] = [inside | {"path": "a"}, {"path": "b", "type": data.draw(_VALUES, label="type")}]
    given_ = Given("x.yaml", Path("/nowhere"), values, cwd=Path("/nowhere"))
    source, book = Source(given_), Book(tool.NAME)
    try:
        tool.translate(source, book)
        source.refuse_mistakes()
        text = settled(given_, book)
    except LlamaHomeError as error:
        assert error.exit == 3
        return
    read_spec(text, source="spec.toml", folder=Path("/"), environ={})


def test_the_page_has_the_tables_of_the_code() -> None:
    root = Path(__file__).resolve().parents[4]
    found = importlib.util.spec_from_file_location("importing", root / "scripts" / "importing.py")
    assert found is not None and found.loader is not None
    script = importlib.util.module_from_spec(found)
    found.loader.exec_module(script)
    written = (root / "docs" / "importing.md").read_text(encoding="utf-8")
    assert written == script.page(written), "python scripts/importing.py"
