"""What the commands say on stderr, and which process of several says it."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from nertune.console import escaped

__all__ = ["print_json", "rank", "say"]


def say(message: str) -> None:
    """Say one thing on stderr."""
    print(f"nertune: {message}", file=sys.stderr)


def print_json(value: Any) -> None:
    """Print the JSON value of `--json` on stdout: readable, and with nothing raw in it that would steer a terminal."""
    print(escaped(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)))


def rank() -> int:
    """Which process of `torchrun` this is, from 0; 0 alone. As `train.ranks`, which is not imported for every command."""
    return int(os.environ.get("RANK", "0")) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else 0
