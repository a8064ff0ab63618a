"""What the routes share: what answers, the models, and a few threads for what would hold the event loop up."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from nertune.generate import Backend
from nertune.serve.models import Catalogue

__all__ = ["Service", "new_id"]

_T = TypeVar("_T")


class Service:
    """`default_tokens`: of an answer whose request does not limit it. `threads`: for prompts and answers."""

    def __init__(self, catalogue: Catalogue, loop: Backend, *, default_tokens: int = 1024, threads: int = 2) -> None:
        self.catalogue, self.loop, self.default_tokens = catalogue, loop, default_tokens
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="nertune-serve")

    async def in_thread(self, work: Callable[[], _T]) -> _T:
        """Do work that takes long beside the event loop. What is cancelled before its turn is never begun."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def new_id(kind: str) -> str:
    """`chatcmpl-…`, `cmpl-…`."""
    return f"{kind}-{uuid.uuid4().hex}"
