"""Render chat templates, which strangers write, within limits of time, memory and size.

Jinja's sandbox keeps a template from Python's internals. It does not keep it from working for ever: `'x' * 10**10` is one
call that nothing inside the process can stop. So templates are rendered by a process of their own
(`sandbox_process.py`), which the kernel limits. It starts with the first template, costs some 0.1 s once and some 0.1 ms a
rendering, and ends with the process that started it.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from nertune.errors import InputError, NertuneError

__all__ = ["TemplateRefusedError", "render_template"]

_PROGRAM = Path(__file__).with_name("sandbox_process.py")
_SECONDS = 3  # of processor time for one rendering; real templates take a thousandth
_WALL_SECONDS = 30.0  # for one rendering, whatever else the machine does
_START_SECONDS = 60.0
_SOURCE = 1_000_000  # characters of a template's source; real ones have some thousands
_CHARACTERS = 4_000_000  # characters that one rendering may write
_ADVICE = "name another model, or give this one a template that only writes the turns"
# What the process needs of the environment: never the user's tokens and keys.
_ENVIRONMENT = ("PATH", "PYTHON", "LD_", "DYLD_", "SYSTEMROOT")


class TemplateRefusedError(InputError):
    """The template itself raised an error, as some do for roles that they do not know."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the model's chat template refuses: {' '.join(reason.split()):.200}")


def render_template(source: str, variables: Mapping[str, Any]) -> str:
    """What the template writes. `variables`: JSON values by name.

    Raises TemplateRefusedError for an error of the template's own; InputError where it is too large, takes too long, or asks
    for too much memory.
    """
    if len(source) > _SOURCE:
        raise InputError(f"the model's chat template has {len(source):,} characters, more than {_SOURCE:,}; {_ADVICE}")
    job = {"template": source, "variables": dict(variables), "seconds": _SECONDS, "characters": _CHARACTERS}
    answer = _SANDBOX.answer(json.dumps(job).encode("ascii") + b"\n")
    if "limit" in answer:
        raise InputError(f"the model's chat template {' '.join(answer['limit'].split())}; {_ADVICE}")
    if "refused" in answer:
        raise TemplateRefusedError(answer["refused"])
    return answer["text"]


class _Sandbox:
    """The process, started when it is first needed and again after it was ended. One job at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def answer(self, job: bytes) -> dict[str, str]:
        with self._lock:
            new = self._process is None
            process = self._process = self._process or _start()
            stdin, stdout = process.stdin, process.stdout
            if stdin is None or stdout is None:
                raise NertuneError("the process that renders chat templates has no pipes")
            line = b""
            timer = threading.Timer(_WALL_SECONDS + (_START_SECONDS if new else 0), process.kill)
            timer.daemon = True
            timer.start()
            try:
                with suppress(BrokenPipeError):
                    stdin.write(job)
                    stdin.flush()
                    line = stdout.readline()
            finally:
                timer.cancel()
                if not line.endswith(b"\n"):  # it was ended, or the caller was interrupted
                    self.close()
            if not line.endswith(b"\n"):
                raise _ended(process.returncode)
            answer: dict[str, str] = json.loads(line)
            return answer

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError, AttributeError):
                    pipe.close()  # type: ignore[union-attr]
            process.wait()

    def forget(self) -> None:
        """In a fork: the process and its pipes belong to the parent."""
        self._process, self._lock = None, threading.Lock()


def _start() -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if name.startswith(_ENVIRONMENT)}
    try:
        return subprocess.Popen(
            [sys.executable, "-P", str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the one that started it
        )
    except OSError as error:
        raise NertuneError(f"the process that renders chat templates cannot be started: {error}") from error


def _ended(code: int) -> NertuneError:
    """Why the process was ended: by the kernel for its time, by our clock, or of itself."""
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return InputError(f"the model's chat template takes more than {_SECONDS} s to render; {_ADVICE}")
    if code > 0:
        return NertuneError(
            f"the process that renders chat templates ended with code {code}; see that "
            f"`{sys.executable} -P {_PROGRAM}` starts"
        )
    return InputError(f"the model's chat template brings down the process that renders it (signal {-code}); {_ADVICE}")


_SANDBOX = _Sandbox()
atexit.register(_SANDBOX.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_SANDBOX.forget)
