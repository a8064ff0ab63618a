"""`nertune serve RUN --engine vllm`: vLLM checked, started, awaited and compared with the run. Rooms are wired here.

`running_vllm` is the seam for whatever stands in front of vLLM: inside the context the server answers, and its runs are
known by name. `serve_vllm` is the whole command, with the gateway of gateway.py in front.
"""

from __future__ import annotations

import secrets
import shlex
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, NoReturn

from nertune.atomic import write_text
from nertune.errors import InputError, NertuneError
from nertune.gateway import Gateway, GatewaySettings, open_gateway, open_readers, serve_gateway
from nertune.models import cache_folder, resolve_model
from nertune.prompt.chat import DEFAULT_TEMPLATE
from nertune.safety import check_model
from nertune.schema import Document
from nertune.serve.launch import LaunchedServer
from nertune.serve.settings import Settings
from nertune.serve.vllm import (
    ServedRun,
    VllmSettings,
    find_vllm,
    has_chat_template,
    open_run,
    vllm_command,
    vllm_environment,
)
from nertune.serving import names_of

__all__ = ["VllmPlan", "compare_served", "plan_vllm", "running_vllm", "serve_vllm"]

Say = Callable[[str], None]
_USUAL = 8000  # the port of a command line that is only shown


class VllmPlan(NamedTuple):
    """What is about to be started. `url`: the server's `/v1`; `command`: a list of arguments."""

    url: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    runs: tuple[ServedRun, ...]

    def shown(self) -> str:
        """The command as a shell takes it."""
        return shlex.join(self.command)


def plan_vllm(
    runs: Sequence[str],
    settings: VllmSettings,
    *,
    python: str | None = None,
    environment: Mapping[str, str] | None = None,
    dry: bool = False,
) -> VllmPlan:
    """Look at the runs and put the command together. `runs`: folders, or NAME=FOLDER.

    `python`: that of vLLM's environment. `environment`: more variables for it. `dry`: vLLM need not be here.
    Raises InputError, RunError, UnknownModelError for what could not be served.
    """
    opened = [open_run(folder, name) for name, folder in names_of(runs).items()]
    if not opened:
        raise InputError("name at least one run")
    whole = opened[0].config is None
    if whole and settings.served_name is not None:
        opened = [opened[0]._replace(name=settings.served_name), *opened[1:]]
    base = str(opened[0].folder.resolve()) if whole else resolve_model(opened[0].manifest.base_model)
    if Path(base).is_dir():
        check_model(Path(base))
        if settings.chat_template is None and not has_chat_template(Path(base)):
            settings = replace(settings, chat_template=_own_template())
    try:
        program = find_vllm(python)
    except InputError:
        if not dry or python is not None:
            raise
        program = ["vllm", "serve"]
    command = vllm_command(program, base, opened, settings)
    host = settings.host if settings.host not in ("0.0.0.0", "::") else "127.0.0.1"
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}/v1"
    return VllmPlan(url, tuple(command), vllm_environment(base, more=environment), tuple(opened))


@contextmanager
def running_vllm(plan: VllmPlan, *, log: Path, minutes: float = 15) -> Iterator[LaunchedServer]:
    """vLLM, answering at `plan.url`, for the length of the context. SIGTERM ends the context as Ctrl-C does.

    Raises EndpointError with the log's last lines where it does not become ready.
    """
    health = plan.url.removesuffix("/v1") + "/health"
    server = LaunchedServer(plan.command, health=health, environment=plan.environment, log=log, minutes=minutes)
    with _terminable(), server:
        yield server


