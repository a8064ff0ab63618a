"""`nertune extract`: one text, or files of any size."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any

from nertune.atomic import STDOUT, same_file
from nertune.cli import recognizing
from nertune.cli.options import MODEL, Commands, generation_options, min_score_option, positive, server_options
from nertune.errors import InputError, MissingFileError
from nertune.schema import SourceText

__all__ = ["add_extract"]

_FORMS = ("text", "jsonl", "csv", "tsv", "parquet")
# Options on which the entities depend, so that an output is not gone on with under others.
_SETTINGS = (
    "task",
    "max_new_tokens",
    "window",
    "unconstrained",
    "min_score",
    "batch_size",
    "served_run",
    "labels",
    "template",
    "answer",
)


def add_extract(commands: Commands) -> None:
    extract = commands.add_parser("extract", help="entities of texts, as JSON lines")
    extract.add_argument("model", metavar="MODEL", help=MODEL)
    extract.add_argument(
        "source",
        nargs="?",
        metavar="FILE|-",
        help="texts, one a line, or JSON lines, CSV, TSV or Parquet with a key or column text; - for stdin",
    )
    extract.add_argument("--text", help="one text, instead of FILE")
    extract.add_argument("--whole", action="store_true", help="FILE is one text, line breaks and all")
    extract.add_argument("-o", "--out", metavar="FILE", help="write here instead of stdout")
    extract.add_argument("--show", action="store_true", help="print the texts with entities in colour instead of JSON")
    min_score_option(extract)
    # Of another name than the --debug before the command, which shows tracebacks.
    extract.add_argument(
        "--debug", dest="trace", action="store_true", help="show prompt, token ids and answer of each text on stderr"
    )
    _bulk_options(extract)
    generation_options(extract)
    server_options(extract)
    extract.set_defaults(run=_extract)


def _bulk_options(extract: argparse.ArgumentParser) -> None:
    group = extract.add_argument_group(
        "FILE is large",
        "With --out nothing is lost: killed at any moment, the same command with --resume goes on where it was.",
    )
    group.add_argument("--resume", action="store_true", help="go on with --out; begin where there is none")
    group.add_argument(
        "--failed", metavar="FILE", help="rows that cannot be used go here, with the reason (default: OUT.failed.jsonl)"
    )
    group.add_argument(
        "--from", dest="form", choices=_FORMS, help="what FILE is (default: told from its name and content)"
    )
    group.add_argument("--text-key", default="text", metavar="K", help="key or column of the text (default: text)")
    group.add_argument("--id-key", default="id", metavar="K", help="key or column of the id (default: id)")
    group.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="processes with a model each; with --ray: actors (default: by GPUs)",
    )
    group.add_argument(
        "--ray", metavar="ADDRESS", help="on a Ray cluster: auto, ray://host:port, or local for one on this machine"
    )


def _extract(options: argparse.Namespace) -> int:
    if (options.text is None) == (options.source is None):
        raise InputError("give either FILE (- for stdin) or --text, one of them")
    if options.text is not None and not options.text.strip():
        raise InputError("--text is empty: there is nothing to extract from")
    if options.text is not None and any("\ud800" <= character <= "\udfff" for character in options.text):
        raise InputError("--text holds bytes that are not UTF-8")
    if options.out == STDOUT:
        options.out = None
    target = Path(options.out) if options.out is not None else None
    if target is not None and options.source not in (None, STDOUT) and same_file(options.source, target):
        raise InputError(f"{target}: is the file that is read, and would be replaced; name another --out")
    kept = target is not None and (target.is_file() or not target.exists())  # a pipe or a device cannot be gone on with
    if kept and options.text is None and not options.show and not options.trace:
        return _into_file(options)
    for name in ("resume", "workers", "ray"):
        if getattr(options, name):
            why = "goes with FILE and --out OUT, and with neither --text nor --show nor --debug"
            raise InputError(f"--{name} {why}: it is for large files")
    if options.show and target is not None:
        raise InputError("--show prints, and --out writes JSON: give one of them")
    if kept and target is not None and target.exists():
        raise InputError(f"{target} is there already; delete it, or name another --out")
    texts = _texts(options)
    first = [] if options.source == "-" else [next(texts)]  # what is wrong with the file comes before the model
    rows: Iterable[SourceText] = chain(first, texts)
    recognizer = recognizing.open_recognizer(options)
    from nertune.bulk import extract_texts

    with _opened(options.out, "w", encoding="utf-8") as file, _opened(options.failed, "xb") as failed:
        return extract_texts(rows, recognizer, show=options.show, debug=options.trace, target=file, failed=failed)


def _into_file(options: argparse.Namespace) -> int:
    from nertune.bulk import Cluster, extract_file, made_from

    source = _source(options)
    if source.path == "-" and options.ray:
        raise InputError("--ray reads the input where Ray runs, so stdin cannot be it: give a file")
    settings = {name: getattr(options, name) for name in _SETTINGS}
    apart = options.workers is not None or options.ray is not None
    count = None if options.ray else options.workers
    return extract_file(
        source,
        partial(_in_process, options, count or 0) if apart else partial(recognizing.open_recognizer, options),
        out=Path(options.out),
        failed=Path(options.failed) if options.failed else None,
        made_from=made_from(source, options.model, settings),
        resume=options.resume,
        workers=count,
        cluster=Cluster(options.ray, actors=options.workers) if options.ray else None,
    )


def _texts(options: argparse.Namespace) -> Iterator[SourceText]:
    if options.text is not None:
        yield SourceText(None, options.text)
    else:
        yield from _source(options).rows()


def _source(options: argparse.Namespace) -> Any:
    from nertune.bulk import Source
    from nertune.data.texts import Keys

    return Source(options.source, options.whole, options.form, Keys(options.text_key, options.id_key))


@contextmanager
def _opened(path: str | None, mode: str, **options: Any) -> Iterator[IO[Any] | None]:
    if path is None:
        yield None
        return
    if not Path(path).parent.is_dir():
        raise MissingFileError(f"{path}: the folder {Path(path).parent.absolute()} does not exist")
    if "x" in mode and Path(path).exists():
        raise InputError(f"{path} is there already; delete it, or name another")
    with Path(path).open(mode, **options) as file:
        yield file


def _in_process(options: argparse.Namespace, processes: int) -> Any:
    """The recognizer of one process among several: the processors are divided among those of this machine."""
    import os

    from nertune.safety import trust_remote_code
    from nertune.terminal import silence

    silence()
    trust_remote_code(options.trust_remote_code)
    if processes:
        import torch

        torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))
    return recognizing.open_recognizer(options)
