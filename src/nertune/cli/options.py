"""Types of values, and options that several commands have."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

if TYPE_CHECKING:
    from nertune.data import LabelMap

__all__ = [
    "MODEL",
    "Commands",
    "Parser",
    "above_zero",
    "from_zero",
    "generation_options",
    "given",
    "label_map_of",
    "map_option",
    "min_score_option",
    "nothing_with",
    "number",
    "positive",
    "server_options",
    "similarity",
]

MODEL = "a run directory, or a server: http://host:port/v1#model-name"


class Parser(argparse.ArgumentParser):
    """Wrong usage is one line, and where to look. Options and arguments of a command may stand in any order.

    `rest`: the name under which everything after `--` is kept as it is.
    """

    rest: str | None = None
    _ordered = False  # while argparse itself parses the options, and then the arguments

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        if self._ordered or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        own = list(args or ())
        place = own.index("--") if "--" in own and self.rest is not None else len(own)
        self._ordered = True
        try:
            found, unknown = self.parse_known_intermixed_args(own[:place], namespace)
        finally:
            self._ordered = False
        if self.rest is not None:
            setattr(found, self.rest, tuple(own[place + 1 :]))
        return found, unknown

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\nTry: {self.prog} --help\n")


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
"""What `add_subparsers` gives: each command adds itself to it."""


def given(options: argparse.Namespace, names: Iterable[str]) -> list[str]:
    """Those of the options that are not at their default; `options.default_of` is the parser's `get_default`."""
    return [name for name in names if getattr(options, name) not in (options.default_of(name), ())]


def nothing_with(names: Sequence[str], whose: str, called: Mapping[str, str] | None = None) -> str:
    """That options mean nothing with something; `called`: those whose option is not named as they are."""
    listed = ", ".join((called or {}).get(name, f"--{name.replace('_', '-')}") for name in names)
    return f"{listed}: {'means' if len(names) == 1 else 'mean'} nothing with {whose}"


def generation_options(parser: argparse.ArgumentParser, *, tasks: bool = True) -> None:
    """How answers are generated. `tasks`: one of a run's tasks may be named."""
    if tasks:
        parser.add_argument("--task", metavar="NAME", help="which, where the run was trained on several")
    parser.add_argument(
        "--batch-size", type=positive, default=96, metavar="N", help="texts decoded together (default: 96)"
    )
    parser.add_argument(
        "--max-new-tokens", type=positive, metavar="N", help="limit of one answer (default: fitted to the text)"
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


def server_options(parser: argparse.ArgumentParser) -> None:
    """What only a server as MODEL needs."""
    group = parser.add_argument_group(
        "MODEL is a server",
        "vLLM, SGLang, Ollama, llama.cpp, OpenAI, …: whatever speaks OpenAI's API. Its key: NERTUNE_API_KEY or "
        "OPENAI_API_KEY.",
    )
    group.add_argument("--run", dest="served_run", metavar="RUN", help="the run that is served: its prompt is used")
    group.add_argument(
        "--labels", metavar="A,B,C", help="instead of --run, for a model not trained here: what to look for"
    )
    group.add_argument("--template", metavar="T", help="with --labels: prompt template (default: ner)")
    group.add_argument("--answer", metavar="F", help="with --labels: answer format (default: json)")
    group.add_argument("--concurrency", type=positive, metavar="N", help="requests at a time (default: 16)")
    group.add_argument("--timeout", type=above_zero, metavar="S", help="seconds for one answer (default: 300)")
    group.add_argument("--requests-per-minute", type=above_zero, metavar="N", help="never more (default: no limit)")


def min_score_option(parser: argparse.ArgumentParser) -> None:
    """Which entities are good enough."""
    parser.add_argument(
        "--min-score",
        type=_least_score,
        metavar="X",
        help="leave out entities with a lower score, from 0 to 1; or 'calibrated': the thresholds that nertune calibrate "
        "fitted for each label",
    )


def map_option(parser: argparse.ArgumentParser) -> None:
    """Other labels for those of a file; `label_map_of` reads what was given."""
    parser.add_argument(
        "--map",
        dest="label_map",
        action="append",
        default=[],
        metavar="RULE",
        help="other labels for those of the file: GPE=LOC, 'GPE,LOC=地点' to make them one, TIME= to leave its mentions "
        "out, or a YAML file of such rules; may be given several times",
    )


def label_map_of(options: argparse.Namespace) -> LabelMap:
    """The map of `--map`, empty where it was not given. Raises InputError for what is no rule."""
    from nertune.data import LabelMap

    return LabelMap.of_options(options.label_map)


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def from_zero(text: str) -> int:
    """A whole number from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def above_zero(text: str) -> float:
    """A finite number above 0."""
    value = number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def similarity(text: str) -> float:
    """How alike two texts are: from 0.5 to 1."""
    value = number(text)
    if not 0.5 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a similarity from 0.5 to 1")
    return value


def number(text: str) -> float:
    """A number; not a number (math.nan), which no comparison holds for, where the text is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _least_score(text: str) -> float | str:
    if text == "calibrated":
        return text
    value = number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number from 0 to 1 nor 'calibrated'")
    return value


def _window(text: str) -> int:
    from nertune.extract.budget import SMALLEST_WINDOW

    size = positive(text)
    if size < SMALLEST_WINDOW:
        raise argparse.ArgumentTypeError(f"a window of {size} tokens holds no sentence: {SMALLEST_WINDOW} at least")
    return size
