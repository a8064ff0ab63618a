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
        epilog="Exit code 3 where DST does not hold all of SRC: DST.left-out.jsonl lists what it does not.",
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
    convert.add_argument("--template", help="alpaca, sharegpt: prompt template (default: cluener)")
    convert.add_argument(
        "--answer", help="alpaca, sharegpt: answer format (default: json); inline: inline or xml (default: inline)"
    )
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
    from nertune.conversion import convert

    conversion = convert(
        options.source,
        options.target,
        target_format=options.target_format,
        template=options.template,
        answer=options.answer,
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
