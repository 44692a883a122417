"""LLaMA-Factory's YAML, JSON and command lines, as of 0.9.5: what each of its keys becomes."""

from __future__ import annotations

from typing import Any, Final

from llamahome_tui.training.imports import arguments, llama_factory_data, meaning
from llamahome_tui.training.imports.book import HARMLESS, Book
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

NAME: Final = "LLaMA-Factory"
MARKS: Final = (
    "stage", "finetuning_type", "template", "dataset", "dataset_dir", "cutoff_len", "lora_rank", "lora_target",
    "val_size", "plot_loss", "preprocessing_num_workers", "overwrite_cache", "pref_beta", "quantization_bit",
)  # fmt: skip

_METHOD: Final = Of("`method`")
_DATA: Final = Of("`data.train`, `data.format`, `data.columns`")
_QUANT: Final = Of("`model.quantization`")
_TEMPLATE: Final = Of("`data.template_options`")
_EXPORT: Final = harmless("belongs to exporting: runs export")
_ANSWER: Final = harmless("belongs to answering, not to training")
_MEDIA: Final = harmless("belongs to images, films and sounds", False, True)
_OPTIMISER: Final = Left("LlamaHome has no such optimiser")
_SWANLAB: Final = harmless("LlamaHome has no such sink; tensorboard, wandb and trackio are there")
_TOKENS: Final = Left("no tokens are added to a tokenizer")
_LOSS: Final = Left("the loss is the cross-entropy")
_FP8: Final = Left("nothing is computed in fp8")
_RAY: Final = harmless("where tensors lie, not what is learned: launch.devices says how this version splits")
_SPEED: Final = harmless("makes steps faster or smaller there; LlamaHome takes what is proved equal by itself")
_KT: Final = Left("experts are not computed by KTransformers")

