"""`nertune evaluate`, `calibrate` and `parity`: the commands that read annotated texts with a model."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nertune.cli.messages import print_json, say
from nertune.cli.options import (
    MODEL,
    Commands,
    generation_options,
    label_map_of,
    map_option,
    min_score_option,
    positive,
    server_options,
)
from nertune.cli.scoring import check_train, show_scores, table_option
from nertune.errors import InputError

__all__ = ["add_calibrate", "add_evaluate", "add_parity", "open_recognizer"]


def add_evaluate(commands: Commands) -> None:
    evaluate = commands.add_parser("evaluate", help="precision, recall and F1 on an annotated file")
    evaluate.add_argument("model", metavar="MODEL", help=MODEL)
    evaluate.add_argument("--data", required=True, metavar="FILE", help="annotated file")
    evaluate.add_argument("--from", dest="source_format", metavar="F", help="format of FILE (default: detected)")
    evaluate.add_argument("--out", metavar="DIR", help="write scores, predictions, gold and the report here")
    evaluate.add_argument(
        "--train",
        metavar="FILE",
        help="what the model was trained on: the report tells seen from unseen mentions (default: the run's recipe's file)",
    )
    evaluate.add_argument("--limit", type=positive, metavar="N", help="only the first N documents")
    map_option(evaluate)
    table_option(evaluate)
    evaluate.add_argument("--json", action="store_true", help="print one JSON value instead of tables")
    min_score_option(evaluate)
    generation_options(evaluate)
    server_options(evaluate)
    evaluate.set_defaults(run=_evaluate)


def add_parity(commands: Commands) -> None:
    parity = commands.add_parser("parity", help="whether a server answers as the run does here, and where they part")
    parity.add_argument("model", metavar="RUN", help="a run directory")
    parity.add_argument("address", metavar="URL", help="the server of that run: http://host:port/v1#model-name")
    parity.add_argument("--data", required=True, metavar="FILE", help="texts: an annotated file")
    parity.add_argument("--from", dest="source_format", metavar="F", help="format of FILE (default: detected)")
    parity.add_argument(
        "--limit", type=positive, default=20, metavar="N", help="only the first N documents (default: 20)"
    )
    parity.add_argument("--json", action="store_true", help="print one JSON value instead of text")
    generation_options(parity)
    parity.set_defaults(run=_parity, served_run=None, labels=None, label_map=[])


def add_calibrate(commands: Commands) -> None:
    calibrate = commands.add_parser(
        "calibrate", help="make scores trustworthy, and find the thresholds with the best F1, on an annotated file"
    )
    calibrate.add_argument("model", metavar="RUN", help="a run directory; the calibration is kept there")
    calibrate.add_argument("--data", required=True, metavar="FILE", help="annotated file that was not trained on")
    calibrate.add_argument("--from", dest="source_format", metavar="F", help="format of FILE (default: detected)")
    calibrate.add_argument("--limit", type=positive, metavar="N", help="only the first N documents")
    map_option(calibrate)
    calibrate.add_argument(
        "--measure",
        choices=("span", "text"),
        default="span",
        help="whose F1 the thresholds serve (default: %(default)s)",
    )
    calibrate.add_argument("--json", action="store_true", help="print one JSON value instead of tables")
    generation_options(calibrate)
    calibrate.set_defaults(run=_calibrate, served_run=None, labels=None)


def _evaluate(options: argparse.Namespace) -> int:
    check_train(options)
    documents = _annotated(options)
    from nertune.evaluation_folder import make_folder
    from nertune.reporting import trained_on

    run = options.served_run or options.model
    train = trained_on(run, options.train, task=options.task) if options.out else None
    if train and options.train:
        train = label_map_of(options).apply(train).documents
    if options.out:
        make_folder(Path(options.out))
    recognizer = open_recognizer(options)
    from nertune.commands import evaluate_on

    evaluation = evaluate_on(
        recognizer,
        documents,
        out=options.out,
        source=options.data,
        model=options.model,
        run=Path(run) if Path(run).is_dir() else None,
        train=train,
    )
    show_scores(evaluation, options)
    return 0


def _parity(options: argparse.Namespace) -> int:
    documents = _annotated(options)
    from nertune.parity import parity
    from nertune.terminal import Meter, quiet_libraries, stdout

    quiet_libraries()
    with Meter("comparing") as meter:
        found = parity(
            options.model,
            options.address,
            documents,
            task=options.task,
            device=options.device,
            batch_size=options.batch_size,
            max_new_tokens=options.max_new_tokens,
            report=lambda what, done, total: meter.update(done, total=total, what=what),
        )
    if options.json:
        print_json(found.to_json())
    else:
        stdout.print("\n".join(found.lines()), soft_wrap=True)
    return 0 if found.equal else 3


def _calibrate(options: argparse.Namespace) -> int:
    from nertune.run import RunManifest

    run = Path(options.model)
    RunManifest.read(run)
    documents = _annotated(options)
    recognizer = open_recognizer(options, calibrated=False)
    from nertune.commands import calibrate_on

    report, written = calibrate_on(
        recognizer, documents, run=run, task=options.task, source=Path(options.data), measure=options.measure
    )
    if options.json:
        print_json(written)
        return 0
    from nertune.evaluate.reliability import label_table, quality_line, threshold_table
    from nertune.terminal import stderr, stdout

    stdout.print(quality_line(report), soft_wrap=True)
    stdout.print(threshold_table(report))
    stdout.print(label_table(report))
    stderr.print(f"Kept in {run}. Next: nertune extract {run} --min-score calibrated --text '…'", soft_wrap=True)
    return 0


def _annotated(options: argparse.Namespace) -> Sequence[Any]:
    """The documents of --data, by the labels of the run or of --labels; what is to be said about them is said."""
    from nertune import data
    from nertune.prompt import KNOWN_ANSWERS
    from nertune.run import RunManifest

    prompt = _prompt_of_labels(options)
    run = Path(options.served_run or options.model)
    if prompt is None and run.is_dir():
        prompt = RunManifest.read(run).prompt_of(options.task)
    label_map = label_map_of(options)
    labels = label_map.wanted(prompt.labels.names) if prompt else None
    corpus = data.read(
        options.data, format=options.source_format, limit=options.limit, labels=labels, answers=KNOWN_ANSWERS
    )
    documents, changes = label_map.apply(corpus.documents)
    for line in (*corpus.notes, *label_map.notes(changes), *_unknown(documents, prompt)):
        say(f"{options.data}: {line}")
    return documents


def _unknown(documents: Sequence[Any], prompt: Any) -> list[str]:
    """What is to be said of labels that the prompt does not name, so that no answer can: all their mentions will be missed."""
    if prompt is None:
        return []
    counts = Counter(e.label for document in documents for e in document.entities if e.label not in prompt.labels)
    if not counts:
        return []
    found = ", ".join(f"{name} ({count:,})" for name, count in counts.most_common())
    return [
        f"mentions with labels that the model was not asked for, all of which it misses: {found}. It knows "
        f"{', '.join(map(prompt.labels.title, prompt.labels))}; --map gives others to those of the file"
    ]


def open_recognizer(options: argparse.Namespace, *, calibrated: bool = True) -> Any:
    """The Recognizer of MODEL, as the options have it. `calibrated`: its scores are, where the run has a calibration."""
    from nertune.assemble import connect, load
    from nertune.generate.endpoint import is_endpoint
    from nertune.run import RunManifest
    from nertune.terminal import Meter, conversion_meter, quiet_libraries

    remote = _remote(options)
    run = options.served_run or options.model
    if Path(run).is_dir():
        RunManifest.read(Path(run)).prompt_of(options.task)
    prompt = _prompt_of_labels(options)
    quiet_libraries()
    with Meter("asking the server" if is_endpoint(options.model) else "loading the model") as meter:
        if is_endpoint(options.model):
            return connect(
                options.model,
                run=options.served_run,
                prompt=prompt,
                task=options.task,
                max_new_tokens=options.max_new_tokens,
                constrained=not options.unconstrained,
                min_score=options.min_score,
                window=options.window,
                report=conversion_meter(meter),
                note=say,
                **remote,
            )
        return load(
            options.model,
            run=options.served_run,
            task=options.task,
            device=options.device,
            batch_size=options.batch_size,
            max_new_tokens=options.max_new_tokens,
            constrained=not options.unconstrained,
            min_score=getattr(options, "min_score", None),
            calibrated=calibrated,
            window=options.window,
            report=conversion_meter(meter),
            note=say,
        )


def _remote(options: argparse.Namespace) -> dict[str, Any]:
    """What is said of how a server is asked. Raises InputError for what means nothing with this MODEL."""
    from nertune.generate.endpoint import is_endpoint

    given = {name: getattr(options, name, None) for name in ("concurrency", "timeout", "requests_per_minute")}
    remote = {name: value for name, value in given.items() if value is not None}
    if is_endpoint(options.model):
        if options.device:
            raise InputError(
                f"--device {options.device} means nothing with a server as MODEL, which computes elsewhere"
            )
    elif remote:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in remote)
        raise InputError(f"{names}: for a server as MODEL (http://host:port/v1#model-name); {options.model} runs here")
    return remote


def _prompt_of_labels(options: argparse.Namespace) -> Any:
    """The prompt for a served model that was not trained here; None without --labels."""
    from nertune.generate.endpoint import is_endpoint
    from nertune.prompt import PromptSpec, answer_format, load_template
    from nertune.schema import LabelSet

    if options.labels is None:
        for name in ("template", "answer"):
            if getattr(options, name, None):
                raise InputError(
                    f"--{name} goes with --labels, for a model that was not trained here; a run has its own"
                )
        return None
    if not is_endpoint(options.model):
        raise InputError("--labels goes with a server as MODEL (http://host:port/v1#model-name); a run has its own")
    labels = LabelSet(tuple(name.strip() for name in options.labels.split(",")))
    notes: list[str] = []
    template = load_template(options.template or "ner", notes)
    for note in notes:
        say(note)
    return PromptSpec(template, labels, answer_format(options.answer or "json"))
