"""`nertune serve`: a run behind an OpenAI-compatible API."""

from __future__ import annotations

import argparse
from typing import Any

from nertune.cli.messages import say
from nertune.cli.options import Commands, generation_options, min_score_option, positive
from nertune.serve.settings import add_server_options, settings_of

__all__ = ["add_serve"]


def add_serve(commands: Commands) -> None:
    serve = commands.add_parser("serve", help="an OpenAI-compatible server of runs, with /v1/extract")
    serve.add_argument(
        "runs",
        nargs="+",
        metavar="RUN|NAME=RUN",
        help="run directories; NAME (default: the folder's) is the model's name",
    )
    serve.add_argument(
        "--queue", type=positive, default=1024, metavar="N", help="requests waiting at most (default: %(default)s)"
    )
    serve.add_argument(
        "--max-tokens",
        type=positive,
        default=1024,
        metavar="N",
        help="limit of a chat answer whose request names none (default: %(default)s)",
    )
    min_score_option(serve)
    generation_options(serve, tasks=False)
    add_server_options(serve)
    serve.set_defaults(run=_serve)


def _serve(options: argparse.Namespace) -> int:
    from nertune.serving import load_runs, names_of, serve
    from nertune.terminal import Meter, conversion_meter, quiet_libraries

    runs = names_of(options.runs)
    quiet_libraries()

    def load() -> Any:
        with Meter("loading the model") as meter:
            return load_runs(
                runs,
                device=options.device,
                batch_size=options.batch_size,
                max_new_tokens=options.max_new_tokens,
                constrained=not options.unconstrained,
                min_score=options.min_score,
                window=options.window,
                report=conversion_meter(meter),
                note=say,
            )

    return serve(load, settings_of(options), say=say, capacity=options.queue, default_tokens=options.max_tokens)
