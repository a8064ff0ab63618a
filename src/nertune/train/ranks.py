"""Which of several training processes this is, and what they tell each other.

`torchrun` and `accelerate launch` start the processes and say in their environment which is which: RANK of WORLD_SIZE, and
LOCAL_RANK on its machine. One process alone is rank 0 of 1, and everything here then does nothing.
"""

from __future__ import annotations

import atexit
import functools
import os
import time
from collections.abc import Sequence
from typing import Any, TypeVar

__all__ = ["device", "gather", "is_first", "part_at_exit", "rank", "share", "world_size"]

_T = TypeVar("_T")

# Seconds that gloo's threads have to let go of what they last gathered. They want milliseconds.
_PARTING = 1.0


def rank() -> int:
    """This process's number, from 0."""
    return _number("RANK", 0)


def world_size() -> int:
    """How many processes train together."""
    return _number("WORLD_SIZE", 1)


def is_first() -> bool:
    """Whether this is the one process that writes files and speaks."""
    return rank() == 0


def device() -> str | None:
    """The accelerator that belongs to this process, such as "cuda:1"; None where one process may choose, or there is none."""
    import torch

    if world_size() == 1 or not torch.cuda.is_available():
        return None
    return f"cuda:{_number('LOCAL_RANK', 0)}"


def share(items: Sequence[_T]) -> list[_T]:
    """This process's part of a list: every `world_size`-th item, from its rank on. The parts differ by one item at most."""
    return list(items[rank() :: world_size()])


def gather(results: Sequence[Any]) -> list[Any]:
    """What all processes made of their `share`, in the order of the whole list, on every process.

    A collective: every process must call it, each with one result per item of its share. Results are pickled on the way.
    """
    world = world_size()
    if world == 1:
        return list(results)
    import torch.distributed

    parts: list[Any] = [None] * world
    torch.distributed.all_gather_object(parts, list(results))
    count = sum(map(len, parts))
    expected = [len(range(number, count, world)) for number in range(world)]
    if [len(part) for part in parts] != expected:
        raise ValueError(f"{[len(part) for part in parts]} results cannot come from shares of {expected} items")
    return [parts[place % world][place // world] for place in range(count)]


@functools.cache
def part_at_exit() -> None:
    """End what connects the processes before the interpreter ends: left to it, its threads may abort a finished process.

    A thread of gloo that drops the last tensor of a collective wants the interpreter for it. If that has begun to end, Python
    makes the thread exit in the middle of a C++ destructor, which is `terminate called without an active exception`. Destroying
    the group does not always end its threads: FSDP's caches hold it. So they are given time while nothing else runs.
    """
    if world_size() > 1:
        atexit.register(_part)


def _part() -> None:
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        time.sleep(_PARTING)


def _number(name: str, alone: int) -> int:
    """A number of the launcher's environment; `alone` where there is no launcher."""
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else alone
