"""`nertune serve`: a run behind an OpenAI-compatible API."""

from __future__ import annotations

import argparse

from nertune.cli.messages import say
from nertune.cli.options import Commands, generation_options, min_score_option, positive

__all__ = ["add_serve"]


def add_serve(commands: Commands) -> None:
    serve = commands.add_parser("serve", help="an OpenAI-compatible server of runs, with /v1/extract")
    serve.add_argument(
        "runs",
        nargs="+",
        metavar="RUN|NAME=RUN",
        help="run directories; NAME (default: the folder's) is the model's name",
    )
    serve.add_argument("--host", default="127.0.0.1", metavar="H", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=positive, default=8000, metavar="N", help="(default: %(default)s)")
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
    generation_options(serve)
    serve.set_defaults(run=_serve)


def _serve(options: argparse.Namespace) -> int:
    from nertune.serving import load_runs, names_of, open_service, serve
    from nertune.terminal import Meter, conversion_meter, quiet_libraries

    runs = names_of(options.runs)
    quiet_libraries()
    with Meter("loading the model") as meter:
        loaded = load_runs(
            runs,
            task=options.task,
            device=options.device,
            batch_size=options.batch_size,
            max_new_tokens=options.max_new_tokens,
            constrained=not options.unconstrained,
            min_score=options.min_score,
            window=options.window,
            report=conversion_meter(meter),
            note=say,
        )
    service = open_service(loaded, capacity=options.queue, default_tokens=options.max_tokens)
    return serve(service, host=options.host, port=options.port, say=say)
