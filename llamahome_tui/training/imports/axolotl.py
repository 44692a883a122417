"""Axolotl's YAML, as of 0.19: what each of its keys becomes."""

from __future__ import annotations

from typing import Final

from llamahome_tui.training.imports import axolotl_data, meaning
from llamahome_tui.training.imports.book import CHANGES, HARMLESS, Book
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

NAME: Final = "Axolotl"
# Keys that no other tool has: by them a file is told.
MARKS: Final = (
    "base_model", "sequence_len", "micro_batch_size", "adapter", "lora_target_linear", "val_set_size", "sample_packing",
    "num_epochs", "dataset_prepared_path", "wandb_entity",
)  # fmt: skip

_BATCH: Final = Of("`training.batch_size`, `training.global_batch`")
_METHOD: Final = Of("`method`")
_MODEL: Final = Of("`model.quantization`, `lora.enabled`")
_WARMUP: Final = Of("`training.warmup`")
_LORA: Final = Of("`lora.targets`")
_DATA: Final = Of("`data.train`, `data.format`, `data.columns`")
_EVAL: Final = Of("`data.eval`, `evaluation`")
_SAVE: Final = Of("`checkpoint`")
_REPORT: Final = Of("`report`")
_TEMPLATE: Final = Of("`data.template`, `data.template_options`")
_KERNELS: Final = Of("`training.kernels`")
_SPLIT: Final = harmless(
    "where tensors lie, not what is learned: launch.devices and launch.strategy say how this version splits"
)
_PLACE: Final = harmless("runs and what is prepared for them lie in LlamaHome's own folders")
_LOADER: Final = harmless("rows are prepared before the run and read without workers")
_ELSEWHERE: Final = harmless("says how another service is reached, and changes nothing that is learned")
_SPEED: Final = harmless("makes steps faster or smaller there; LlamaHome takes what is proved equal by itself")
_HUB: Final = harmless("nothing is sent to the Hub by a run; checkpoint.mirror can copy checkpoints there")
_LIGER: Final = Of("`training.kernels`")

_ANSWER: Final = harmless("belongs to answering, not to training")
_OPTIMISER: Final = harmless("belongs to an optimiser that is left out")
_PARTS: Final = Left("all layers learn, or an adapter")
_TEACHER: Final = Left("the loss is the cross-entropy, and there is no teacher")


def _named(prefix: str, words: str) -> tuple[str, ...]:
    """Keys that begin alike."""
    return tuple(prefix + word for word in words.split())


