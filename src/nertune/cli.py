"""The command line: thin commands, imported lazily. Results go to stdout, everything else to stderr.

Exit codes: 0 done, 1 failed, 2 wrong usage or bad input, 3 done with some items failed, 130 interrupted,
143 terminated.
"""

from __future__ import annotations

import argparse
import errno
import json
import math
import os
import sys
import time
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

from nertune import __version__
from nertune.errors import InputError, NertuneError, TrainingInterrupted

__all__ = ["build_parser", "main"]

_MODEL = "a run directory, or a server: http://host:port/v1#model-name"

# Seconds that another process than the first gives it to fail of the same reason and say so.
_PATIENCE = 20.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = build_parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except TrainingInterrupted as stopped:
        _say(str(stopped))
        return stopped.exit_code
    except KeyboardInterrupt:
        if options.debug:
            raise
        if _rank() == 0:
            _say("interrupted")
        return 130
    except BrokenPipeError:
        # The reader of stdout went away, as `| head` does: nothing is wrong, and nothing more can be said there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except NertuneError as error:
        if options.debug:
            raise
        _say_failure(str(error))
        return error.exit_code
    except OSError as error:
        if options.debug:
            raise
        full = error.errno == errno.ENOSPC
        _say_failure(f"{error}" + (". What was finished before is intact; make room and run it again" if full else ""))
        return 2
    except Exception as error:
        if options.debug:
            raise
        _say_failure(
            f"{type(error).__name__}: {error}\nThis should not happen; --debug before the command shows where it did"
        )
        return 1


def _say(message: str) -> None:
    print(f"nertune: {message}", file=sys.stderr)


def _rank() -> int:
    """Which process of `torchrun` this is, from 0; 0 alone. As `train.ranks`, which is not imported for every command."""
    return int(os.environ.get("RANK", "0")) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else 0


def _say_failure(message: str) -> None:
    """Say once, of several processes, why all failed: the launcher ends the others when the first is gone."""
    if _rank():
        time.sleep(_PATIENCE)
        message = f"process {_rank()}: {message}"
    _say(message)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\nTry: {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(prog="nertune", description="Turn an instruction-tuned LLM into a named-entity recognizer.")
    parser.add_argument("--version", action="version", version=f"nertune {__version__}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    quickstart = commands.add_parser(
        "quickstart", help="the main job, end to end, on the built-in model and sample data"
    )
    quickstart.add_argument(
        "--output", default="runs/quickstart", metavar="DIR", help="run directory (default: %(default)s)"
    )
    quickstart.add_argument(
        "--documents", type=_positive, metavar="N", help="only the first N sample sentences: a fast look"
    )
    quickstart.add_argument(
        "--epochs", type=_above_zero, default=2.0, metavar="E", help="passes over the data (default: %(default)s)"
    )
    quickstart.set_defaults(run=_quickstart)

    data = commands.add_parser("data", help="annotated files").add_subparsers(
        required=True, metavar="TASK", parser_class=_Parser
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
        help="entities, cluener or alpaca (default: %(default)s)",
    )
    convert.add_argument("--template", default="cluener", help="alpaca: prompt template (default: %(default)s)")
    convert.add_argument("--answer", default="json", help="alpaca: answer format (default: %(default)s)")
    convert.set_defaults(run=_convert)

    preview = commands.add_parser("preview", help="the prompt, its tokens and the loss mask, in colour")
    preview.add_argument("recipe", metavar="RECIPE")
    preview.add_argument("overrides", nargs="*", metavar="key=value")
    preview.add_argument("-n", type=_positive, default=1, metavar="N", help="how many samples (default: 1)")
    preview.set_defaults(run=_preview)

    train = commands.add_parser("train", help="fine-tune as a recipe says")
    train.add_argument("recipe", metavar="RECIPE", help="nertune's own, or LLaMA-Factory's YAML")
    train.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings to change, such as training.epochs=3"
    )
    train.add_argument(
        "--resume", action="store_true", help="go on from the newest checkpoint of the recipe's output folder"
    )
    train.set_defaults(run=_train)

    extract = commands.add_parser("extract", help="entities of texts, as JSON lines")
    extract.add_argument("model", metavar="MODEL", help=_MODEL)
    extract.add_argument(
        "source", nargs="?", metavar="FILE|-", help="texts, one a line, or JSON lines with a key text; - for stdin"
    )
    extract.add_argument("--text", help="one text, instead of FILE")
    extract.add_argument("--whole", action="store_true", help="FILE is one text, line breaks and all")
    extract.add_argument("-o", "--out", metavar="FILE", help="write here instead of stdout")
    extract.add_argument("--show", action="store_true", help="print the texts with entities in colour instead of JSON")
    _min_score_option(extract)
    # Of another name than the --debug before the command, which shows tracebacks.
    extract.add_argument(
        "--debug", dest="trace", action="store_true", help="show prompt, token ids and answer of each text on stderr"
    )
    _generation_options(extract)
    _server_options(extract)
    extract.set_defaults(run=_extract)

    evaluate = commands.add_parser("evaluate", help="precision, recall and F1 on an annotated file")
    evaluate.add_argument("model", metavar="MODEL", help=_MODEL)
    evaluate.add_argument("--data", required=True, metavar="FILE", help="annotated file")
    evaluate.add_argument("--from", dest="source_format", metavar="F", help="format of FILE (default: detected)")
    evaluate.add_argument("--out", metavar="DIR", help="write evaluation.json and predictions.jsonl here")
    evaluate.add_argument("--limit", type=_positive, metavar="N", help="only the first N documents")
    evaluate.add_argument("--json", action="store_true", help="print one JSON value instead of tables")
    _min_score_option(evaluate)
    _generation_options(evaluate)
    _server_options(evaluate)
    evaluate.set_defaults(run=_evaluate)

    parity = commands.add_parser("parity", help="whether a server answers as the run does here, and where they part")
    parity.add_argument("model", metavar="RUN", help="a run directory")
    parity.add_argument("address", metavar="URL", help="the server of that run: http://host:port/v1#model-name")
    parity.add_argument("--data", required=True, metavar="FILE", help="texts: an annotated file")
    parity.add_argument("--from", dest="source_format", metavar="F", help="format of FILE (default: detected)")
    parity.add_argument(
        "--limit", type=_positive, default=20, metavar="N", help="only the first N documents (default: 20)"
    )
    parity.add_argument("--json", action="store_true", help="print one JSON value instead of text")
    _generation_options(parity)
    parity.set_defaults(run=_parity, served_run=None, labels=None)

    calibrate = commands.add_parser(
        "calibrate", help="make scores trustworthy, and find the thresholds with the best F1, on an annotated file"
    )
    calibrate.add_argument("model", metavar="RUN", help="a run directory; the calibration is kept there")
    calibrate.add_argument("--data", required=True, metavar="FILE", help="annotated file that was not trained on")
    calibrate.add_argument("--from", dest="source_format", metavar="F", help="format of FILE (default: detected)")
    calibrate.add_argument("--limit", type=_positive, metavar="N", help="only the first N documents")
    calibrate.add_argument(
        "--measure",
        choices=("span", "text"),
        default="span",
        help="whose F1 the thresholds serve (default: %(default)s)",
    )
    calibrate.add_argument("--json", action="store_true", help="print one JSON value instead of tables")
    _generation_options(calibrate)
    calibrate.set_defaults(run=_calibrate, served_run=None, labels=None)

    doctor = commands.add_parser("doctor", help="what this machine has, what is missing, what to type")
    doctor.add_argument("--json", action="store_true", help="print one JSON value")
    doctor.set_defaults(run=_doctor)
    return parser


