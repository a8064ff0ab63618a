"""The command line: thin commands, imported lazily. Results go to stdout, everything else to stderr.

Exit codes: 0 done, 1 failed, 2 wrong usage or bad input, 3 done with some items failed, 130 interrupted,
143 terminated.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Sequence

from nertune.cli.messages import rank, say
from nertune.cli.parser import build_parser
from nertune.console.writer import safe_streams
from nertune.errors import NertuneError, TrainingInterrupted

__all__ = ["build_parser", "main"]

# Seconds that another process than the first gives it to fail of the same reason and say so.
_PATIENCE = 20.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. What is told about it steers no terminal, whoever wrote it."""
    with safe_streams():
        return _run(arguments)


def _run(arguments: Sequence[str] | None) -> int:
    options = build_parser().parse_args(arguments)
    if getattr(options, "trust_remote_code", False):
        from nertune.safety import trust_remote_code

        trust_remote_code()
    try:
        return int(options.run(options))
    except TrainingInterrupted as stopped:
        say(str(stopped))
        return stopped.exit_code
    except KeyboardInterrupt:
        if options.debug:
            raise
        if rank() == 0:
            say("interrupted")
        return 130
    except BrokenPipeError:
        # The reader of stdout went away, as `| head` does: nothing is wrong, and nothing more can be said there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except NertuneError as error:
        if options.debug:
            raise
        _say_failure(str(error))
        return error.exit_code
    except OSError as error:
        if options.debug:
            raise
        full = error.errno == errno.ENOSPC
        _say_failure(f"{error}" + (". What was finished before is intact; make room and run it again" if full else ""))
        return 2
    except Exception as error:
        if options.debug:
            raise
        _say_failure(
            f"{type(error).__name__}: {error}\nThis should not happen; --debug before the command shows where it did"
        )
        return 1


def _say_failure(message: str) -> None:
    """Say once, of several processes, why all failed: the launcher ends the others when the first is gone."""
    if rank():
        time.sleep(_PATIENCE)
        message = f"process {rank()}: {message}"
    say(message)