KEYS: Final[Table] = {
    # the model
    "base_model": _MODEL,
    "base_model_config": Left("the configuration beside the weights is taken"),
    "revision_of_model": To("model.revision", text),
    "model_revision": To("model.revision", text),
    "model_type": harmless("the architecture is told by the model's own configuration"),
    "cls_model_config": harmless("the architecture is told by the model's own configuration"),
    "tokenizer_config": Left("the tokenizer beside the weights is taken"),
    "tokenizer_type": harmless("the tokenizer is told by the model's own files"),
    "tokenizer_use_fast": harmless("the fast tokenizer is taken", True),
    "tokenizer_legacy": Left("tokenizer.json is taken as it is", silent=(True, False)),
    "tokenizer_use_mistral_common": Left("tokenizer.json and its chat template are taken, not mistral-common"),
    "tokenizer_save_jinja_files": harmless("the template is kept with the tokenizer", True),
    "processor_type": _METHOD,
    "processor_kwargs": _METHOD,
    "trust_remote_code": harmless("no code from model repositories is run; what transformers knows needs none"),
    "load_in_8bit": _MODEL,
    "load_in_4bit": _MODEL,
    "adapter": _MODEL,
    "bnb_config_kwargs": _MODEL,
    "gptq": Left("weights that are quantised by GPTQ can't be trained on: take the original ones, with nf4"),
    "gptq_groupsize": harmless("belongs to gptq"),
    "gptq_model_v1": harmless("belongs to gptq"),
    "gptq_disable_exllama": harmless("belongs to gptq"),
    "model_quantization_config": Left("weights are quantised as model.quantization says: none, int8, nf4"),
    "model_quantization_config_kwargs": Left("weights are quantised as model.quantization says"),
    "overrides_of_model_config": Left("the model's own configuration is taken"),
    "overrides_of_model_kwargs": Left("the model's own configuration is taken"),
    "model_config": Left("the model's own configuration is taken"),
    "rope_scaling": Left("the model's own configuration is taken"),
    "reinit_weights": Left("training begins with the model's weights"),
    "quantize_moe_experts": Left("nf4 and int8 quantise linear layers only, not experts that are one tensor", HARMLESS),
    "experts_implementation": _SPEED,
    "llama4_linearized_experts": Left("experts stay one tensor a layer here"),
    "use_kernels": _SPEED,
    "use_scattermoe": _SPEED,
    "use_sonicmoe": _SPEED,
    "use_dsv4_kernels": _SPEED,
    "use_glm_dsa_kernels": _SPEED,
    "dsv4_fp4_grouped_mode": _SPEED,
    "fused_attn_kernel": _SPEED,
    "low_cpu_mem_usage": harmless("weights are loaded one file at a time", True),
    "device_map": _SPLIT,
    "max_memory": _SPLIT,
    "gpu_memory_limit": _SPLIT,
    "ple_cpu_offload": _SPLIT,
    "experimental_skip_move_to_device": harmless("belongs to how it loads"),
    "hf_use_auth_token": harmless("a saved login or HF_TOKEN is used where a repository asks for one"),
    "is_llama_derived_model": harmless("told by the model"),
    "is_mistral_derived_model": harmless("told by the model"),
    "is_falcon_derived_model": harmless("told by the model"),
    "is_qwen_derived_model": harmless("told by the model"),
    "base_model_ignore_patterns": harmless("says which files are fetched"),
    "use_onebitllms": Left("LlamaHome does not train weights of one bit"),
    # LoRA
    "lora_r": To("lora.r", whole),
    "lora_alpha": To("lora.alpha", real),
    "lora_dropout": To("lora.dropout", real),
    "lora_target_modules": _LORA,
    "lora_target_linear": _LORA,
    "lora_target_parameters": _LORA,
    "lora_modules_to_save": To("lora.train_also", names),
    "lora_model_dir": To("model.adapter", text),
    "lora_fan_in_fan_out": harmless("told by the module"),
    "lora_on_cpu": _SPLIT,
    "peft_use_dora": Of("`lora.variant`"),
    "peft_use_rslora": Of("`lora.variant`"),
    "peft": Of("`left`"),
    "loraplus_lr_ratio": To("lora.plus_ratio", real),
    "loraplus_lr_embedding": Left("embeddings learn at the same rate as the rest", silent=(None, 1e-6, "1e-6")),
    "lora_rank_pattern": Left("every module has the same rank"),
    "lora_alpha_pattern": Left("every module has the same alpha"),
    "peft_layers_to_transform": Left("all layers are adapted: lora.targets names modules, not layers"),
    "peft_layers_pattern": Left("all layers are adapted: lora.targets names modules, not layers"),
    "peft_init_lora_weights": Left("A is random and B is zero at the start", silent=(True,)),
    "peft_layer_replication": Left("layers are not replicated"),
    "peft_trainable_token_indices": Left("single tokens can't be trained: lora.train_also trains all embeddings"),
    "peft_ensure_weight_tying": Left("tied weights stay as the model has them"),
    "peft_autocast_adapter_dtype": harmless("adapter weights are fp32", True),
    "lora_mlp_kernel": _SPEED,
    "lora_qkv_kernel": _SPEED,
    "lora_o_kernel": _SPEED,
    "lora_embedding_kernel": _SPEED,
    "qlora_sharded_model_loading": _SPLIT,
    "merge_lora": harmless("an adapter is merged by runs export"),
    "merge_method": harmless("belongs to merging"),
    "nvfp4_merge_aware": Left("nothing is quantised to nvfp4"),
    "unfrozen_parameters": Left("all parameters learn, or an adapter and lora.train_also"),
    "freeze_mm_modules": harmless("parts for images are not trained by texts"),
    "relora": Left("an adapter is not merged and begun anew in a run"),
    "relora_prune_ratio": Left("belongs to relora"),
    "relora_cpu_offload": harmless("belongs to relora"),
    "relora_prune_method": Left("belongs to relora"),
    "jagged_restart_steps": Left("the schedule has no restarts"),
    "jagged_restart_warmup_steps": Left("the schedule has no restarts"),
    "jagged_restart_anneal_steps": Left("the schedule has no restarts"),
    "lisa_n_layers": Left("all layers learn all the time"),
    "lisa_step_interval": Left("all layers learn all the time"),
    "lisa_layers_attribute": harmless("belongs to lisa"),
    # data
    "datasets": _DATA,
    "test_datasets": _EVAL,
    "pretraining_dataset": _DATA,
    "val_set_size": _EVAL,
    "train_on_inputs": Of("`data.train_on`"),
    "chat_template": _TEMPLATE,
    "chat_template_jinja": _TEMPLATE,
    "chat_template_kwargs": _TEMPLATE,
    "default_system_message": Left("rows without a system message get what the template gives"),
    "eot_tokens": harmless("the end of an answer is found in the rendered chat"),
    "shuffle_merged_datasets": Left("rows are always shuffled, anew in each epoch", silent=(None, True)),
    "shuffle_before_merging_datasets": harmless("rows are always shuffled"),
    "curriculum_sampling": Left("rows are always shuffled"),
    "group_by_length": harmless(
        "data.batching sorts the rows of a step by length; which rows a step holds stays random"
    ),
    "dataset_exact_deduplication": Left("rows that stand twice count twice: see data stats"),
    "dataset_prepared_path": _PLACE,
    "skip_prepare_dataset": _METHOD,
    "push_dataset_to_hub": _HUB,
    "dataset_processes": To("training.max_workers", whole),
    "dataset_num_proc": To("training.max_workers", whole),
    "dataset_keep_in_memory": _LOADER,
    "dataset_shard_num": Left("all rows are read"),
    "dataset_shard_idx": Left("all rows are read"),
    "num_dataset_shards_to_save": _LOADER,
    "dataloader_pin_memory": _LOADER,
    "dataloader_num_workers": _LOADER,
    "dataloader_prefetch_factor": _LOADER,
    "dataloader_drop_last": Left("the last step of an epoch may hold fewer rows"),
    "remove_unused_columns": harmless("columns that a format does not read are passed over"),
    "accelerator_config": _SPLIT,
    "streaming": harmless("files are read as streams"),
    "streaming_multipack_buffer_size": harmless("belongs to streaming"),
    "pretrain_multipack_buffer_size": harmless("belongs to streaming"),
    "pretrain_multipack_attn": harmless("packed rows never see one another", True),
    "pretraining_sample_concatenation": Left("a text is a row of its own"),
    "sequence_len": To("data.max_length", whole),
    "eval_sequence_len": Left("held-out rows have the same limit"),
    "max_prompt_len": Left("a row has one limit, data.max_length", silent=(None, 512)),
    "min_sample_len": Left("short rows are kept"),
    "excess_length_strategy": Of("`data.long`"),
    "sample_packing": Of("`data.batching`"),
    "max_packed_sequence_len": Of("`data.batching`"),
    "eval_sample_packing": harmless("what is measured is the same in every layout"),
    "sample_packing_sequentially": harmless("rows are packed by best fit"),
    "sample_packing_group_size": harmless("rows of a step are packed"),
    "sample_packing_bin_size": harmless("rows of a step are packed"),
    "sample_packing_eff_est": harmless("counted, not estimated"),
    "sample_packing_seq_len_multiplier": harmless("counted, not estimated"),
    "sample_packing_mp_start_method": _LOADER,
    "total_num_tokens": harmless("counted"),
    "total_supervised_tokens": harmless("counted"),
    "multipack_real_batches": _SPEED,
    "batch_flattening": _SPEED,
    "pad_to_sequence_len": harmless("rows are padded to the longest beside them"),
    "pad_to_multiple_of": harmless("rows are padded to the longest beside them"),
    "special_tokens": Of("`left`"),
    "tokens": Left("no tokens are added to a tokenizer"),
    "added_tokens_overrides": Left("the tokenizer is taken as it is"),
    "resize_token_embeddings_to_32x": harmless("embeddings keep their size"),
    "mean_resizing_embeddings": harmless("embeddings keep their size"),
    "shrink_embeddings": harmless("embeddings keep their size"),
    "embeddings_skip_upcast": _SPEED,
    "fix_untrained_tokens": Left("embeddings are not changed before training"),
    "use_pose": Left("positions are not skipped"),
    "pose_max_context_len": Left("positions are not skipped"),
    "pose_split_on_token_ids": Left("positions are not skipped"),
    "pose_num_chunks": Left("positions are not skipped"),
    # the method
    "rl": _METHOD,
    "rl_beta": _METHOD,
    "dpo_beta": _METHOD,
    "orpo_alpha": _METHOD,
    "simpo_gamma": To("method.gamma", real),
    "cpo_alpha": Left("simpo here has no likelihood term"),
    "rpo_alpha": Left("dpo here has no likelihood term"),
    "dpo_label_smoothing": To("method.label_smoothing", real),
    "dpo_loss_type": _METHOD,
    "dpo_loss_weights": Left("there is one loss"),
    "dpo_use_weighting": Left("every pair weighs the same"),
    "dpo_norm_loss": Left("losses are of sums, or of means with method.loss = ipo"),
    "precompute_ref_log_probs": harmless("the reference is computed on the way"),
    "dpo_use_logits_to_keep": _SPEED,
    "dpo_use_liger_kernel": _SPEED,
    "dpo_padding_free": _SPEED,
    "dpo_generate_during_eval": harmless("evaluation.generate_rows lets the model answer"),
    "kto_desirable_weight": Left("good answers weigh 1", silent=(None, 1, 1.0)),
    "kto_undesirable_weight": Left("bad answers weigh 1", silent=(None, 1, 1.0)),
    "trl": _METHOD,
    "vllm": _METHOD,
    "ebft": _METHOD,
    "reward_model": _METHOD,
    "process_reward_model": _METHOD,
    "num_labels": _METHOD,
    "center_rewards_coefficient": _METHOD,
    "diffusion": _METHOD,
    "trainer_cls": Left("there is one trainer"),
    "qat": Left("weights are not quantised while they learn"),
    "quantization": Left("weights are quantised after training, by runs export"),
    "neftune_noise_alpha": To("training.neftune", real),
    "noisy_embedding_alpha": To("training.neftune", real),
    "use_eaft": Left("the loss is the cross-entropy"),
    "eaft_alpha": Left("the loss is the cross-entropy"),
    "eaft_k": Left("the loss is the cross-entropy"),
    "use_dynamic_finetuning": Left("the loss is the cross-entropy"),
    "llmcompressor": Left("weights are not pruned or compressed"),
    "hatchery": Left("training is on this machine"),
    # the steps
    "micro_batch_size": _BATCH,
    "gradient_accumulation_steps": _BATCH,
    "batch_size": _BATCH,
    "world_size": harmless("told by launch.devices"),
    "eval_batch_size": harmless("an evaluation takes the rows that fit"),
    "auto_find_batch_size": harmless("a step that does not fit is split (recovery.oom)"),
    "num_epochs": To("training.epochs", real),
    "max_steps": Of("`training.max_steps`"),
    "learning_rate": To("training.learning_rate", real),
    "optimizer": Of("`training.optimizer`"),
    "optim_args": Left("optimisers have their usual constants"),
    "optim_target_modules": Left("belongs to an optimiser that is not here"),
    "adam_beta1": Of("`left`"),
    "adam_beta2": Of("`left`"),
    "adam_epsilon": Of("`left`"),
    "adam_eps": Of("`left`"),
    "adam_beta3": Left("belongs to an optimiser that is not here"),
    "adam_epsilon2": Left("belongs to an optimiser that is not here"),
    "weight_decay": To("training.weight_decay", real),
    "max_grad_norm": To("training.clip", real),
    "lr_scheduler": Of("`training.scheduler`"),
    "lr_scheduler_kwargs": Left("a schedule has no further settings"),
    "lr_quadratic_warmup": Left("the warm-up is linear"),
    "cosine_min_lr_ratio": Left("cosine falls to 0"),
    "cosine_constant_lr_ratio": Left("cosine falls to 0", silent=(None, 0, 0.0)),
    "eta_min": Left("schedules fall to 0"),
    "lr_div_factor": Left("schedules begin at 0"),
    "warmup_steps": _WARMUP,
    "warmup_ratio": _WARMUP,
    "embedding_lr": Left("all that learns has one rate"),
    "embedding_lr_scale": Left("all that learns has one rate"),
    "lr_groups": Left("all that learns has one rate"),
    "seed": To("training.seed", whole),
    "bf16": Of("`training.precision`"),
    "fp16": Of("`training.precision`"),
    "bfloat16": harmless("adapter weights are fp32; bf16 says what is computed in"),
    "float16": harmless("adapter weights are fp32; fp16 says what is computed in"),
    "float32": Left("write training.precision = fp32"),
    "torch_dtype": harmless("training.precision says what is computed in"),
    "dtype": harmless("training.precision says what is computed in"),
    "tf32": harmless("fp32 on a GPU multiplies in TF32 where it has it", True, "auto"),
    "fp8": Left("nothing is computed in fp8"),
    "fp8_config": Left("nothing is computed in fp8"),
    "fp8_enable_fsdp_float8_all_gather": Left("nothing is computed in fp8"),
    "fp32_norms": harmless("belongs to fsdp"),
    "fp32_norm_classes": harmless("belongs to fsdp"),
    "gradient_checkpointing": Of("`training.gradient_checkpointing`"),
    "gradient_checkpointing_kwargs": harmless("how it is done does not change the gradient"),
    "selective_checkpointing": _SPEED,
    "activation_offloading": _SPEED,
    "layer_offloading": _SPEED,
    "attn_implementation": Of("`training.attention`"),
    "flash_attention": _SPEED,
    "sdp_attention": Of("`training.attention`"),
    "eager_attention": Of("`training.attention`"),
    "flex_attention": Of("`training.attention`"),
    "xformers_attention": _SPEED,
    "sage_attention": _SPEED,
    "s2_attention": Left("attention is not shifted"),
    "flash_optimum": _SPEED,
    "flash_attn_cross_entropy": _SPEED,
    "flash_attn_fuse_mlp": _SPEED,
    "flash_attn_rms_norm": _SPEED,
    "flash_attn_d512": _SPEED,
    "large_head_attention": _SPEED,
    "flex_attn_compile_kwargs": _SPEED,
    "gemma4_hybrid_attn_impl": _SPEED,
    "sdpa_varlen": _SPEED,
    "scaling_softmax": Left("attention is the model's own"),
    "scaling_softmax_factor": Left("attention is the model's own"),
    "scaling_softmax_bias": Left("attention is the model's own"),
    "chunked_cross_entropy": _SPEED,
    "chunked_cross_entropy_num_chunks": _SPEED,
    "cut_cross_entropy": _SPEED,
    "tiled_mlp": _SPEED,
    "tiled_mlp_num_shards": _SPEED,
    "tiled_mlp_use_original_mlp": _SPEED,
    "plugins": _KERNELS,
    "liger_rope": _LIGER,
    "liger_rms_norm": _LIGER,
    "liger_rms_norm_gated": _LIGER,
    "liger_glu_activation": _LIGER,
    "liger_layer_norm": _LIGER,
    "liger_fused_linear_cross_entropy": _SPEED,
    "liger_cross_entropy": _SPEED,
    "liger_use_token_scaling": _SPEED,
    "torch_compile": To("training.compile", switch, {True: True, False: False}),
    "torch_compile_backend": _SPEED,
    "torch_compile_mode": _SPEED,
    "torch_compile_options": _SPEED,
    "torchdistx_path": _PLACE,
    "loss_watchdog_threshold": harmless("a loss that is not finite ends a run after recovery.nan_limit steps"),
    "loss_watchdog_patience": harmless("belongs to the watchdog"),
    "gc_steps": _SPEED,
    "gc_collect_steps": _SPEED,
    "torch_empty_cache_steps": _SPEED,
    # what is measured, kept and told
    "logging_steps": To("training.log_every", whole),
    "eval_steps": _EVAL,
    "evals_per_epoch": _EVAL,
    "eval_strategy": _EVAL,
    "evaluation_strategy": _EVAL,
    "early_stopping_patience": _EVAL,
    "metric_for_best_model": _EVAL,
    "greater_is_better": harmless("known metrics know their direction", True),
    "load_best_model_at_end": harmless("the best checkpoint is kept; with evaluation.patience it is the adapter"),
    "do_bench_eval": harmless("the held-out rows are measured"),
    "bench_dataset": harmless("the held-out rows are measured"),
    "bench_split": harmless("belongs to bench_dataset"),
    "do_causal_lm_eval": harmless("evaluation.generate_rows lets the model answer"),
    "eval_causal_lm_metrics": harmless("evaluation.generate_rows lets the model answer"),
    "eval_table_size": harmless("answers lie in artifacts/"),
    "eval_max_new_tokens": harmless("answers may be as long as the expected one"),
    "generate_samples": harmless("samples.prompts are answered on the way"),
    "num_generation_samples": harmless("samples.prompts are answered on the way"),
    "generation_max_new_tokens": harmless("samples.max_new_tokens says it"),
    "generation_temperature": harmless("samples are greedy"),
    "generation_prompt_ratio": harmless("samples.prompts are whole prompts"),
    "generation_do_sample": harmless("samples are greedy"),
    "include_tokens_per_second": harmless("always told", True),
    "include_tkps": harmless("always told", True),
    "profiler_steps": harmless("nothing is profiled"),
    "profiler_steps_start": harmless("nothing is profiled"),
    "save_steps": _SAVE,
    "saves_per_epoch": _SAVE,
    "save_strategy": _SAVE,
    "save_total_limit": _SAVE,
    "save_only_model": harmless("a checkpoint holds what a resume needs"),
    "save_first_step": harmless("a checkpoint comes every 10 minutes"),
    "save_safetensors": harmless("weights are kept as safetensors", True),
    "dynamic_checkpoint": harmless("runs control ID save asks for a checkpoint"),
    "resume_from_checkpoint": harmless("runs resume goes on"),
    "auto_resume_from_checkpoints": harmless("train start --or-resume does it"),
    "output_dir": _PLACE,
    "hub_model_id": _HUB,
    "hub_strategy": _HUB,
    "hub_revision": _HUB,
    "use_wandb": _REPORT,
    "wandb_project": _REPORT,
    "wandb_name": _REPORT,
    "wandb_run_id": harmless("a run goes by its own id"),
    "wandb_entity": _ELSEWHERE,
    "wandb_watch": _ELSEWHERE,
    "wandb_log_model": _ELSEWHERE,
    "wandb_mode": _ELSEWHERE,
    "use_tensorboard": _REPORT,
    "use_trackio": _REPORT,
    "trackio_project_name": _REPORT,
    "trackio_run_name": _REPORT,
    "trackio_space_id": _ELSEWHERE,
    "use_mlflow": _REPORT,
    "mlflow_tracking_uri": _ELSEWHERE,
    "mlflow_experiment_name": _ELSEWHERE,
    "mlflow_run_name": _ELSEWHERE,
    "hf_mlflow_log_artifacts": _ELSEWHERE,
    "use_comet": _REPORT,
    "use_swanlab": _REPORT,
    "swanlab_project": _ELSEWHERE,
    "swanlab_experiment_name": _ELSEWHERE,
    "swanlab_description": _ELSEWHERE,
    "swanlab_mode": _ELSEWHERE,
    "swanlab_workspace": _ELSEWHERE,
    "swanlab_log_completions": _ELSEWHERE,
    "swanlab_log_model": _ELSEWHERE,
    "swanlab_completion_log_interval": _ELSEWHERE,
    "swanlab_completion_max_buffer": _ELSEWHERE,
    "swanlab_lark_webhook_url": _ELSEWHERE,
    "use_otel_metrics": _ELSEWHERE,
    "otel_metrics_host": _ELSEWHERE,
    "otel_metrics_port": _ELSEWHERE,
    # several devices
    "deepspeed": _SPLIT,
    "deepcompile": _SPEED,
    "fsdp": _SPLIT,
    "fsdp_config": _SPLIT,
    "fsdp_version": _SPLIT,
    "fsdp_final_state_dict_type": _SPLIT,
    "ddp": _SPLIT,
    "ddp_timeout": _SPLIT,
    "ddp_bucket_cap_mb": _SPLIT,
    "ddp_broadcast_buffers": _SPLIT,
    "ddp_find_unused_parameters": _SPLIT,
    "local_rank": _SPLIT,
    "device": _SPLIT,
    "dp_shard_size": _SPLIT,
    "dp_replicate_size": _SPLIT,
    "tensor_parallel_size": _SPLIT,
    "expert_parallel_size": _SPLIT,
    "context_parallel_size": _SPLIT,
    "sequence_parallel_degree": _SPLIT,
    "heads_k_stride": _SPLIT,
    "ring_attn_func": _SPLIT,
    "expert_parallel_num_nvl_bytes": _SPLIT,
    "expert_parallel_token_capacity": _SPLIT,
    "use_ray": _SPLIT,
    "ray_num_workers": _SPLIT,
    "ray_run_name": _SPLIT,
    "resources_per_worker": _SPLIT,
    "strict": harmless("every key is carried or named"),
    "debug": harmless("belongs to its output"),
    "test_value": harmless("belongs to its tests"),
    "axolotl_config_path": _PLACE,
    "is_preprocess": harmless("rows are prepared before each run"),
    "type_of_model": harmless("the architecture is told by the model's own configuration"),
    "preprocess_iterable": harmless("rows are prepared before the run"),
    "generation_top_k": harmless("samples are greedy"),
    "generation_top_p": harmless("samples are greedy"),
    "liger_swiglu": _LIGER,
    **dict.fromkeys(
        _named("comet_", "api_key experiment_config experiment_key mode online project_name workspace"), _ELSEWHERE
    ),
    **dict.fromkeys(_named("gradio_", "max_new_tokens server_name server_port share temperature title"), _ANSWER),
    **dict.fromkeys(_named("swanlab_", "api_key api_host web_host lark_secret"), _ELSEWHERE),
    **dict.fromkeys(_named("lm_eval_", "batch_size model post_train tasks"), _ANSWER),
    **dict.fromkeys(_named("dion_", "lr momentum rank_fraction rank_multiple_of"), _OPTIMISER),
    **dict.fromkeys(_named("qgalore_", "rank scale update_proj_gap cos_threshold gamma_proj queue_size"), _OPTIMISER),
    **dict.fromkeys(_named("qgalore_proj_", "bits group_size quant type"), _OPTIMISER),
    **dict.fromkeys(_named("grokfast_", "alpha lamb"), _OPTIMISER),
    **dict.fromkeys(_named("spectrum_", "model_name top_fraction"), _PARTS),
    **dict.fromkeys(_named("kd_", "trainer alpha beta ce_alpha normalize_topk temperature temperature_min"), _TEACHER),
    **dict.fromkeys(_named("kd_online_", "server server_base_url timeout topk"), _TEACHER),
    **dict.fromkeys(("image_size", "image_resize_algorithm"), harmless("belongs to images")),
    "role_boundaries": Left("answers are found in the rendered chat by its template"),
}


