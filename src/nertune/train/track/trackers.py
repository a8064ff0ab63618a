"""One small class a tracker: SwanLab, TensorBoard, Weights & Biases, trackio.

Offline, which is the default, each writes into a folder of the run and nothing reaches the network: hardware and code
probes, error reports and update checks are off, and no login is asked for. Libraries are imported when a training starts.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import netrc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol
from urllib.parse import urlsplit

from nertune.errors import InputError, MissingExtraError
from nertune.train.track.settings import TrackerSettings

__all__ = ["Outcome", "SampleRow", "Tracker", "check_ready", "make_tracker"]

Outcome = Literal["finished", "failed", "interrupted"]
COLUMNS = ("text", "gold", "predicted")


class SampleRow(NamedTuple):
    """A text, its annotated entities and the predicted ones, each as a line to read."""

    text: str
    gold: str
    predicted: str


class Tracker(Protocol):
    """What a tracker does; any method may raise, and the caller then goes on without the tracker.

    `values` are numbers by name (`train/loss`, `eval/f1/人名`), `step` counts optimizer steps.
    """

    def start(self, config: Mapping[str, Any], folder: Path) -> None: ...

    def log(self, values: Mapping[str, float], step: int) -> None: ...

    def samples(self, rows: Sequence[SampleRow], step: int) -> None: ...

    def page(self, html: str, step: int) -> None: ...

    def finish(self, outcome: Outcome) -> None: ...


def check_ready(settings: TrackerSettings) -> None:
    """Refuse, before anything is computed, a tracker that could not start.

    Raises MissingExtraError where its package is absent, InputError where it is to go online without a key.
    """
    if importlib.util.find_spec(settings.tracker) is None:
        raise MissingExtraError(f"track: {settings.tracker}", extra=settings.tracker)
    if settings.mode == "online" and not _has_key(settings.tracker):
        advice = {
            "swanlab": "set SWANLAB_API_KEY, or type: swanlab login",
            "wandb": "set WANDB_API_KEY, or type: wandb login",
            "trackio": "set HF_TOKEN, or type: hf auth login",
        }[settings.tracker]
        raise InputError(f"track: {settings.tracker} is to go online and has no key. {advice}; or leave mode: offline")


def _has_key(tracker: str) -> bool:
    if tracker == "swanlab":
        import swanlab

        return bool(swanlab.Settings().api_key)
    if tracker == "wandb":
        return bool(os.environ.get("WANDB_API_KEY")) or _wandb_login()
    from huggingface_hub import get_token

    return bool(get_token())


def _wandb_login() -> bool:
    """Whether `wandb login` left a key in the netrc file; asking wandb itself may prompt for one."""
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return netrc.netrc(os.environ.get("NETRC") or Path.home() / ".netrc").authenticators(host or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def make_tracker(settings: TrackerSettings, default_name: str) -> Tracker:
    """The tracker for one entry of a recipe, not started yet."""
    kinds: dict[str, Callable[[TrackerSettings, str], Tracker]] = {
        "swanlab": SwanLab,
        "tensorboard": TensorBoard,
        "wandb": WandB,
        "trackio": Trackio,
    }
    return kinds[settings.tracker](settings, settings.name or default_name)


class _RunTracker:
    """What trackers share whose library gives a run to log to; they differ in how it starts and ends."""

    def __init__(self, settings: TrackerSettings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._run: Any = None

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)


class _TableTracker(_RunTracker):
    """Weights & Biases' objects, which trackio has under the same names: tables for samples, HTML for the page."""

    _library: str

    def samples(self, rows: Sequence[SampleRow], step: int) -> None:
        library = importlib.import_module(self._library)
        table = library.Table(columns=list(COLUMNS), data=[list(row) for row in rows])
        self._run.log({"samples": table}, step=step)

    def page(self, html: str, step: int) -> None:
        library = importlib.import_module(self._library)
        self._run.log({"report": library.Html(html, inject=False)}, step=step)


class SwanLab(_RunTracker):
    """SwanLab; `swanlab sync FOLDER/run-…` uploads an offline run later.

    Samples are logged as `Prediction`, and the config has the keys of the published tutorials beside the whole recipe, so
    that runs of both stand in one table.

    Its own transformers integration (swanlab 0.10.3) crashes without a run, and hooks SIGINT: neither is used here.
    """

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        import swanlab

        kinds = swanlab.Settings
        quiet = kinds(
            interactive=False,
            probe=kinds.Probe(
                hardware=False, runtime=False, requirements=False, git=False, swanlab=False, monitor=False
            ),
            terminal=kinds.Terminal(proxy_type="none"),
        )
        offline = self._settings.mode == "offline"
        hidden = {"SWANLAB_WEBHOOK": None} if offline else {}
        with _own_handlers(), _environment(hidden):
            self._run = swanlab.init(
                mode=self._settings.mode,
                log_dir=str(folder),
                project=self._settings.project,
                name=self._name,
                description=self._settings.description,
                config={**_usual_names(config), **config},
                settings=quiet,
            )

    def samples(self, rows: Sequence[SampleRow], step: int) -> None:
        import swanlab

        texts = [
            swanlab.Text(f"{row.text}\ngold: {row.gold}\npredicted: {row.predicted}", caption=row.predicted)
            for row in rows
        ]
        self._run.log({"Prediction": texts}, step=step)

    def page(self, html: str, step: int) -> None:
        import swanlab

        self._run.log({"report": swanlab.Html(html)}, step=step)

    def finish(self, outcome: Outcome) -> None:
        state = {"finished": "success", "failed": "crashed", "interrupted": "aborted"}[outcome]
        with _own_handlers():
            self._run.finish(state=state, error=f"training {outcome}" if outcome == "failed" else None)


