"""One answer on its way from the engine's thread to a client: pieces of text as they become certain."""

from __future__ import annotations

import asyncio
import codecs
import json
import math
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from nertune.generate import Backend, Completion, Request
from nertune.prompt import TokenPlaces
from nertune.serve.words import Words

__all__ = ["Answer", "Answering", "CancellingResponse", "Piece", "TextOffsets", "TokenEntry", "event", "token_entries"]

Finish = Literal["stop", "length"]
_NO_LOGPROB = -9999.0  # for what is no number, which JSON cannot write; as OpenAI and vLLM do


class Piece(NamedTuple):
    """What came at once: text that became certain, tokens, and their logprobs where these are known."""

    text: str
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]


class TokenEntry(NamedTuple):
    """A token in words, its bytes, and its logprob."""

    token: str
    bytes: list[int]
    logprob: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `generated`: how many tokens the model made, the one that ended it among them."""

    text: str
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Finish
    generated: int


class Answering:
    """An accepted request. Made in an event loop; `streamed`: pieces come one by one, else all at once, at the end.

    Raises QueueFullError, EngineStoppedError.
    """

    def __init__(self, loop: Backend, request: Request, words: Words, *, streamed: bool) -> None:
        self._words = words
        self._came: asyncio.Queue[tuple[Sequence[int], Sequence[float]] | None] = asyncio.Queue()
        self.finish: Finish = "stop"
        self.generated = 0
        own = asyncio.get_running_loop()

        def tell(item: tuple[Sequence[int], Sequence[float]] | None) -> None:
            own.call_soon_threadsafe(self._came.put_nowait, item)

        def ended(job: Future[Completion]) -> None:
            if not job.cancelled():
                tell(None)

        progress = (lambda ids, logprobs: tell((ids, logprobs))) if streamed else None
        self._streamed = streamed
        self._job = loop.submit(request, on_progress=progress)
        self._job.add_done_callback(ended)

    async def pieces(self) -> AsyncIterator[Piece]:
        """The answer, until it ends by itself or before a stop string. Raises what the job does."""
        while (item := await self._came.get()) is not None:
            ids, logprobs = item
            self.generated += len(ids)
            text = self._words.add(ids)
            yield Piece(text, tuple(ids), tuple(logprobs))
            if self._words.stopped:
                self.cancel()
                return
        completion = self._job.result()
        if not self._streamed:
            self.generated = len(completion.ids)
            yield Piece(self._words.add(completion.ids), completion.ids, completion.logprobs[: len(completion.ids)])
        rest = self._words.end()
        if rest:
            yield Piece(rest, (), ())
        if not self._words.stopped:
            self.finish = "length" if completion.stop == "length" else "stop"
            self.generated += completion.stop == "end"

    async def whole(self) -> Answer:
        """All pieces together; the job is cancelled where whoever waits is."""
        try:
            pieces = [piece async for piece in self.pieces()]
        finally:
            self.cancel()
        return Answer(
            "".join(piece.text for piece in pieces),
            tuple(token for piece in pieces for token in piece.ids),
            tuple(logprob for piece in pieces for logprob in piece.logprobs),
            self.finish,
            self.generated,
        )

    def cancel(self) -> None:
        """Give up, if there is anything left to give up."""
        self._job.cancel()


class CancellingResponse(StreamingResponse):
    """A stream that tells, however it ends, that nothing more is wanted: also where it never began."""

    def __init__(self, content: AsyncIterator[bytes], *, over: Callable[[], None], **options: Any) -> None:
        super().__init__(content, **options)
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._over()


def event(value: Any) -> bytes:
    """A server-sent event."""
    return b"data: " + (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).encode() + b"\n\n"


class TextOffsets:
    """Counts at which character of an answer each of its tokens begins; tokens that share one begin there together."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._at = 0

    def of(self, entries: Sequence[TokenEntry]) -> list[int]:
        """The offsets of the tokens that come next."""
        offsets = []
        for entry in entries:
            offsets.append(self._at)
            self._at += len(self._decoder.decode(bytes(entry.bytes)))
        return offsets


def token_entries(places: TokenPlaces, ids: Sequence[int], logprobs: Sequence[float]) -> list[TokenEntry]:
    """Tokens as clients are told them."""
    known = [logprob if math.isfinite(logprob) else _NO_LOGPROB for logprob in logprobs]
    parts = [places.bytes_of(token) for token in ids]
    return [
        TokenEntry(part.decode(errors="replace"), list(part), logprob)
        for part, logprob in zip(parts, known, strict=False)
    ]
