"""`nertune score` and `compare`: predictions of any tool, without a model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nertune.cli.messages import print_json, say
from nertune.cli.options import Commands, from_zero, label_map_of, map_option, positive
from nertune.errors import InputError

__all__ = ["TABLES", "add_compare", "add_score", "check_train", "show_scores", "table_option"]

TABLES = ("scores", "semeval", "published", "markdown")


def add_score(commands: Commands) -> None:
    score = commands.add_parser("score", help="precision, recall and F1 of any tool's predictions, from a file")
    score.add_argument("gold", metavar="GOLD", help="annotated file")
    score.add_argument("predicted", metavar="PRED", help="what the tool found, in any format that nertune reads")
    score.add_argument("--from", dest="source_format", metavar="F", help="format of GOLD (default: detected)")
    score.add_argument("--pred-from", metavar="F", help="format of PRED (default: detected)")
    score.add_argument("--labels", metavar="A,B,C", help="names to choose, where mentions carry several")
    map_option(score)
    score.add_argument(
        "--missing-empty",
        action="store_true",
        help="a text without a prediction is one in which nothing was found (default: it is refused)",
    )
    score.add_argument("--seed", type=from_zero, default=0, metavar="N", help="of the resamples (default: %(default)s)")
    score.add_argument("--out", metavar="DIR", help="write scores, predictions, gold and the report here")
    score.add_argument(
        "--train",
        metavar="FILE",
        help="what the tool was trained on: the report tells seen from unseen mentions",
    )
    table_option(score)
    score.add_argument("--json", action="store_true", help="print one JSON value instead of tables")
    score.set_defaults(run=_score)


def add_compare(commands: Commands) -> None:
    compare = commands.add_parser("compare", help="two evaluations of the same texts: which is better, and is it luck")
    compare.add_argument("a", metavar="A", help="a folder that evaluate --out or score --out wrote")
    compare.add_argument("b", metavar="B", help="another one, of the same gold")
    compare.add_argument("--seed", type=from_zero, default=0, metavar="N", help="of all that is drawn (default: 0)")
    compare.add_argument(
        "--resamples", type=positive, default=1_000, metavar="N", help="of the paired bootstrap (default: %(default)s)"
    )
    compare.add_argument(
        "--shuffles", type=positive, default=10_000, metavar="N", help="of the randomization (default: %(default)s)"
    )
    compare.add_argument(
        "--show", type=from_zero, default=5, metavar="N", help="documents shown that each does better (default: 5)"
    )
    compare.add_argument("--json", action="store_true", help="print one JSON value, with all documents that differ")
    compare.set_defaults(run=_compare)


def table_option(parser: argparse.ArgumentParser) -> None:
    """Which tables are printed."""
    parser.add_argument(
        "--table",
        choices=TABLES,
        default="scores",
        help="scores: by text and span; semeval: the SemEval-2013 family with its counts; published: label, P, R, F1 by "
        "text, as papers print it; markdown: by text, span and partial (default: %(default)s)",
    )


def _print_scores(evaluation: Any, table: str) -> None:
    """The tables of an evaluation on stdout, and what went wrong in it."""
    from nertune.evaluate.table import markdown_table, published_table, scheme_table, score_table, semeval_table
    from nertune.terminal import stdout

    if table == "published":
        print(published_table(evaluation, measure="text"), end="")
        return
    if table == "markdown":
        print("\n".join(markdown_table(evaluation, measure=measure) for measure in evaluation.metrics), end="")
        return
    if table == "semeval":
        stdout.print(semeval_table(evaluation))
        for scheme in evaluation.semeval:
            stdout.print(scheme_table(evaluation, scheme=scheme))
    else:
        stdout.print(score_table(evaluation, measure="text"))
        stdout.print(score_table(evaluation, measure="span"))
    speed = evaluation.sentences_per_second
    mentions = "mention" if evaluation.ungrounded == 1 else "mentions"
    answers = "answer" if evaluation.invalid_answers == 1 else "answers"
    stdout.print(
        f"{evaluation.ungrounded} ungrounded {mentions}, {evaluation.invalid_answers} unreadable {answers}, "
        f"{evaluation.truncated} cut off" + ("" if speed is None else f", {speed:.2f} sentences/s")
    )


def show_scores(evaluation: Any, options: argparse.Namespace) -> None:
    """An evaluation on stdout, as --json and --table have it; then, on stderr, where --out has its report."""
    if options.json:
        print_json(evaluation.to_json())
        return
    _print_scores(evaluation, options.table)
    if options.out:
        say(f"the report: {Path(options.out) / 'report.html'}")


def check_train(options: argparse.Namespace) -> None:
    """Raises InputError for --train without --out."""
    if options.train and not options.out:
        raise InputError("--train is for the report, which goes into --out DIR: give that too")


def _score(options: argparse.Namespace) -> int:
    from nertune import data
    from nertune.evaluate import evaluate
    from nertune.evaluate.pairing import pair
    from nertune.evaluation_folder import make_folder, write_folder
    from nertune.prompt import KNOWN_ANSWERS

    check_train(options)
    label_map = label_map_of(options)
    labels = [name.strip() for name in options.labels.split(",")] if options.labels else None
    gold = data.read(options.gold, format=options.source_format, labels=labels, answers=KNOWN_ANSWERS)
    predicted = data.read_predictions(options.predicted, format=options.pred_from, labels=labels, answers=KNOWN_ANSWERS)
    documents, wanted = label_map.apply(gold.documents)
    predictions, named = label_map.apply(predicted.predictions)
    train = None
    if options.train:
        train, _ = label_map.apply(data.read(options.train, labels=labels, answers=KNOWN_ANSWERS).documents)
    pairing = pair(documents, predictions, missing_empty=options.missing_empty)
    for path, form, notes in (
        (options.gold, gold.format, (*gold.notes, *label_map.done(wanted))),
        (options.predicted, predicted.format, (*predicted.notes, *label_map.done(named), *pairing.notes)),
    ):
        for line in (f"read as {form}", *notes):
            say(f"{path}: {line}")
    for line in label_map.missing(wanted + named):
        say(line)
    if options.out:
        make_folder(Path(options.out))
    evaluation = evaluate(documents, pairing.predictions, seed=options.seed)
    if options.out:
        from nertune.reporting import write_report

        write_folder(Path(options.out), evaluation, documents, pairing.predictions)
        write_report(
            Path(options.out),
            documents,
            pairing.predictions,
            evaluation,
            source=options.gold,
            model=Path(options.predicted).name,
            train=train,
        )
    show_scores(evaluation, options)
    return 0


def _compare(options: argparse.Namespace) -> int:
    from nertune.evaluation_folder import compare_folders

    found = compare_folders(
        Path(options.a), Path(options.b), seed=options.seed, resamples=options.resamples, shuffles=options.shuffles
    )
    if options.json:
        print_json({"a": options.a, "b": options.b, **found.to_json()})
        return 0
    from nertune.evaluate.compare_table import difference_table, documents_that_differ
    from nertune.terminal import stdout

    for measure in ("text", "span"):
        stdout.print(difference_table(found, measure=measure, names=(options.a, options.b)))
    stdout.print(documents_that_differ(found, show=options.show), soft_wrap=True)
    return 0
