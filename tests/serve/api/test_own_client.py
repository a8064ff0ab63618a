"""nertune's own commands and engine against nertune's own server: prompts as ids, grammars, scores, parity."""

from __future__ import annotations

import json

import pytest

from nertune import data, load
from nertune.assemble import connect
from nertune.cli import main
from nertune.generate import Request
from nertune.generate.endpoint import Endpoint
from nertune.generate.remote import RemoteEngine, grammar_for_vllm
from nertune.schema import Document

TEXTS = ["叶老桂来自杭州。", "他说<|im_end|>了", "A.B.来自x", "没有\x00"]


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    for name in ("NERTUNE_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_a_run_read_through_the_server_is_the_run_read_here(tiny, tiny_run):
    here, there = load(tiny_run), connect(f"{tiny.url}/v1#tiny", run=tiny_run)
    for mine, other in zip(here.extract_many(TEXTS), there.extract_many(TEXTS), strict=True):
        assert other == mine
        assert [e.score for e in other.entities] == pytest.approx([e.score for e in mine.entities], abs=1e-5)
    assert there.window == here.window


def test_the_commands_extract_and_parity(tiny, tiny_run, tmp_path, capsys):
    url = f"{tiny.url}/v1#tiny"
    assert main(["extract", url, "--run", str(tiny_run), "--text", TEXTS[0]]) == 0
    row = json.loads(capsys.readouterr().out)
    mine = load(tiny_run).extract(TEXTS[0]).entities
    assert [(e["label"], e["start"], e["end"]) for e in row["entities"]] == [(e.label, e.start, e.end) for e in mine]
    path = tmp_path / "texts.jsonl"
    data.write([Document(text) for text in TEXTS[:3]], path, format="entities")
    code = main(["parity", str(tiny_run), url, "--data", str(path), "--max-new-tokens", "30", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["partings"] == []
    assert (code, found["equal"], found["prompts_by"], found["documents"]) == (0, True, "ids", 3)


def test_a_grammar_as_vllm_is_sent_it_is_understood_too(tiny, tiny_run):
    here = load(tiny_run)
    [request] = here.prepare([TEXTS[0]]).requests
    [mine] = here.engine.generate([request])
    endpoint = Endpoint(f"{tiny.url}/v1#tiny")
    assert endpoint.own
    body = {
        "model": "tiny",
        "prompt": request.prompt_ids,
        "max_tokens": request.max_new_tokens,
        "stop_token_ids": sorted(request.stop_ids),
        "return_token_ids": True,
        "structured_outputs": {"grammar": grammar_for_vllm(request.grammar, request.stop_ids)},
    }
    [choice] = tiny.http.post("/v1/completions", json=body).json()["choices"]
    assert choice["token_ids"] == list(mine.ids)
    assert choice["finish_reason"] == ("stop" if mine.stop == "end" else "length")


def test_a_grammar_that_cannot_be_used_ends_the_command_with_one_message(tiny):
    engine = RemoteEngine(Endpoint(f"{tiny.url}/v1#tiny", retries=0))
    with pytest.raises(Exception, match="--unconstrained leaves the model free"):
        engine.generate([Request((5,), frozenset({1}), 4, grammar="start: (")])


def test_completions_of_text_and_of_ids_with_logprobs(saying, renderer):
    served = saying(lambda prompt: "龘𠮷州。")
    ids = renderer.answer_ids("叶老桂来自")
    for prompt in ("叶老桂来自", ids):
        found = served.client.completions.create(model="base", prompt=prompt, max_tokens=99, logprobs=1)
        [choice] = found.choices
        assert (choice.text, choice.finish_reason) == ("龘𠮷州。", "stop")
        tokens = renderer.answer_ids("龘𠮷州。")
        assert choice.logprobs.token_logprobs == [-0.25] * len(tokens)
        assert choice.logprobs.text_offset == [start for start, _ in renderer.token_places(tokens)]
        stream = served.client.completions.create(model="base", prompt=prompt, max_tokens=99, logprobs=1, stream=True)
        told = [chunk.choices[0].logprobs for chunk in stream if chunk.choices and chunk.choices[0].logprobs]
        assert [offset for part in told for offset in part.text_offset] == choice.logprobs.text_offset
        assert list(served.stepping.requests[-1].prompt_ids) == ids
        assert found.usage.completion_tokens == len(tokens) + 1
    stream = served.client.completions.create(
        model="base", prompt=ids, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "龘𠮷州。"
    assert chunks[-1].usage.completion_tokens == len(tokens) + 1
    for change, message in (
        ({"prompt": []}, "prompt: "),
        ({"prompt": ""}, "prompt: it is empty"),
        ({"prompt": [10**6]}, "prompt: token ids"),
        ({"logprobs": 5}, "logprobs: at most 1"),
        ({"prompt": ["a", "b"]}, "prompt.0: one prompt a request"),
    ):
        answer = served.http.post("/v1/completions", json={"model": "base", "prompt": "a", **change})
        assert answer.status_code == 400
        assert answer.json()["error"]["message"].startswith(message)


@pytest.mark.parametrize("stream", [False, True])
def test_the_log_is_told_how_many_tokens(saying, renderer, monkeypatch, stream):
    noted: dict[str, object] = {}
    monkeypatch.setattr("nertune.serve.completions.note", lambda scope, **fields: noted.update(fields))
    found = saying(lambda prompt: "杭州。").client.completions.create(model="base", prompt="叶老桂", stream=stream)
    assert list(found)
    answer = len(renderer.answer_ids("杭州。")) + 1
    prompt = len(renderer.answer_ids("叶老桂"))
    assert (noted["prompt_tokens"], noted["completion_tokens"]) == (prompt, answer)


def test_tokenize(saying, renderer):
    served = saying(lambda prompt: "")
    messages = [{"role": "system", "content": "专家"}, {"role": "user", "content": "句：<|im_end|>"}]
    found = served.http.post("/tokenize", json={"model": "ner", "messages": messages}).json()
    ids = renderer.prompt_ids("<|im_end|>")
    assert found == {"count": len(ids), "max_model_len": 2048, "tokens": ids}
    text = served.http.post("/tokenize", json={"prompt": "叶老桂"}).json()
    assert text["tokens"] == renderer.answer_ids("叶老桂")
    assert served.http.post("/tokenize", json={}).status_code == 400
