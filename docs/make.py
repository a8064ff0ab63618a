"""Write docs/cli.md from the command line's own help, so that the two cannot differ.

python docs/make.py [--check]     # --check: fail when docs/cli.md is not what would be written, or a README leaves out a page
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

PAGE = Path(__file__).parent / "cli.md"


def page() -> str:
    """The whole page as Markdown."""
    os.environ["COLUMNS"] = "100"
    from nertune.cli import build_parser

    parts = ["# The command line\n\nWritten by `make docs` from `nertune --help`.\n"]
    parts += [f"## {name}\n\n```\n{parser.format_help().rstrip()}\n```\n" for name, parser in _walk(build_parser())]
    return "\n".join(parts)


def left_out() -> list[str]:
    """What the READMEs do not name: pages of this folder, in one language or another, and commands."""
    from nertune.cli import build_parser

    pages = {f"docs/{path.name.split('.')[0]}." for path in PAGE.parent.glob("*.md")}
    commands = {name for name, parser in _walk(build_parser()) if parser._subparsers is None}
    return [
        f"{readme.name}: {name} is not there"
        for readme in (PAGE.parents[1] / "README.md", PAGE.parents[1] / "README.zh-CN.md")
        for name in sorted(pages | commands)
        if name not in re.sub(" +", " ", readme.read_text(encoding="utf-8"))
    ]


def _walk(parser: argparse.ArgumentParser) -> list[tuple[str, argparse.ArgumentParser]]:
    """A parser and all its commands, depth first, by full name."""
    found = [(parser.prog, parser)]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                found += _walk(command)
    return found


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        stale = ["docs/cli.md is out of date: make docs"] if PAGE.read_text(encoding="utf-8") != page() else []
        raise SystemExit("\n".join(stale + left_out()) or 0)
    PAGE.write_text(page(), encoding="utf-8")
