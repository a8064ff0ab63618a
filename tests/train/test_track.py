"""Trackers, for real and offline: what each wrote is read back. And the report page, and trackers that fail."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from nertune.errors import InputError, MissingExtraError, RecipeError
from nertune.extract import Recognizer
from nertune.schema import Prediction
from nertune.train import finish
from nertune.train.fit import train
from nertune.train.measure import Reader
from nertune.train.recipe import load_recipe
from nertune.train.report import report_page
from nertune.train.track import SampleRow, parse_track
from nertune.train.track.tracking import named_values

SHORT = {"max_steps": 2, "eval_steps": 2}
ROWS = (
    SampleRow("方鹏去漠北", "人名 方鹏; 地点 漠北", "人名 方鹏"),
    SampleRow("<b>天晴</b>", "", "<script>alert(1)</script>"),
)
NAMES = {"train/loss", "train/learning_rate", "train/grad_norm", "eval/loss", "eval/f1", "eval/f1/人名"}


def _predict(model, renderer, documents):
    assert not model.training
    assert documents
    return [Prediction(document.text, (), ()) for document in documents]


READER = Reader(_predict, lambda documents, predictions: {"f1": 0.5, "f1/人名": 0.25})


@pytest.fixture
def hostile_samples(monkeypatch):
    """The sample predictions are ROWS, whatever the model says."""
    monkeypatch.setattr(finish, "sample_rows", lambda *given: ROWS)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Every way out leads to a listener of this test, which must hear nothing; nor may the environment be changed."""
    heard: list[object] = []
    server = socket.create_server(("127.0.0.1", 0))
    here = server.getsockname()

    def listen() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            heard.append(connection.recv(100))
            connection.close()

    threading.Thread(target=listen, daemon=True).start()
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{here[1]}")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("no_proxy", "NO_PROXY", "NETRC", "SWANLAB_API_KEY", "WANDB_API_KEY", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    connect = socket.socket.connect

    def watched(self, address):
        if self.family != getattr(socket, "AF_UNIX", None) and not str(address[0]).startswith("127."):
            heard.append(address)
            raise OSError(f"this test has no network: {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", watched)
    before = _environment()
    handler, hook = signal.getsignal(signal.SIGINT), sys.excepthook
    yield
    server.close()
    assert heard == []
    assert _environment() == before
    assert (signal.getsignal(signal.SIGINT), sys.excepthook) == (handler, hook)


def _run(recipe, track, **arguments) -> Path:
    said: list[str] = []
    folder = train(recipe(training=SHORT, track=track), note=said.append, reader=READER, **arguments).folder
    assert not any("stops tracking" in line for line in said), said
    return folder


@pytest.mark.usefixtures("hostile_samples", "offline")
def test_tensorboard(recipe):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = _run(recipe, ["tensorboard"])
    folder = run / "track" / "tensorboard"
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    assert set(events.Tags()["scalars"]) == NAMES
    assert [(event.step, event.value) for event in events.Scalars("eval/f1/人名")] == [(2, 0.25)]
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [line["loss"] for line in logged if "loss" in line]
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(losses)
    texts = {tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in events.Tags()["tensors"]}
    assert "training.max_steps: 2" in texts["config/text_summary"]
    assert "方鹏去漠北" in texts["samples/1/text_summary"]
    assert (folder / "report.html").read_bytes() == (run / "report.html").read_bytes()


