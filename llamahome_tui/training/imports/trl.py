"""TRL's YAML and command lines, as of 1.16: what each of its keys becomes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from llamahome_tui.training.imports import arguments, meaning
from llamahome_tui.training.imports.book import HARMLESS, Book, shown
from llamahome_tui.training.imports.data_sets import DataSet, files_of, is_local, natural
from llamahome_tui.training.imports.data_sets import write as write_sets
from llamahome_tui.training.imports.rules import (
    Left,
    Of,
    Source,
    Table,
    To,
    follow,
    harmless,
    names,
    real,
    short,
    switch,
    text,
    whole,
)
from llamahome_tui.training.imports.unlike import refuse

NAME: Final = "TRL"
MARKS: Final = (
    "dataset_name", "dataset_config", "dataset_train_split", "dataset_test_split", "use_peft", "lora_target_modules",
    "max_length", "assistant_only_loss", "completion_only_loss", "dataset_num_proc", "model_name_or_path", "datasets",
)  # fmt: skip

_METHOD: Final = Of("`method`")
_DATA: Final = Of("`data.train`, `data.eval`")
_LORA: Final = Of("`lora`")
_QUANT: Final = Of("`model.quantization`")
_LEARNED: Final = Of("`data.train_on`")
_REF: Final = Left("the reference is the model that the run began with")
_SPLIT: Final = harmless("where tensors lie: launch.devices and launch.strategy say how this version splits")
_SPEED: Final = harmless("makes steps faster or smaller there; LlamaHome takes what is proved equal by itself")

KEYS: Final[Table] = {
    **arguments.KEYS,
    "model_name_or_path": To("model.id", text),
    "model_revision": To("model.revision", text),
    "trust_remote_code": harmless("no code from model repositories is run; what transformers knows needs none"),
    "dtype": Of("`left`"),
    "torch_dtype": Of("`left`"),
    "attn_implementation": Of("`training.attention`"),
    "model_init_kwargs": Left("the model's own configuration is taken"),
    "ref_model_init_kwargs": _REF,
    "use_peft": _LORA,
    "lora_r": To("lora.r", whole),
    "lora_alpha": To("lora.alpha", real),
    "lora_dropout": To("lora.dropout", real),
    "lora_target_modules": _LORA,
    "lora_target_parameters": _LORA,
    "lora_modules_to_save": To("lora.train_also", names),
    "lora_task_type": harmless("a language model is trained", "CAUSAL_LM"),
    "use_rslora": _LORA,
    "use_dora": _LORA,
    "load_in_8bit": _QUANT,
    "load_in_4bit": _QUANT,
    "bnb_4bit_quant_type": _QUANT,
    "use_bnb_nested_quant": harmless("nf4 quantises its constants too"),
    "bnb_4bit_quant_storage": _SPEED,
    "dataset_name": _DATA,
    "dataset_config": _DATA,
    "dataset_train_split": _DATA,
    "dataset_test_split": _DATA,
    "datasets": _DATA,
    "test_split_size": _DATA,
    "dataset_streaming": harmless("files are read as streams"),
    "streaming": harmless("files are read as streams"),
    "dataset_text_field": Of("`data.columns`"),
    "dataset_kwargs": Left("rows are prepared in one way"),
    "dataset_num_proc": To("training.max_workers", whole),
    "dataset_batch_size": harmless("belongs to preparing"),
    "ignore_bias_buffers": harmless("belongs to ddp"),
    "shuffle_dataset": harmless("rows are always shuffled"),
    "max_length": To("data.max_length", whole),
    "max_seq_length": To("data.max_length", whole),
    "max_prompt_length": Left("a row has one limit, data.max_length"),
    "max_completion_length": Left("a row has one limit, data.max_length"),
    "truncation_mode": Left("long rows are cut at their end", silent=(None, "keep_start")),
    "packing": Of("`data.batching`"),
    "packing_strategy": harmless("rows are packed by best fit", "bfd"),
    "padding_free": _SPEED,
    "eval_packing": harmless("what is measured is the same in every layout"),
    "pad_to_multiple_of": _SPEED,
    "completion_only_loss": _LEARNED,
    "assistant_only_loss": _LEARNED,
    "chat_template_path": Of("`data.template`"),
    "eos_token": Left("the tokenizer is taken as it is"),
    "pad_token": harmless("padding is never looked at"),
    "router_aux_loss_coef": Left("a mixture of experts has no extra loss", silent=(None, 0, 0.0)),
    "loss_type": _METHOD,
    "beta": _METHOD,
    "label_smoothing": To("method.label_smoothing", real),
    "loss_weights": Left("there is one loss"),
    "simpo_gamma": To("method.gamma", real),
    "cpo_alpha": Left("simpo here has no likelihood term", silent=(None, 0, 0.0)),
    "desirable_weight": Left("good answers weigh 1", silent=(None, 1, 1.0, "1.0")),
    "undesirable_weight": Left("bad answers weigh 1", silent=(None, 1, 1.0, "1.0")),
    "disable_dropout": harmless("dropout is that of lora.dropout", True),
    "precompute_ref_log_probs": harmless("the reference is computed on the way"),
    "precompute_ref_batch_size": _SPEED,
    "ld_alpha": Left("every token of an answer weighs the same"),
    "rpo_alpha": Left("dpo here has no likelihood term"),
    "f_divergence_type": Left("dpo is that of the reverse divergence", silent=(None, "reverse_kl")),
    "f_alpha_divergence_coef": harmless("belongs to f_divergence_type"),
    "use_weighting": Left("every pair weighs the same"),
    "discopop_tau": harmless("belongs to a loss that is left out"),
    "reference_free": Left("dpo compares with the reference"),
    "sync_ref_model": _REF,
    "ref_model_mixup_alpha": harmless("belongs to sync_ref_model"),
    "ref_model_sync_steps": harmless("belongs to sync_ref_model"),
    "force_use_ref_model": _REF,
    "ref_adapter_name": _REF,
    "model_adapter_name": harmless("belongs to adapters of several names"),
    "generate_during_eval": harmless("evaluation.generate_rows lets the model answer"),
    "no_gradient_checkpointing": Of("`training.gradient_checkpointing`"),
    "no_remove_unused_columns": harmless("columns that a format does not read are passed over"),
    "env": harmless("variables are the shell's"),
    "log_completions": harmless("samples are events of the run"),
    "num_processes": Of("`launch.devices`"),
    "accelerate_config": _SPLIT,
}

_KINDS: Final = {"sft": "sft", "dpo": "dpo", "kto": "kto", "orpo": "orpo", "cpo": "simpo"}
_RATES: Final = {"sft": 2e-5, "dpo": 1e-6, "kto": 1e-6, "orpo": 1e-6, "simpo": 1e-6}


def translate(source: Source, book: Book, *, method: str | None = None) -> None:
    """Fill the book from TRL's keys, and with its defaults where they are others than ours.

    `method` says which trainer a YAML is for, which it does not say itself.
    """
    kind = _kind(source, book, method)
    follow(KEYS, source, book)
    _method(source, book, kind)
    _lora(source, book)
    _data(source, book, kind)
    arguments.translate(source, book, rate=_RATES.get(kind, 2e-5))
    checkpointing = source.first("gradient_checkpointing", "activation_checkpointing")
    on = source.get(checkpointing, switch, True) if checkpointing else not source.on("no_gradient_checkpointing")
    book.set("training.gradient_checkpointing", on, checkpointing or f"{NAME}'s default")
    meaning.attention(source, book, "attn_implementation")
    if kind in ("sft", "pretrain"):
        meaning.packing(source, book, "packing", longest=book.values.get("data.max_length"))
    arguments.reported(source, book)


def _kind(source: Source, book: Book, method: str | None) -> str:
    command = source.given.command
    if command is not None and command.tool == "trl":
        trainer = command.trainer
        if (trainer == "cpo" and source.values.get("loss_type") != "simpo") or trainer not in _KINDS:
            refuse(source, {f"trl {trainer}": "is none of sft, dpo, kto, orpo, and cpo with loss_type simpo"})
        return _KINDS[trainer]
    if method is not None:
        return method
    grpo = source.first("num_generations", "reward_funcs", "reward_model_path", "use_vllm", "max_completion_length")
    if grpo:
        refuse(source, {grpo: "belongs to a trainer that learns from rewards"})
    losses = source.get("loss_type", names, ()) if source.has("loss_type") else ()
    said = {"kto": "kto", "simpo": "simpo", "apo_zero_unpaired": "kto"}.get(losses[0] if losses else "", "")
    guess = said or (
        "dpo" if source.has("beta") or (losses and losses[0] not in ("nll", "dft", "chunked_nll")) else "sft"
    )
    book.change(
        "--method",
        guess,
        f"a YAML of TRL does not say its trainer; by its keys it is {guess}: --method names another one",
        HARMLESS,
    )
    return guess


def _method(source: Source, book: Book, kind: str) -> None:
    book.set("method.kind", kind, "the trainer")
    losses = source.get("loss_type", names, ())
    if kind == "dpo" and losses and losses != ("sigmoid",):
        if losses == ("ipo",):
            book.set("method.loss", "ipo", "loss_type")
        else:
            book.leave("loss_type", losses, "the losses of dpo are sigmoid and ipo")
    elif kind == "sft" and losses not in ((), ("nll",), ("chunked_nll",)):
        book.leave("loss_type", losses, "the loss is the cross-entropy")
    elif kind == "kto" and losses not in ((), ("kto",)):
        book.leave("loss_type", losses, "the loss of kto is kto")
    if kind in ("dpo", "kto", "orpo", "simpo"):
        book.set(
            "method.beta",
            short(source.get("beta", real, 0.1)),
            "beta" if source.has("beta") else f"{NAME}'s default of beta",
        )
    elif source.has("beta"):
        book.leave("beta", source.values["beta"], f"has no effect with {kind}", HARMLESS)
    if kind == "simpo":
        book.default("method.gamma", 0.5, theirs="simpo_gamma")


def _lora(source: Source, book: Book) -> None:
    if not source.on("use_peft"):
        book.set("lora.enabled", False, "use_peft" if source.has("use_peft") else f"{NAME}'s default of use_peft")
        for key in [key for key in book.values if key.startswith("lora.") and key != "lora.enabled"]:
            book.leave(
                book.origins.pop(key), book.values.pop(key), "has no effect without use_peft, there neither", HARMLESS
            )
        for key in ("load_in_4bit", "load_in_8bit"):
            if source.on(key):
                book.leave(key, True, "quantised weights can't be trained in full: it needs use_peft")
    else:
        book.default("lora.r", 16, theirs="lora_r")
        book.default("lora.alpha", 32, theirs="lora_alpha")
        book.default("lora.dropout", 0.05, theirs="lora_dropout")
        _targets(source, book)
        if source.on("use_dora"):
            book.set("lora.variant", "dora", "use_dora")
        elif source.on("use_rslora"):
            book.set("lora.variant", "rslora", "use_rslora")
        if source.on("load_in_4bit"):
            book.set("model.quantization", "nf4", "load_in_4bit")
            if source.get("bnb_4bit_quant_type", text, "nf4") != "nf4":
                book.change("bnb_4bit_quant_type", source.values["bnb_4bit_quant_type"], "four bits are nf4 here")
        elif source.on("load_in_8bit"):
            book.set("model.quantization", "int8", "load_in_8bit")
    dtype = source.first("dtype", "torch_dtype")
    if dtype and "lora.enabled" in book.values and source.values[dtype] in ("bfloat16", "float16"):
        book.leave(
            dtype, source.values[dtype], "weights that learn in full are kept in fp32 and computed with in 16 bits"
        )
    elif dtype and source.values[dtype] not in ("bfloat16", "float16", "auto", "float32"):
        book.leave(dtype, source.values[dtype], "training.precision says what is computed in", HARMLESS)


def _targets(source: Source, book: Book) -> None:
    if source.has("lora_target_modules"):
        value = source.values["lora_target_modules"]
        if isinstance(value, list) and len(value) == 1:
            source.values["lora_target_modules"] = value[0]
        meaning.modules(source, book, "lora_target_modules")
    elif not source.has("lora_target_parameters"):
        book.set("lora.targets", ("q_proj", "v_proj"), "PEFT's choice for most architectures")
        reason = "is not set, and PEFT chooses by architecture: q_proj and v_proj for most, which the spec has"
        book.change("lora_target_modules", None, f"{reason}; others call them otherwise")
    meaning.experts(source, book, "lora_target_parameters")


def _data(source: Source, book: Book, kind: str) -> None:
    sets = _sets(source, book)
    field = source.values.get("dataset_text_field")
    columns = natural({"text": field})
    write_sets(book, [DataSet(**{**_fields(one), "columns": columns}) for one in sets])
    tested = source.get("test_split_size", real) if source.has("test_split_size") else None
    evaluated = str(source.values.get("eval_strategy", "no")) not in ("no", "False")
    share: float | None = None
    if tested:
        share = tested
    elif evaluated and sets and sets[0].id:
        split = source.get("dataset_test_split", text, "test")
        one = DataSet("dataset_test_split", sets[0].id, sets[0].subset, split)
        write_sets(book, [one], target="data.eval")
    elif evaluated and sets:
        book.leave(
            "eval_strategy",
            source.values["eval_strategy"],
            "a file has no test split: say with data.eval what is held out",
            HARMLESS,
        )
    arguments.measured(source, book, share=share, file="data.eval" in book.values)
    book.default("data.max_length", 1024, theirs="max_length")
    book.default("data.long", "truncate", theirs="truncation_mode")
    template = source.get("chat_template_path", text)
    if template and template.endswith((".jinja", ".j2")):
        book.set("data.template", template, "chat_template_path")
    elif template:
        book.leave(
            "chat_template_path", template, "save that tokenizer's chat template as a file and name it in data.template"
        )
    if kind == "sft":
        _learned(source, book)


def _learned(source: Source, book: Book) -> None:
    if source.on("assistant_only_loss"):
        book.set("data.train_on", "assistant", "assistant_only_loss")
    elif source.on("completion_only_loss"):
        book.set("data.train_on", "completion", "completion_only_loss")
    else:
        book.set("data.train_on", "all", f"{NAME}'s default for texts and chats")
        if not source.has("completion_only_loss"):
            reason = (
                "every token of texts and chats is learned there, and of rows with prompt and completion the completion"
            )
            book.change("completion_only_loss", None, f'{reason}: write train_on = "completion" for those')


def _fields(one: DataSet) -> dict[str, Any]:
    return {name: getattr(one, name) for name in DataSet.__slots__}


def _sets(source: Source, book: Book) -> list[DataSet]:
    mixture = source.values.get("datasets")
    folders = (source.given.folder, source.given.cwd)
    if mixture is not None:
        if not isinstance(mixture, list) or not all(isinstance(one, Mapping) and one.get("path") for one in mixture):
            source.mistake("datasets", f"must be a list of data sets with a path each, not {shown(mixture)}")
            return []
        return [_entry(book, f"datasets[{at}]", one, folders) for at, one in enumerate(mixture)]
    said = source.get("dataset_name", text)
    if not said:
        return []
    split = source.get("dataset_train_split", text, "train")
    subset = source.get("dataset_config", text, "")
    if is_local(said, folders):
        return [DataSet("dataset_name", files=files_of(said, (), folders))]
    return [DataSet("dataset_name", said, subset, split)]


def _entry(book: Book, key: str, one: Mapping[str, Any], folders: tuple[Path, ...]) -> DataSet:
    for name in ("columns", "fraction", "data_dir"):
        if one.get(name):
            book.leave(f"{key}.{name}", one[name], "all rows and columns of a file are read; cut the file itself")
    path, files = str(one["path"]), one.get("data_files") or ()
    files = (files,) if isinstance(files, str) else files
    if not isinstance(files, list | tuple):
        book.leave(f"{key}.data_files", files, "name the files one by one")
        files = ()
    listed = tuple(str(file) for file in files)
    if path in ("json", "csv", "parquet", "text") and listed:
        return DataSet(key, files=listed)
    if is_local(path, folders):
        return DataSet(key, files=files_of(path, listed, folders))
    return DataSet(key, path, str(one.get("name") or ""), str(one.get("split") or "train"), listed)