_SPOKEN: Final = ("LigerPlugin", "CutCrossEntropyPlugin")


def translate(source: Source, book: Book) -> None:
    """Fill the book from Axolotl's keys, and with its defaults where they are others than ours."""
    refuse(source, _refusals(source))
    follow(KEYS, source, book)
    _model(source, book)
    _method(source, book)
    axolotl_data.write(source, book)
    _lora(source, book)
    _steps(source, book)
    _measured(source, book)
    _reported(source, book)
    _rest(source, book)


def _refusals(source: Source) -> dict[str, str]:
    """Keys that make it another kind of training than any of ours, with the reason."""
    found: dict[str, str] = {}
    rl = source.get("rl", text, "")
    if rl and rl not in ("dpo", "ipo", "orpo", "kto", "simpo", "False", "false"):
        found["rl"] = f"{rl} learns from rewards or in another way than dpo, ipo, orpo, kto and simpo"
    for key in ("reward_model", "process_reward_model"):
        if source.on(key):
            found[key] = "trains a model that gives rewards"
    adapter = source.get("adapter", text, "")
    if adapter and adapter not in ("lora", "qlora"):
        found["adapter"] = f"{adapter} is no LoRA"
    if source.has("diffusion") or any("Diffusion" in one for one in _plugins(source)):
        found["diffusion" if source.has("diffusion") else "plugins"] = "trains a diffusion model"
    if source.has("processor_type") and source.on("skip_prepare_dataset"):
        found["processor_type"] = "trains on images or sound, and LlamaHome on text"
    return found