KEYS: Final[Table] = {
    **arguments.KEYS,
    # the model
    "model_name_or_path": To("model.id", text),
    "model_revision": To("model.revision", text),
    "adapter_name_or_path": Of("`model.adapter`"),
    "adapter_folder": Left("name the adapter's folder in adapter_name_or_path"),
    "cache_dir": harmless("models lie in the Hub's cache"),
    "use_fast_tokenizer": harmless("the fast tokenizer is taken", True),
    "split_special_tokens": Left("special tokens stay whole"),
    "resize_vocab": _TOKENS,
    "add_tokens": _TOKENS,
    "add_special_tokens": _TOKENS,
    "new_special_tokens_config": _TOKENS,
    "init_special_tokens": harmless("belongs to new tokens", "noise_init"),
    "trust_remote_code": harmless("no code from model repositories is run; what transformers knows needs none"),
    "low_cpu_mem_usage": harmless("weights are loaded one file at a time", True),
    "rope_scaling": Left("the model's own configuration is taken"),
    "flash_attn": Of("`training.attention`"),
    "shift_attn": Left("attention is not shifted"),
    "mixture_of_depths": Left("layers are those of the model"),
    "use_unsloth": _SPEED,
    "use_unsloth_gc": _SPEED,
    "enable_liger_kernel": Of("`training.kernels`"),
    "use_v1_kernels": _SPEED,
    "moe_aux_loss_coef": Left("a mixture of experts has no extra loss"),
    "disable_gradient_checkpointing": Of("`training.gradient_checkpointing`"),
    "use_reentrant_gc": harmless("how it is done does not change the gradient", True),
    "upcast_layernorm": harmless("autocast computes norms in fp32"),
    "upcast_lmhead_output": harmless("the loss is computed in fp32"),
    "train_from_scratch": Left("training begins with the model's weights"),
    "infer_backend": _ANSWER,
    "infer_dtype": _ANSWER,
    "use_kv_cache": _ANSWER,
    "offload_folder": _ANSWER,
    "hf_hub_token": harmless("a saved login or HF_TOKEN is used"),
    "ms_hub_token": harmless("models come from the Hugging Face Hub"),
    "om_hub_token": harmless("models come from the Hugging Face Hub"),
    "print_param_status": harmless("what learns is told by the journal"),
    "compute_dtype": harmless("training.precision says it"),
    "model_max_length": Left("the model's context is its own"),
    "device_map": _RAY,
    "block_diag_attn": harmless("packed rows never see one another"),
    "quantization_bit": _QUANT,
    "quantization_method": _QUANT,
    "quantization_type": _QUANT,
    "double_quantization": _QUANT,
    "quantization_device_map": _RAY,
    # what learns
    "finetuning_type": _METHOD,
    "lora_rank": To("lora.r", whole),
    "lora_alpha": To("lora.alpha", real),
    "lora_dropout": To("lora.dropout", real),
    "lora_target": Of("`lora.targets`"),
    "additional_target": To("lora.train_also", names),
    "loraplus_lr_ratio": To("lora.plus_ratio", real),
    "loraplus_lr_embedding": Left("embeddings learn at the same rate as the rest", silent=(None, 1e-6, "1e-6")),
    "use_rslora": Of("`lora.variant`"),
    "use_dora": Of("`lora.variant`"),
    "pissa_init": Left("A is random and B is zero at the start"),
    "pissa_iter": harmless("belongs to pissa_init"),
    "pissa_convert": harmless("belongs to pissa_init"),
    "create_new_adapter": Left("an adapter goes on; one on top of it needs a merge first"),
    **dict.fromkeys(
        (
            "freeze_trainable_layers",
            "freeze_trainable_modules",
            "freeze_extra_modules",
            "use_llama_pro",
            "oft_block_size",
            "oft_target",
            "oft_rank",
            "module_dropout",
        ),
        _METHOD,
    ),
    # data
    "dataset": _DATA,
    "eval_dataset": _DATA,
    "dataset_dir": _DATA,
    "val_size": Of("`data.eval`"),
    "media_dir": _MEDIA,
    "template": _TEMPLATE,
    "enable_thinking": _TEMPLATE,
    "preserve_thinking": Left("what the template does with thinking stands"),
    "default_system": Left("rows without a system message get what the template gives"),
    "tool_format": Left("tools are written by the template"),
    "cutoff_len": To("data.max_length", whole),
    "train_on_prompt": Of("`data.train_on`"),
    "mask_history": Of("`data.train_on`"),
    "packing": Of("`data.batching`"),
    "neat_packing": Of("`data.batching`"),
    "streaming": harmless("files are read as streams"),
    "buffer_size": harmless("belongs to streaming", 16384),
    "mix_strategy": Left("rows of all files are shuffled together", silent=(None, "concat")),
    "interleave_probs": Left("data.weights says how often the rows of a file count"),
    "overwrite_cache": harmless("what is prepared is made anew where it has changed"),
    "preprocessing_batch_size": harmless("belongs to preparing"),
    "preprocessing_num_workers": To("training.max_workers", whole),
    "max_samples": Left("all rows are read: cut the files, as with head -n"),
    "eval_num_beams": _ANSWER,
    "ignore_pad_token_for_loss": harmless("padding is never learned", True),
    "eval_on_each_dataset": harmless("the held-out rows are measured as one"),
    "tokenized_path": harmless("what is prepared lies in LlamaHome's own folders"),
    "data_shared_file_system": harmless("belongs to several machines"),
    "disable_shuffling": Left("rows are shuffled, anew in each epoch"),
    # the method
    "stage": _METHOD,
    "pref_beta": _METHOD,
    "pref_loss": _METHOD,
    "pref_ftx": Left("dpo here has no likelihood term"),
    "pref_bco_weight": Left("dpo here has no such term"),
    "dpo_label_smoothing": To("method.label_smoothing", real),
    "simpo_gamma": To("method.gamma", real),
    "kto_chosen_weight": Left("good answers weigh 1", silent=(None, 1, 1.0)),
    "kto_rejected_weight": Left("bad answers weigh 1", silent=(None, 1, 1.0)),
    "ref_model": Left("the reference is the model that the run began with"),
    "ref_model_adapters": Left("the reference is the model that the run began with"),
    "ref_model_quantization_bit": Left("the reference is the model that the run began with"),
    "ld_alpha": Left("every token of an answer weighs the same"),
    "use_dft_loss": _LOSS,
    "use_asft_loss": _LOSS,
    "asft_alpha": _LOSS,
    "use_eaft_loss": _LOSS,
    "eaft_alpha": _LOSS,
    # the steps
    "pure_bf16": Left("what is frozen lies in bf16; what learns stays fp32"),
    "use_badam": _OPTIMISER,
    "use_galore": _OPTIMISER,
    "use_apollo": _OPTIMISER,
    "use_adam_mini": _OPTIMISER,
    "use_muon": _OPTIMISER,
    "early_stopping_steps": Of("`evaluation.patience`"),
    "compute_accuracy": harmless("eval_token_accuracy is always measured"),
    "plot_loss": harmless("the run's page has the curves", True),
    "include_effective_tokens_per_second": harmless("always told"),
    "predict_with_generate": harmless("evaluation.generate_rows lets the model answer"),
    "freeze_vision_tower": _MEDIA,
    "freeze_multi_modal_projector": _MEDIA,
    "freeze_language_model": Left("the language model is what learns"),
    "fp8": _FP8,
    "fp8_backend": _FP8,
    "fp8_enable_fsdp_float8_all_gather": _FP8,
    "fsdp_transformer_layer_cls_to_wrap": _RAY,
    "use_kt": _KT,
    "kt_weight_path": _KT,
    "kt_expert_checkpoint_path": _KT,
    "kt_use_lora_experts": _KT,
    "kt_lora_expert_num": _KT,
    "kt_lora_expert_intermediate_size": _KT,
    "kt_config": _KT,
    "use_mca": _RAY,
    "use_hyper_parallel": _RAY,
    "hyper_parallel_args": _RAY,
    **dict.fromkeys(
        (
            "ray_num_workers",
            "ray_run_name",
            "ray_storage_path",
            "ray_init_kwargs",
            "resources_per_worker",
            "placement_strategy",
            "master_addr",
            "master_port",
            "ray_storage_filesystem",
        ),
        _RAY,
    ),
    "use_swanlab": _SWANLAB,
    **dict.fromkeys(
        (
            "swanlab_project",
            "swanlab_workspace",
            "swanlab_run_name",
            "swanlab_mode",
            "swanlab_api_key",
            "swanlab_logdir",
            "swanlab_lark_webhook_url",
            "swanlab_lark_secret",
        ),
        _SWANLAB,
    ),
    **dict.fromkeys(
        (
            "image_max_pixels",
            "image_min_pixels",
            "image_do_pan_and_scan",
            "crop_to_patches",
            "video_max_pixels",
            "video_min_pixels",
            "video_fps",
            "video_maxlen",
            "use_audio_in_video",
            "audio_sampling_rate",
        ),
        _MEDIA,
    ),
    **dict.fromkeys(
        (
            "export_dir",
            "export_size",
            "export_device",
            "export_quantization_bit",
            "export_quantization_dataset",
            "export_quantization_nsamples",
            "export_quantization_maxlen",
            "export_legacy_format",
            "export_hub_model_id",
        ),
        _EXPORT,
    ),
    **dict.fromkeys(
        (
            "sglang_maxlen",
            "sglang_mem_fraction",
            "sglang_tp_size",
            "sglang_config",
            "sglang_lora_backend",
            "vllm_maxlen",
            "vllm_gpu_util",
            "vllm_enforce_eager",
            "vllm_max_lora_rank",
            "vllm_config",
            "max_new_tokens",
            "max_length",
            "do_sample",
            "temperature",
            "top_p",
            "top_k",
            "num_beams",
            "repetition_penalty",
            "length_penalty",
            "skip_special_tokens",
        ),
        _ANSWER,
    ),
    **dict.fromkeys(
        (
            "galore_target",
            "galore_rank",
            "galore_update_interval",
            "galore_scale",
            "galore_proj_type",
            "galore_layerwise",
            "apollo_target",
            "apollo_rank",
            "apollo_update_interval",
            "apollo_scale",
            "apollo_proj",
            "apollo_proj_type",
            "apollo_scale_type",
            "apollo_layerwise",
            "apollo_scale_front",
            "badam_mode",
            "badam_start_block",
            "badam_switch_mode",
            "badam_switch_interval",
            "badam_update_ratio",
            "badam_mask_mode",
            "badam_verbose",
        ),
        harmless("belongs to an optimiser that is left out"),
    ),
    **dict.fromkeys(
        (
            "reward_model",
            "reward_model_adapters",
            "reward_model_quantization_bit",
            "reward_model_type",
            "ppo_buffer_size",
            "ppo_epochs",
            "ppo_score_norm",
            "ppo_target",
            "ppo_whiten_rewards",
        ),
        harmless("belongs to ppo"),
    ),
    **dict.fromkeys(
        (
            "enable_torch_profiler",
            "profiler_output_dir",
            "profiler_wait_steps",
            "profiler_warmup_steps",
            "profiler_active_steps",
            "profiler_repeat",
            "profiler_record_shapes",
            "profiler_profile_memory",
            "profiler_with_stack",
            "profile_modules",
        ),
        harmless("nothing is profiled"),
    ),
}

