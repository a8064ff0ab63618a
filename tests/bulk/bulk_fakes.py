"""Recognizers for tests, made by functions that other processes can import; and a job that a test can kill.

python bulk_fakes.py SOURCE OUT [--workers N | --ray] [--delay SECONDS]

always resumes, promises what it has done every tenth of a second, and says on stdout when it begins.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from nertune.errors import EndpointError, InputError
from nertune.schema import Entity, Prediction


class Fake:
    """Finds the first character of each text, 256 texts in `delay` seconds.

    毒: refused. 炸: an error of another kind. 杀: kills the process. 断: the server is gone.
    """

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay

    def extract_many(self, texts: Sequence[str], *, done=None) -> list[Prediction]:
        for number, text in enumerate(texts, 1):
            if "毒" in text:
                raise InputError(f"text {number}: cannot be used")
            if "炸" in text:
                raise ZeroDivisionError("a bug")
            if "杀" in text:
                os.kill(os.getpid(), signal.SIGKILL)
            if "断" in text:
                raise EndpointError("the server is gone", exit_code=2)
        time.sleep(self.delay * len(texts) / 256)
        return [Prediction(text, (Entity("first", 0, 1, text[0], score=1 / len(text)),)) for text in texts]


def make(delay: float = 0.0) -> Fake:
    return Fake(delay)


def fail_to_make() -> Fake:
    raise InputError("no such run")


def die() -> Fake:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def write_rows(path: Path, count: int, *, killers: Sequence[int] = ()) -> None:
    """A JSON lines file: one in 1,000 rows is refused by the recognizer, one in 1,000 by the reader, one blows it up."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(1, count + 1):
            marks = {317: "毒", 717: "炸"}.get(number % 1000, "") + ("杀" if number in killers else "")
            row = f'{{"id": "{number}", "text": "第{number}句{marks}"}}'
            file.write(("no JSON" if number % 1000 == 517 else row) + "\n")


def main() -> int:
    from nertune.bulk import Cluster, Source, extract_file, made_from
    from nertune.extract.bulk import output

    output._SECONDS = 0.1
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("out", type=Path)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--delay", type=float, default=0.0)
    options = parser.parse_args()
    source = Source(options.source)
    print("begins", flush=True)
    return extract_file(
        source,
        # By the name under which other processes can import it, which __main__ is not.
        partial(sys.modules["bulk_fakes"].make, options.delay),
        out=options.out,
        made_from=made_from(source, "fake", {}),
        resume=True,
        workers=options.workers,
        cluster=Cluster("local", actors=2, cpus=2, store=80 << 20) if options.ray else None,
    )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    import bulk_fakes  # noqa: F401

    raise SystemExit(main())
