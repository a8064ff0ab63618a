"""transformers' Trainer with the packed loss, a metrics file, and nothing printed that nobody asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch.utils.data import DataLoader
from transformers.trainer_utils import EvalLoopOutput

from nertune.errors import TrainingError
from nertune.train.failures import how_to_go_on
from nertune.train.guard import LossGuard, MicroBatch, listed
from nertune.train.heads import LossHead
from nertune.train.objective import packed_loss_sum, padded_loss_sum
from nertune.train.optimizer import raise_rate_of_b
from nertune.train.sampler import TaskBatches, batches_in_order
from nertune.train.saving import SealingTrainer
from nertune.train.sharded import engine
from nertune.train.shares import even_loader, with_idle
from nertune.train.stopping import StopCallback, StopSignals

__all__ = ["NerTrainer", "TaskRows"]


class TaskRows(NamedTuple):
    """What is evaluated where there are several tasks: their names, and the number of rows that each of them has."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]


class NerTrainer(SealingTrainer):
    """Trains on packed batches, or on padded ones where the model cannot share a prefix.

    The loss is the mean over the trained tokens of one optimizer step, whatever the accumulation and the number of
    processes, as in transformers' own causal-language-model loss; the evaluation loss is the mean over all its tokens.
    `batches` choose the rows of every micro-batch, in place of transformers' own order. `evaluated` says where in the
    evaluation rows the tasks are; the loss of each is logged besides that of all, as `eval_loss/NAME`.
    `names`: what to call each training sample where a step is refused. `signals`: ends the training when one came.
    """

    def __init__(
        self,
        *args: Any,
        packed: bool,
        head: LossHead | None = None,
        plus_ratio: float | None = None,
        names: Sequence[str] = (),
        signals: StopSignals | None = None,
        measure: Callable[[Any], Mapping[str, float]] | None = None,
        batches: TaskBatches | None = None,
        evaluated: TaskRows | None = None,
        **kwargs: Any,
    ) -> None:
        """`measure`: more figures about the model at every evaluation, logged with `eval_` before their names."""
        super().__init__(*args, **kwargs)
        self._plus_ratio = plus_ratio
        self._measure = measure
        self._loss_sum = partial(packed_loss_sum if packed else padded_loss_sum, head=head)
        self._batches = batches
        self._evaluated = evaluated
        # Summed loss and number of tokens of the evaluation that is going on, task by task (K).
        tasks = len(evaluated.names) if evaluated else 1
        self._evaluated_K2 = torch.zeros(tasks, 2, dtype=torch.float32, device=self.args.device)
        self._signals = signals or StopSignals()
        self.add_callback(StopCallback(self._signals))
        self._names = names
        trained: Any = self.model
        self._guard = LossGuard(trained.config.get_text_config().vocab_size)
        # Loss and samples of every micro-batch of the step that is going on.
        self._step: list[tuple[torch.Tensor, Sequence[int]]] = []
        # The loss below divides by the step's token count itself.
        self.model_accepts_loss_kwargs = True

    def create_optimizer(self, model: Any = None) -> Any:
        """transformers' AdamW, with LoRA+'s rates where the recipe asks for them."""
        fresh = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if fresh and self._plus_ratio is not None:
            raise_rate_of_b(optimizer, self.model if model is None else model, self._plus_ratio)
        return optimizer

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        loss_sum = self._loss_sum(model, inputs)
        if not model.training:
            tokens = (inputs["labels"] != -100).sum()
            self._evaluated_K2[inputs.get("task", 0)] += torch.stack([loss_sum.detach(), tokens])
        if num_items_in_batch is None:
            loss = loss_sum / (inputs["labels"] != -100).sum().clamp(min=1)
        else:
            # Gradients are averaged over processes; the count is the sum over them.
            loss = loss_sum / num_items_in_batch * self.accelerator.num_processes
        if model.training:
            self._step.append((loss.detach(), inputs.get("samples", ())))
            if self.accelerator.sync_gradients:
                self._check_loss()
        return (loss, (loss.detach(),)) if return_outputs else loss

    def _get_dataloader(
        self, dataset: Any, description: str, batch_size: int, sampler_fn: Any = None, *args: Any, **kwargs: Any
    ) -> DataLoader[Any]:
        """As transformers', but the last batches of an epoch repeat no row to give every process work."""
        if self.args.world_size == 1:
            return super()._get_dataloader(dataset, description, batch_size, sampler_fn, *args, **kwargs)
        loader = even_loader(
            dataset,
            sampler=sampler_fn(dataset) if sampler_fn else None,
            batch_size=batch_size,
            processes=self.args.world_size,
            collate=cast(Any, self.data_collator),
            pin_memory=self.args.dataloader_pin_memory,
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As transformers', whose processes then ask whether this folder is there: under FSDP some found it, some not."""
        if output_dir and engine():
            Path(output_dir).mkdir(parents=True, exist_ok=True)
        super().save_model(output_dir, _internal_call)

    def _check_loss(self) -> None:
        """In the last micro-batch of a step, before its backward pass: the loss of all processes, and their signals."""
        signalled = torch.tensor(float(self._signals.received is not None), device=self.args.device)
        losses = torch.stack([loss for loss, _ in self._step]).sum().float()
        loss, stops = self.accelerator.reduce(torch.stack([losses, signalled])).tolist()
        self._signals.agreed |= stops > 0
        problem = self._guard.problem(loss / self.accelerator.num_processes)
        if problem:
            self._refuse_step(problem)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """As transformers', which lets the optimizer step whatever the norm. All processes have the same norm."""
        norm: Any = super()._get_grad_norm(model, grad_norm)  # type: ignore[no-untyped-call]
        # A loss scaler (fp16) meets norms that are not finite as a matter of course and leaves their steps out itself.
        scaled = getattr(self.accelerator, "scaler", None) is not None
        if norm is not None and not scaled and not math.isfinite(norm):
            self._refuse_step(f"the gradient norm is {float(norm)}")
        self._step.clear()
        return norm

    def _refuse_step(self, problem: str) -> None:
        batches = [MicroBatch(float(loss), samples) for loss, samples in self._step]
        if self.accelerator.num_processes > 1:
            gathered: list[Any] = [None] * self.accelerator.num_processes
            torch.distributed.all_gather_object(gathered, batches)
            batches = [batch for part in gathered for batch in part]
        raise TrainingError(
            f"{problem} at step {self.state.global_step + 1}: stopped before the weights were touched. "
            "Lower training.learning_rate, or look at these samples.\n"
            f"{listed(batches, self._names)}\n{how_to_go_on(self.checkpoints)}"
        )

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """As transformers', which gives a short batch, or one of short answers, the weight of a full one."""
        self._evaluated_K2.zero_()
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        sums_K2 = self.accelerator.reduce(self._evaluated_K2)
        loss_sum, tokens = sums_K2.sum(0).tolist()
        metrics = {**(output.metrics or {}), f"{metric_key_prefix}_loss": loss_sum / tokens}
        if self._evaluated:
            for name, (loss_sum, tokens) in zip(self._evaluated.names, sums_K2.tolist(), strict=True):
                if tokens:
                    metrics[f"{metric_key_prefix}_loss/{name}"] = loss_sum / tokens
        if self._measure:
            found = self._measure(self.accelerator.unwrap_model(self.model))
            metrics |= {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        signalled = torch.tensor(float(self._signals.received is not None), device=self.args.device)
        self._signals.agreed |= self.accelerator.reduce(signalled).item() > 0
        return output._replace(metrics=metrics)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """As transformers', or one that gives the rows that `batches` choose."""
        if self._batches is None:
            return super().get_train_dataloader()
        loader = self._loader(self.train_dataset, self._batches, self.data_collator)
        # Where there are several processes the batches are inside accelerate's shard, and on resume that is inside another
        # wrapper; transformers then tells the epoch to the shard, which does not hand it on.
        sampler: Any = loader.batch_sampler
        sampler.set_epoch = self._batches.set_epoch
        return loader

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """As transformers', or one whose every batch is of one task and says of which."""
        rows: Any = self.eval_dataset
        if self._evaluated is None or (eval_dataset is not None and eval_dataset is not rows):
            return super().get_eval_dataloader(eval_dataset)
        batches = batches_in_order(
            self._evaluated.sizes,
            batch_size=self.args.per_device_eval_batch_size,
            processes=self.accelerator.num_processes,
        )
        task_of = [task for task, size in enumerate(self._evaluated.sizes) for _ in range(size)]
        numbered = list(zip(task_of, rows, strict=True))
        return self._loader(numbered, batches, partial(_collate_numbered, self.data_collator))

    def num_examples(self, dataloader: DataLoader[Any]) -> int:
        """Samples of one epoch."""
        if self._batches is not None and getattr(dataloader.dataset, "rows", None) is self.train_dataset:
            return self._batches.samples
        return super().num_examples(dataloader)

    def _loader(self, dataset: Any, batches: Any, collate: Callable[[Any], Any]) -> DataLoader[Any]:
        pinned = self.args.dataloader_pin_memory
        rows, collate = with_idle(dataset, collate)
        loader = DataLoader(rows, batch_sampler=batches, collate_fn=collate, pin_memory=pinned)
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared


def _collate_numbered(collate: Callable[[Any], dict[str, Any]], rows: Sequence[tuple[int, Any]]) -> dict[str, Any]:
    """A batch from rows of one task, each with the task's number; the batch keeps the number as `task`."""
    return {**collate([row for _, row in rows]), "task": rows[0][0]}