@pytest.mark.usefixtures("hostile_samples", "offline")
def test_swanlab(recipe, capfd):
    pytest.importorskip("swanlab")
    run = _run(recipe, [{"swanlab": {"project": "ner", "name": "实验"}}])
    (folder,) = (run / "track" / "swanlab").glob("run-*")
    (record,) = folder.glob("run-*.swanlab")
    content = record.read_bytes()
    assert all(name.encode() in content for name in NAMES)
    assert "实验".encode() in content
    config = yaml.safe_load((folder / "files" / "config.yaml").read_text(encoding="utf-8"))
    assert config["training"]["value"]["max_steps"] == 2
    # The keys of the published scripts, beside the recipe's own.
    model, file = config["model"]["value"], config["data"]["value"]["train"]
    assert (model, config["dataset"]["value"]) == (str(recipe().model), file)
    assert [config[f"lora_{key}"]["value"] for key in ("rank", "alpha", "dropout")] == [4, 8, 0.1]
    assert b"Prediction" in content
    texts = sorted(path.read_text(encoding="utf-8") for path in (folder / "media" / "text").iterdir())
    assert texts[1] == "方鹏去漠北\ngold: 人名 方鹏; 地点 漠北\npredicted: 人名 方鹏"
    (page,) = (folder / "media" / "html").iterdir()
    assert page.read_bytes() == (run / "report.html").read_bytes()
    assert capfd.readouterr().out == ""


@pytest.mark.usefixtures("hostile_samples", "offline")
def test_wandb(recipe, capfd):
    pytest.importorskip("wandb")
    run = _run(recipe, ["wandb"])
    (folder,) = (run / "track" / "wandb" / "wandb").glob("offline-run-*")
    (record,) = folder.glob("run-*.wandb")
    content, patience = record.read_bytes(), time.monotonic() + 20
    while not all(name.encode() in content for name in NAMES) and time.monotonic() < patience:
        time.sleep(0.1)  # the library's own process writes the record
        content = record.read_bytes()
    assert all(name.encode() in content for name in NAMES)
    assert b"max_steps" in content
    (table,) = (folder / "files" / "media" / "table").iterdir()
    assert json.loads(table.read_text(encoding="utf-8"))["data"] == [list(row) for row in ROWS]
    (page,) = (folder / "files" / "media" / "html").iterdir()
    assert page.read_bytes() == (run / "report.html").read_bytes()
    assert capfd.readouterr().out == ""


@pytest.mark.usefixtures("hostile_samples", "offline")
def test_trackio_twice_in_a_process(recipe, capfd):
    """The library reads its folder once; two runs must stand in two folders all the same."""
    pytest.importorskip("trackio")
    for name in ("first", "second"):
        said: list[str] = []
        settings = recipe(name, training=SHORT, track=["trackio"])
        run = train(settings, note=said.append, reader=READER).folder
        assert not any("stops tracking" in line for line in said), said
        with sqlite3.connect(run / "track" / "trackio" / "nertune.db") as database:
            lines = [json.loads(line) for (line,) in database.execute("select metrics from metrics order by id")]
            ((config,),) = database.execute("select config from configs").fetchall()
        database.close()
        assert NAMES.issubset(key for line in lines for key in line)
        (table,) = (line["samples"]["_value"] for line in lines if "samples" in line)
        assert [tuple(row.values()) for row in table] == list(ROWS)
        assert lines[-1]["outcome"] == "finished"
        assert json.loads(config)["training"]["max_steps"] == 2
        (page,) = (run / "track" / "trackio" / "media").rglob("*.html")
        assert page.read_bytes() == (run / "report.html").read_bytes()
    assert capfd.readouterr().out == ""


class Recorder:
    """A tracker that keeps what it is told and fails in one method, if asked to."""

    def __init__(self, failing: str = "") -> None:
        self.heard: list[tuple] = []
        self._failing = failing

    def _hear(self, name: str, *what: object) -> None:
        self.heard.append((name, *what))
        if name == self._failing:
            raise ConnectionError("the server\nwent away")

    def start(self, config, folder):
        self._hear("start", folder)

    def log(self, values, step):
        self._hear("log", step, values)

    def samples(self, rows, step):
        self._hear("samples", step, tuple(rows))

    def page(self, html, step):
        self._hear("page", step, html)

    def finish(self, outcome):
        self._hear("finish", outcome)


