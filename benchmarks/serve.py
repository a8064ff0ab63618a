"""Speed of `nertune serve` under 1, 8 and 64 clients on /v1/extract, beside the engine itself and vLLM, in one call.

    python benchmarks/serve.py RUN --data FILE [--texts 64] [--clients 1 8 64] [--vllm PYTHON] [--minutes 5]

Every client sends one text, waits for its entities, and sends the next; a level of clients ends after `--texts` texts, or
is cut off after `--minutes`. All read the same texts with the same run, prompt and grammar, in float32; loading and a few
texts before the clock starts are not in the time.

- engine: all texts in one call of `extract_many`, in this process. Its speed is what the ratios are of.
- nertune serve: the command, in a process of its own.
- vLLM, completions: vLLM's CPU wheel (make bench-peers installs it; left out where it is absent), asked by nertune's own
  client: token ids and the run's grammar.
- vLLM, gateway: `nertune serve URL --run RUN` in front of the same vLLM, asked as the second.

`equal`: texts whose entities are those of the engine.

Then the same server with answers under wide grammars: `--tokens` tokens of the base model's chat, free, as `json_object`, and
under a regex that allows any text. Each is asked in turn, `--rounds` times; `ratio` is the median of a token's time against
the free one's of the same round. `extract beside`: the median time of an extraction while a client asks for such answers
without end, and its ratio to one with no such client.

The last line printed is one JSON object: each way by its name, each level by its number of clients; `grammars` by their names.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
from vllm_peer import PYTHON, VllmError, VllmServer

from nertune import assemble, data

_WARM = 8  # texts read before the clock starts: kernels, prompt prefix, grammar tables
_KINDS: dict[str, dict[str, Any]] = {
    "free": {},
    "json_object": {"response_format": {"type": "json_object"}},
    "regex (.|\\n)*": {"structured_outputs": {"regex": r"(.|\n)*"}},
}
_START = 300.0  # seconds that a server has to say where it is

Entities = list[tuple[int, int, str]]
Ask = Callable[[str], Entities]
"""Sends a text and waits for its entities; called by every client in a thread of its own."""


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are ended too
    for name in ("NERTUNE_API_KEY", "OPENAI_API_KEY"):
        os.environ.pop(name, None)  # the servers are ours, and without keys
    texts = [document.text for document in data.read(options.data, limit=options.texts).documents]
    results: dict[str, Any] = {}
    print("running: engine …", file=sys.stderr, flush=True)
    speed, expected = _engine(options.run, texts)

    def measure(name: str, ask: Ask) -> None:
        for text in texts[:_WARM]:
            ask(text)
        results[name] = {}
        for clients in options.clients:
            print(f"running: {name}, {clients} clients …", file=sys.stderr, flush=True)
            level = _level(ask, texts, expected, clients, seconds=60 * options.minutes)
            results[name][str(clients)] = level | {"ratio": level["texts_per_second"] / speed}

    with _nertune(f"ner={options.run.absolute()}") as server:
        measure("nertune serve", server.extract)
        print("running: wide grammars …", file=sys.stderr, flush=True)
        grammars = _grammars(server, texts[: options.rounds], tokens=options.tokens, rounds=options.rounds)
    if options.vllm.is_file():
        try:
            with VllmServer(options.run, python=options.vllm) as server:
                address = f"{server.url}#ner"
                measure("vLLM, completions", _completions(address, options.run, max(options.clients)))
                with _nertune(address, "--run", str(options.run)) as gateway:
                    measure("vLLM, gateway", gateway.extract)
        except VllmError as error:
            print(f"vLLM: {error}", file=sys.stderr)
            results.setdefault("vLLM, completions", {"error": str(error)})
    else:
        print(f"no vLLM at {options.vllm}: left out (make bench-peers installs it)", file=sys.stderr)
    return _told(speed, len(texts), results, grammars)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory with an adapter")
    parser.add_argument("--data", required=True, metavar="FILE", help="annotated sentences")
    parser.add_argument(
        "--texts", type=int, default=64, help="the first so many, at every level (default: %(default)s)"
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64], help="levels (default: 1 8 64)")
    parser.add_argument("--tokens", type=int, default=30, help="of an answer under a grammar (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of answers under grammars (default: %(default)s)")
    parser.add_argument("--vllm", type=Path, default=PYTHON, metavar="PYTHON", help="the Python that has vLLM")
    parser.add_argument("--minutes", type=float, default=5, help="a level that takes longer is cut off (default: 5)")
    options = parser.parse_args()
    if not Path(options.data).is_file():
        parser.error(f"--data {options.data}: no such file")
    return options


def _engine(run: Path, texts: Sequence[str]) -> tuple[float, dict[str, Entities]]:
    """Texts a second of the engine itself, and what it finds."""
    recognizer = assemble.load(run, dtype="float32")
    recognizer.extract_many(texts[:_WARM])
    started = time.monotonic()
    found = recognizer.extract_many(texts)
    speed = len(texts) / (time.monotonic() - started)
    return speed, {one.text: [(e.start, e.end, e.label) for e in one.entities] for one in found}


class _Served(NamedTuple):
    """A running server; `url` ends in /v1."""

    client: httpx2.Client
    url: str

    def extract(self, text: str) -> Entities:
        entities = self.post("extract", {"model": "ner", "text": text})["entities"]
        return [(entity["start"], entity["end"], entity["label"]) for entity in entities]

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self.client.post(f"{self.url}/{path}", json=body).raise_for_status().json()


@contextlib.contextmanager
def _nertune(*arguments: str) -> Iterator[_Served]:
    """`nertune serve` with these arguments, on any port; ended with the context."""
    command = [sys.executable, "-m", "nertune", "serve", *arguments, "--port", "0", "--queue", "4096"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        ending = threading.Timer(_START, server.kill)
        ending.start()
        try:
            said: list[str] = []
            for line in iter(server.stderr.readline, ""):
                said.append(line)
                if "serving " in line and "/v1" in line:
                    break
            else:
                raise SystemExit(f"nertune serve did not start:\n{''.join(said[-12:])}")
            ending.cancel()
            threading.Thread(target=server.stderr.read, daemon=True).start()  # its log must not fill the pipe
            limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
            with httpx2.Client(timeout=600, trust_env=False, limits=limits) as client:
                yield _Served(client, said[-1].split()[-1])
        finally:
            ending.cancel()
            server.terminate()


def _grammars(server: _Served, texts: Sequence[str], *, tokens: int, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of a token, and of an extraction beside such answers, for each kind of answer; the ratios are to free ones'."""
    models = server.client.get(f"{server.url}/models").raise_for_status().json()["data"]
    base = next((model["id"] for model in models if model["parent"] is None), "ner")

    def answer(kind: str) -> float:
        prompt = "Describe the city of Hangzhou as a JSON object, in long sentences."
        body = {"model": base, "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens, **_KINDS[kind]}
        started = time.monotonic()
        usage = server.post("chat/completions", body)["usage"]
        return (time.monotonic() - started) / max(1, usage["completion_tokens"])

    def beside(kind: str | None) -> float:
        """The median time of an extraction while one client asks for such answers."""
        ended = threading.Event()

        def ask_on() -> None:
            while not ended.is_set():
                answer(str(kind))

        asking = threading.Thread(target=ask_on)
        times = []
        if kind:
            asking.start()
            time.sleep(0.5)
        for text in texts:
            started = time.monotonic()
            server.extract(text)
            times.append(time.monotonic() - started)
        if kind:
            ended.set()
            asking.join()
        return statistics.median(times)

    for kind in _KINDS:
        answer(kind)
    seconds: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    for _ in range(rounds):
        for kind, times in seconds.items():
            times.append(answer(kind))
    alone = beside(None)
    return {
        kind: {
            "seconds_per_token": statistics.median(times),
            "ratio": statistics.median(one / free for one, free in zip(times, seconds["free"], strict=True)),
            "extract_beside_seconds": (slowed := beside(kind)),
            "extract_beside_ratio": slowed / alone,
        }
        for kind, times in seconds.items()
    }


def _completions(address: str, run: Path, clients: int) -> Ask:
    """nertune's own client of vLLM's completions."""
    recognizer = assemble.connect(address, run=run, concurrency=clients, timeout=600)
    return lambda text: [(e.start, e.end, e.label) for e in recognizer.extract(text).entities]


def _level(
    ask: Ask, texts: Sequence[str], expected: dict[str, Entities], clients: int, *, seconds: float
) -> dict[str, Any]:
    """What so many clients get, who share the texts among them."""
    waiting = iter(texts)
    taking = threading.Lock()
    times: list[float] = []
    equal: list[bool] = []
    errors: list[str] = []
    started = time.monotonic()

    def client() -> None:
        while time.monotonic() - started < seconds:
            with taking:
                text = next(waiting, None)
            if text is None:
                return
            begun = time.monotonic()
            try:
                found = ask(text)
            except Exception as error:
                errors.append(f"{type(error).__name__}: {error}"[:200])
                continue
            times.append(time.monotonic() - begun)
            equal.append(found == expected[text])

    threads = [threading.Thread(target=client, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - started
    ordered = sorted(times)
    return {
        "texts": len(times),
        "texts_per_second": len(times) / took,
        "median_seconds": statistics.median(ordered) if ordered else None,
        "p95_seconds": ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))] if ordered else None,
        "equal": sum(equal),
        "errors": errors,
    }


