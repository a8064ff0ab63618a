"""What the machine lacks in the middle of a training, said in one message with the settings that help."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from nertune.errors import NertuneError, TrainingError
from nertune.train.checkpoints import checkpoint_size, newest
from nertune.train.recipe import Recipe

__all__ = ["explained", "how_to_go_on", "unwritten"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NO_ROOM_WORDS = ("No space left on device", "Disk quota exceeded")
# torch's writer does not say why it cannot write.
_TORCH_WRITER = ("PytorchStreamWriter", "inline_container")


@contextmanager
def explained(recipe: Recipe, checkpoints: Path) -> Iterator[None]:
    """Turns running out of memory, and of room on the disk, into a TrainingError that says what to do."""
    try:
        yield
    except NertuneError:
        raise
    except (MemoryError, RuntimeError, OSError) as error:
        if _is_out_of_memory(error):
            raise TrainingError(f"{_memory_advice(recipe, error)}\n{how_to_go_on(checkpoints)}") from error
        if _is_no_room(error):
            free = shutil.disk_usage(checkpoints.parent).free
            raise TrainingError(
                f"{checkpoints.parent}: no room left on the disk, {_bytes(free)} are free. {how_to_go_on(checkpoints)}"
            ) from error
        raise


def unwritten(error: Exception, place: Path, written: int) -> TrainingError | None:
    """The message for a checkpoint that could not be written to `place`; None where `error` has nothing to do with files.

    `written`: the bytes that were written before it failed. Call it when they are deleted, so that the free room is told.
    """
    no_room = _is_no_room(error) or any(words in str(error) for words in _TORCH_WRITER)
    if not no_room and not isinstance(error, OSError):
        return None
    before = newest(place.parent)
    need = f"about {_bytes(checkpoint_size(before))}" if before else f"more than {_bytes(written)}"
    reason = "no room left on the disk" if no_room else " ".join(str(error).split())
    free = shutil.disk_usage(place.parent).free
    return TrainingError(
        f"{place} could not be written: {reason}. It needs {need}, {_bytes(free)} are free there. "
        f"Make room, or keep fewer checkpoints (training.keep_checkpoints). {how_to_go_on(place.parent)}"
    )


def how_to_go_on(checkpoints: Path) -> str:
    """From where --resume goes on."""
    last = newest(checkpoints)
    return f"--resume goes on from {last}" if last else "There is no checkpoint yet"


def _is_no_room(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return True
    return not isinstance(error, OSError) and any(words in str(error) for words in _NO_ROOM_WORDS)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _memory_advice(recipe: Recipe, error: BaseException) -> str:
    settings = recipe.training
    advice = []
    if settings.batch_size > 1:
        advice.append(
            f"training.batch_size={-(-settings.batch_size // 2)} training.accumulation={settings.accumulation * 2} "
            "(the same samples a step)"
        )
    if not settings.gradient_checkpointing:
        advice.append("training.gradient_checkpointing=true (slower, the same result)")
    advice.append(f"max_tokens below {recipe.max_tokens} (longer samples are left out by name)")
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return "\n  ".join(["out of memory. What helps, in this order:", *advice, f"({first[:200]})"])


def _bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
