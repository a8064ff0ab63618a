"""What a hub must be able to do for a corpus to be fetched from it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from nertune.errors import EndpointError

__all__ = ["Hub", "HubFile", "Listing", "failure"]


class HubFile(NamedTuple):
    """A file of a repository, as its hub describes it: `size` in bytes; `git` is git's own checksum of a small file."""

    path: str
    size: int | None = None
    sha256: str | None = None
    git: str | None = None


class Listing(NamedTuple):
    """What a repository holds. `revision`: a commit where the hub names one. `folder`: the cached copy, if it is one."""

    revision: str
    licence: str | None
    files: tuple[HubFile, ...]
    folder: Path | None = None


class Hub(Protocol):
    """A hub's client. Every error is one of `nertune.errors`, in one sentence."""

    def offline(self) -> bool:
        """Whether the user's environment forbids the network."""

    def listing(self, repository: str, revision: str | None) -> Listing:
        """What the hub says is there."""

    def cached(self, repository: str, revision: str | None, patterns: Sequence[str]) -> Listing:
        """What of it lies on this machine; never asks the network."""

    def download(self, repository: str, revision: str | None, paths: Sequence[str]) -> Path:
        """Bring these files, as far as they are not there, into the client's cache. Returns the folder they are in."""


def failure(hub: str, repository: str, error: BaseException, *advice: str) -> EndpointError:
    """An error of a client that has no sentence of its own: its first line, without the token."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    for key in ("HF_TOKEN", "MODELSCOPE_API_TOKEN"):
        token = os.environ.get(key)
        reason = reason.replace(token, "…") if token else reason
    return EndpointError("; ".join((f"{hub}:{repository}: {reason}", *advice)))
