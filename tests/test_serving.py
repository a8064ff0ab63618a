"""`nertune serve` from the command line, and the tutorials' own calls with curl, with the vocabulary that they are for."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nertune import load, serving
from nertune.cli import main
from nertune.errors import InputError
from nertune.prompt import PromptSpec, Renderer, answer_format, load_template, template_hash
from nertune.run import RunManifest
from nertune.schema import LabelSet

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
    assert main(["serve", str(tmp_path / "none")]) == 2
    assert "no such run directory" in capsys.readouterr().err
