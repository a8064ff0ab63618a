"""`nertune data`, `data convert` and `nertune doctor`: what needs no model."""

from __future__ import annotations

import argparse

from nertune.cli.auditing import add_audit
from nertune.cli.fetching import add_fetch
from nertune.cli.messages import print_json, say
from nertune.cli.options import Commands, Parser, label_map_of, map_option
from nertune.cli.reading import reading_of, reading_options
from nertune.cli.showing import add_show
from nertune.cli.splitting import add_split

__all__ = ["add_data", "add_doctor"]


def add_data(commands: Commands) -> None:
    data = commands.add_parser("data", help="annotated files").add_subparsers(
        required=True, metavar="TASK", parser_class=Parser
    )
    convert = data.add_parser(
        "convert",
        help="from one format to another, round trip checked",
        epilog="Exit code 3 where something of SRC is left out of DST: DST.left-out.jsonl lists it. What answers merge or do "
        "not place by their nature is a note.",
    )
    convert.add_argument("source", metavar="SRC", help="annotated file or folder")
    convert.add_argument("target", metavar="DST", help="file or folder to write; one that is there is replaced")
    convert.add_argument(
        "--to",
        dest="target_format",
        default="entities",
        metavar="F",
        help="entities, cluener, doccano, labelstudio, brat, conll, hf, spacy, inline, alpaca or sharegpt "
        "(default: %(default)s)",
    )
    convert.add_argument(
        "--answer", help="alpaca, sharegpt: answer format (default: json); inline: inline or xml (default: inline)"
    )
    rows = convert.add_argument_group("rows for LLMs (alpaca, sharegpt)")
    rows.add_argument(
        "--template",
        metavar="T",
        help="prompt template: a name, a folder or a file (default: the recipe's, or cluener)",
    )
    rows.add_argument(
        "--labels",
        metavar="A,B,C",
        help="labels in the order in which the prompt names them (default: the recipe's, or those that occur, the most "
        "frequent first)",
    )
    rows.add_argument(
        "--layout",
        choices=("sentence-in-input", "system-in-instruction", "prompt-in-instruction"),
        help="alpaca: which columns hold prompt, sentence and system sentence (default: sentence-in-input)",
    )
    rows.add_argument("--recipe", metavar="RECIPE", help="take prompt, answer format, labels and label map of a recipe")
    rows.add_argument("--task", metavar="NAME", help="which of the recipe's tasks, where it has several")
    map_option(convert)
    convert.add_argument("--scheme", choices=("bio", "bioes", "bmes"), help="conll, hf: tags to write (default: bio)")
    reading_options(convert, "SRC")
    convert.set_defaults(run=_convert)
    add_audit(data)
    add_fetch(data)
    add_show(data)
    add_split(data)


def add_doctor(commands: Commands) -> None:
    doctor = commands.add_parser("doctor", help="what this machine has, what is missing, what to type")
    doctor.add_argument("--json", action="store_true", help="print one JSON value")
    doctor.set_defaults(run=_doctor)


def _convert(options: argparse.Namespace) -> int:
    from nertune.conversion import Wording, convert

    labels = options.labels
    wording = Wording(
        template=options.template,
        answer=options.answer,
        labels=None if labels is None else tuple(name.strip() for name in labels.split(",")),
        layout=options.layout,
        recipe=options.recipe,
        task=options.task,
    )
    conversion = convert(
        options.source,
        options.target,
        target_format=options.target_format,
        wording=wording,
        scheme=options.scheme,
        label_map=label_map_of(options),
        reading=reading_of(options),
    )
    for line in conversion.said:
        say(line)
    return 0 if conversion.complete else 3


def _doctor(options: argparse.Namespace) -> int:
    from rich.table import Table
    from rich.text import Text

    from nertune.doctor import examine
    from nertune.terminal import stdout

    findings = examine()
    if options.json:
        print_json([finding._asdict() for finding in findings])
        return 0
    table = Table(box=None, pad_edge=False)
    for column in ("", "found", "to do"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        table.add_row(*map(Text, finding))
    stdout.print(table)
    return 0
