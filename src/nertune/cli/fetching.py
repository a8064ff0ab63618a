"""`nertune data fetch`: public corpora from their hubs."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from nertune.cli.messages import say
from nertune.cli.options import Commands
from nertune.errors import InputError

__all__ = ["add_fetch"]

_LOOKED_INTO = 10  # files whose format is told to name the next step


def add_fetch(tasks: Commands) -> None:
    """One task of `nertune data`."""
    fetch = tasks.add_parser("fetch", help="public corpora from Hugging Face or ModelScope")
    fetch.add_argument("name", metavar="NAME", nargs="?", help="see --list, or OWNER/NAME of a hub's data set")
    fetch.add_argument("--out", metavar="DIR", help="folder for the files (default: one called NAME, here)")
    fetch.add_argument(
        "--from",
        dest="hub",
        choices=("huggingface", "modelscope"),
        help="default: where NAME is known to be, or huggingface",
    )
    fetch.add_argument(
        "--revision",
        metavar="R",
        help="branch, tag or commit (default: that fetched before, the one pinned, the newest)",
    )
    fetch.add_argument(
        "--files", nargs="+", metavar="GLOB", default=[], help="only these of its data files: '*zh*.jsonl'"
    )
    fetch.add_argument("--list", action="store_true", help="list the corpora, or the files of NAME, and stop")
    fetch.add_argument(
        "--offline", action="store_true", help="only what was downloaded before; HF_HUB_OFFLINE=1 likewise"
    )
    fetch.set_defaults(run=_fetch)


def _fetch(options: argparse.Namespace) -> int:
    from nertune.data.fetch import fetch, listed

    how = {"hub": options.hub, "revision": options.revision, "files": options.files, "offline": options.offline}
    if options.name is None:
        if not options.list:
            raise InputError("fetch which corpus? nertune data fetch --list names them")
        _show_corpora()
        return 0
    if options.list:
        files, left = listed(options.name, **how)
        for file in files:
            print(file.path if file.size is None else f"{file.path}\t{file.size}")
        if left:
            say(
                f"{len(left)} others are no data, or fit no pattern: {', '.join(left[:5])}{' …' if len(left) > 5 else ''}"
            )
        return 0
    if not sys.stderr.isatty():
        for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "TQDM_DISABLE"):  # read when the clients are first imported
            os.environ.setdefault(name, "1")
    fetched = fetch(options.name, options.out, **how, said=say)
    if fetched.manifest.citation:
        say(f"cite: {fetched.manifest.citation}")
    print(fetched.folder)
    if readable := _readable(fetched.files):
        say(f"Next: nertune data audit {shlex.join(map(str, readable))}")
    return 0


def _show_corpora() -> None:
    from nertune.data.fetch import CORPORA

    width = max(map(len, CORPORA)) + 2
    for corpus in CORPORA.values():
        print(f"{corpus.name:{width}}{corpus.language or '':4}{corpus.about}")
        for source in corpus.sources:
            told = [source.licence or "licence not stated here", *([source.format] if source.format else [])]
            print(f"{'':{width + 4}}{source.hub}:{source.repository} ({'; '.join(told)})")


def _readable(files: tuple[Path, ...]) -> list[Path]:
    """Those that are in a format of ours, of the first few."""
    from nertune.data import detect

    readable = []
    for path in files[:_LOOKED_INTO]:
        try:
            detect(path)
        except InputError:
            continue
        readable.append(path)
    return readable
