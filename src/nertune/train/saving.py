"""transformers' Trainer, whose checkpoints are whole or not there, and from which training goes on bit for bit."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import Trainer

from nertune.files import parse_json
from nertune.train.checkpoints import WRITING, checkpoint_size, damage, publish, rotate, seal
from nertune.train.failures import unwritten

__all__ = ["SealingTrainer"]

_PENDING_LOSS = "pending_loss.json"


class SealingTrainer(Trainer):
    """Writes a checkpoint beside its place, seals it, moves it, and only then deletes older ones.

    `note` hears of a best checkpoint that is found damaged on resume.
    """

    def __init__(self, *args: Any, note: Callable[[str], None] = lambda line: None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._note = note
        self._writing: Path | None = None

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """As transformers', which does one step too many when it goes on from the last step, in the middle of an epoch."""
        if kwargs["resume_from_checkpoint"] is not None and kwargs["epoch"] == kwargs["epochs_trained"]:
            self._restore_pending_loss(Path(kwargs["resume_from_checkpoint"]))
        self.control.should_training_stop |= self.state.global_step >= self.state.max_steps
        if self.control.should_training_stop:
            return
        super()._run_epoch(*args, **kwargs)  # type: ignore[no-untyped-call]

    def _init_training_state(self, max_steps: Any, epoch_steps: Any, epochs: Any, checkpoint: Any, trial: Any) -> Any:
        """As transformers', but the best checkpoint is found where the run was moved to, and forgotten when damaged."""
        begun = super()._init_training_state(max_steps, epoch_steps, epochs, checkpoint, trial)
        if self.state.best_global_step:
            beside = Path(checkpoint).with_name(f"checkpoint-{self.state.best_global_step}")
            best = beside if beside.is_dir() else Path(self.state.best_model_checkpoint or beside)
            problem = damage(best)
            if problem:
                self._note(f"{best}, the best so far, is damaged ({problem}) and out of the running")
                self.state.best_global_step = self.state.best_metric = None
            self.state.best_model_checkpoint = None if problem else str(best)
        return begun

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Same as the base class, except that of states with equal metrics the one with the lower loss is the best.

        Early on, F1 is often 0 more than once, and late often the same.
        """
        step, before = self.state.best_global_step, self.state.best_metric
        if super()._determine_best_metric(metrics, trial):
            return True
        if not step or metrics.get(str(self.args.metric_for_best_model)) != before:
            return False
        if metrics["eval_loss"] >= _eval_loss(self.state.log_history, step):
            return False
        self.state.best_global_step = self.state.global_step
        return True

    @property
    def checkpoints(self) -> Path:
        """The folder of the run's checkpoints."""
        return Path(self.args.output_dir or "")

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._writing or super()._get_output_dir(trial))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """As transformers', but the checkpoint is written beside its place, sealed, and moved; then old ones are deleted.

        All processes write their parts; the first one seals them, so all must see the same folder.
        """
        place = self.checkpoints / f"checkpoint-{self.state.global_step}"
        self._writing = self.checkpoints / WRITING
        written = self._writing / place.name
        try:
            super()._save_checkpoint(model, trial)
            if self.state.best_global_step == self.state.global_step:
                self.state.best_model_checkpoint = str(place)
            pending = self.accelerator.gather(self._tr_loss.reshape(1)).tolist()
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                # Again, for it names the best checkpoint by its place.
                self.state.save_to_json(str(written / "trainer_state.json"))
                value = {"since_step": self._globalstep_last_logged, "by_process": pending}
                (written / _PENDING_LOSS).write_text(json.dumps(value), encoding="utf-8")
                seal(written)
                publish(written, place)
        except Exception as error:
            size = checkpoint_size(written)
            shutil.rmtree(self._writing, ignore_errors=True)
            if failure := unwritten(error, place, size):
                raise failure from error
            raise
        finally:
            self._writing = None
        if self.args.should_save:
            best = self.state.best_model_checkpoint
            keep = self.args.save_total_limit
            rotate(self.checkpoints, written=place, best=Path(best) if best else None, keep=keep)
        self.accelerator.wait_for_everyone()

    def _restore_pending_loss(self, checkpoint: Path) -> None:
        """The loss since the last log, which transformers forgets, so that the next log is the mean of all its steps."""
        path = checkpoint / _PENDING_LOSS
        if not path.is_file():
            return
        value = parse_json(path.read_text(encoding="utf-8"))
        losses = value["by_process"]
        mean = sum(losses) / len(losses)
        alike = len(losses) == self.accelerator.num_processes
        self._tr_loss += losses[self.accelerator.process_index] if alike else mean
        self._globalstep_last_logged = value["since_step"]
        self._total_loss_scalar -= mean  # of the steps of this process alone, as transformers reports it


def _eval_loss(log: Sequence[dict[str, Any]], step: int) -> float:
    """The evaluation loss that was logged at a step; the lowest there can be where none was, so that nothing beats it."""
    losses = [float(line["eval_loss"]) for line in log if line.get("step") == step and "eval_loss" in line]
    return losses[-1] if losses else -math.inf
