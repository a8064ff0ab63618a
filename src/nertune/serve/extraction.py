"""`POST /v1/extract`: texts in, grounded entities out; one text or many, all at the end or each when it is read.

A text is prepared and read in a thread, as `Recognizer.extract` does it; what lies between is the batch that all clients
share. A text that cannot be read has an error in its place, and the others never notice.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from fastapi import APIRouter, FastAPI
from fastapi import Request as HttpRequest
from fastapi.responses import Response

from nertune.errors import QueueFullError
from nertune.extract import Recognizer
from nertune.extract.recognizer import Prepared
from nertune.extract.trace import Trace
from nertune.generate import Completion, Job, Request
from nertune.serve.answering import CancellingResponse
from nertune.serve.answers import Usage
from nertune.serve.errors import ANY_ERROR, as_api_error
from nertune.serve.extraction_bodies import Batch, ExtractBody, Read
from nertune.serve.json_route import JsonRoute
from nertune.serve.replies import note
from nertune.serve.service import Service

__all__ = ["add_extraction"]

_AT_ONCE = 64  # texts of one request that are on their way
_SHARE = 4  # one HTTP request may take one part in so many of the queue
_PATIENCE = 0.05  # seconds after which a text looks again for room in the queue
_LINES = {"application/x-ndjson": {"schema": {"type": "string"}}}


def add_extraction(app: FastAPI, service: Service) -> None:
    """Add the route."""
    routes = APIRouter(tags=["nertune"], route_class=JsonRoute)

    @routes.post(
        "/v1/extract",
        response_model=Read | Batch,
        responses=ANY_ERROR | {200: {"model": Read | Batch, "content": _LINES}},
    )
    async def extract(body: ExtractBody, http: HttpRequest) -> Response:
        """Entities of texts, each at its place in the text."""
        model, recognizer = service.catalogue.reader(body.model)
        texts = body.texts if body.texts is not None else [str(body.text)]
        note(http.scope, model=model.name, stream=body.stream, texts=len(texts), text=texts[0])
        service.loop.check()
        if body.min_score is not None:
            recognizer = replace(recognizer, min_score=body.min_score)
        reading = _Reading(service, recognizer, debug=body.debug)
        if body.stream:
            reading.accept()
            return CancellingResponse(_lines(reading, texts), over=reading.cancel, media_type="application/x-ndjson")
        if body.text is not None:
            return _json((await reading.one(body.text)).value)
        found: list[_Result | None] = [None] * len(texts)
        async for index, result in reading.many(texts):
            found[index] = result
        results = [result for result in found if result is not None]
        usage = Usage.of(sum(result.prompt_tokens for result in results), sum(result.new_tokens for result in results))
        data = [result.value for result in results]
        return _json({"object": "list", "model": model.name, "data": data, "usage": usage.model_dump()})

    app.include_router(routes)


class _Result(NamedTuple):
    value: dict[str, Any]
    prompt_tokens: int = 0
    new_tokens: int = 0


class _Reading:
    """The texts of one HTTP request."""

    def __init__(self, service: Service, recognizer: Recognizer, *, debug: bool) -> None:
        self._service, self._recognizer, self._debug = service, recognizer, debug
        self._jobs: set[Job] = set()
        self._begun = False

    def accept(self) -> None:
        """From here on a full queue is waited for: nothing can be refused any more, as where a stream has begun."""
        self._begun = True

    async def one(self, text: str) -> _Result:
        """Raises what is wrong with the text, or with the engine."""
        prepared = await self._service.in_thread(partial(self._recognizer.prepare, [text]))
        completions = await self._answers(prepared.requests)
        value = await self._service.in_thread(partial(self._read, prepared, completions))
        new = sum(len(completion.ids) + (completion.stop == "end") for completion in completions)
        return _Result(value, sum(len(request.prompt_ids) for request in prepared.requests), new)

    async def many(self, texts: Iterable[str]) -> AsyncIterator[tuple[int, _Result]]:
        """Each text's number and result, as they come, some at a time."""
        waiting = iter(enumerate(texts))
        running: dict[asyncio.Task[_Result], int] = {}
        try:
            while True:
                while len(running) < _AT_ONCE and (item := next(waiting, None)) is not None:
                    running[asyncio.ensure_future(self._one_of_many(*item))] = item[0]
                if not running:
                    return
                ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    yield running.pop(task), task.result()
        finally:
            for task in running:
                task.cancel()
            self.cancel()

    def cancel(self) -> None:
        """Give up what is not answered yet."""
        for job in list(self._jobs):
            job.cancel()

    async def _one_of_many(self, index: int, text: str) -> _Result:
        try:
            found = await self.one(text)
        except QueueFullError:
            raise
        except Exception as error:
            return _Result({"index": index, "error": as_api_error(error).detail.model_dump()})
        return found._replace(value={"index": index, **found.value})

    async def _answers(self, requests: Iterable[Request]) -> list[Completion]:
        """The engine's answers to the windows of a text, which go to it together."""
        jobs: list[Job] = []
        try:
            for request in requests:
                jobs.append(await self._submitted(request))
            return [await asyncio.wrap_future(job) for job in jobs]
        finally:
            for job in jobs:
                job.cancel()

    async def _submitted(self, request: Request) -> Job:
        """Wait for room, in the queue and in this HTTP request's share of it.

        Raises QueueFullError only before anything of it was accepted.
        """
        loop = self._service.loop
        while True:
            if len(self._jobs) >= max(1, loop.capacity // _SHARE):
                await asyncio.sleep(_PATIENCE)
                continue
            try:
                job = loop.submit(request)
            except QueueFullError:
                if not self._begun:
                    raise
                await asyncio.sleep(_PATIENCE)
                continue
            self._begun = True
            self._jobs.add(job)
            job.add_done_callback(lambda job: self._jobs.discard(job))
            return job

    def _read(self, prepared: Prepared, completions: list[Completion]) -> dict[str, Any]:
        steps: list[dict[str, Any]] = []
        [found] = self._recognizer.read(prepared, completions, trace=self._keep(steps) if self._debug else None)
        value = dict(found.to_json())
        return value | {"debug": steps} if self._debug else value

    def _keep(self, steps: list[dict[str, Any]]) -> Any:
        def keep(trace: Trace) -> None:
            steps.append(
                {
                    "window": [trace.window.start, trace.window.end],
                    "prompt": trace.prompt,
                    "prompt_ids": trace.prompt_ids,
                    "new_ids": trace.new_ids,
                    "answer": trace.answer,
                    "stop": trace.stop,
                }
            )

        return keep


async def _lines(reading: _Reading, texts: Iterable[str]) -> AsyncIterator[bytes]:
    """A line of JSON for each text."""
    async for _, result in reading.many(texts):
        yield _dumped(result.value) + b"\n"


def _json(value: Any) -> Response:
    return Response(_dumped(value), media_type="application/json")


def _dumped(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
