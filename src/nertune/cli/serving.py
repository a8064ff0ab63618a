"""`nertune serve`: a run behind an OpenAI-compatible API, on the local engine, on vLLM, or on a server that runs already."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nertune.cli.messages import say
from nertune.cli.options import Commands, generation_options, given, min_score_option, nothing_with, positive
from nertune.errors import InputError
from nertune.serve.settings import add_server_options, settings_of

if TYPE_CHECKING:
    from nertune.gateway import GatewaySettings

__all__ = ["add_serve"]

# Options by the engine that they mean something to; the others have every one that is not here.
_OWN = {
    "local": ("batch_size", "max_tokens"),
    "vllm": ("vllm_python", "vllm_port", "vllm_minutes", "parity", "dry_run", "vllm_arguments"),
    "server": ("served_run",),
}
_NAMES = {"served_run": "--run", "vllm_arguments": "arguments after --"}
_COMPARED = 16  # sentences of --parity FILE


def add_serve(commands: Commands) -> None:
    serve = commands.add_parser(
        "serve",
        help="an OpenAI-compatible server of runs, with /v1/extract",
        epilog="Arguments after -- go to vLLM as they are: nertune serve RUN --engine vllm -- --gpu-memory-utilization 0.8",
    )
    serve.rest = "vllm_arguments"
    serve.add_argument(
        "runs",
        nargs="+",
        metavar="RUN|NAME=RUN|URL",
        help="run directories; NAME (default: the folder's) is the model's name. Or a server that runs already, "
        "http://host:port/v1#model-name, whose run --run names",
    )
    serve.add_argument(
        "--engine",
        choices=("local", "vllm"),
        help="who generates: this process, or vLLM, which is started behind it (default: local)",
    )
    serve.add_argument(
        "--served-model-name",
        type=_model_name,
        metavar="NAME",
        help="what clients call the base model that adapters stand beside (default: its own name; with vLLM: base), or the "
        "run, where it is a whole model",
    )
    serve.add_argument(
        "--queue", type=positive, default=1024, metavar="N", help="requests waiting at most (default: %(default)s)"
    )
    serve.add_argument(
        "--max-tokens",
        type=positive,
        default=1024,
        metavar="N",
        help="limit of a chat answer whose request names none; local engine (default: %(default)s)",
    )
    min_score_option(serve)
    generation_options(serve, tasks=False)
    group = serve.add_argument_group("vLLM, or another server, behind")
    group.add_argument(
        "--vllm-python",
        metavar="PYTHON",
        help="Python of the environment that has vLLM (default: `vllm` on PATH)",
    )
    group.add_argument(
        "--vllm-port",
        type=_port,
        default=0,
        metavar="N",
        help="vLLM's own, on the loopback (default: any that is free)",
    )
    group.add_argument(
        "--vllm-minutes", type=positive, default=15, metavar="N", help="vLLM may take so long to start (default: 15)"
    )
    group.add_argument("--dry-run", action="store_true", help="print vLLM's command line and start nothing")
    group.add_argument(
        "--parity",
        type=Path,
        metavar="FILE",
        help=f"before serving, compare vLLM's answers with the run's here, on the first {_COMPARED} sentences of an "
        "annotated file (default: only the prompts are compared, which needs no second model)",
    )
    group.add_argument(
        "--run", dest="served_run", type=Path, metavar="RUN", help="the run that the server at URL serves"
    )
    group.add_argument(
        "--concurrency",
        type=positive,
        metavar="N",
        help="prompts of /v1/extract that the server behind gets at a time (default: 64)",
    )
    add_server_options(serve)
    serve.set_defaults(run=_serve, default_of=serve.get_default)


def _serve(options: argparse.Namespace) -> int:
    from nertune.generate.endpoint import is_endpoint
    from nertune.terminal import quiet_libraries

    addresses = [run for run in options.runs if is_endpoint(run)]
    if addresses and (len(options.runs) > 1 or options.served_run is None or options.engine):
        raise InputError(
            f"{addresses[0]}: a server is served alone, without --engine, and with --run RUN, the run that it has"
        )
    engine = "server" if addresses else options.engine or "local"
    _check(options, engine)
    quiet_libraries()
    return {"local": _serve_local, "vllm": _serve_vllm, "server": _serve_address}[engine](options)


def _check(options: argparse.Namespace, engine: str) -> None:
    """Raise InputError for an option that would be ignored."""
    wrong = [name for other, names in _OWN.items() if other != engine for name in names]
    wrong += ["served_model_name"] if engine == "server" else []
    wrong += ["concurrency"] if engine == "local" else [] if options.parity else ["device"]
    if ignored := given(options, wrong):
        whose = {"local": "the local engine", "vllm": "--engine vllm", "server": "a server that runs already"}[engine]
        hint = ". --engine vllm knows them" if engine == "local" and set(ignored) <= set(_OWN["vllm"]) else ""
        raise InputError(f"{nothing_with(ignored, whose, _NAMES)}{hint}")


def _serve_local(options: argparse.Namespace) -> int:
    from nertune.serving import load_runs, names_of, serve
    from nertune.terminal import Meter, conversion_meter

    runs = names_of(options.runs)
    if options.served_model_name in runs:
        raise InputError(f"--served-model-name {options.served_model_name}: a run is called so; give one another name")

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

    return serve(
        load,
        settings_of(options),
        say=say,
        capacity=options.queue,
        default_tokens=options.max_tokens,
        served_name=options.served_model_name,
    )


def _serve_vllm(options: argparse.Namespace) -> int:
    from nertune import data
    from nertune.data.samples import HELDOUT
    from nertune.prompt import KNOWN_ANSWERS
    from nertune.serve.vllm import VllmSettings
    from nertune.vllm_serving import serve_vllm

    def texts(file: Path) -> list[str]:
        corpus = data.read(file, limit=_COMPARED, answers=KNOWN_ANSWERS)
        return [document.text for document in corpus.documents]

    return serve_vllm(
        options.runs,
        VllmSettings(port=options.vllm_port, served_name=options.served_model_name, extra=options.vllm_arguments),
        settings_of(options),
        _gateway(options),
        python=options.vllm_python,
        dry_run=options.dry_run,
        minutes=options.vllm_minutes,
        prompts_of=[] if options.parity else texts(HELDOUT),
        compare_on=texts(options.parity) if options.parity else [],
        device=options.device,
        say=say,
    )


def _serve_address(options: argparse.Namespace) -> int:
    from nertune.gateway import serve_address

    return serve_address(options.runs[0], options.served_run, settings_of(options), _gateway(options), say=say)


def _gateway(options: argparse.Namespace) -> GatewaySettings:
    from nertune.gateway import GatewaySettings

    return GatewaySettings(
        concurrency=options.concurrency or 64,
        capacity=options.queue,
        max_new_tokens=options.max_new_tokens,
        constrained=not options.unconstrained,
        min_score=options.min_score,
        window=options.window,
    )


def _model_name(text: str) -> str:
    if not re.fullmatch(r"[\w.:/-]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a model: letters, digits and . _ - : /")
    return text


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 1 to 65535")
    return int(text)
