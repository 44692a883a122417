"""The arguments of transformers' trainer, which LLaMA-Factory and TRL share, and what becomes of each."""

from __future__ import annotations

from typing import Final

from llamahome_tui.training.imports import meaning
from llamahome_tui.training.imports.book import HARMLESS, Book
from llamahome_tui.training.imports.rules import Left, Of, Source, Table, To, harmless, real, short, switch, whole

_SPLIT: Final = harmless(
    "where tensors lie, not what is learned: launch.devices and launch.strategy say how this version splits"
)
_PLACE: Final = harmless("runs and what is prepared for them lie in LlamaHome's own folders")
_LOADER: Final = harmless("rows are prepared before the run and read without workers")
_SERVICE: Final = harmless("says how another service is reached, and changes nothing that is learned")
_HUB: Final = harmless("nothing is sent to the Hub by a run; checkpoint.mirror can copy checkpoints there")
_SPEED: Final = harmless("makes steps faster or smaller there; LlamaHome takes what is proved equal by itself")
_LOG: Final = harmless("the journal has every metric")
_EVAL: Final = Of("`data.eval`, `evaluation`")
_BATCH: Final = Of("`training.batch_size`, `training.global_batch`")
_WARMUP: Final = Of("`training.warmup`")
_LEFT: Final = Of("`left`")
_SAVE: Final = Of("`checkpoint`")

KEYS: Final[Table] = {
    "per_device_train_batch_size": _BATCH,
    "gradient_accumulation_steps": _BATCH,
    "per_device_eval_batch_size": harmless("an evaluation takes the rows that fit"),
    "auto_find_batch_size": harmless("a step that does not fit is split (recovery.oom)"),
    "num_train_epochs": To("training.epochs", real),
    "max_steps": Of("`training.max_steps`"),
    "learning_rate": To("training.learning_rate", real),
    "lr_scheduler_type": Of("`training.scheduler`"),
    "lr_scheduler_kwargs": Left("a schedule has no further settings"),
    "warmup_steps": _WARMUP,
    "warmup_ratio": _WARMUP,
    "optim": Of("`training.optimizer`"),
    "optim_args": Left("optimisers have their usual constants"),
    "optim_target_modules": Left("belongs to an optimiser that is not here"),
    "weight_decay": To("training.weight_decay", real),
    "adam_beta1": _LEFT,
    "adam_beta2": _LEFT,
    "adam_epsilon": _LEFT,
    "max_grad_norm": To("training.clip", real),
    "label_smoothing_factor": To("method.label_smoothing", real),
    "bf16": Of("`training.precision`"),
    "fp16": Of("`training.precision`"),
    "bf16_full_eval": harmless("an evaluation computes as training does"),
    "fp16_full_eval": harmless("an evaluation computes as training does"),
    "tf32": harmless("fp32 on a GPU multiplies in TF32 where it has it", True),
    "gradient_checkpointing": Of("`training.gradient_checkpointing`"),
    "activation_checkpointing": Of("`training.gradient_checkpointing`"),
    "gradient_checkpointing_kwargs": harmless("how it is done does not change the gradient"),
    "activation_checkpointing_kwargs": harmless("how it is done does not change the gradient"),
    "activation_offloading": _SPEED,
    "torch_compile": To("training.compile", switch),
    "torch_compile_backend": _SPEED,
    "torch_compile_mode": _SPEED,
    "use_liger_kernel": Of("`training.kernels`"),
    "liger_kernel_config": _SPEED,
    "use_cache": harmless("belongs to answering"),
    "neftune_noise_alpha": To("training.neftune", real),
    "torch_empty_cache_steps": _SPEED,
    "average_tokens_across_devices": harmless("a step is a mean over all its tokens", True),
    "seed": To("training.seed", whole),
    "data_seed": Left("training.seed says the order of rows too"),
    "full_determinism": harmless("a run on a CPU is repeated bitwise"),
    "logging_steps": To("training.log_every", whole),
    "logging_strategy": _LOG,
    "logging_first_step": _LOG,
    "logging_dir": _PLACE,
    "logging_nan_inf_filter": _LOG,
    "log_level": _LOG,
    "log_level_replica": _LOG,
    "log_on_each_node": _LOG,
    "disable_tqdm": _LOG,
    "include_num_input_tokens_seen": _LOG,
    "include_tokens_per_second": _LOG,
    "include_for_metrics": _LOG,
    "report_to": Of("`report.to`"),
    "run_name": Of("`name`"),
    "project": Of("`report.project`"),
    "trackio_space_id": _SERVICE,
    "trackio_bucket_id": _SERVICE,
    "trackio_static_space_id": _SERVICE,
    "eval_strategy": _EVAL,
    "evaluation_strategy": _EVAL,
    "eval_steps": _EVAL,
    "do_eval": _EVAL,
    "eval_delay": harmless("it begins with an evaluation"),
    "eval_on_start": harmless("it begins with an evaluation", True),
    "eval_accumulation_steps": _SPEED,
    "batch_eval_metrics": _SPEED,
    "eval_do_concat_batches": _SPEED,
    "eval_use_gather_object": _SPEED,
    "prediction_loss_only": _LOG,
    "metric_for_best_model": _EVAL,
    "greater_is_better": harmless("known metrics know their direction", True),
    "load_best_model_at_end": harmless("the best checkpoint is kept; with evaluation.patience it is the adapter"),
    "early_stopping_patience": _EVAL,
    "save_strategy": _SAVE,
    "save_steps": _SAVE,
    "save_total_limit": _SAVE,
    "save_only_model": harmless("a checkpoint holds what a resume needs"),
    "save_safetensors": harmless("weights are kept as safetensors", True),
    "save_on_each_node": _SPLIT,
    "enable_jit_checkpoint": harmless("a stop writes a checkpoint"),
    "output_dir": _PLACE,
    "overwrite_output_dir": _PLACE,
    "push_to_hub": _HUB,
    "hub_model_id": _HUB,
    "hub_strategy": _HUB,
    "hub_token": _HUB,
    "hub_private_repo": _HUB,
    "hub_always_push": _HUB,
    "hub_revision": _HUB,
    "resume_from_checkpoint": harmless("runs resume goes on"),
    "ignore_data_skip": Left("a resume goes on where the data were"),
    "restore_callback_states_from_checkpoint": harmless("runs resume goes on"),
    "do_train": harmless("a spec trains", True),
    "do_predict": harmless("evaluate measures a run"),
    "dataloader_num_workers": _LOADER,
    "dataloader_pin_memory": _LOADER,
    "dataloader_persistent_workers": _LOADER,
    "dataloader_prefetch_factor": _LOADER,
    "dataloader_multiprocessing_context": _LOADER,
    "dataloader_in_order": _LOADER,
    "dataloader_drop_last": Left("the last step of an epoch may hold fewer rows"),
    "remove_unused_columns": harmless("columns that a format does not read are passed over", True),
    "label_names": harmless("labels are made of the rows"),
    "group_by_length": harmless(
        "data.batching sorts the rows of a step by length; which rows a step holds stays random"
    ),
    "length_column_name": harmless("belongs to group_by_length"),
    "train_sampling_strategy": Left(
        "rows are shuffled, anew in each epoch", silent=(None, "random", "group_by_length")
    ),
    "accelerator_config": _SPLIT,
    "parallelism_config": _SPLIT,
    "ddp_find_unused_parameters": _SPLIT,
    "ddp_bucket_cap_mb": _SPLIT,
    "ddp_broadcast_buffers": _SPLIT,
    "ddp_static_graph": _SPLIT,
    "ddp_backend": _SPLIT,
    "ddp_timeout": _SPLIT,
    "fsdp": _SPLIT,
    "fsdp_config": _SPLIT,
    "fsdp_transformer_layer_cls_to_wrap": _SPLIT,
    "deepspeed": _SPLIT,
    "local_rank": _SPLIT,
    "use_cpu": harmless("launch.devices says it"),
    "debug": _LOG,
    "skip_memory_metrics": _LOG,
}


