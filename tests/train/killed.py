"""A process that trains in forked children, each of which may kill itself at a place that is asked for: kill -9.

It imports the libraries once and then reads orders, one JSON object a line: `recipe` (a file), `resume`, `processes` that
train together, `log` (a file for what they say) and `kill`: null, or
{"step": N}     after step N
{"seconds": S}  that long after the first step began
{"call": N}     at the N-th writing call inside checkpoints' saves: after half of a file is written, or before a file is
                synced, moved or deleted
{"batch": N, "rank": R, "signal": S}  a signal, in the N-th training batch of one process alone; without "signal" a loss of NaN
Each answer is the children's exit statuses, a JSON list.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from pathlib import Path

import peft  # noqa: F401 - imported once, before the forks
import torch
from transformers import set_seed  # noqa: F401

from nertune.errors import TrainingInterrupted
from nertune.train import saving, trainer
from nertune.train.fit import train
from nertune.train.recipe import load_recipe


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_call(number: int) -> None:
    """Kill at the N-th call that changes the disk inside a save."""
    calls = 0
    inside = False
    save, write = saving.SealingTrainer._save_checkpoint, torch.save

    def due() -> bool:
        nonlocal calls
        calls += inside
        return inside and calls == number

    def saving_checkpoint(*args):
        nonlocal inside
        inside = True
        save(*args)
        inside = False

    def write_half(value, path, *args):
        write(value, path, *args)
        if due():
            os.truncate(path, Path(path).stat().st_size // 2)
            die()

    def watched(call):
        def wrapper(*args, **kwargs):
            if due():
                die()
            return call(*args, **kwargs)

        return wrapper

    saving.SealingTrainer._save_checkpoint = saving_checkpoint
    torch.save = write_half
    for name in ("fsync", "rename", "unlink", "rmdir"):
        setattr(os, name, watched(getattr(os, name)))


def die_later(seconds: float) -> None:
    time.sleep(seconds)
    die()


def harm_batch(number: int, signal_number: int | None) -> None:
    """Send this process a signal in its N-th training batch, or make the loss NaN there."""
    loss_sum = trainer.packed_loss_sum
    batches = 0

    def harmed(model, batch, head=None):
        nonlocal batches
        batches += model.training
        loss = loss_sum(model, batch, head=head)
        if model.training and batches == number:
            if signal_number is None:
                return loss * float("nan")
            os.kill(os.getpid(), signal_number)
        return loss

    trainer.packed_loss_sum = harmed


def run(order: dict, rank: int) -> None:
    kill = order["kill"] or {}
    if "call" in kill and rank == 0:
        die_at_call(kill["call"])
    if "batch" in kill and rank == kill["rank"]:
        harm_batch(kill["batch"], kill.get("signal"))

    def report(progress) -> None:
        if "step" in kill and progress.step == kill["step"]:
            die()
        if "seconds" in kill:
            threading.Thread(target=die_later, args=(kill.pop("seconds"),), daemon=True).start()

    train(load_recipe(order["recipe"]), resume=order["resume"], report=report)


def started(order: dict, rank: int, port: int) -> int:
    """The id of a child that trains as one of the order's processes."""
    child = os.fork()
    if child:
        return child
    for descriptor in (1, 2):
        os.dup2(os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    if order["processes"] > 1:
        size = str(order["processes"])
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    try:
        run(order, rank)
    except TrainingInterrupted as stopped:
        print(stopped)
        os._exit(stopped.exit_code)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def waited(children: list[int]) -> list[int]:
    """The exit statuses; one that dies of kill -9 takes the others with it, as torchrun sees to."""
    statuses = {}
    while len(statuses) < len(children):
        child, status = os.wait()
        statuses[child] = os.waitstatus_to_exitcode(status)
        if statuses[child] == -signal.SIGKILL:
            for other in set(children) - set(statuses):
                os.kill(other, signal.SIGKILL)
    return [statuses[child] for child in children]


for line in sys.stdin:
    order = json.loads(line)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    print(json.dumps(waited([started(order, rank, port) for rank in range(order["processes"])])), flush=True)
