"""How annotated files are read: the options that the tasks of `nertune data` share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nertune.errors import InputError

if TYPE_CHECKING:
    from nertune.data import ReadSettings

__all__ = ["reading_of", "reading_options"]


def reading_options(parser: argparse.ArgumentParser, file: str = "FILE") -> None:
    """What is not to be told from the files themselves, called `file` in the help; `reading_of` reads what was given."""
    group = parser.add_argument_group(f"how {file} is read", "Told from the content where nothing is said.")
    group.add_argument("--from", dest="format", metavar="F", help="its format")
    group.add_argument("--offsets", choices=("code-points", "utf-16"), help="what its offsets count")
    group.add_argument(
        "--predictions", action="store_true", help="labelstudio: read predictions where there are annotations, too"
    )
    group.add_argument(
        "--column",
        dest="columns",
        action="append",
        default=[],
        metavar="NAME=COLUMN",
        help="conll: token and tag by number, 1 the first, -1 the last; hf: tokens, ner_tags, text and id by name; "
        "other formats of JSON: their keys. Names that are not given are then not read there",
    )
    group.add_argument(
        "--joiner",
        choices=("auto", "space", "none"),
        default="auto",
        help="conll, hf, spacy: what stands between tokens; auto: told from the script (default: %(default)s)",
    )
    group.add_argument("--split", metavar="NAME", help="hf: the split of a folder that holds several")
    group.add_argument(
        "--tag-names", metavar="NAMES", help="hf: a file with the names of tags that are numbers, as JSON or one a line"
    )


def reading_of(options: argparse.Namespace) -> ReadSettings:
    """What was given. Raises InputError for what is no NAME=COLUMN, and what the file of names raises."""
    from nertune import data

    return {
        "format": options.format,
        "offsets": options.offsets,
        "predictions": options.predictions,
        "columns": _columns(options.columns),
        "joiner": options.joiner,
        "split": options.split,
        "tag_names": () if options.tag_names is None else data.tag_names(options.tag_names),
    }


def _columns(given: Sequence[str]) -> dict[str, str] | None:
    """What `--column` says; None where it was not given."""
    for pair in given:
        if not all(pair.partition("=")):
            raise InputError(f"--column {pair}: give NAME=COLUMN, such as tag=2")
    return dict(pair.split("=", 1) for pair in given) or None
