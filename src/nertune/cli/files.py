"""`nertune data convert` and `nertune doctor`: what needs no model."""

from __future__ import annotations

import argparse
import json

from nertune.cli.fetching import add_fetch
from nertune.cli.messages import say
from nertune.cli.options import Commands, Parser, label_map_of, map_option
from nertune.cli.showing import add_show
from nertune.cli.splitting import add_split

__all__ = ["add_data", "add_doctor"]


def add_data(commands: Commands) -> None:
    data = commands.add_parser("data", help="annotated files").add_subparsers(
        required=True, metavar="TASK", parser_class=Parser
    )
    convert = data.add_parser("convert", help="from one format to another, round trip checked")
    convert.add_argument("source", metavar="SRC")
    convert.add_argument("target", metavar="DST")
    convert.add_argument("--from", dest="source_format", metavar="F", help="format of SRC (default: detected)")
    convert.add_argument(
        "--to",
        dest="target_format",
        default="entities",
        metavar="F",
        help="entities, cluener, doccano, labelstudio, brat or alpaca (default: %(default)s)",
    )
    convert.add_argument(
        "--offsets", choices=("code-points", "utf-16"), help="what SRC's offsets count (default: told from the file)"
    )
    convert.add_argument(
        "--predictions", action="store_true", help="labelstudio: read predictions where there are annotations, too"
    )
    convert.add_argument("--template", default="cluener", help="alpaca: prompt template (default: %(default)s)")
    convert.add_argument("--answer", default="json", help="alpaca: answer format (default: %(default)s)")
    map_option(convert)
    convert.set_defaults(run=_convert)
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
        source_format=options.source_format,
        target_format=options.target_format,
        template=options.template,
        answer=options.answer,
        label_map=label_map_of(options),
        reading={"offsets": options.offsets, "predictions": options.predictions},
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
        print(json.dumps([finding._asdict() for finding in findings], ensure_ascii=False, indent=2))
        return 0
    table = Table(box=None, pad_edge=False)
    for column in ("", "found", "to do"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        table.add_row(*map(Text, finding))
    stdout.print(table)
    return 0