def _plugins(source: Source) -> tuple[str, ...]:
    value = source.values.get("plugins")
    return source.get("plugins", names, ()) if isinstance(value, list | str) else ()


def _model(source: Source, book: Book) -> None:
    base = source.get("base_model", text)
    if base:
        book.set("model.id", base, "base_model")
    adapter = source.get("adapter", text)
    if adapter is None:
        book.set("lora.enabled", False, "adapter, which is not set")
    elif adapter == "qlora" or source.on("load_in_4bit"):
        book.set("model.quantization", "nf4", "adapter" if adapter == "qlora" else "load_in_4bit")
        kind = (source.values.get("bnb_config_kwargs") or {}).get("bnb_4bit_quant_type", "nf4") if isinstance(
            source.values.get("bnb_config_kwargs"), dict) else "nf4"  # fmt: skip
        if kind != "nf4":
            book.leave("bnb_config_kwargs", kind, "four bits are nf4 here")
    elif source.on("load_in_8bit"):
        book.set("model.quantization", "int8", "load_in_8bit")
    if adapter is None:
        for key in ("load_in_8bit", "load_in_4bit"):
            if source.on(key):
                book.leave(key, True, "quantised weights can't be trained in full: it needs adapter")


def _method(source: Source, book: Book) -> None:
    rl = source.get("rl", text, "")
    if rl in ("", "False", "false"):
        return
    book.set("method.kind", "dpo" if rl == "ipo" else rl, "rl")
    if rl == "ipo":
        book.set("method.loss", "ipo", "rl")
    loss = source.values.get("dpo_loss_type")
    if loss:
        words = source.get("dpo_loss_type", names, ())
        if words in (("ipo",), ("sigmoid",)):
            book.set("method.loss", words[0], "dpo_loss_type")
        else:
            book.leave("dpo_loss_type", loss, "the losses of dpo are sigmoid and ipo")
    trl = source.values.get("trl")
    if isinstance(trl, dict):
        if trl.get("beta") is not None:
            source.values["trl.beta"] = trl["beta"]
        for name, value in trl.items():
            if name != "beta" and value not in (None, False):
                book.leave(f"trl.{name}", value, "belongs to methods that let the model answer while it learns")
    key = source.first("trl.beta", "rl_beta", "dpo_beta", *(("orpo_alpha",) if rl == "orpo" else ()))
    book.set("method.beta", short(source.get(key, real, 0.1)) if key else 0.1, key or "Axolotl's default")
    if rl == "simpo":
        book.default("method.gamma", 0.5)


