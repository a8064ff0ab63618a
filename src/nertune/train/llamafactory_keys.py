"""What becomes of every key that LLaMA-Factory's training files know (version 0.9.5): the table behind `llamafactory.py`.

A key is honoured (HONOURED, with the kind of its value), taken with a note because it changes nothing here (NOTED), or
taken where its value asks for what is done here anyway and refused otherwise (FIXED). Nothing else is a key of theirs.
Names and defaults are those of its `hparams` and of transformers' training arguments, 5.6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

__all__ = [
    "FIXED",
    "HONOURED",
    "KNOWN",
    "NOTED",
    "OLD_NAMES",
    "REASONING",
    "SECRET",
    "TEMPLATES",
    "Fixed",
    "Honoured",
    "is_llamafactory",
]

Kind = Literal["text", "whole", "number", "yes or no", "names", "text or yes or no"]


class Honoured(NamedTuple):
    """`ours`: the dotted key of our recipe that says the same; `default`: theirs, where the file is silent."""

    ours: str
    kind: Kind
    default: Any = None


class Fixed(NamedTuple):
    """`values`: what the key may say; `why`: the reason why it can say nothing else."""

    values: tuple[Any, ...]
    why: str


HONOURED: Mapping[str, Honoured] = {
    "model_name_or_path": Honoured("model", "text"),
    "dataset": Honoured("data.train", "names"),
    "eval_dataset": Honoured("data.validation", "names"),
    "dataset_dir": Honoured("data.train", "text", "data"),
    "val_size": Honoured("data.validation", "number", 0.0),
    "max_samples": Honoured("data.limit", "whole"),
    "template": Honoured("prompt.system", "text"),
    "default_system": Honoured("prompt.system", "text"),
    "cutoff_len": Honoured("max_tokens", "whole", 2048),
    "finetuning_type": Honoured("method", "text", "lora"),
    "lora_rank": Honoured("lora.rank", "whole", 8),
    "lora_alpha": Honoured("lora.alpha", "whole"),
    "lora_dropout": Honoured("lora.dropout", "number", 0.0),
    "lora_target": Honoured("lora.targets", "names", "all"),
    "use_rslora": Honoured("lora.rslora", "yes or no", False),
    "use_dora": Honoured("lora.dora", "yes or no", False),
    "loraplus_lr_ratio": Honoured("lora.plus_ratio", "number"),
    "adapter_name_or_path": Honoured("lora.from", "names"),
    "add_tokens": Honoured("tokens", "names"),
    "add_special_tokens": Honoured("tokens", "names"),
    "additional_target": Honoured("tokens", "names"),
    "quantization_bit": Honoured("training.quantize", "whole"),
    "quantization_method": Honoured("training.quantize", "text", "bnb"),
    "quantization_type": Honoured("training.quantize", "text", "nf4"),
    "double_quantization": Honoured("training.quantize", "yes or no", True),
    "num_train_epochs": Honoured("training.epochs", "number", 3.0),
    "max_steps": Honoured("training.max_steps", "whole", -1),
    "per_device_train_batch_size": Honoured("training.batch_size", "whole", 8),
    "gradient_accumulation_steps": Honoured("training.accumulation", "whole", 1),
    "learning_rate": Honoured("training.learning_rate", "number", 5e-5),
    "lr_scheduler_type": Honoured("training.scheduler", "text", "linear"),
    "warmup_ratio": Honoured("training.warmup", "number", 0.0),
    "warmup_steps": Honoured("training.warmup", "number", 0),
    "weight_decay": Honoured("training.weight_decay", "number", 0.0),
    "max_grad_norm": Honoured("training.max_grad_norm", "number", 1.0),
    "disable_gradient_checkpointing": Honoured("training.gradient_checkpointing", "yes or no", False),
    "bf16": Honoured("training.dtype", "yes or no", False),
    "pure_bf16": Honoured("training.dtype", "yes or no", False),
    "logging_steps": Honoured("training.log_steps", "whole", 500),
    "eval_strategy": Honoured("training.eval_steps", "text", "no"),
    "eval_steps": Honoured("training.eval_steps", "whole"),
    "save_strategy": Honoured("training.save_steps", "text", "steps"),
    "save_steps": Honoured("training.save_steps", "whole", 500),
    "save_total_limit": Honoured("training.keep_checkpoints", "whole"),
    "load_best_model_at_end": Honoured("training.keep_best", "yes or no", False),
    "early_stopping_steps": Honoured("training.patience", "whole"),
    "seed": Honoured("training.seed", "whole", 42),
    "output_dir": Honoured("output", "text", "trainer_output"),
    "overwrite_output_dir": Honoured("overwrite", "yes or no", False),
    "resume_from_checkpoint": Honoured("resume", "text or yes or no", False),
}

# Keys of earlier versions that files in the wild still use, and what they are called now.
OLD_NAMES: Mapping[str, str] = {
    "evaluation_strategy": "eval_strategy",
}

SECRET = frozenset(
    {
        "hf_hub_token",
        "ms_hub_token",
        "om_hub_token",
        "hub_token",
        "swanlab_api_key",
        "swanlab_lark_secret",
        "swanlab_lark_webhook_url",
    }
)

# Why a key has no effect -> the keys.
_NOTED = {
    "rows are prepared in one go and never cached, so this has nothing to do here": """
        overwrite_cache preprocessing_num_workers preprocessing_batch_size dataloader_num_workers
        dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor dataloader_in_order
        dataloader_multiprocessing_context data_shared_file_system buffer_size remove_unused_columns label_names
        length_column_name""",
    "code from a model's repository is run only where the command line says --trust-remote-code, whatever this says": """
        trust_remote_code""",
    "tokenizers are fast ones, and weights are loaded in one go": "use_fast_tokenizer low_cpu_mem_usage",
    "loss.png is always drawn": "plot_loss",
    "evaluation goes by eval_strategy": "do_eval",
    "attention and kernels are nertune's own: the same losses, another speed": """
        flash_attn use_unsloth use_unsloth_gc enable_liger_kernel
        use_liger_kernel liger_kernel_config use_v1_kernels use_reentrant_gc gradient_checkpointing
        gradient_checkpointing_kwargs activation_checkpointing activation_checkpointing_kwargs use_cache tf32
        torch_compile torch_compile_backend torch_compile_mode torch_empty_cache_steps use_kv_cache""",
    "evaluation runs in batches of per_device_train_batch_size; its loss is the mean over tokens, whatever the batch": """
        per_device_eval_batch_size eval_accumulation_steps eval_do_concat_batches eval_use_gather_object
        batch_eval_metrics prediction_loss_only eval_on_each_dataset""",
    "training gives the evaluation loss; nertune evaluate gives precision, recall and F1": """
        compute_accuracy include_for_metrics eval_num_beams""",
    "no tracker is called from such a file: metrics.jsonl and loss.png hold the course": """
        report_to run_name project trackio_space_id trackio_bucket_id trackio_static_space_id use_swanlab
        swanlab_project swanlab_workspace swanlab_run_name swanlab_mode swanlab_api_key swanlab_logdir
        swanlab_lark_webhook_url swanlab_lark_secret""",
    "progress and logs are nertune's own": """
        logging_first_step log_on_each_node logging_nan_inf_filter logging_dir include_num_input_tokens_seen
        include_tokens_per_second include_effective_tokens_per_second log_level log_level_replica disable_tqdm
        print_param_status skip_memory_metrics""",
    "every checkpoint can be resumed from, so the optimizer is always in it": "save_only_model",
    "weights are always safetensors": "save_safetensors",
    "processes are set up by their launcher and torch's defaults": """
        ddp_timeout ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph ddp_backend
        local_rank save_on_each_node master_addr master_port ray_num_workers ray_init_kwargs ray_run_name
        ray_storage_path ray_logging_steps resources_per_worker placement_strategy""",
    "set HF_HOME or HF_TOKEN in the environment instead": "cache_dir hf_hub_token ms_hub_token om_hub_token",
    "nothing is pushed to a hub": """
        hub_model_id hub_strategy hub_token hub_private_repo hub_always_push hub_revision""",
    "control tokens in a text always stay text here": "split_special_tokens",
    "the data are text alone, in single turns without tools": """
        media_dir mask_history tool_format image_max_pixels image_min_pixels
        image_do_pan_and_scan crop_to_patches video_max_pixels video_min_pixels video_fps video_maxlen
        use_audio_in_video audio_sampling_rate freeze_vision_tower freeze_multi_modal_projector image_resolution
        video_resolution preserve_thinking""",
    "reasoning is always off: an empty reasoning part belongs to the prompt and is not trained": "enable_thinking",
    "it says how to generate, export or serve, not how to train; nertune decodes greedily": """
        do_sample temperature top_p top_k num_beams max_length max_new_tokens repetition_penalty length_penalty
        skip_special_tokens generation_max_length generation_num_beams generation_config infer_backend infer_dtype
        offload_folder export_dir export_size export_device export_quantization_bit export_quantization_dataset
        export_quantization_nsamples export_quantization_maxlen export_legacy_format export_hub_model_id vllm_maxlen
        vllm_gpu_util vllm_enforce_eager vllm_max_lora_rank vllm_config sglang_maxlen sglang_mem_fraction
        sglang_tp_size sglang_config sglang_lora_backend""",
    "embeddings grow where tokens are added, and nowhere else": "resize_vocab",
    "the row of an added token starts as the mean of the pieces that its text was before": "init_special_tokens",
    "there is no rate of its own for LoRA layers on embeddings": "loraplus_lr_embedding",
    "it belongs to a method that is switched off": """
        quantization_device_map freeze_trainable_layers freeze_trainable_modules freeze_extra_modules
        pissa_iter pissa_convert module_dropout oft_rank oft_block_size
        oft_target pref_beta pref_ftx pref_bco_weight pref_loss dpo_label_smoothing kto_chosen_weight
        kto_rejected_weight simpo_gamma ppo_buffer_size ppo_epochs ppo_score_norm ppo_target ppo_whiten_rewards
        ref_model ref_model_adapters ref_model_quantization_bit reward_model reward_model_adapters
        reward_model_quantization_bit reward_model_type ld_alpha galore_target galore_rank galore_update_interval
        galore_scale galore_proj_type galore_layerwise apollo_target apollo_rank apollo_update_interval apollo_scale
        apollo_proj apollo_proj_type apollo_scale_type apollo_layerwise apollo_scale_front badam_mode
        badam_start_block badam_switch_mode badam_switch_interval badam_update_ratio badam_mask_mode badam_verbose
        asft_alpha eaft_alpha kt_weight_path kt_expert_checkpoint_path kt_use_lora_experts kt_lora_expert_num
        kt_lora_expert_intermediate_size hyper_parallel_args fp8_backend fp8_enable_fsdp_float8_all_gather
        fsdp_config fsdp_min_num_params fsdp_transformer_layer_cls_to_wrap profiler_output_dir
        profiler_wait_steps profiler_warmup_steps profiler_active_steps profiler_repeat profiler_record_shapes
        profiler_profile_memory profiler_with_stack""",
}
NOTED: Mapping[str, str] = {key: why for why, keys in _NOTED.items() for key in keys.split()}

# (the keys, the values they may have, why no other)
_FIXED: tuple[tuple[str, tuple[Any, ...], str], ...] = (
    ("stage", ("sft",), "nertune fine-tunes on annotated answers (sft) alone"),
    ("do_train", (True,), "this command trains; nertune evaluate measures"),
    (
        "use_kt use_mca use_hyper_parallel fp8 mixture_of_depths",
        (None, False),
        "the base model is loaded as it is, in float32 or bfloat16, or in 4 bits",
    ),
    ("fp16 bf16_full_eval fp16_full_eval half_precision_backend", (None, False), "use bf16: true; float16 overflows"),
    (
        "deepspeed fsdp parallelism_config accelerator_config enable_jit_checkpoint",
        (None, False, "", ()),
        "several devices train through torchrun or accelerate launch (DDP); remove the key",
    ),
    (
        "pissa_init use_llama_pro",
        (None, False),
        "LoRA, rsLoRA, DoRA and LoRA+ are what there is",
    ),
    (
        "create_new_adapter",
        (None, False),
        "an adapter that is named is itself trained on; for a new one, merge it into its base model and name that",
    ),
    ("adapter_folder", (None, False), "name the adapter's own folder by adapter_name_or_path"),
    ("train_from_scratch", (None, False), "training starts from a model's weights"),
    ("new_special_tokens_config", (None, False), "list its tokens under add_special_tokens"),
    (
        "use_galore use_apollo use_badam use_adam_mini use_muon optim_target_modules optim_args",
        (None, False, ""),
        "the optimizer is AdamW",
    ),
    ("optim", ("adamw_torch", "adamw_torch_fused", "adamw_hf"), "the optimizer is AdamW"),
    ("adam_beta1", (0.9,), "AdamW runs with its usual constants"),
    ("adam_beta2", (0.999,), "AdamW runs with its usual constants"),
    ("adam_epsilon", (1e-8,), "AdamW runs with its usual constants"),
    (
        "use_dft_loss use_asft_loss use_eaft_loss label_smoothing_factor neftune_noise_alpha moe_aux_loss_coef",
        (None, False, 0),
        "the loss is the cross-entropy of the answer",
    ),
    (
        "train_on_prompt",
        (False,),
        "the answer alone is trained, so that the prompt in training is the prompt at inference",
    ),
    ("ignore_pad_token_for_loss", (True,), "padding is never trained"),
    (
        "packing neat_packing",
        (None, False),
        "rows are not strung together; a batch computes the prompt that its rows share once, which saves more",
    ),
    ("streaming", (False,), "the data are read whole; use max_samples for a part"),
    (
        "mix_strategy",
        ("concat",),
        "all rows of all data sets are trained; a recipe of nertune's own has a weight for each",
    ),
    (
        "interleave_probs",
        (None,),
        "all rows of all data sets are trained; a recipe of nertune's own has a weight for each",
    ),
    ("tokenized_path", (None,), "rows are made from the data each time; name the data by dataset"),
    (
        "rope_scaling shift_attn upcast_layernorm upcast_lmhead_output",
        (None, False),
        "the base model is used as it is",
    ),
    ("freeze_language_model", (False,), "the language model is what is trained"),
    ("model_revision", ("main",), "download the revision and name its folder"),
    ("lr_scheduler_kwargs", (None, "", {}), "schedulers run with their usual constants"),
    ("logging_strategy", ("steps",), "the log is written every logging_steps"),
    ("eval_on_start eval_delay", (False, 0), "evaluations come every eval_steps"),
    ("metric_for_best_model", (None, "eval_loss", "loss"), "the best state is that of the least evaluation loss"),
    ("greater_is_better", (None, False), "the best state is that of the least evaluation loss"),
    (
        "predict_with_generate do_predict",
        (False,),
        "nertune evaluate generates and measures after training",
    ),
    (
        "disable_shuffling dataloader_drop_last group_by_length sortish_sampler",
        (False,),
        "all rows are shuffled anew each epoch",
    ),
    ("train_sampling_strategy", ("random",), "all rows are shuffled anew each epoch"),
    ("auto_find_batch_size full_determinism ignore_data_skip", (False,), "the batch is what the file says"),
    ("average_tokens_across_devices", (True,), "the loss is the mean over the tokens of all devices"),
    ("restore_callback_states_from_checkpoint push_to_hub", (False,), "it is not done here"),
    ("use_cpu no_cuda", (False,), "hide the accelerator instead: CUDA_VISIBLE_DEVICES= nertune train …"),
    ("debug", (None, "", False, ()), "not available here"),
    ("enable_torch_profiler profile_modules", (None, False), "not available here"),
)
FIXED: Mapping[str, Fixed] = {key: Fixed(values, why) for keys, values, why in _FIXED for key in keys.split()}

KNOWN: tuple[str, ...] = (*HONOURED, *FIXED, *NOTED, "data_seed")

# Their templates that train an empty reasoning part with every answer.
REASONING = frozenset({"qwen3"})

_QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
# Their templates that write what the models' own chat templates write, and the system sentence that they put first.
TEMPLATES: Mapping[str, str | None] = {
    "qwen": _QWEN,
    "qwen3": None,
    "qwen3_nothink": None,
    "chatml": None,
    "llama3": None,
    "mistral": None,
    "mistral_small": None,
    "ministral": None,
    "gemma": None,
    "gemma2": None,
    "gemma3": None,
    "phi": None,
    "phi_small": None,
    "phi4": None,
    "phi4_mini": None,
    "glm4": None,
    "chatglm3": None,
    "deepseek": None,
    "deepseek3": None,
    "yi": None,
    "granite3": None,
    "exaone": None,
    "hunyuan": None,
    "smollm": None,
    "smollm2": "You are a helpful AI assistant named SmolLM, trained by Hugging Face.",
}

_SIGNS = ("stage", "finetuning_type", "dataset", "dataset_dir", "cutoff_len", "per_device_train_batch_size")


def is_llamafactory(value: dict[str, Any]) -> bool:
    """Whether these keys are LLaMA-Factory's rather than a recipe's."""
    if "model_name_or_path" in value:
        return "data" not in value
    return any(key in value for key in _SIGNS) and not {"model", "data"} & set(value)
