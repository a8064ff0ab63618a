"""Every error that nertune raises on purpose.

    NertuneError
    ├── InputError            (ValueError)         what the caller gave cannot be used
    │   ├── DataError                              a record of a data file: file, line, what was found
    │   ├── RecipeError                            one or more keys of a recipe, all listed together
    │   ├── MissingFileError  (FileNotFoundError)  a path that is not there
    │   ├── UnknownModelError (LookupError)        no base model or run of that name
    │   ├── RunError                               a run directory that is damaged or was made for something else
    │   ├── SampleTooLongError                     samples that do not fit into the cut-off
    │   └── MissingExtraError (ImportError)        an optional dependency; the message holds the pip line
    ├── EndpointError         (ConnectionError)    a server that cannot be reached, refuses what is asked, or fails
    ├── QueueFullError                             an engine that has accepted as much as it may
    ├── EngineFailedError     (RuntimeError)       an engine that failed while it held a request
    ├── EngineStoppedError    (RuntimeError)       an engine that takes no requests now
    ├── NotFiniteError        (ArithmeticError)    a model whose numbers are not finite
    ├── DiskSpaceError        (OSError)            not enough room for what was about to be written
    └── TrainingError         (RuntimeError)       training cannot go on (a loss that is not finite, say)

    TrainingInterrupted       (KeyboardInterrupt)  no error: a signal ended a training, which was saved before

The command line prints the message alone and leaves with `exit_code`; a traceback only with `--debug`.
"""

from __future__ import annotations

import uuid
from pathlib import Path

__all__ = [
    "DataError",
    "DiskSpaceError",
    "EndpointError",
    "EngineFailedError",
    "EngineStoppedError",
    "InputError",
    "MissingExtraError",
    "MissingFileError",
    "NertuneError",
    "NotFiniteError",
    "QueueFullError",
    "RecipeError",
    "RunError",
    "SampleTooLongError",
    "TrainingError",
    "TrainingInterrupted",
    "UnknownModelError",
]


_LONGEST = 1000  # characters of a DataError's message


class NertuneError(Exception):
    """The root: catch this to catch every deliberate error of the package."""

    exit_code = 1


class InputError(NertuneError, ValueError):
    """Something the caller gave is wrong; the message says where, what was found, and what to do."""

    exit_code = 2


class DataError(InputError):
    """A data file that cannot be read as annotated text.

    `path` and `line` (1-based; None where the format has no lines) say where; the message repeats both. Of a message that
    quotes more of the file than anybody reads, the first thousand characters are kept.
    """

    def __init__(self, message: str, *, path: Path | str, line: int | None = None) -> None:
        self.path = Path(path)
        self.line = line
        where = f"{path}:{line}" if line is not None else str(path)
        super().__init__(f"{where}: {message if len(message) <= _LONGEST else message[: _LONGEST - 1] + '…'}")


class RecipeError(InputError):
    """A recipe with wrong keys or values. `problems` holds one line each; the message lists them all."""

    def __init__(self, problems: list[str], *, source: str) -> None:
        self.problems = problems
        listed = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"{source}: {len(problems)} problem{'s' if len(problems) > 1 else ''}\n{listed}")


class MissingFileError(InputError, FileNotFoundError):
    """A file or directory that is not there."""


class UnknownModelError(InputError, LookupError):
    """A model name that is neither built in, nor a directory, nor found on a hub."""


class RunError(InputError):
    """A run directory that is damaged, unsafe to load, or made for another base model."""


class SampleTooLongError(InputError):
    """Samples that do not fit into the recipe's cut-off, refused because the recipe says so."""


class MissingExtraError(InputError, ImportError):
    """An optional dependency is absent. `extra` is the name to install."""

    def __init__(self, purpose: str, *, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{purpose} needs an optional package. Type: pip install 'nertune[{extra}]'")


class EndpointError(NertuneError, ConnectionError):
    """A server that cannot be reached, refuses what is asked of it, or fails again and again.

    `exit_code`: 1 where the server failed, 2 where an address, a key, a name or an option is to be changed.
    """

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        self.exit_code = exit_code
        super().__init__(message)


class QueueFullError(NertuneError):
    """As many requests are waiting as may. `retry_after`: seconds until there is room again, an estimate."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class EngineFailedError(NertuneError, RuntimeError):
    """The engine failed while it held a request. `incident`: the id that stands beside the cause in the log; None makes one."""

    def __init__(self, incident: str | None = None) -> None:
        self.incident = incident or uuid.uuid4().hex[:12]
        super().__init__(f"the engine failed while it worked on this; incident {self.incident} in the server's log")


class EngineStoppedError(NertuneError, RuntimeError):
    """The engine takes no requests: it failed and is being rebuilt, or it is being closed."""


class NotFiniteError(NertuneError, ArithmeticError):
    """A model whose numbers are NaN or infinite: its weights are damaged, or too large for the type that it runs in."""


class DiskSpaceError(NertuneError, OSError):
    """Not enough room on the disk; raised before anything is half-written."""


class TrainingError(NertuneError, RuntimeError):
    """Training stopped because going on would do harm."""


class TrainingInterrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM ended a training after a checkpoint was saved; the message says where.

    `exit_code`: 128 and the signal's number, as shells have it: 130 or 143.
    """

    def __init__(self, message: str, *, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(message)
