"""A process that trains in forked children, each of which may kill itself at a place that is asked for: kill -9.

It imports the libraries once and then reads orders, one JSON object a line: `recipe` (a file), `resume`, and `kill`: null, or
{"step": N} after step N, {"seconds": S} that long after the first step began, {"call": N} at the N-th writing call inside
checkpoints' saves: after half of a file is written, or before a file is synced, moved or deleted. Each answer is the child's
exit status.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

import peft  # noqa: F401 - imported once, before the forks
import torch
from transformers import set_seed  # noqa: F401

from nertune.train import saving
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


def run(order: dict) -> None:
    kill = order["kill"] or {}
    if "call" in kill:
        die_at_call(kill["call"])

    def report(progress) -> None:
        if "step" in kill and progress.step == kill["step"]:
            die()
        if "seconds" in kill:
            threading.Thread(target=die_later, args=(kill.pop("seconds"),), daemon=True).start()

    train(load_recipe(order["recipe"]), resume=order["resume"], report=report)


for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            run(json.loads(line))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