_STAGES: Final = {"sft": "sft", "pt": "pretrain", "dpo": "dpo", "kto": "kto"}
_LOSSES: Final = {"sigmoid": ("dpo", "sigmoid"), "ipo": ("dpo", "ipo"), "orpo": ("orpo", ""), "simpo": ("simpo", "")}


def translate(source: Source, book: Book) -> None:
    """Fill the book from LLaMA-Factory's keys, and with its defaults where they are others than ours."""
    refuse(source, _refusals(source))
    follow(KEYS, source, book)
    _method(source, book)
    _model(source, book)
    llama_factory_data.write(source, book)
    arguments.translate(source, book, rate=5e-5)
    key = "disable_gradient_checkpointing"
    book.set("training.gradient_checkpointing", not source.on(key), key if source.has(key) else f"{NAME}'s default")
    meaning.attention(source, book, "flash_attn")
    if source.on("enable_liger_kernel"):
        arguments.liger(book, "enable_liger_kernel")
    _rows(source, book)
    arguments.measured(source, book, share=source.get("val_size", real, 0.0), file="data.eval" in book.values)
    patience = source.get("early_stopping_steps", whole, 0)
    if patience and book.values.get("data.eval"):
        book.set("evaluation.patience", patience, "early_stopping_steps")
    arguments.reported(source, book)