def _told(speed: float, texts: int, results: dict[str, Any], grammars: dict[str, dict[str, float]]) -> int:
    """Print the tables and the JSON line; the exit code, 1 if anything failed."""
    print(f"{'':20}{'clients':>8}{'texts/s':>9}{'ratio':>7}{'median s':>10}{'p95 s':>8}{'equal':>11}{'errors':>8}")
    print(f"{'engine':20}{'':8}{speed:9.2f}{1:7.2f}")
    failed = False
    for name, levels in results.items():
        if "error" in levels:
            print(f"{name:20}  failed")
            failed = True
            continue
        for clients, level in levels.items():
            failed |= bool(level["errors"]) or not level["texts"]
            median, p95 = (f"{level[key] or 0:.3f}" for key in ("median_seconds", "p95_seconds"))
            print(
                f"{name:20}{clients:>8}{level['texts_per_second']:9.2f}{level['ratio']:7.2f}{median:>10}{p95:>8}"
                f"{level['equal']:>7}/{level['texts']:<3}{len(level['errors']):>8}"
            )
    print(f"\n{'':20}{'s/token':>9}{'ratio':>7}{'extract beside, s':>19}{'ratio':>7}")
    for name, found in grammars.items():
        print(
            f"{name:20}{found['seconds_per_token']:9.3f}{found['ratio']:7.2f}{found['extract_beside_seconds']:19.2f}"
            f"{found['extract_beside_ratio']:7.2f}"
        )
    print(json.dumps({"texts": texts, "engine": {"texts_per_second": speed}, "ways": results, "grammars": grammars}))
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