class TensorBoard:
    """TensorBoard event files: `tensorboard --logdir FOLDER`. Its API knows no state of a run."""

    def __init__(self, settings: TrackerSettings, name: str) -> None:
        self._config: Mapping[str, Any] = {}
        self._folder = Path()
        self._writer: Any = None

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        import torch.utils.tensorboard  # noqa: F401  (fails here, before the first step, if it is to fail)

        self._config, self._folder = config, folder

    def _at(self, step: int) -> Any:
        """The writer; it hides what an interrupted training wrote from its first step on, as a resumed one does."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=step)
            lines = "\n".join(f"    {key}: {value}" for key, value in _flat(self._config))
            self._writer.add_text("config", lines, step)
        return self._writer

    def log(self, values: Mapping[str, float], step: int) -> None:
        writer = self._at(step)
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    def samples(self, rows: Sequence[SampleRow], step: int) -> None:
        # Text is shown as Markdown; four spaces keep a line as it is.
        for number, row in enumerate(rows, 1):
            lines = [row.text, f"gold: {row.gold}", f"predicted: {row.predicted}"]
            self._at(step).add_text(f"samples/{number}", "\n".join("    " + line for line in lines), step)

    def page(self, html: str, step: int) -> None:
        """TensorBoard shows no HTML: the page is kept beside its event files."""
        (self._folder / "report.html").write_text(html, encoding="utf-8")

    def finish(self, outcome: Outcome) -> None:
        if self._writer is not None:
            self._writer.close()


class WandB(_TableTracker):
    """Weights & Biases; `wandb sync FOLDER/wandb/offline-run-…` uploads an offline run later."""

    _library = "wandb"

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        # It leaves the address of its service in the environment, for children that would log to the same run.
        service = {"WANDB_SERVICE": os.environ.get("WANDB_SERVICE")}
        with _own_handlers(), _environment({"WANDB_ERROR_REPORTING": "false", **service}):
            import wandb

            self._run = wandb.init(
                mode=self._settings.mode,
                dir=str(folder),
                project=self._settings.project,
                name=self._name,
                notes=self._settings.description,
                config=dict(config),
                reinit="create_new",
                settings=wandb.Settings(
                    console="off",
                    silent=True,
                    disable_git=True,
                    disable_code=True,
                    disable_job_creation=True,
                    x_disable_meta=True,
                    x_disable_stats=True,
                    x_disable_machine_info=True,
                    x_save_requirements=False,
                ),
            )

    def finish(self, outcome: Outcome) -> None:
        self._run.finish(exit_code={"finished": 0, "failed": 1, "interrupted": 130}[outcome])


class Trackio(_TableTracker):
    """trackio, into FOLDER/PROJECT.db: `TRACKIO_DIR=FOLDER trackio show`. Its API knows no state of a run."""

    _library = "trackio"

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        places: dict[str, str | None] = {"TRACKIO_DIR": str(folder.absolute())}
        if self._settings.mode == "offline":
            # Any of these would send a local run away.
            places |= dict.fromkeys(("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_BUCKET_ID"))
        with _environment(places):
            import trackio

            _move_trackio(folder.absolute())
            self._run = trackio.init(
                project=self._settings.project,
                name=self._name,
                space_id=self._settings.space if self._settings.mode == "online" else None,
                config=dict(config),
                resume="never",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def finish(self, outcome: Outcome) -> None:
        from trackio import context_vars

        self._run.log({"outcome": outcome})
        self._run.finish()
        if context_vars.current_run.get() is self._run:
            context_vars.current_run.set(None)  # else it is finished once more, aloud, when Python ends


def _move_trackio(folder: Path) -> None:
    """Let trackio write to `folder`: it reads TRACKIO_DIR once a process, into a constant of several modules."""
    places = {"TRACKIO_DIR": folder, "MEDIA_DIR": folder / "media", "ARTIFACTS_DIR": folder / "artifacts"}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "trackio":
            for constant, place in places.items():
                if isinstance(getattr(module, constant, None), Path):
                    setattr(module, constant, place)


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """What libraries print to stdout is dropped: stdout belongs to results."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


@contextlib.contextmanager
def _environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set (or, with None, hide) environment variables for the block, and put back what was there."""
    before = {name: os.environ.get(name) for name in values}

    def apply(state: Mapping[str, str | None]) -> None:
        for name, value in state.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    apply(values)
    try:
        yield
    finally:
        apply(before)


@contextlib.contextmanager
def _own_handlers() -> Iterator[None]:
    """Whatever the block does to SIGINT and sys.excepthook is undone: Ctrl-C must end the training as it always does."""
    hook = sys.excepthook
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    try:
        yield
    finally:
        sys.excepthook = hook
        if handler is not None:
            signal.signal(signal.SIGINT, handler)


def _usual_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's model, data set and LoRA settings as SwanLab's tutorials call them."""
    sections = [config, *(config.get("tasks") or {}).values()]
    files = [section["data"]["train"] for section in sections if section.get("data")]
    names = {"model": config.get("model"), "dataset": ", ".join(files)}
    lora = config.get("lora") if config.get("method") == "lora" else None
    return names | {f"lora_{key}": lora[key] for key in ("rank", "alpha", "dropout") if lora and key in lora}


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as dotted keys."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
