"""A small application behind the HTTP shell, for tests: it waits, streams, fails and takes notes. Run as a script, it is a server."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from nertune.serve.http import serve_app
from nertune.serve.metrics import CONTENT_TYPE, Metrics
from nertune.serve.replies import note
from nertune.serve.settings import add_server_options, settings_of


class Toy:
    """`begun`, `finished` and `cancelled` name the requests to /wait and /stream; `sent` counts the blocks of /flood."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.finished: list[str] = []
        self.cancelled: list[str] = []
        self.sent = 0
        self.metrics = Metrics()
        self.app = Starlette(
            routes=[
                Route("/health", self.health),
                Route("/metrics", self.figures),
                Route("/echo", self.echo, methods=["POST"]),
                Route("/wait/{name}", self.wait, methods=["GET", "POST"]),
                Route("/stream/{name}", self.stream),
                Route("/flood", self.flood),
                Route("/fail", self.fail),
            ]
        )

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def figures(self, request: Request) -> Response:
        return Response(self.metrics.render(), media_type=CONTENT_TYPE)

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

    async def fail(self, request: Request) -> Response:
        raise ValueError("叶老桂 is what the user wrote")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    add_server_options(parser)
    toy = Toy()
    sys.exit(serve_app(toy.app, settings_of(parser.parse_args()), metrics=toy.metrics))