def _refusals(source: Source) -> dict[str, str]:
    found: dict[str, str] = {}
    stage = source.get("stage", text, "sft")
    if stage not in _STAGES:
        found["stage"] = (
            f"{stage} learns rewards or from them, and LlamaHome has sft, pretrain, dpo, orpo, kto and simpo"
        )
    kind = source.get("finetuning_type", text, "lora")
    if kind not in ("lora", "full"):
        found["finetuning_type"] = f"{kind} is neither LoRA nor full fine-tuning"
    if source.on("do_predict") and not source.on("do_train"):
        found["do_predict"] = "lets a model answer and trains none: llamahome --batch evaluate does that"
    loss = source.get("pref_loss", text, "sigmoid")
    if stage == "dpo" and loss not in _LOSSES:
        found["pref_loss"] = f"{loss} is none of {', '.join(_LOSSES)}"
    if source.on("use_mca") or source.has("tensor_model_parallel_size", "pipeline_model_parallel_size"):
        key = source.first("use_mca", "tensor_model_parallel_size", "pipeline_model_parallel_size")
        found[key] = "trains by Megatron, whose settings have no counterpart here"
    return found


def _method(source: Source, book: Book) -> None:
    stage = source.get("stage", text, "sft")
    kind, loss = _STAGES[stage], ""
    if stage == "dpo":
        kind, loss = _LOSSES[source.get("pref_loss", text, "sigmoid")]
    book.set("method.kind", kind, "stage, pref_loss" if source.has("pref_loss") and stage == "dpo" else "stage")
    if loss == "ipo":
        book.set("method.loss", loss, "pref_loss")
    if stage in ("dpo", "kto"):
        origin = "pref_beta" if source.has("pref_beta") else f"{NAME}'s default of pref_beta"
        book.set("method.beta", short(source.get("pref_beta", real, 0.1)), origin)
    else:
        for key in ("pref_beta", "pref_loss"):
            if source.has(key):
                book.leave(key, source.values[key], f"has no effect with stage {stage}, there neither", HARMLESS)
    if kind == "simpo":
        book.default("method.gamma", 0.5, theirs="simpo_gamma")


