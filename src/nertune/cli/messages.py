"""What the commands say on stderr, and which process of several says it."""

from __future__ import annotations

import os
import sys

__all__ = ["rank", "say"]


def say(message: str) -> None:
    """Say one thing on stderr."""
    print(f"nertune: {message}", file=sys.stderr)


def rank() -> int:
    """Which process of `torchrun` this is, from 0; 0 alone. As `train.ranks`, which is not imported for every command."""
    return int(os.environ.get("RANK", "0")) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else 0
