"""Many clients at once over raw sockets, each asking and checking in turn; and a probe of /health in a process of its own.

python tests/serve/load.py PORT CLIENTS SECONDS [--route /answer]     # a figure on each line of stdout

`Asking` says what is asked of a route and how an answer is known to be the asker's own: another application needs another one.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil

_MAX_SECONDS = 60.0
_NUMBERS = itertools.count()


@dataclass
class Asking:
    """A route that answers with what it was asked: in one piece, or in parts of a stream."""

    route: str = "/answer"

    def request(self, name: str, *, stream: bool) -> bytes:
        body = json.dumps({"text": f"{name} b c d {name}", "stream": stream}).encode()
        return (
            f"POST {self.route} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        ).encode() + body

    def owner(self, body: bytes, *, stream: bool) -> str:
        """The name that was asked for; an empty string if the answer is not whole."""
        if not stream:
            words = json.loads(body)["text"].split(" ")
        else:
            words = [json.loads(event[6:])["part"] for event in body.decode().split("\n\n") if event]
        return words[0] if len(words) == 5 and words[0] == words[-1] else ""


@dataclass
class Report:
    """What the clients saw; times in seconds, memory in bytes."""

    answered: int = 0
    lost: int = 0
    crossed: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def lines(self) -> dict[str, Any]:
        return {
            "answered": self.answered,
            "lost": self.lost,
            "crossed": self.crossed,
            "failures": self.failures,
            "answers_per_second": round(self.answered / self.seconds, 1),
            "answer_p50_ms": round(1000 * quantile(self.times, 0.5)),
            "answer_p99_ms": round(1000 * quantile(self.times, 0.99)),
            "health_probes": len(self.health),
            "health_p50_ms": round(1000 * quantile(self.health, 0.5), 1),
            "health_p99_ms": round(1000 * quantile(self.health, 0.99), 1),
            "memory_mb": [round(value / 2**20, 1) for value in self.memory],
        }


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)] if values else math.nan


async def reply(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """One answer: its status, and its body however it is framed."""
    head = await reader.readuntil(b"\r\n\r\n")
    status, fields = int(head.split(b" ", 2)[1]), head.lower()
    if b"transfer-encoding: chunked" not in fields:
        length = int(fields.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        return status, await reader.readexactly(length)
    parts = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
    await reader.readexactly(2)
    return status, b"".join(parts)


async def client(port: int, asking: Asking, end: float, report: Report) -> None:
    """Ask, check, ask again; every thirtieth time over a new connection, every fourth answer as a stream."""
    writer: asyncio.StreamWriter | None = None
    for turn in itertools.count():
        if time.monotonic() >= end:
            break
        name, stream = f"n{next(_NUMBERS)}", turn % 4 == 3
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            started = time.monotonic()
            writer.write(asking.request(name, stream=stream))
            status, body = await asyncio.wait_for(reply(reader), _MAX_SECONDS)
            if status != 200:
                raise ValueError(f"status {status}")
            owner = asking.owner(body, stream=stream)
        except (OSError, ValueError, asyncio.IncompleteReadError, TimeoutError) as error:
            report.lost += 1
            kind = f"{type(error).__name__} {error}"[:80]
            report.failures[kind] = report.failures.get(kind, 0) + 1
            owner = None
        else:
            report.times.append(time.monotonic() - started)
            report.answered += owner == name
            report.crossed += owner != name
        if writer is not None and (owner is None or turn % 30 == 29):
            writer.close()
            writer = None
    if writer is not None:
        writer.close()


async def probe(port: int, seconds: float) -> list[float]:
    """How long /health takes, asked every 50 ms, each time over a new connection."""
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        started = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        status, _ = await asyncio.wait_for(reply(reader), _MAX_SECONDS)
        times.append(time.monotonic() - started if status == 200 else math.inf)
        writer.close()
        await asyncio.sleep(0.05)
    return times


async def load(port: int, *, pid: int, clients: int, seconds: float, asking: Asking, every: float) -> Report:
    """Run that many clients for so long; `every` so many seconds the memory of process `pid` is noted."""
    report = Report()
    started = time.monotonic()
    end = started + seconds
    probing = await asyncio.create_subprocess_exec(
        sys.executable, __file__, str(port), "0", str(seconds), stdout=asyncio.subprocess.PIPE
    )
    running = [asyncio.ensure_future(client(port, asking, end, report)) for _ in range(clients)]
    server = psutil.Process(pid)
    while time.monotonic() < end:
        await asyncio.sleep(min(every, max(0.0, end - time.monotonic())))
        report.memory.append(server.memory_info().rss)
    await asyncio.gather(*running)
    report.seconds = time.monotonic() - started
    out, _ = await probing.communicate()
    report.health = json.loads(out)
    return report


def raise_file_limit() -> None:
    """As many open files as the system lets this process have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536) if hard != resource.RLIM_INFINITY else 65536, hard))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("clients", type=int, help="0: probe /health alone, and print its times")
    parser.add_argument("seconds", type=float)
    parser.add_argument("--pid", type=int, help="the server's process")
    parser.add_argument("--route", default="/answer")
    options = parser.parse_args()
    raise_file_limit()
    if not options.clients:
        print(json.dumps(asyncio.run(probe(options.port, options.seconds))))
    else:
        named = {"pid": options.pid, "clients": options.clients, "seconds": options.seconds, "every": 10.0}
        found = asyncio.run(load(options.port, asking=Asking(options.route), **named))
        print(json.dumps(found.lines(), indent=2))