@pytest.mark.parametrize("method", ["start", "log", "samples", "page", "finish"])
def test_a_tracker_that_fails_is_dropped_and_the_training_goes_on(recipe, method):
    bad, good, said = Recorder(method), Recorder(), []
    trackers = {"bad": bad, "good": good}
    trained = train(recipe(training=SHORT), note=said.append, reader=READER, trackers=trackers)
    assert trained.steps == 2
    assert (trained.folder / "nertune.json").is_file()
    lines = [line for line in said if "tracking" in line]
    assert lines == ["bad stops tracking, training goes on: ConnectionError: the server went away"]
    assert bad.heard[-1][0] == method
    assert [name for name, *_ in bad.heard].count(method) == 1
    assert [name for name, *_ in good.heard] == ["start", "log", "log", "log", "samples", "page", "finish"]
    assert good.heard[-1] == ("finish", "finished")
    assert good.heard[0] == ("start", trained.folder / "track" / "good")


@pytest.mark.parametrize(("error", "outcome"), [(KeyboardInterrupt, "interrupted"), (RuntimeError, "failed")])
def test_trackers_hear_how_a_training_ended(recipe, error, outcome):
    tracker = Recorder()

    def report(progress) -> None:
        if progress.step == 2:
            raise error

    with pytest.raises(error):
        train(recipe(training=SHORT), report=report, trackers={"mine": tracker})
    assert tracker.heard[-1] == ("finish", outcome)


@pytest.mark.parametrize("vocabulary", ["full", "sampled"])
def test_sample_predictions_are_those_of_the_run(recipe, vocabulary, monkeypatch):
    """The model in memory, whatever stood in for its output layer, says what the saved run says."""
    from nertune.assemble import f1_reader, load

    answers: list[tuple[int, ...]] = []
    read = Recognizer._read
    monkeypatch.setattr(Recognizer, "_read", lambda *given: (answers.append(given[2].ids), read(*given))[1])
    tracker, said = Recorder(), []
    settings = recipe(training={"loss_vocabulary": vocabulary})
    run = train(settings, reader=f1_reader(), trackers={"mine": tracker}, note=said.append).folder
    assert not any("sample predictions" in line for line in said), said
    (rows,) = (what[1] for name, *what in tracker.heard if name == "samples")
    assert len(rows) == 4
    load(run).extract_many([row.text for row in rows])
    assert answers[-8:-4] == answers[-4:]
    assert all(answers)
    assert {row.gold.count("地点") for row in rows} <= {0, 1}