def compare_served(
    plan: VllmPlan,
    texts: Sequence[str],
    *,
    say: Say,
    prompts_only: bool = False,
    device: str | None = None,
    task: str | None = None,
    key: str | None = None,
) -> bool:
    """Ask each run here and on the server, and say where they part: whether they answer alike.

    `prompts_only`: compare what the prompts become, and load no model here. A run trained on several tasks is asked for
    `task`, or its first. `key`: the server's, None for the environment's.
    """
    from nertune.assemble import connect
    from nertune.parity import compare_prompts, parity

    equal = True
    for run in plan.runs:
        asked = task or next(iter(run.manifest.tasks), None)
        address = f"{plan.url}#{run.name}"
        try:
            if prompts_only:
                found = compare_prompts(connect(address, run=run.folder, task=asked, key=key), texts)
            else:
                documents = [Document(text) for text in texts]
                found = parity(run.folder, address, documents, task=asked, device=device, key=key)
        except NertuneError as error:
            say(f"{run.name}: not compared with the run: {error}")
            equal = False
            continue
        for line in found.lines():
            say(f"{run.name}: {line}")
        equal &= found.equal
    return equal


def serve_vllm(
    runs: Sequence[str],
    vllm: VllmSettings,
    settings: Settings,
    gateway: GatewaySettings,
    *,
    python: str | None = None,
    dry_run: bool = False,
    log: Path | None = None,
    minutes: float = 15,
    prompts_of: Sequence[str] = (),
    compare_on: Sequence[str] = (),
    device: str | None = None,
    say: Say = print,
    report: Callable[[str, int, int], None] | None = None,
) -> int:
    """The command: check, print or start, wait, compare, serve until a signal. Returns the exit code.

    The prompts of the texts `prompts_of` are compared with the server's, prompts and answers of those in `compare_on`; the
    latter loads the model a second time.
    vLLM listens at `vllm.port`, 0 for any that is free, and wants a key that is made here; `settings` is where clients ask.
    With `dry_run` the command line is printed on stdout, and nothing is started. Raises what `plan_vllm`, `running_vllm`
    and `serve_gateway` raise.
    """
    if dry_run:
        print(plan_vllm(runs, vllm if vllm.port else replace(vllm, port=_USUAL), python=python, dry=True).shown())
        return 0
    key = secrets.token_urlsafe(32)
    vllm = vllm if vllm.port else replace(vllm, port=_free_port())
    if vllm.port == settings.port:
        raise InputError(f"--vllm-port {vllm.port} is the gateway's own --port: give vLLM another, or none")
    plan = plan_vllm(runs, vllm, python=python, environment={"VLLM_API_KEY": key})
    log = log or cache_folder() / "logs" / f"vllm-{settings.port}.log"

    @contextmanager
    def opening() -> Iterator[Gateway]:
        readers = open_readers({run.name: run.folder for run in plan.runs}, gateway, report=report, note=say)
        say(plan.shown())
        say(f"starting vLLM; its log: {log}")
        with running_vllm(plan, log=log, minutes=minutes) as process:
            say(f"vLLM is ready: {', '.join(run.name for run in plan.runs)}")
            if prompts_of:
                alike = compare_served(plan, prompts_of, say=say, prompts_only=True, key=key)
                say("vLLM reads the run's own prompts" if alike else "warning: vLLM reads other prompts than the run's")
            if compare_on:
                alike = compare_served(plan, compare_on, say=say, device=device, key=key)
                does = "vLLM answers as the run does here"
                say(does if alike else "warning: vLLM does not answer as the run does here")
            yield open_gateway(plan.url, readers, gateway, key=key)._replace(process=process)

    return serve_gateway(opening(), settings, say=say)


def _free_port() -> int:
    """A port of the loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _own_template() -> Path:
    """nertune's own chat template as a file, for a base model that has none."""
    path = cache_folder() / "chat-template.jinja"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, DEFAULT_TEMPLATE)
    return path


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM leaves by the way on which contexts are closed; outside the main thread, where no signal is set, as before."""

    def leave(*_: object) -> NoReturn:
        raise SystemExit(128 + signal.SIGTERM)

    try:
        before = signal.signal(signal.SIGTERM, leave)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
