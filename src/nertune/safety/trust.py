"""Whether code that comes with a model may run: not before the user says so, on the command line, for this process."""

from __future__ import annotations

__all__ = ["remote_code_trusted", "trust_remote_code"]

_trusted = False


def trust_remote_code(trusted: bool = True) -> None:
    """Let models of this process run code from their folder or repository; the command line calls it, for its option."""
    global _trusted
    _trusted = trusted


def remote_code_trusted() -> bool:
    """What transformers' `trust_remote_code` is to be, everywhere."""
    return _trusted