def test_sample_predictions_that_fail_cost_nothing_but_themselves(recipe):
    said: list[str] = []

    def predict(model, renderer, documents):
        raise ValueError("no")

    reader = Reader(predict, READER.score)
    run = train(recipe(training={**SHORT, "f1_documents": 0}), note=said.append, reader=reader).folder
    assert "no sample predictions: ValueError: no" in said
    assert "Sample predictions" not in (run / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("track", "problem"),
    [
        (["swanlap"], "unknown tracker 'swanlap'; did you mean 'swanlab'?"),
        (["zzz"], "unknown tracker 'zzz'; known: swanlab, tensorboard, wandb, trackio"),
        ("swanlab", "list"),
        ([3], "expected a name or a mapping"),
        ([{"swanlab": {}, "wandb": {}}], "expected a name or a mapping"),
        ([{"wandb": 3}], "wandb: expected options"),
        ([{"wandb": {"mode": "on-line"}}], "wandb.mode: 'on-line' is unknown; did you mean 'online'?"),
        ([{"wandb": {"mode": True}}], "wandb.mode: True is unknown"),
        ([{"wandb": {"projekt": "a"}}], "wandb.projekt: unknown key; did you mean 'project'?"),
        ([{"wandb": {"project": ""}}], "wandb.project: expected a text"),
        ([{"wandb": {"3": "a"}}], "wandb.3: unknown key"),
        ([{"swanlab": {"api_key": "secret"}}], "keys stay out of recipes"),
        ([{"tensorboard": {"mode": "online"}}], "tensorboard only writes files"),
        ([{"trackio": {"mode": "online"}}], "needs space"),
        (["wandb", "wandb"], "wandb is named twice"),
    ],
)
def test_nonsense_is_refused_with_the_other_problems(recipe, tmp_path, track, problem):
    path = tmp_path / "recipe.yaml"
    value = yaml.safe_load(recipe().to_yaml())
    path.write_text(yaml.safe_dump({**value, "track": track, "modell": "x"}, allow_unicode=True), encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert len(caught.value.problems) == 2
    found = next(line for line in caught.value.problems if line.startswith("track"))
    assert problem in found
    assert "secret" not in found


def test_a_recipe_with_trackers_is_read_back(recipe, tmp_path):
    settings = recipe(track=["tensorboard", {"swanlab": {"mode": "online", "project": "ner"}}])
    (tmp_path / "recipe.yaml").write_text(settings.to_yaml(), encoding="utf-8")
    assert load_recipe(tmp_path / "recipe.yaml") == settings
    assert [(item.tracker, item.mode, item.project) for item in settings.trackers()] == [
        ("tensorboard", "offline", "nertune"),
        ("swanlab", "online", "ner"),
    ]
    assert parse_track(None) == parse_track([]) == ()


@pytest.mark.parametrize("tracker", ["swanlab", "tensorboard", "wandb", "trackio"])
def test_a_package_that_is_absent_is_told_before_anything_is_written(recipe, tmp_path, monkeypatch, tracker):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'nertune\[{tracker}\]'"):
        train(recipe(track=[tracker]))
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("tracker", ["swanlab", "wandb", "trackio"])
def test_online_without_a_key_is_refused_at_once(recipe, tmp_path, monkeypatch, tracker):
    pytest.importorskip(tracker)
    from nertune.train.track import trackers

    options = {"mode": "online", **({"space": "someone/ner"} if tracker == "trackio" else {})}
    if tracker == "trackio":
        monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(InputError, match="login"):
        train(recipe(track=[{tracker: options}]))
    if tracker == "wandb":
        (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password 0123\n")
        assert trackers._has_key("wandb")
    assert not (tmp_path / "run").exists()


def test_names_of_values():
    logs = {"loss": 1, "eval_f1": 0.5, "f1/书": 0.1, "eval_f1/a/b": 0.2, "eval_runtime": 3.0, "grad_norm": float("nan")}
    assert named_values(logs) == {"train/loss": 1.0, "eval/f1": 0.5, "eval/f1/书": 0.1, "eval/f1/a/b": 0.2}


@pytest.mark.usefixtures("hostile_samples")
def test_the_report_needs_no_tracker(recipe):
    from matplotlib.image import imread

    run = train(recipe(training=SHORT), reader=READER).folder
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert "<td>人名</td><td>2</td><td>0.2500</td>" in page
    assert "方鹏去漠北" in page
    assert "0.5000, 0.5000" in page
    assert not (run / "track").exists()
    assert imread(run / "loss.png").shape == (720, 840, 4)
    logged = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(logged[-1])["eval_f1/人名"] == 0.25


def test_the_report_escapes_what_it_is_given():
    evil = '"><img src=x onerror=alert(1)>\ud800'
    page = report_page(
        name=evil,
        numbers={evil: evil},
        metrics=[{"step": 1, f"eval_f1/{evil}": 0.5}],
        picture=b"",
        recipe=evil,
        samples=[SampleRow(evil, evil, evil)],
    )
    assert "<img src=x" not in page
    assert page.encode("utf-8")


def test_a_resumed_training_hides_what_the_interrupted_one_wrote_too_far(recipe):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = recipe(track=["tensorboard"])

    def report(progress) -> None:
        if progress.step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings, report=report)
    run = train(settings, resume=True).folder
    events = EventAccumulator(str(run / "track" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, 16))