def _model(source: Source, book: Book) -> None:
    if source.get("finetuning_type", text, "lora") == "full":
        book.set("lora.enabled", False, "finetuning_type")
        for key in [key for key in book.values if key.startswith("lora.") and key != "lora.enabled"]:
            book.leave(
                book.origins.pop(key), book.values.pop(key), "has no effect without an adapter, there neither", HARMLESS
            )
    else:
        book.default("lora.r", 8, theirs="lora_rank")
        book.default("lora.alpha", 2 * book.values["lora.r"], theirs="lora_alpha, twice the rank")
        book.default("lora.targets", "all-linear", theirs="lora_target")
        meaning.modules(source, book, "lora_target")
        if source.on("use_dora"):
            book.set("lora.variant", "dora", "use_dora")
        elif source.on("use_rslora"):
            book.set("lora.variant", "rslora", "use_rslora")
    adapters = source.get("adapter_name_or_path", names, ())
    if adapters:
        book.set("model.adapter", adapters[-1], "adapter_name_or_path")
        if len(adapters) > 1:
            book.leave(
                "adapter_name_or_path",
                adapters[:-1],
                "a run goes on from one adapter: merge the others into the model first",
            )
    _quantized(source, book)


def _quantized(source: Source, book: Book) -> None:
    bits: Any = source.get("quantization_bit", whole)
    method = source.get("quantization_method", text, "bnb")
    if bits is None:
        return
    if method not in ("bnb", "bitsandbytes", "BNB") or bits not in (4, 8):
        book.leave("quantization_bit", f"{bits} ({method})", "model.quantization has nf4 and int8, of bitsandbytes")
        return
    book.set("model.quantization", "nf4" if bits == 4 else "int8", "quantization_bit")
    if bits == 4 and source.get("quantization_type", text, "nf4") != "nf4":
        book.change("quantization_type", source.values["quantization_type"], "four bits are nf4 here")
    if bits == 4 and source.has("double_quantization") and not source.get("double_quantization", switch, True):
        book.change("double_quantization", False, "nf4 quantises its constants too, which takes less memory", HARMLESS)


def _rows(source: Source, book: Book) -> None:
    kind = book.values["method.kind"]
    book.default("data.max_length", 2048, theirs="cutoff_len")
    longest = book.values.get("data.max_length")
    if kind == "pretrain":
        book.set("data.long", "split", "stage")
        if not source.has("packing") or source.on("packing"):
            book.change(
                "packing",
                source.values.get("packing"),
                "texts are put behind one another and cut there; a text is a row of its own here",
            )
    else:
        book.set("data.long", "truncate", "cutoff_len")
        meaning.packing(source, book, "neat_packing" if source.on("neat_packing") else "packing", longest=longest)
        if source.on("packing") and not source.on("neat_packing"):
            book.change("packing", True, "packed rows see one another there, and never here")
    if kind == "sft" and source.on("train_on_prompt"):
        book.set("data.train_on", "all", "train_on_prompt")
    elif kind == "sft" and source.on("mask_history"):
        book.set("data.train_on", "last", "mask_history")
    template = source.get("template", text)
    if template and kind != "pretrain":
        reason = "the model's own chat template is taken; both write the same chat of a model that was made with it"
        book.change("template", template, f"{reason} (see: data inspect)")
    if source.has("enable_thinking") and not source.get("enable_thinking", switch, True):
        book.set("data.template_options", {"enable_thinking": False}, "enable_thinking")