def _generation_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", metavar="NAME", help="which, where the run was trained on several")
    parser.add_argument(
        "--batch-size", type=_positive, default=32, metavar="N", help="texts decoded together (default: 32)"
    )
    parser.add_argument(
        "--max-new-tokens", type=_positive, metavar="N", help="limit of one answer (default: fitted to the text)"
    )
    parser.add_argument(
        "--window",
        type=_window,
        metavar="N",
        help="longest text, in tokens, read in one piece (default: what fits into the longest trained row)",
    )
    parser.add_argument(
        "--unconstrained",
        action="store_true",
        help="let the model write freely, and repair its answers where they must be",
    )
    parser.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1 (default: the first accelerator)")


def _server_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "MODEL is a server",
        "vLLM, SGLang, Ollama, llama.cpp, OpenAI, …: whatever speaks OpenAI's API. Its key: NERTUNE_API_KEY or "
        "OPENAI_API_KEY.",
    )
    group.add_argument("--run", dest="served_run", metavar="RUN", help="the run that is served: its prompt is used")
    group.add_argument(
        "--labels", metavar="A,B,C", help="instead of --run, for a model not trained here: what to look for"
    )
    group.add_argument("--template", default="ner", help="with --labels: prompt template (default: %(default)s)")
    group.add_argument("--answer", default="json", help="with --labels: answer format (default: %(default)s)")
    group.add_argument(
        "--concurrency", type=_positive, default=16, metavar="N", help="requests at a time (default: %(default)s)"
    )
    group.add_argument(
        "--timeout", type=_above_zero, default=300.0, metavar="S", help="seconds for one answer (default: 300)"
    )
    group.add_argument("--requests-per-minute", type=_above_zero, metavar="N", help="never more (default: no limit)")


def _min_score_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--min-score",
        type=_least_score,
        metavar="X",
        help="leave out entities with a lower score, from 0 to 1; or 'calibrated': the thresholds that nertune calibrate "
        "fitted for each label",
    )


