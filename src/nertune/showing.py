"""`nertune data show`: annotated documents, one after another, for people: in a terminal, or as a page.

Documents are read as they are shown, so that a file of any size begins at once.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from nertune import data
from nertune.atomic import same_file, write_text
from nertune.console import visible
from nertune.data.show import SCRIPT, show_page
from nertune.errors import InputError
from nertune.pages import page
from nertune.prompt import KNOWN_ANSWERS
from nertune.schema import Document
from nertune.terminal import PipedConsole, highlight, stdout

__all__ = ["Wanted", "show", "write_page"]

_ON_A_PAGE = 5_000  # documents, where no number is asked for
_PAGER = "less -RFX"
_AS_THEY_ARE = data.LabelMap()
_AS_TOLD = data.ReadSettings()


class Wanted(NamedTuple):
    """Which documents to show: with a mention of one of `labels` and with `search` in the text, where these are given.

    Of these the `first`-th (1-based) and those after it, `most` at the most.
    """

    labels: tuple[str, ...] = ()
    search: str = ""
    first: int = 1
    most: int | None = None

    def of(self, rows: Iterable[data.Row]) -> Iterator[tuple[int, data.Row]]:
        """The rows wanted, each with its number in the file, from 1. Raises InputError for numbers below 1."""
        if self.first < 1 or (self.most is not None and self.most < 1):
            raise InputError("--first and --limit count from 1")
        fitting = ((number, row) for number, row in enumerate(rows, 1) if self._fits(row.document))
        return islice(fitting, self.first - 1, None if self.most is None else self.first - 1 + self.most)

    def _fits(self, document: Document) -> bool:
        named = {entity.label for entity in document.entities}
        return (not self.labels or not named.isdisjoint(self.labels)) and self.search in document.text


def show(
    source: str,
    wanted: Wanted,
    *,
    reading: data.ReadSettings = _AS_TOLD,
    label_map: data.LabelMap = _AS_THEY_ARE,
    say: Callable[[str], None],
) -> None:
    """Print the documents, through the user's pager on a terminal. Notes of the reader are said after them.

    `reading`: see `data.open_rows`; `label_map`: other labels for those of the file, given before any are looked for.
    Raises what `nertune.data.open_rows` raises, and InputError where no document fits.
    """
    changes = data.Changes()
    with data.open_rows(source, answers=KNOWN_ANSWERS, **reading) as opened:
        rows = wanted.of(label_map.rows(opened, changes))
        first = next(rows, None)
        if first is None:
            raise InputError(f"{source}: none of its documents fits")
        labels: list[str] = []
        with _paged() as console:
            for number, row in chain([first], rows):
                labels += sorted({entity.label for entity in row.document.entities}.difference(labels))
                console.print(_lines(number, row, labels), soft_wrap=True)
        for note in (*opened.notes(), *label_map.done(changes)):
            say(note)


def write_page(
    source: str,
    target: str,
    wanted: Wanted,
    *,
    reading: data.ReadSettings = _AS_TOLD,
    label_map: data.LabelMap = _AS_THEY_ARE,
    labels: Mapping[str, str] | None = None,
) -> tuple[str, ...]:
    """Write one HTML page that shows the documents and needs nothing else; returns what is to be said.

    Where `wanted.most` is None, 5,000 at most: the page says how many there are. `labels`: display names by label.
    Raises what `show` raises, InputError where the page would replace the file, MissingFileError and DiskSpaceError.
    """
    if same_file(source, target):
        raise InputError(f"{target}: is the file to be shown; give the page another name")
    changes = data.Changes()
    with data.open_rows(source, answers=KNOWN_ANSWERS, **reading) as opened:
        rows = wanted.of(label_map.rows(opened, changes))
        value = show_page(rows, title=Path(source).name, most=wanted.most or _ON_A_PAGE, display=labels or {})
        if not value["documents"]:
            raise InputError(f"{source}: none of its documents fits")
        value["facts"] = {"file": source, "format": opened.format}
        write_text(
            target, page(value, script=SCRIPT, without_script="Type nertune data show for the same in a terminal.")
        )
        return (*opened.notes(), *label_map.done(changes))


def _lines(number: int, row: data.Row, labels: Sequence[str]) -> Text:
    """What stands above a document, and the document."""
    where = f"#{number}" + (f" line {row.raw.line}" if row.raw.line not in (None, number) else "")
    named = f" {row.document.id}" if row.document.id is not None else ""
    text = Text(visible(where + named) + "\n", style="dim")
    text.append_text(highlight(row.document.text, row.document.entities, labels))
    for mention in row.lost:
        text.append(f"\n  without a place in the text: {visible(mention.shown)} {visible(mention.label)}", style="red")
    return text.append("\n")


@contextmanager
def _paged() -> Iterator[Console]:
    """A console on the user's pager, `$PAGER` or less; on stdout where that is no terminal or there is no pager.

    Leaving the pager ends the showing, however much is left.
    """
    command = shlex.split(os.environ.get("PAGER") or _PAGER)
    if not sys.stdout.isatty() or not command or shutil.which(command[0]) is None:
        yield stdout
        return
    environment = {"LESSCHARSET": "utf-8", **os.environ}
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, text=True, encoding="utf-8") as pager:
        try:
            yield PipedConsole(file=pager.stdin, force_terminal=True, width=stdout.width)
        except BrokenPipeError:
            pass
        finally:
            with suppress(BrokenPipeError):
                if pager.stdin is not None:
                    pager.stdin.close()
