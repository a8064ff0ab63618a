"""`nertune serve` from the command line, and the tutorials' own calls with curl, with the vocabulary that they are for."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from nertune import load, serving
from nertune.cli import main
from nertune.errors import InputError
from nertune.prompt import PromptSpec, Renderer, answer_format, load_template, template_hash
from nertune.run import RunManifest
from nertune.schema import LabelSet

pytestmark = pytest.mark.engine

SENTENCE = "现在的阿森纳恐怕不能再给人以强队的信心，但教授的神经也真是够硬，在英超夺冠几无希望的情况下，"
LABELS = LabelSet(("organization", "position", "name"))


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_model, family_of) -> Path:
    """A run of the tutorial's prompt and answers, with the real vocabulary of Qwen2 and tiny weights; all were trained."""
    tokenizer = family_of("qwen2").tokenizer
    folder = tmp_path_factory.mktemp("runs") / "clue-ner"
    tokenizer.save_pretrained(folder)
    tiny_model("qwen2", vocab_size=len(tokenizer), max_position_embeddings=2048).save_pretrained(folder)
    spec = PromptSpec(load_template("cluener"), LABELS, answer_format("json"))
    stop_ids = tuple(Renderer(tokenizer, spec).stop_ids)
    RunManifest("Qwen/Qwen2.5-7B-Instruct", spec, template_hash(tokenizer), stop_ids, 1024, kind="model").write(folder)
    return folder


@pytest.fixture(scope="module")
def server(run, listening) -> Iterator[str]:
    """The address of a server of the run."""
    service = serving.open_service(serving.load_runs({"clue-ner-lora-sft-peft": run}))
    with listening(service.app) as url:
        yield url
    service.loop.close(finish=False)


def curl(*arguments: str) -> dict:
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    done = subprocess.run(["curl", "-sS", *arguments], capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_tutorials_call_with_the_prompt_by_hand(server, run):
    local = load(run, constrained=False, max_new_tokens=40)
    (_, system), (_, user) = local.renderer.messages(SENTENCE)
    body = {
        "model": "clue-ner-lora-sft-peft",
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": user}],
        "temperature": 0.01,
        "max_tokens": 40,
    }
    url = f"{server}/v1/chat/completions"
    answer = curl(url, "-H", "Content-Type: application/json", "-d", json.dumps(body, ensure_ascii=False))
    [mine] = local.engine.generate(local.prepare([SENTENCE]).requests)
    assert answer["choices"][0]["message"]["content"] == local.renderer.tokenizer.decode(
        mine.ids, skip_special_tokens=True
    )
    assert answer["usage"]["prompt_tokens"] == len(local.renderer.prompt_ids(SENTENCE))


@pytest.mark.slow
def test_the_bare_sentence(server, run):
    answer = curl(f"{server}/v1/extract", "-H", "Content-Type: application/json", "-d", json.dumps({"text": SENTENCE}))
    mine = load(run).extract(SENTENCE).to_json()
    assert [(e["label"], e["start"]) for e in answer["entities"]] == [
        (e["label"], e["start"]) for e in mine["entities"]
    ]
    assert answer["stop"] == mine["stop"]
    listed = curl(f"{server}/v1/models")
    assert [(row["id"], row["owned_by"]) for row in listed["data"]] == [("clue-ner-lora-sft-peft", "nertune")]


@pytest.mark.slow
def test_the_command_serves_until_it_is_told_to_stop(run):
    """In a process of its own: it says where, wants the key, tells its figures, and ends with 0."""
    environment = {**os.environ, "NERTUNE_API_KEY": "0123456789abcdef0123456789abcdef"}
    command = [sys.executable, "-m", "nertune", "serve", f"ner={run}", "--port", "0", "--queue", "5"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            lines = iter(server.stderr.readline, "")
            url = next(line for line in lines if "serving ner at" in line).split()[-1]
            assert "/v1/extract" in next(lines)
            key = {"Authorization": f"Bearer {environment['NERTUNE_API_KEY']}"}
            assert httpx.get(f"{url}/models", trust_env=False).status_code == 401
            found = httpx.post(f"{url}/extract", json={"text": "方鹏"}, headers=key, timeout=60, trust_env=False)
            assert found.json()["text"] == "方鹏"
            figures = httpx.get(f"{url.removesuffix('/v1')}/metrics", headers=key, trust_env=False).text
            assert "nertune_engine_up 1.0" in figures
            assert "nertune_engine_requests_capacity 5.0" in figures
        finally:
            server.send_signal(signal.SIGTERM)
            rest = server.stderr.read()
        assert server.wait(60) == 0
    requests = [json.loads(line) for line in rest.splitlines() if line.startswith("{") and '"request"' in line]
    extracted = next(row for row in requests if row["path"] == "/v1/extract")
    assert (extracted["model"], extracted["texts"], extracted["status"]) == ("ner", 1, 200)
    assert "方鹏" not in rest.encode().decode("unicode_escape")


def test_an_address_beyond_this_machine_wants_a_key_before_anything_is_loaded(run, capsys, monkeypatch):
    monkeypatch.delenv("NERTUNE_API_KEY", raising=False)
    monkeypatch.setattr("nertune.serving.load_runs", lambda *_, **__: pytest.fail("loaded"))
    assert main(["serve", str(run), "--host", "0.0.0.0", "--port", "0"]) == 2
    assert "--api-key-file" in capsys.readouterr().err


def test_names_of_runs(tmp_path):
    run = tmp_path / "runs" / "ner"
    run.mkdir(parents=True)
    assert serving.names_of([str(run), f"b={run}"]) == {"ner": run, "b": run}
    for given, message in (
        ([str(run), str(run)], "two runs are called 'ner'"),
        (["=x"], "NAME=RUN"),
        (["b="], "NAME=RUN"),
    ):
        with pytest.raises(InputError, match=message):
            serving.names_of(given)


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    assert main(["serve", str(tmp_path / "none"), "--port", "0"]) == 2
    assert "no such run directory" in capsys.readouterr().err
