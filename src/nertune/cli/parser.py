"""The whole command line, put together from its commands."""

from __future__ import annotations

import argparse

from nertune import __version__
from nertune.cli.exporting import add_export
from nertune.cli.extracting import add_extract
from nertune.cli.files import add_data, add_doctor
from nertune.cli.options import Parser
from nertune.cli.recognizing import add_calibrate, add_evaluate, add_parity
from nertune.cli.scoring import add_compare, add_score
from nertune.cli.serving import add_serve
from nertune.cli.training import add_preview, add_quickstart, add_train

__all__ = ["build_parser"]

# The commands that load a model which a stranger may have made.
_LOADING = ("preview", "train", "extract", "evaluate", "parity", "calibrate", "serve", "export")


def build_parser() -> argparse.ArgumentParser:
    """Options before the command, and the commands in the order of the help."""
    parser = Parser(prog="nertune", description="Turn an instruction-tuned LLM into a named-entity recognizer.")
    parser.add_argument("--version", action="version", version=f"nertune {__version__}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    add_quickstart(commands)
    add_data(commands)
    add_preview(commands)
    add_train(commands)
    add_extract(commands)
    add_evaluate(commands)
    add_score(commands)
    add_compare(commands)
    add_parity(commands)
    add_calibrate(commands)
    add_export(commands)
    add_serve(commands)
    add_doctor(commands)
    for name in _LOADING:
        commands.choices[name].add_argument(
            "--trust-remote-code",
            action="store_true",
            help="run code that comes with the base model; never done otherwise",
        )
    return parser