def _least_score(text: str) -> float | str:
    if text == "calibrated":
        return text
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number from 0 to 1 nor 'calibrated'")
    return value


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def _window(text: str) -> int:
    from nertune.extract.budget import SMALLEST_WINDOW

    size = _positive(text)
    if size < SMALLEST_WINDOW:
        raise argparse.ArgumentTypeError(f"a window of {size} tokens holds no sentence: {SMALLEST_WINDOW} at least")
    return size


def _above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _quickstart(options: argparse.Namespace) -> int:
    from nertune.quickstart import quickstart

    quickstart(output=options.output, documents=options.documents, epochs=options.epochs)
    return 0


def _convert(options: argparse.Namespace) -> int:
    from nertune.commands import convert

    for line in convert(
        options.source,
        options.target,
        source_format=options.source_format,
        target_format=options.target_format,
        template=options.template,
        answer=options.answer,
    ):
        _say(line)
    return 0


def _preview(options: argparse.Namespace) -> int:
    from nertune.models import add_tokens, load_tokenizer
    from nertune.prompt import Renderer
    from nertune.terminal import Meter, conversion_meter, quiet_libraries, stdout
    from nertune.train.llamafactory import open_recipe
    from nertune.train.start import fill_in
    from nertune.train.task import load_tasks

    recipe, notes = open_recipe(options.recipe, options.overrides)
    for line in notes:
        _say(line)
    recipe = fill_in(recipe)
    tasks = load_tasks(recipe)
    quiet_libraries()
    with Meter("loading the tokenizer") as meter:
        tokenizer = load_tokenizer(recipe.model, report=conversion_meter(meter))
    add_tokens(tokenizer, recipe.tokens)
    for task in tasks:
        if task.name:
            stdout.print(f"task {task.name}: {len(task.train)} documents, weight {task.weight:g}", style="bold")
        _preview_rows(recipe, Renderer(tokenizer, task.spec), task.train[: max(options.n, 2)], options.n)
    return 0


def _preview_rows(recipe: Any, renderer: Any, documents: Sequence[Any], shown: int) -> None:
    from nertune.terminal import stdout, token_strip
    from nertune.train.batches import shared_prefix_length
    from nertune.train.free import free_tokens

    max_tokens = recipe.max_tokens
    rows = [renderer.row(document) for document in documents]
    if free := free_tokens(recipe, renderer):
        rows = [free.row(row, document.text) for row, document in zip(rows, documents, strict=True)]
    shared = shared_prefix_length(rows)
    for number, row in enumerate(rows[:shown], 1):
        tokens = [str(renderer.tokenizer.decode([token])) for token in row.ids_T]
        stdout.print(token_strip(tokens, row.loss_mask_T), soft_wrap=True)
        cut = "" if len(row.ids_T) <= max_tokens else f" - longer than max_tokens={max_tokens}: left out"
        stdout.print(
            f"sample {number}: {len(row.ids_T)} tokens, {sum(row.loss_mask_T)} trained (green), the first {shared} "
            f"shared by all prompts{cut}",
            style="bold",
        )
        stdout.print(f"ids: {row.ids_T}", style="bright_black", soft_wrap=True)


def _train(options: argparse.Namespace) -> int:
    from nertune.terminal import line, quiet_libraries, silence, stderr, stdout
    from nertune.train.llamafactory import open_recipe

    recipe, notes = open_recipe(options.recipe, options.overrides)
    if _rank():
        silence()
    else:
        for said in notes:
            _say(said)
    quiet_libraries()
    from nertune.assemble import f1_reader
    from nertune.train.fit import train
    from nertune.watch import TrainingView

    with TrainingView() as view:
        trained = train(
            recipe,
            resume=options.resume,
            report=view.update,
            note=line,
            model_report=view.preparing,
            reader=f1_reader(done=view.reading),
        )
    best = "" if trained.best_eval_loss is None else f", best eval loss {trained.best_eval_loss:.4f}"
    f1 = "" if trained.best_f1 is None else f", best F1 {trained.best_f1:.4f}"
    stderr.print(
        f"{trained.steps} steps in {trained.seconds / 60:.1f} min, {trained.samples_per_second:.2f} samples/s, "
        f"train loss {trained.train_loss:.4f}{best}{f1}"
    )
    stdout.print(str(trained.folder), soft_wrap=True)
    run = f"{trained.folder} --task NAME" if recipe.tasks and len(recipe.tasks) > 1 else str(trained.folder)
    stderr.print(f"Next: nertune evaluate {run} --data FILE   or   nertune extract {run} --text '…'")
    return 0


