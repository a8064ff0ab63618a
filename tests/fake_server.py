"""An OpenAI-compatible server on the loopback for tests: what it is asked is kept, what it does next is scripted."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple

Answer = Callable[[dict[str, Any]], dict[str, Any]]


class Asked(NamedTuple):
    path: str
    body: dict[str, Any]
    headers: dict[str, str]


class Trouble(NamedTuple):
    """One answer that is not the usual one: a status with a body and headers, `drop` or `hang`."""

    status: int = 0
    body: Any = None
    headers: Mapping[str, str] = MappingProxyType({})


DROP, HANG = Trouble(-1), Trouble(-2)


class FakeServer:
    """`answers`: from a path to what is answered to a body. `troubles` come first, one a POST; `listed` answers /v1/models."""

    def __init__(self, answers: dict[str, Answer], *, models: tuple[str, ...] = ("ner",), owner: str = "vllm") -> None:
        self.answers = answers
        self.troubles: list[Trouble] = []
        self.asked: list[Asked] = []
        self.most_at_once = 0
        self.listed: Trouble = Trouble(200, {"data": [{"id": name, "owned_by": owner} for name in models]})
        self.version: Trouble = Trouble(200, {"version": "0.32.0"}) if owner == "vllm" else Trouble(404, {})
        self.over = threading.Event()
        self._at_once = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.root = f"http://127.0.0.1:{self._server.server_port}"
        self.url = f"{self.root}/v1"

    def posts(self, path: str = "") -> list[Asked]:
        """What was POSTed to paths that end so."""
        return [asked for asked in self.asked if asked.body and asked.path.endswith(path)]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.asked.append(Asked(self.path, {}, self._headers()))
                known = {"/v1/models": server.listed, "/version": server.version}
                self._say(known.get(self.path, Trouble(404, {"detail": "Not Found"})))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with server._lock:
                    server.asked.append(Asked(self.path, body, self._headers()))
                    server._at_once += 1
                    server.most_at_once = max(server.most_at_once, server._at_once)
                    trouble = server.troubles.pop(0) if server.troubles else None
                try:
                    if trouble is None and self.path not in server.answers:
                        trouble = Trouble(404, {"detail": "Not Found"})
                    reply = trouble or Trouble(200, server.answers[self.path](body))
                finally:
                    with server._lock:
                        server._at_once -= 1
                self._say(reply)

            def _say(self, reply: Trouble) -> None:
                if reply is HANG:
                    server.over.wait(30)
                if reply in (DROP, HANG):
                    self.close_connection = True
                    return
                content = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
                self.send_response(reply.status)
                kind = "text/html" if content.startswith("<") else "application/json"
                for name, value in {"content-type": kind, **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(content.encode())))
                self.end_headers()
                self.wfile.write(content.encode())

            def _headers(self) -> dict[str, str]:
                return {name.lower(): value for name, value in self.headers.items()}

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


@contextmanager
def serving(server: FakeServer) -> Iterator[FakeServer]:
    thread = threading.Thread(target=server._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server._server.shutdown()
        server._server.server_close()
        thread.join()


def completion(ids: list[int], *, finish: str = "stop", text: str = "", logprobs: list[float] | None = None) -> dict:
    """What vLLM answers to /v1/completions."""
    chances = {"token_logprobs": [-0.5] * len(ids) if logprobs is None else logprobs}
    choice = {"index": 0, "text": text, "finish_reason": finish, "token_ids": ids, "logprobs": chances}
    return {"id": "1", "object": "text_completion", "created": 1, "model": "ner", "choices": [choice]}


def chat(content: str | None, *, finish: str = "stop", prompt_tokens: int | None = None) -> dict:
    """What every server answers to /v1/chat/completions."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content}}
    usage = {} if prompt_tokens is None else {"usage": {"prompt_tokens": prompt_tokens}}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "ner", "choices": [choice], **usage}
