"""Names that other tools have for a recipe's settings, so that a message can lead from theirs to ours.

Whoever comes from transformers' TrainingArguments, PEFT's LoraConfig, TRL or LLaMA-Factory types these; they are not read as
settings, because one setting with two names can be said twice.
"""

from __future__ import annotations

from collections.abc import Mapping

from nertune.train.llamafactory_keys import HONOURED

__all__ = ["OTHER_NAMES"]

# Ours -> names elsewhere that LLaMA-Factory's table does not have, or has for something else.
_NAMES = {
    "model": "model_name base_model pretrained_model_name_or_path base_model_name_or_path model_id",
    "output": "output_directory save_dir",
    "method": "tuning_type peft_type",
    "max_tokens": "max_length max_seq_length max_seq_len model_max_length block_size",
    "answer": "answer_format output_format",
    "track": "report_to tracker trackers tracking use_swanlab swanlab wandb logging_dir run_name experiment_name",
    "data.train": "train_file train_data train_path training_data train_dataset data_path dataset_path",
    "data.validation": "validation_file eval_file validation_data eval_data eval_dataset test_size validation_split",
    "data.limit": "max_train_samples",
    "data.seed": "data_seed split_seed",
    "prompt.template": "template prompt_template",
    "prompt.system": "system_prompt system_message",
    "prompt.user": "user_prompt instruction",
    "lora.rank": "r lora_r lora_dim",
    "lora.alpha": "lora_alpha",
    "lora.targets": "target_modules lora_target_modules target",
    "lora.plus_ratio": "loraplus_ratio",
    "training.epochs": "num_epochs n_epochs",
    "training.batch_size": "train_batch_size per_device_batch_size per_device_eval_batch_size micro_batch_size",
    "training.accumulation": "grad_accumulation gradient_accumulation accumulation_steps",
    "training.learning_rate": "lr",
    "training.scheduler": "lr_scheduler",
    "training.warmup": "warmup_proportion",
    "training.max_grad_norm": "gradient_clipping",
    "training.dtype": "fp16 torch_dtype precision mixed_precision",
    "training.quantize": "load_in_4bit quantization",
    "training.eval_steps": "evaluation_strategy",
    "training.best_by": "metric_for_best_model greater_is_better",
    "training.patience": "early_stopping_patience",
}

OTHER_NAMES: Mapping[str, str] = {key: rule.ours for key, rule in HONOURED.items()} | {
    name: ours for ours, names in _NAMES.items() for name in names.split()
}
"""From a name elsewhere to the dotted key of ours that says the same."""
