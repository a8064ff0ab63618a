"""`nertune data show`: annotated documents with their entities in colour, in the terminal or as a page."""

from __future__ import annotations

import argparse
from typing import Any

from nertune.cli.messages import say
from nertune.cli.options import label_map_of, map_option, positive
from nertune.cli.reading import reading_of, reading_options

__all__ = ["add_show"]


def add_show(tasks: Any) -> None:
    show = tasks.add_parser("show", help="pages through documents, entities in colour")
    show.add_argument("source", metavar="FILE", help="annotated file or folder")
    show.add_argument(
        "--label", dest="labels", action="append", default=[], metavar="L", help="only with such a mention; repeatable"
    )
    show.add_argument("--search", default="", metavar="TEXT", help="only with TEXT in them")
    show.add_argument("--first", type=positive, default=1, metavar="N", help="from the N-th of these on (default: 1)")
    show.add_argument(
        "--limit", type=positive, metavar="N", help="so many at most (default: all; with --html the first 5,000)"
    )
    show.add_argument("--html", metavar="OUT", help="write one page that needs nothing else, in place of the terminal")
    map_option(show)
    reading_options(show)
    show.set_defaults(run=_show)


def _show(options: argparse.Namespace) -> int:
    from nertune.showing import Wanted, show, write_page

    wanted = Wanted(tuple(options.labels), options.search, options.first, options.limit)
    how: Any = {"label_map": label_map_of(options), "reading": reading_of(options)}
    if options.html is None:
        show(options.source, wanted, say=say, **how)
        return 0
    for note in write_page(options.source, options.html, wanted, **how):
        say(note)
    say(f"{options.html}: written; open it in a browser")
    return 0
