"""`nertune data split`: one annotated file into parts that leak nothing into each other."""

from __future__ import annotations

import argparse

from nertune.cli.messages import print_json, say
from nertune.cli.options import Commands, from_zero, label_map_of, map_option, number, positive, similarity
from nertune.cli.reading import reading_of, reading_options

__all__ = ["add_split"]


def add_split(tasks: Commands) -> None:
    split = tasks.add_parser("split", help="train, validation and test parts, folds, or a few examples of each label")
    split.add_argument("file", metavar="FILE", help="annotated file or folder")
    split.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="folder for the parts and split.json, which tells how to make them again",
    )
    split.add_argument(
        "--test", type=_share, metavar="X", help="a share below 1 or a number of documents; 0: none (default: 0.1)"
    )
    split.add_argument("--validation", type=_share, metavar="X", help="likewise (default: 0.1)")
    split.add_argument("--folds", type=positive, metavar="K", help="instead: each document held out in one of K folds")
    split.add_argument(
        "--few-shot", type=positive, metavar="N", help="instead: N to 2N mentions of each label, and the rest"
    )
    split.add_argument("--seed", type=from_zero, default=1024, metavar="S", help="of all that is drawn (default: 1024)")
    split.add_argument(
        "--group",
        choices=("near", "exact", "none"),
        default="near",
        help="what stays on one side: near-duplicates, equal texts, nothing (default: %(default)s)",
    )
    split.add_argument(
        "--threshold",
        type=similarity,
        default=0.8,
        metavar="J",
        help="near: from which Jaccard index of character trigrams, 0.5 to 1 (default: %(default)s)",
    )
    split.add_argument("--to", default="entities", metavar="F", help="format of the parts (default: %(default)s)")
    split.add_argument("--json", action="store_true", help="print split.json instead of a table")
    map_option(split)
    reading_options(split)
    split.set_defaults(run=_split)


def _split(options: argparse.Namespace) -> int:
    from nertune.splitting import Plan, split_file, split_table

    names = ("test", "validation", "folds", "few_shot", "seed", "group", "threshold", "to")
    plan = Plan(
        **{name: getattr(options, name) for name in names}, label_map=label_map_of(options), reading=reading_of(options)
    )
    manifest, said = split_file(options.file, options.out, plan)
    for line in said:
        say(line)
    if options.json:
        print_json(manifest)
    else:
        from nertune.terminal import stdout

        stdout.print(split_table(manifest))
    return 3 if manifest["source"]["left_out"] else 0


def _share(text: str) -> float | int:
    """A share from 0 to 1, without 1, or a whole number of documents."""
    if text.isdecimal():
        return int(text)
    value = number(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a share below 1 nor a number of documents")
    return value
