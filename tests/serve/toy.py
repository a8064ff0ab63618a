"""A small application behind the HTTP shell, for tests: it waits, streams, fails, takes notes. As a script, a server."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from nertune.serve.http import serve_app
from nertune.serve.metrics import Metrics
from nertune.serve.replies import note
from nertune.serve.settings import add_server_options, settings_of

SLOTS = 16


class Toy:
    """`begun`, `finished` and `cancelled` name the requests to /wait and /stream; `sent` counts the blocks of /flood."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.finished: list[str] = []
        self.cancelled: list[str] = []
        self.sent = 0
        self.slots = asyncio.Semaphore(SLOTS)
        self.metrics = Metrics()
        self.app = Starlette(
            routes=[
                Route("/health", self.health),
                Route("/echo", self.echo, methods=["POST"]),
                Route("/wait/{name:path}", self.wait, methods=["GET", "POST"]),
                Route("/stream/{name}", self.stream),
                Route("/flood", self.flood),
                Route("/fail", self.fail),
                Route("/answer", self.answer, methods=["POST"]),
            ]
        )

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def echo(self, request: Request) -> Response:
        body = await request.body()
        note(request.scope, texts=1, text=body.decode(errors="replace"), model="toy")
        return Response(body)

    async def wait(self, request: Request) -> Response:
        name = request.path_params["name"]
        self.begun.append(name)
        try:
            await asyncio.sleep(float(request.query_params.get("seconds", 30)))
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        self.finished.append(name)
        return JSONResponse({"name": name})

    async def stream(self, request: Request) -> Response:
        name, pause = request.path_params["name"], float(request.query_params.get("pause", 0.05))

        async def events() -> AsyncIterator[str]:
            self.begun.append(name)
            try:
                for place in range(int(request.query_params.get("n", 10))):
                    yield f"data: {name} {place}\n\n"
                    await asyncio.sleep(pause)
            except asyncio.CancelledError:
                self.cancelled.append(name)
                raise
            self.finished.append(name)

        return StreamingResponse(events(), media_type="text/event-stream")

    async def flood(self, request: Request) -> Response:
        async def blocks() -> AsyncIterator[bytes]:
            while True:
                self.sent += 1
                yield b"x" * 65536

        return StreamingResponse(blocks())

    async def answer(self, request: Request) -> Response:
        """What a model would: as many at a time as there are slots, 50 to 200 ms each, in one piece or streamed."""
        asked = await request.json()
        text, streamed = asked["text"], asked.get("stream", False)

        async def parts() -> AsyncIterator[str]:
            for part in text.split(" "):
                await asyncio.sleep(random.uniform(0.01, 0.04))
                yield f"data: {json.dumps({'part': part})}\n\n"
            self.slots.release()

        await self.slots.acquire()
        if streamed:
            return StreamingResponse(parts(), media_type="text/event-stream")
        try:
            await asyncio.sleep(random.uniform(0.05, 0.2))
        finally:
            self.slots.release()
        return JSONResponse({"text": text})

    async def fail(self, request: Request) -> Response:
        raise ValueError("叶老桂 is what the user wrote")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    add_server_options(parser)
    toy = Toy()
    sys.exit(serve_app(toy.app, settings_of(parser.parse_args()), metrics=toy.metrics))
