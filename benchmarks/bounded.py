"""One run as a process of its own: bounded in time, its peak memory measured, its last line read as JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

__all__ = ["RunError", "run_json"]

_EVERY = 0.25  # seconds between two looks at the memory


class RunError(Exception):
    """A run that ended with another exit code than 0, took too long, or printed no JSON; the message has its last lines."""


def run_json(command: Sequence[str], *, minutes: float, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run `command` and return the JSON object of its last line with `peak_gb` added.

    `peak_gb` (10^9 bytes) is the largest resident memory of the process and all its children together, looked at four
    times a second. Raises RunError; the process and its children are ended then.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=output, stderr=errors, env=environment, start_new_session=True)
        try:
            peak = _watch(process, deadline=time.monotonic() + 60 * minutes)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output.seek(0)
        errors.seek(0)
        printed, said = output.read().strip(), errors.read().strip()
    tail = "\n".join(f"  {line}" for line in (said or printed).splitlines()[-12:])
    if peak is None:
        raise RunError(f"not done after {minutes:g} minutes (--minutes); its last lines:\n{tail}")
    if process.returncode:
        raise RunError(f"ended with exit code {process.returncode}; its last lines:\n{tail}")
    try:
        return {**json.loads(printed.splitlines()[-1]), "peak_gb": peak / 1e9}
    except (IndexError, ValueError) as error:
        raise RunError(f"printed no JSON at its end; its last lines:\n{tail}") from error


def _watch(process: subprocess.Popen[bytes], *, deadline: float) -> int | None:
    """Wait for the end of a process; its peak memory in bytes, None where the deadline came first."""
    peak = 0
    while process.poll() is None:
        if time.monotonic() > deadline:
            return None
        peak = max(peak, _resident(process.pid))
        time.sleep(_EVERY)
    return peak


def _resident(pid: int) -> int:
    """Resident bytes of a process and its descendants; those that end meanwhile count nothing."""
    total = 0
    try:
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
    except psutil.Error:
        return total
    return total
