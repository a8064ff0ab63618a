"""Ctrl-C and SIGTERM: the training finishes its step, saves a checkpoint, and leaves.

A signal only leaves a mark; the trainer looks at it where all processes of a training meet, so that they leave together even
when one of them got the signal alone.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from nertune.errors import TrainingInterrupted

__all__ = ["StopCallback", "StopSignals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals(AbstractContextManager["StopSignals"]):
    """While inside, SIGINT and SIGTERM are remembered instead of ending the process; a second Ctrl-C ends it at once.

    Outside the main thread nothing is changed. `agreed`: some process of the training got a signal, and all know it.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.agreed = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._remember) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous = {}

    def _remember(self, number: int, frame: FrameType | None) -> None:
        # torchrun passes a terminal's Ctrl-C on, so each of its processes gets it twice; it kills them after 30 s itself.
        if self.received is not None and number == signal.SIGINT and "TORCHELASTIC_RUN_ID" not in os.environ:
            raise KeyboardInterrupt
        if self.received is None:
            self.received = signal.Signals(number)
            # Not through print: the signal may have come in the middle of one.
            os.write(2, b"\nnertune: stopping after this step, with a checkpoint; Ctrl-C (again) leaves at once\n")


class StopCallback(TrainerCallback):
    """Saves and leaves when a signal came; and lets what is done by the epoch be done in the epoch's last step.

    transformers evaluates and saves "at the end of an epoch" after a last step that may have been saved already; a training
    that goes on from there would leave that evaluation out.
    """

    def __init__(self, signals: StopSignals) -> None:
        self._signals = signals

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if control.should_training_stop or (state.epoch or 0.5).is_integer():
            control.should_evaluate |= args.eval_strategy == "epoch"
            control.should_save |= args.save_strategy == "epoch"
        control.should_save |= self._stops(args)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        control.should_evaluate = control.should_save = False

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        control.should_save |= self._stops(args)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._stops(args):
            number = self._signals.received or signal.SIGTERM
            place = Path(args.output_dir or "") / f"checkpoint-{state.global_step}"
            raise TrainingInterrupted(
                f"{number.name}: stopped after step {state.global_step} of {state.max_steps}, saved in {place}. "
                "The same command with --resume goes on as if nothing had happened",
                exit_code=128 + number,
            )

    def _stops(self, args: TrainingArguments) -> bool:
        alone = args.world_size == 1 and self._signals.received is not None
        return alone or self._signals.agreed
