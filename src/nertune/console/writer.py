"""The doors to a terminal: rich's console and the plain streams, through which no text of a stranger's steers it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from nertune.console.visible import visible

__all__ = ["SafeConsole", "safe_streams"]


class SafeConsole(Console):
    """A console that writes its own colours and nobody else's: what would steer the terminal is shown by its code point.

    A string is text: neither its brackets nor its `:colons:` are markup.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"highlight": False, "markup": False, "emoji": False, **options})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What the console writes of anything."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text, layout=True), segment.style)


class _SafeStream:
    """A text stream whose writing shows what would steer a terminal. A rich console goes around it."""

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        self.rich_proxied_file.write(visible(text, layout=True))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


@contextmanager
def safe_streams() -> Iterator[None]:
    """Let everything that is written to stderr, and to stdout where it is a terminal, be seen and steer nothing.

    That is also what libraries log, warnings, tracebacks, and arguments that are quoted back. A stdout that goes into a file
    or another program gets its data as they are.
    """
    before = sys.stdout, sys.stderr
    sys.stderr = _SafeStream(sys.stderr)
    if sys.stdout is not None and sys.stdout.isatty():
        sys.stdout = _SafeStream(sys.stdout)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