def _lora(source: Source, book: Book) -> None:
    if "lora.enabled" in book.values:
        _without_lora(book)
        return
    if source.on("lora_target_linear"):
        book.set("lora.targets", "all-linear", "lora_target_linear")
        if source.has("lora_target_modules"):
            book.change("lora_target_modules", source.values["lora_target_modules"],
                        "all linear layers are adapted beside it, as lora_target_linear says", HARMLESS)  # fmt: skip
    else:
        meaning.modules(source, book, "lora_target_modules")
    meaning.experts(source, book, "lora_target_parameters")
    if source.on("peft_use_dora"):
        book.set("lora.variant", "dora", "peft_use_dora")
    elif source.on("peft_use_rslora"):
        book.set("lora.variant", "rslora", "peft_use_rslora")
    for key, ours in (("lora_r", "lora.r"), ("lora_alpha", "lora.alpha")):
        if not source.has(key) and not source.has("lora_model_dir"):
            book.change(key, None, f"is not set, and it has no default there; the spec has our default of {ours}")


def _without_lora(book: Book) -> None:
    for key in [key for key in book.values if key.startswith("lora.") and key != "lora.enabled"]:
        book.left.append(_of_no_effect(book, key))
        del book.values[key], book.origins[key]


def _of_no_effect(book: Book, key: str):  # type: ignore[no-untyped-def]
    from llamahome_tui.training.imports.book import Told, shown

    return Told(book.origins[key], shown(book.values[key]), "has no effect without an adapter, there neither", HARMLESS)


