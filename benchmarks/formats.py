"""The answer formats on the same data: quality, length of the answers, and speed, in one table.

    python benchmarks/formats.py --train FILE --test FILE --out DIR [--samples 2000] [--formats inline,xml,json,jsonl,grouped]
                                 [--only-finished] [--no-speeds] [--docs]

1. Trains each format that DIR has no finished run of, one after another, on the built-in model: two epochs of the first
   --samples sentences of FILE, all of them as DIR/recipe.yaml says, which is written where there is none. Interrupted and
   started again, it goes on at the last checkpoint. The five take about 3.5 hours on two cores.
2. Predicts the test file with each, under the grammar and without it, and keeps what it finds in DIR/measured-NAME.json;
   one that is there, of the same weights and the same file, is not done again.
3. Times each: extraction of the same --sentences under the grammar, and --steps of a new training, in --rounds that take
   the formats in turn, so that what else the machine does falls on all alike. The medians count. DIR/speeds.json keeps
   them; with --no-speeds those of an earlier call are shown, if there are any. About half an hour on two cores, in which
   nothing else should run.
4. Prints the table; --docs writes it into docs/formats.md as well.

The intervals are over documents: they say how far F1 would move on other sentences, not how far with another seed.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bounded import RunError
from formats_measure import gold_documents, kept_speeds, measured, speeds, with_speeds
from formats_runs import check_alike, common_recipe, train, unfinished
from formats_table import Row, between_marks, differences, table

from nertune.atomic import write_text
from nertune.errors import MissingFileError, NertuneError
from nertune.prompt import ANSWER_FORMATS
from nertune.terminal import quiet_libraries
from nertune.train import Recipe, load_recipe

PAGE = Path(__file__).resolve().parents[1] / "docs" / "formats.md"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    quiet_libraries()
    try:
        recipe = common_recipe(options.out, options.train, options.samples)
        content = _compare(recipe, options)
    except (NertuneError, RunError) as error:
        print(f"formats.py: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    print(content)
    if options.docs:
        write_text(PAGE, between_marks(PAGE.read_text(encoding="utf-8"), content))
    return 0


def _compare(recipe: Path, options: argparse.Namespace) -> str:
    """Train what is to be trained, measure it, and tell: Markdown."""
    out, names = options.out, options.formats
    for name in [] if options.only_finished else unfinished(out, names):
        train(recipe, out, name)
    missing = unfinished(out, names)
    done = [name for name in names if name not in missing]
    if not done:
        raise MissingFileError(f"{out}: no format is trained yet; leave out --only-finished")
    check_alike(recipe, out, done)
    documents = gold_documents(recipe, out, done[0], test=options.test, limit=options.limit)
    rows = [measured(out, name, documents, options.test) for name in done]
    if options.no_speeds:
        found = kept_speeds(out)
    else:
        sentences = min(options.sentences, len(documents))
        bounds = {"rounds": options.rounds, "steps": options.steps, "minutes": options.minutes}
        found = speeds(recipe, out, done, options.test, sentences=sentences, **bounds)
    return told(load_recipe(recipe), [with_speeds(row, found) for row in rows], found)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, metavar="FILE", help="annotated sentences to learn from")
    parser.add_argument("--test", required=True, metavar="FILE", help="other annotated sentences, to measure on")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where runs and measurements are kept")
    parser.add_argument("--samples", type=_positive, default=2000, help="how many sentences train (default: 2000)")
    parser.add_argument("--formats", type=_formats, default=list(ANSWER_FORMATS), help="by commas (default: all)")
    parser.add_argument("--limit", type=_positive, metavar="N", help="measure on the first N sentences alone")
    parser.add_argument("--only-finished", action="store_true", help="train nothing; show the formats that are trained")
    parser.add_argument("--no-speeds", action="store_true", help="time nothing")
    parser.add_argument("--sentences", type=_positive, default=128, help="timed in extraction (default: 128)")
    parser.add_argument("--steps", type=_positive, default=4, help="timed in training (default: 4)")
    parser.add_argument("--rounds", type=_positive, default=3, help="of which the median counts (default: 3)")
    parser.add_argument("--minutes", type=float, default=30, help="a measurement that takes longer is ended")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/formats.md")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def _formats(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in ANSWER_FORMATS]:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(ANSWER_FORMATS)}")
    return list(dict.fromkeys(names))


def told(recipe: Recipe, rows: Sequence[Row], found: Mapping[str, Any]) -> str:
    """What was measured on what, the table, and how far the formats lie apart: Markdown. `found`: the speeds, or nothing."""
    assert recipe.data is not None
    training = recipe.training
    measured_on = (
        f"{recipe.model.removeprefix('builtin:')}, LoRA of rank {recipe.lora.rank}, {training.epochs:g} epochs over "
        f"{recipe.data.limit:,} sentences with {len(recipe.labels or ())} labels, learning rate {training.learning_rate:g}, "
        f"{training.batch_size} a step; measured on {rows[0].held.documents:,} others, greedy, one training each."
    )
    if found:
        measured_on += (
            f" Speeds on {found['machine']}, {found['date']}: medians of {found['rounds']} rounds of "
            f"{found['sentences']} sentences under the grammar, and of {found['steps']} training steps."
        )
    return "\n".join([measured_on, "", table(rows), differences(rows)])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a training that is going on is ended too
    raise SystemExit(main())