def _extract(options: argparse.Namespace) -> int:
    from nertune.data import SourceText, read_texts

    if (options.text is None) == (options.source is None):
        raise InputError("give either FILE (- for stdin) or --text, one of them")
    if options.text is not None and not options.text.strip():
        raise InputError("--text is empty: there is nothing to extract from")
    texts: Iterable[SourceText]
    if options.text is not None:
        texts = [SourceText(None, options.text)]
    else:
        texts = read_texts(options.source, whole=options.whole)
        if options.source != "-":  # what is wrong with the file is said before the model is loaded
            texts = chain([next(texts)], texts)
    recognizer = _load(options)
    from nertune.commands import extract_all

    return extract_all(recognizer, texts, out=options.out, show=options.show, debug=options.trace)


def _annotated(options: argparse.Namespace) -> Sequence[Any]:
    """The documents of --data, by the labels of the run or of --labels; what is to be said about them is said."""
    from nertune import data
    from nertune.run import RunManifest

    prompt = _prompt_of_labels(options)
    run = Path(options.served_run or options.model)
    if prompt is None and run.is_dir():
        prompt = RunManifest.read(run).prompt_of(options.task)
    labels = prompt.labels.names if prompt else None
    corpus = data.read(options.data, format=options.source_format, limit=options.limit, labels=labels)
    for line in corpus.notes:
        _say(f"{options.data}: {line}")
    return corpus.documents


def _evaluate(options: argparse.Namespace) -> int:
    documents = _annotated(options)
    recognizer = _load(options)
    from nertune.commands import evaluate_on

    evaluation = evaluate_on(recognizer, documents, out=options.out)
    if options.json:
        print(json.dumps(evaluation.to_json(), ensure_ascii=False, indent=2))
        return 0
    from nertune.evaluate.table import score_table
    from nertune.terminal import stdout

    stdout.print(score_table(evaluation, measure="text"))
    stdout.print(score_table(evaluation, measure="span"))
    stdout.print(
        f"{evaluation.ungrounded} ungrounded mentions, {evaluation.invalid_answers} unreadable answers, "
        f"{evaluation.truncated} cut off, {evaluation.sentences_per_second or 0:.2f} sentences/s"
    )
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
        print(json.dumps(found.to_json(), ensure_ascii=False, indent=2))
    else:
        stdout.print("\n".join(found.lines()), markup=False, soft_wrap=True)
    return 0 if found.equal else 3


def _calibrate(options: argparse.Namespace) -> int:
    from nertune.run import RunManifest

    run = Path(options.model)
    RunManifest.read(run)
    documents = _annotated(options)
    recognizer = _load(options, calibrated=False)
    from nertune.commands import calibrate_on

    report, written = calibrate_on(
        recognizer, documents, run=run, task=options.task, source=Path(options.data), measure=options.measure
    )
    if options.json:
        print(json.dumps(written, ensure_ascii=False, indent=2))
        return 0
    from nertune.evaluate.reliability import label_table, quality_line, threshold_table
    from nertune.terminal import stderr, stdout

    stdout.print(quality_line(report), soft_wrap=True)
    stdout.print(threshold_table(report))
    stdout.print(label_table(report))
    stderr.print(f"Kept in {run}. Next: nertune extract {run} --min-score calibrated --text '…'", soft_wrap=True)
    return 0


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


def _load(options: argparse.Namespace, *, calibrated: bool = True) -> Any:
    from nertune.assemble import connect, load
    from nertune.generate.endpoint import is_endpoint
    from nertune.run import RunManifest
    from nertune.terminal import Meter, conversion_meter, quiet_libraries

    run = options.served_run or options.model
    if Path(run).is_dir():
        RunManifest.read(Path(run)).prompt_of(options.task)
    prompt = _prompt_of_labels(options)
    quiet_libraries()
    with Meter("loading the model") as meter:
        if is_endpoint(options.model):
            return connect(
                options.model,
                run=options.served_run,
                prompt=prompt,
                task=options.task,
                max_new_tokens=options.max_new_tokens,
                constrained=not options.unconstrained,
                concurrency=options.concurrency,
                timeout=options.timeout,
                requests_per_minute=options.requests_per_minute,
                min_score=options.min_score,
                window=options.window,
                report=conversion_meter(meter),
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
        )


def _prompt_of_labels(options: argparse.Namespace) -> Any:
    """The prompt for a served model that was not trained here; None without --labels."""
    from nertune.generate.endpoint import is_endpoint
    from nertune.prompt import PromptSpec, answer_format, load_template
    from nertune.schema import LabelSet

    if options.labels is None:
        return None
    if not is_endpoint(options.model):
        raise InputError("--labels goes with a server as MODEL (http://host:port/v1#model-name); a run has its own")
    labels = LabelSet(tuple(name.strip() for name in options.labels.split(",")))
    return PromptSpec(load_template(options.template), labels, answer_format(options.answer))