def _steps(source: Source, book: Book) -> None:
    micro = source.get("micro_batch_size", whole, 1)
    accumulation = source.get("gradient_accumulation_steps", whole)
    whole_batch = source.get("batch_size", whole)
    if accumulation is None:
        accumulation = max(1, whole_batch // micro) if whole_batch and micro else 1
    meaning.batch(source, book, micro, "micro_batch_size", accumulation, "gradient_accumulation_steps")
    packed = source.first("sample_packing", "max_packed_sequence_len")
    book.default("data.max_length", 512, theirs="sequence_len")
    if packed == "sample_packing":
        meaning.packing(source, book, packed, longest=book.values.get("data.max_length"))
    book.default("training.epochs", 1)
    if source.has("max_steps"):
        most = source.get("max_steps", whole, 0)
        if most > 0:
            book.set("training.max_steps", most, "max_steps")
    if not source.has("learning_rate"):
        book.change("learning_rate", None, "is not set, and it has no default there; the spec leaves it to auto")
    book.default("training.optimizer", "adamw")
    meaning.optimizer(source, book, "optimizer")
    book.default("training.scheduler", "cosine")
    meaning.scheduler(source, book, "lr_scheduler")
    meaning.warmup(source, book, silent=0.03)
    meaning.betas(source, book)
    book.default("training.weight_decay", 0)
    meaning.precision(source, book)
    for key, ours in (("sdp_attention", "sdpa"), ("eager_attention", "eager"), ("flex_attention", "flex_attention")):
        if source.on(key):
            book.set("training.attention", ours, key)
    meaning.attention(source, book, "attn_implementation")
    said = source.values.get("gradient_checkpointing", False)
    if isinstance(said, str) and said.startswith("offload"):
        book.set("training.gradient_checkpointing", True, "gradient_checkpointing")
        book.change(
            "gradient_checkpointing", said, "activations are computed again, not moved to main memory", HARMLESS
        )
    else:
        book.set(
            "training.gradient_checkpointing",
            source.get("gradient_checkpointing", switch, False),
            "gradient_checkpointing",
        )


def _measured(source: Source, book: Book) -> None:
    share = source.get("val_set_size", real, 0.0)
    if not source.has("test_datasets"):
        origin = "val_set_size" if source.has("val_set_size") else "Axolotl's default of val_set_size"
        book.set("data.eval", short(share), origin)
    evaluated = bool(book.values.get("data.eval"))
    if evaluated:
        meaning.every(source, book, "eval_steps", "evaluation.every_steps")
        for key in ("evals_per_epoch", "eval_strategy", "evaluation_strategy"):
            said = source.values.get(key)
            if said in (None, "steps", False):
                continue
            if said in (0, "no"):
                book.set("evaluation.every_steps", 0, key)
            else:
                book.change(
                    key, said, "evaluation.every_steps is auto: at the start, about ten times, at the end", HARMLESS
                )
        meaning.patience(source, book, "early_stopping_patience")
        meaning.best(source, book)
    elif source.get("early_stopping_patience", whole, 0):
        book.leave("early_stopping_patience", source.values["early_stopping_patience"], "there are no held-out rows")
    meaning.saves(source, book, silent=None)
    if source.values.get("saves_per_epoch"):
        book.change("saves_per_epoch", source.values["saves_per_epoch"],
                    "checkpoints come every 10 minutes, at each best evaluation and at the end", HARMLESS)  # fmt: skip


def _reported(source: Source, book: Book) -> None:
    to = [
        name
        for name, keys in (("wandb", ("use_wandb", "wandb_project")), ("tensorboard", ("use_tensorboard",)),
                           ("trackio", ("use_trackio", "trackio_project_name")))
        if (source.on(keys[0]) if source.has(keys[0]) else any(source.has(key) for key in keys[1:]))
    ]  # fmt: skip
    if to:
        book.set("report.to", tuple(to), "use_" + ", use_".join(to))
        project = source.first("wandb_project" if "wandb" in to else "trackio_project_name")
        if project and to != ["tensorboard"]:
            book.set("report.project", source.get(project, text), project)
    for key in ("use_mlflow", "use_comet", "use_swanlab"):
        if source.on(key):
            book.leave(key, True, "LlamaHome has no such sink; tensorboard, wandb and trackio are there", HARMLESS)
    meaning.run_name(source, book, "wandb_name", "trackio_run_name")


def _rest(source: Source, book: Book) -> None:
    tokens = source.values.get("special_tokens")
    for name, value in (tokens if isinstance(tokens, dict) else {}).items():
        if name == "pad_token":
            book.leave("special_tokens.pad_token", value, "padding is never looked at", HARMLESS)
        elif value:
            reason = "the tokenizer is taken as it is: where its own is another one, so are the texts"
            book.leave(f"special_tokens.{name}", value, reason)
    inner = source.values.get("peft")
    for name, value in (inner if isinstance(inner, dict) else {}).items():
        if value:
            book.leave(f"peft.{name}", value, "A is random and B is zero at the start")
    liger = [key for key in KEYS if key.startswith("liger_") and KEYS[key] is _LIGER and source.on(key)]
    for plugin in _plugins(source):
        if "LigerPlugin" in plugin:
            liger = liger or ["plugins"]
        elif not any(known in plugin for known in _SPOKEN):
            severity = HARMLESS if any(one in plugin for one in ("KernelsPlugin", "SwanLab", "Swan")) else CHANGES
            book.leave("plugins", plugin, "LlamaHome has no such plug-in", severity)
    if liger:
        book.set("training.kernels", "auto", liger[0])
        book.change(
            ", ".join(liger), True, "auto takes liger where it is installed and proved equal on the model", HARMLESS
        )
    template = source.get("chat_template", text)
    jinja = source.get("chat_template_jinja", text)
    if jinja and "{" not in jinja and "\n" not in jinja:
        book.set("data.template", jinja, "chat_template_jinja")
    elif jinja:
        book.leave("chat_template_jinja", jinja, "write the template to a file and name it in data.template")
    elif template and template != "tokenizer_default":
        book.change(
            "chat_template",
            template,
            "the model's own chat template is taken; another one can be named in data.template",
        )
    options = source.values.get("chat_template_kwargs")
    if isinstance(options, dict) and options:
        book.set("data.template_options", options, "chat_template_kwargs")
