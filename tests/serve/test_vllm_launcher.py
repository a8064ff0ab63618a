"""vLLM's command line for a run, what vLLM would refuse, and a server's life: against a stand-in for vLLM."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from nertune import vllm_serving
from nertune.cli import main
from nertune.errors import EndpointError, InputError
from nertune.gateway import GatewaySettings
from nertune.parity import Parity
from nertune.serve.launch import LaunchedServer
from nertune.serve.settings import Settings
from nertune.serve.vllm import VllmSettings, find_vllm, open_run
from nertune.train.fit import train
from nertune.vllm_serving import plan_vllm, serve_vllm

_beside = runpy.run_path(str(Path(__file__).parents[1] / "train" / "conftest.py"))
base_of, base, corpus, recipe_in, recipe, other_model = (
    _beside[name] for name in ("base_of", "base", "corpus", "recipe_in", "recipe", "other_model")
)
KEY = "0123456789abcdef0123456789abcdef"
SHORT = {"max_steps": 1, "eval_steps": "never", "keep_best": False}
FAKE = f"#!{sys.executable}\n" + textwrap.dedent('''
    """Stands for vLLM: answers /health after a while, has a child, and writes down how it was called."""
    import http.server, json, os, pathlib, subprocess, sys, time
    here = pathlib.Path(__file__).parent
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    kept = ("VLLM_API_KEY", "NERTUNE_API_KEY", "PYTHONPATH", "HF_HUB_OFFLINE")
    told = {"argv": sys.argv[1:], "pid": os.getpid(), "child": child.pid, "env": {k: os.environ.get(k) for k in kept}}
    (here / "told.json").write_text(json.dumps(told))
    print("loading 漢", flush=True)
    if (here / "fails").exists():
        child.kill()
        sys.exit("ValueError: no room for the KV cache")
    if (here / "hangs").exists():
        time.sleep(120)
    pages = {"/health": {}, "/version": {"version": "0.32.0"}}
    pages["/v1/models"] = {"data": [{"id": name, "owned_by": "vllm"} for name in ("base", "ner")]}
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/end":
                child.kill()
                print("out of memory", flush=True)
                os._exit(7)
            self.answer(pages[self.path])
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            choice = {"index": 0, "text": "", "finish_reason": "stop", "token_ids": body["stop_token_ids"][:1]}
            self.answer({"id": "1", "object": "text_completion", "created": 1, "model": "ner", "choices": [choice]})
        def answer(self, value):
            known = self.headers["authorization"] == f"Bearer {os.environ['VLLM_API_KEY']}"
            self.send_response(200 if known or not self.path.startswith("/v1/") else 401)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(value).encode())
        def log_message(self, *_): pass
    port = int(sys.argv[sys.argv.index("--port") + 1])
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
''')


@pytest.fixture(scope="session")
def trained(tmp_path_factory, recipe_in) -> Path:
    """A run of rank 4."""
    return train(recipe_in(tmp_path_factory.mktemp("runs"), training=SHORT)).folder


@pytest.fixture
def run(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "ner", ignore=shutil.ignore_patterns("checkpoints")))


@pytest.fixture
def fake_vllm(tmp_path) -> Path:
    folder = tmp_path / "a venv; rm -rf"
    folder.mkdir()
    path = folder / "python"
    path.write_text(FAKE, encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def change(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def value_of(command, option: str) -> str:
    return command[command.index(option) + 1]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


# ---- The command


def test_the_command_serves_the_adapter_beside_its_base(run, base, fake_vllm):
    plan = plan_vllm([str(run)], VllmSettings(port=9001), python=str(fake_vllm))
    command = plan.command
    assert command[:3] == (str(fake_vllm), "-m", "vllm.entrypoints.openai.api_server")
    assert value_of(command, "--model") == str(base)
    assert value_of(command, "--served-model-name") == "base"
    assert value_of(command, "--lora-modules") == f"ner={run.resolve()}"
    assert value_of(command, "--max-lora-rank") == "8"
    assert value_of(command, "--max-model-len") == "1024"
    assert value_of(command, "--host") == "127.0.0.1"
    assert json.loads(value_of(command, "--structured-outputs-config")) == {"backend": "guidance"}
    assert "--enable-lora" in command
    assert "--trust-remote-code" not in command
    assert "--chat-template" not in command
    assert plan.url == "http://127.0.0.1:9001/v1"


def test_several_runs_share_one_base_and_the_largest_rank(run, recipe, tmp_path):
    wide = train(recipe("wide", training=SHORT, lora={"rank": 20})).folder
    command = plan_vllm([str(run), f"large={wide}"], VllmSettings(), dry=True).command
    assert value_of(command, "--max-lora-rank") == "32"
    assert value_of(command, "--max-loras") == "2"
    place = command.index("--lora-modules")
    assert command[place + 1 : place + 3] == (f"ner={run.resolve()}", f"large={wide.resolve()}")
    with pytest.raises(InputError, match="two runs are called 'ner'"):
        plan_vllm([str(run), f"ner={wide}"], VllmSettings(), dry=True)
    change(wide / "nertune.json", base_model=str(shutil.copytree(tmp_path / "ner", tmp_path / "else")))
    with pytest.raises(InputError, match="one base model"):
        plan_vllm([str(run), f"large={wide}"], VllmSettings(), dry=True)


def test_settings_and_vllms_own_arguments_go_through(run):
    settings = VllmSettings(dtype="float32", max_model_len=512, tensor_parallel=2, extra=("--seed", "3; rm -rf /"))
    command = plan_vllm([str(run)], settings, dry=True).command
    assert value_of(command, "--dtype") == "float32"
    assert value_of(command, "--max-model-len") == "512"
    assert value_of(command, "--tensor-parallel-size") == "2"
    assert command[-2:] == ("--seed", "3; rm -rf /")
    for argument in ("--max-lora-rank", "--model=x", "--lora_modules", "--api-key"):
        with pytest.raises(InputError, match="is set by nertune"):
            plan_vllm([str(run)], VllmSettings(extra=(argument, "1")), dry=True)


@pytest.mark.parametrize(
    "extra",
    [
        ("--dtype", "bfloat16"),
        ("--dtype=bfloat16",),
        ("--max_model_len", "2k"),
        ("--no-enable-prefix-caching",),
        ("-tp", "4"),
        ("--structured-outputs-config", '{"backend": "guidance", "disable_any_whitespace": true}'),
        ("--generation-config", "auto"),
        ("--max-loras", "4"),
        ("--chat-template", "x.jinja"),
        ("--trust-remote-code",),
        ("--gpu-memory-utilization", "0.8", "--override.a", "1", "--override.b", "2"),
    ],
    ids=" ".join,
)
def test_no_option_stands_twice_and_the_users_goes_before_ours(run, monkeypatch, extra):
    monkeypatch.setattr("nertune.serve.vllm.remote_code_trusted", lambda: True)
    settings = VllmSettings(tensor_parallel=2, chat_template=run / "own.jinja", extra=extra)
    command = plan_vllm([str(run)], settings, dry=True).command
    assert command[-len(extra) :] == extra
    names = [
        part.partition("=")[0].replace("_", "-").replace("--no-", "--") for part in command if part.startswith("-")
    ]
    names = ["--tensor-parallel-size" if name == "-tp" else name for name in names]
    assert len(names) == len(set(names)), command


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (("--seed", "1", "--seed=2"), "--seed is given twice behind --"),
        (("--structured-outputs-config", '{"backend": "xgrammar"}'), "the run's grammars are llguidance's"),
        (("--structured-outputs-config.backend", "xgrammar"), "the run's grammars are llguidance's"),
        (("--no-enable-lora",), "--enable-lora is set by nertune"),
        (("--served_model_name=x",), "--served-model-name is set by nertune"),
    ],
    ids=str,
)
def test_arguments_that_contradict_the_run_are_refused(run, extra, said):
    with pytest.raises(InputError, match=said):
        plan_vllm([str(run)], VllmSettings(extra=extra), dry=True)


def test_the_base_model_has_the_name_that_is_asked_for(run, capsys):
    named = ["serve", str(run), "--engine", "vllm", "--dry-run", "--served-model-name"]
    assert main([*named, "Qwen/Qwen2.5-7B-Instruct"]) == 0
    assert "--served-model-name Qwen/Qwen2.5-7B-Instruct --host" in capsys.readouterr().out
    assert main([*named, "ner"]) == 2
    assert "--served-model-name ner: a run is called so" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([*named, "a b"])
    assert "'a b' is no name of a model" in capsys.readouterr().err


def test_long_rows_get_a_longer_context_within_the_models_own(run, base):
    change(run / "nertune.json", max_tokens=700)
    assert value_of(plan_vllm([str(run)], VllmSettings(), dry=True).command, "--max-model-len") == "1408"
    change(run / "nertune.json", max_tokens=5000)
    assert value_of(plan_vllm([str(run)], VllmSettings(), dry=True).command, "--max-model-len") == "2048"


def test_a_base_without_turns_of_its_own_gets_nertunes(run, base, tmp_path, monkeypatch):
    monkeypatch.setenv("NERTUNE_CACHE", str(tmp_path / "cache"))
    other = Path(shutil.copytree(base, tmp_path / "other"))
    for path in (other / "chat_template.jinja", other / "chat_template.json"):
        path.unlink(missing_ok=True)
    config = json.loads((other / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (other / "tokenizer_config.json").write_text(json.dumps(config))
    change(run / "nertune.json", base_model=str(other))
    path = Path(value_of(plan_vllm([str(run)], VllmSettings(), dry=True).command, "--chat-template"))
    assert "### Assistant" in path.read_text(encoding="utf-8")


def test_a_whole_model_is_served_by_itself(recipe):
    folder = train(recipe("whole", method="full", lora=None, training=SHORT)).folder
    command = plan_vllm([str(folder)], VllmSettings(), dry=True).command
    assert (value_of(command, "--served-model-name"), "--enable-lora" in command) == ("whole", False)
    assert str(folder.resolve()) in command
    plan = plan_vllm([str(folder)], VllmSettings(served_name="Org/x"), dry=True)
    assert (value_of(plan.command, "--served-model-name"), plan.runs[0].name) == ("Org/x", "Org/x")


@pytest.mark.parametrize(
    ("manifest", "config", "said"),
    [
        ({}, {"use_dora": True}, "DoRA"),
        ({}, {"modules_to_save": ["lm_head"]}, "modules_to_save: lm_head"),
        ({}, {"bias": "all"}, "biases"),
        ({}, {"lora_bias": True}, "biases"),
        ({}, {"trainable_token_indices": {"embed_tokens": [3]}}, "trainable_token_indices"),
        ({"tokens": ["<ent>"]}, {}, "tokens were added to its vocabulary"),
        ({"quantize": "4bit"}, {}, "4-bit weights"),
    ],
    ids=str,
)
def test_what_vllm_would_refuse_is_refused_before_with_the_way_out(run, manifest, config, said):
    change(run / "nertune.json", **manifest)
    change(run / "adapter_config.json", **config)
    with pytest.raises(InputError, match=said) as refused:
        plan_vllm([str(run)], VllmSettings(), dry=True)
    assert f"nertune export {run} merged {run}-merged" in str(refused.value)


def test_a_rank_above_vllms_is_refused(recipe):
    folder = train(recipe("wide", training=SHORT, lora={"rank": 520, "targets": ["q_proj"]})).folder
    with pytest.raises(InputError, match="its rank is 520, and vLLM takes 512 at most"):
        open_run(folder)


def test_a_name_that_could_not_be_asked_for_is_refused(run):
    for name in ("base", "a b", "x#y", "a=b"):
        with pytest.raises(InputError, match="cannot be called"):
            open_run(run, name)


def test_the_dry_run_prints_the_command_quoted_and_starts_nothing(run, fake_vllm, capsys):
    command = ["serve", str(run), "--engine", "vllm", "--vllm-python", str(fake_vllm), "--dry-run"]
    assert main([*command, "--", "--seed", "a b"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"'{fake_vllm}' -m vllm.entrypoints.openai.api_server")
    assert said.endswith("--seed 'a b'\n")
    assert "--port 8000 " in said
    assert main([*command, "--vllm-port", "9001"]) == 0
    assert "--port 9001 " in capsys.readouterr().out
    assert not (fake_vllm.parent / "told.json").exists()


def test_vllm_is_found_or_its_lines_to_type_are_given(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no such program"):
        find_vllm(str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="vllm-env/bin/pip install vllm"):
        find_vllm()
    (tmp_path / "vllm").write_text("#!/bin/sh\n")
    (tmp_path / "vllm").chmod(0o755)
    assert find_vllm() == [str(tmp_path / "vllm"), "serve"]


# ---- Its life


def started(run, python, port, log, **options) -> int:
    """The command with vLLM at `port`, the gateway at any."""
    given = {"say": str, "minutes": 1, **options}
    settings = VllmSettings(port=port), Settings(port=0), GatewaySettings()
    return serve_vllm([str(run)], *settings, python=str(python), log=log, **given)


def test_it_is_awaited_compared_and_ended_with_its_children(run, fake_vllm, port, tmp_path, monkeypatch):
    monkeypatch.setenv("NERTUNE_API_KEY", "sk-secret")
    compared, keys = [], []

    def parity(folder, address, documents, *, key, **options):
        compared.append((folder, address, [document.text for document in documents]))
        keys.append(key)
        raise KeyboardInterrupt

    monkeypatch.setattr("nertune.parity.parity", parity)
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        started(run, fake_vllm, port, tmp_path / "logs" / "vllm.log", compare_on=["方鹏去杭州"], say=said.append)
    told = json.loads((fake_vllm.parent / "told.json").read_text())
    assert compared == [(run, f"http://127.0.0.1:{port}/v1#ner", ["方鹏去杭州"])]
    assert any(line.startswith("vLLM is ready: ner") for line in said)
    assert len(keys[0]) > 32  # made for this vLLM alone: whoever has ours does not get around the gateway
    assert told["env"] == {
        "VLLM_API_KEY": keys[0],
        "NERTUNE_API_KEY": None,
        "PYTHONPATH": None,
        "HF_HUB_OFFLINE": "1",
    }
    assert not any(key in " ".join([*told["argv"], *said]) for key in ("sk-secret", keys[0]))
    ended(told)
    assert "loading 漢" in (tmp_path / "logs" / "vllm.log").read_text(encoding="utf-8")


def test_what_the_comparison_found_is_said(run, fake_vllm, port, tmp_path, monkeypatch):
    found = iter([Parity(1, "ids"), InputError("the model differs")])

    def parity(*_, **__):
        answer = next(found)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("nertune.parity.parity", parity)
    said: list[str] = []
    plan = plan_vllm([str(run)], VllmSettings(port=port), python=str(fake_vllm))
    assert vllm_serving.compare_served(plan, ["天晴"], say=said.append)
    assert said[-1] == "ner: equal"
    assert not vllm_serving.compare_served(plan, ["天晴"], say=said.append)
    assert said[-1] == "ner: not compared with the run: the model differs"


def test_without_a_file_only_the_prompts_are_compared(run, fake_vllm, port, tmp_path, monkeypatch):
    asked = []

    def compared(served, texts):
        asked.append((served.engine.endpoint.model, list(texts)))
        return Parity(1, "ids", compared=("prompt",))

    def ended(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("nertune.parity.compare_prompts", compared)
    monkeypatch.setattr("nertune.parity.parity", lambda *_, **__: pytest.fail("a second model"))
    monkeypatch.setattr("nertune.vllm_serving.open_gateway", ended)
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        started(run, fake_vllm, port, tmp_path / "vllm.log", prompts_of=["方鹏去杭州"], say=said.append)
    assert asked == [("ner", ["方鹏去杭州"])]
    assert said[-2:] == ["ner: prompts:  1 equal, 0 differ", "vLLM reads the run's own prompts"]


def test_a_server_that_fails_shows_its_last_lines(run, fake_vllm, port, tmp_path):
    (fake_vllm.parent / "fails").touch()
    with pytest.raises(
        EndpointError, match=r"exit code 1 before it was ready; its last lines \(.*vllm.log\):\n(.*\n)*.*no room"
    ):
        started(run, fake_vllm, port, tmp_path / "vllm.log")


def test_a_server_that_hangs_is_ended_in_time(run, fake_vllm, port, tmp_path):
    (fake_vllm.parent / "hangs").touch()
    with pytest.raises(EndpointError, match=r"not ready after 0\.02 minutes"):
        started(run, fake_vllm, port, tmp_path / "l.log", minutes=0.02)
    told = json.loads((fake_vllm.parent / "told.json").read_text())
    ended(told)


def test_a_program_that_cannot_be_run_is_one_error(tmp_path):
    server = LaunchedServer(
        [str(tmp_path / "none")], health="http://127.0.0.1:1/health", environment={}, log=tmp_path / "log"
    )
    with pytest.raises(InputError, match="none cannot be run: No such file"), server:
        pass


@contextmanager
def command(run, fake_vllm, port, tmp_path, *more: str) -> Iterator[tuple[subprocess.Popen, httpx.Client]]:
    """`nertune serve` in a process of its own, and a client of it with the key."""
    environment = {**os.environ, "NERTUNE_API_KEY": KEY, "NERTUNE_CACHE": str(tmp_path / "cache")}
    arguments = [sys.executable, "-m", "nertune", "serve", str(run), "--engine", "vllm", "--port", "0", *more]
    arguments += ["--vllm-python", str(fake_vllm), "--vllm-port", str(port)]
    with subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            lines = iter(process.stderr.readline, "")
            url = next(line for line in lines if "serving ner, base at" in line).split()[-1]
            with httpx.Client(trust_env=False, headers={"Authorization": f"Bearer {KEY}"}, timeout=30) as client:
                client.base_url = url.removesuffix("/v1")
                yield process, client
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize(("sign", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_command_serves_and_a_signal_ends_vllm_with_us(run, fake_vllm, port, tmp_path, sign, code):
    with command(run, fake_vllm, port, tmp_path) as (process, client):
        told = json.loads((fake_vllm.parent / "told.json").read_text())
        assert client.get("/health").json()["status"] == "ok"
        assert client.post("/v1/extract", json={"text": "方鹏"}).json()["text"] == "方鹏"
        assert "nertune_engine_answers_total 1.0" in client.get("/metrics").text
        assert httpx.get(f"{client.base_url}/v1/models", trust_env=False).status_code == 401
        behind = f"http://127.0.0.1:{port}/v1/models"
        assert httpx.get(behind, headers={"Authorization": f"Bearer {KEY}"}, trust_env=False).status_code == 401
        process.send_signal(sign)
        assert process.wait(30) == code
    ended(told)


@pytest.mark.slow
def test_when_vllm_ends_so_do_we_and_say_why(run, fake_vllm, port, tmp_path):
    with command(run, fake_vllm, port, tmp_path) as (process, client):
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://127.0.0.1:{port}/end", trust_env=False)
        with suppress(httpx.ConnectError):  # we have gone already
            assert client.post("/v1/extract", json={"text": "方鹏"}).status_code in (502, 503)
        said = process.stderr.read()
        assert process.wait(30) == 1
    assert "the server ended with exit code 7; its last lines" in said
    assert "out of memory" in said


def ended(told) -> None:
    deadline = time.monotonic() + 5
    while not (gone(told["pid"]) and gone(told["child"])) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert gone(told["pid"])
    assert gone(told["child"])


# ---- The command line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{run}", "--dry-run"], "--dry-run: means nothing with the local engine. --engine vllm knows"),
        (["{run}", "--", "--seed", "3"], "arguments after --: means nothing with the local engine"),
        (["{run}", "--vllm-port", "9", "--vllm-python", "p"], "--vllm-python, --vllm-port: mean nothing"),
        (["{run}", "--run", "{run}"], "--run: means nothing with the local engine"),
        (["http://127.0.0.1:9/v1", "--run", "{run}", "--served-model-name", "x"], "--served-model-name: means nothing"),
        (["{run}", "--served-model-name", "ner"], "--served-model-name ner: a run is called so"),
        (["{run}", "--concurrency", "3"], "--concurrency: means nothing with the local engine"),
        (["{run}", "--engine", "vllm", "--batch-size", "3"], "--batch-size: means nothing with --engine vllm"),
        (["{run}", "--engine", "vllm", "--max-tokens", "3"], "--max-tokens: means nothing with --engine vllm"),
        (["{run}", "--engine", "vllm", "--device", "cpu"], "--device: means nothing with --engine vllm"),
        (["{run}", "--engine", "vllm", "--dry-run", "--", "--port", "1"], "--port is set by nertune"),
        (["{run}", "--engine", "vllm", "--vllm-port", "8000"], "is the gateway's own --port"),
        (["http://127.0.0.1:9/v1"], "with --run RUN, the run that it has"),
        (["http://127.0.0.1:9/v1", "{run}", "--run", "{run}"], "a server is served alone"),
        (["http://127.0.0.1:9/v1", "--run", "{run}", "--engine", "vllm"], "without --engine"),
        (["http://127.0.0.1:9/v1", "--run", "{run}", "--dry-run"], "--dry-run: means nothing with a server that runs"),
        (["http://127.0.0.1:9/v1", "--run", "{run}", "--port", "0"], "cannot be reached"),
    ],
    ids=str,
)
def test_combinations_that_mean_nothing_are_refused(run, capsys, arguments, said):
    assert main(["serve", *(argument.format(run=run) for argument in arguments)]) in (1, 2)
    assert said in capsys.readouterr().err