def translate(source: Source, book: Book, *, rate: float) -> None:
    """A run's steps: batch, epochs, rate, schedule, optimiser, with transformers' defaults and the tool's `rate`."""
    micro = source.get("per_device_train_batch_size", whole, 8)
    accumulation = source.get("gradient_accumulation_steps", whole, 1)
    meaning.batch(source, book, micro, "per_device_train_batch_size", accumulation, "gradient_accumulation_steps")
    book.default("training.epochs", 3, theirs="num_train_epochs")
    most = source.get("max_steps", whole, -1)
    if most > 0:
        book.set("training.max_steps", most, "max_steps")
    book.default("training.learning_rate", rate, theirs="learning_rate")
    book.default("training.scheduler", "linear", theirs="lr_scheduler_type")
    meaning.scheduler(source, book, "lr_scheduler_type")
    meaning.warmup(source, book)
    book.default("training.optimizer", "adamw", theirs="optim")
    meaning.optimizer(source, book, "optim")
    meaning.betas(source, book)
    book.default("training.weight_decay", 0, theirs="weight_decay")
    meaning.precision(source, book)
    if source.on("use_liger_kernel"):
        liger(book, "use_liger_kernel")


def liger(book: Book, key: str) -> None:
    """Liger's kernels, which auto takes where they are proved equal."""
    book.set("training.kernels", "auto", key)
    book.change(key, True, "auto takes liger where it is installed and proved equal on the model", HARMLESS)


def measured(source: Source, book: Book, *, share: float | None, file: bool) -> None:
    """Evaluations, the best one and checkpoints. `share` is the part of the rows held out, `file`: data.eval is set."""
    strategy = str(source.values.get("eval_strategy", source.values.get("evaluation_strategy", "no")))
    key = source.first("eval_strategy", "evaluation_strategy") or "eval_strategy"
    if share:
        book.set("data.eval", short(share), source.first("val_size", "test_split_size", "eval_strategy") or key)
    elif not file:
        book.set(
            "data.eval", 0, source.first("val_size", key) if source.has("val_size", key) else f"{book.tool}'s default"
        )
    if book.values.get("data.eval"):
        if strategy == "epoch":
            book.change(
                key, strategy, "evaluation.every_steps is auto: at the start, about ten times, at the end", HARMLESS
            )
        elif strategy in ("no", "False"):
            book.set("evaluation.every_steps", 0, f"{key}: no")
        else:
            meaning.every(source, book, "eval_steps", "evaluation.every_steps")
            if not source.has("eval_steps") and source.has("logging_steps"):
                meaning.every(source, book, "logging_steps", "evaluation.every_steps")
        meaning.patience(source, book, "early_stopping_patience")
        meaning.best(source, book)
    meaning.saves(source, book, silent=500)
    if not source.has("save_total_limit"):
        book.change(
            "save_total_limit",
            None,
            "all checkpoints are kept there; here the last two and the best (checkpoint.keep)",
            HARMLESS,
        )


def reported(source: Source, book: Book) -> None:
    """Sinks, project and name."""
    meaning.reports(source, book)
    project = source.values.get("project")
    if project and {"wandb", "trackio"} & set(book.values.get("report.to", ())):
        book.set("report.project", str(project), "project")
    meaning.run_name(source, book, "run_name")
