"""The remote engine and a real client of OpenAI's, against a server on the loopback that does what a test wants."""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import replace

import pytest

from nertune import connect, load
from nertune.cli import main
from nertune.errors import EndpointError, InputError, MissingExtraError, UnknownModelError
from nertune.extract import Recognizer
from nertune.generate import Completion, Request
from nertune.generate.endpoint import Endpoint, is_endpoint
from nertune.generate.remote import RemoteEngine, grammar_for_vllm
from nertune.models import load_tokenizer
from nertune.prompt import PromptSpec, PromptTemplate, Renderer, answer_format, template_hash
from nertune.run import RunManifest
from nertune.schema import LabelSet, ParseOutcome

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
LABELS = LabelSet(("name", "address"))
REQUEST = Request((5, 6, 7), frozenset({1, 106}), 20, messages=(("system", "专家"), ("user", "杭州")))


@pytest.fixture
def slept(monkeypatch) -> list[float]:
    """How long anybody wanted to sleep; nobody does."""
    seconds: list[float] = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


@pytest.fixture
def vllm(served, fake):
    """A vLLM that answers the prompt's last token, then 9, then the end of the turn."""
    return served({COMPLETIONS: lambda body: fake.completion([body["prompt"][-1], 9, 106])})


@pytest.fixture
def plain(served, fake):
    """A server of another kind that answers an empty list."""
    return served({CHAT: lambda body: fake.chat("[]")}, models=("qwen3:4b",), owner="library")


def engine(server, *, concurrency: int = 4, token_ids: bool = True, **options) -> RemoteEngine:
    return RemoteEngine(Endpoint(server.url, **options), concurrency=concurrency, token_ids=token_ids)


def spec(answer: str = "inline") -> PromptSpec:
    return PromptSpec(PromptTemplate("找出{labels}：{text}", "专家"), LABELS, answer_format(answer))


def test_vllm_gets_the_prompt_as_token_ids_and_gives_ids_and_probabilities(vllm):
    answer = engine(vllm).generate([REQUEST])
    assert answer == [Completion((7, 9), "end")]
    assert answer[0].logprobs == (-0.5, -0.5, -0.5)
    (asked,) = vllm.posts()
    assert (asked.path, asked.body["model"], asked.body["prompt"]) == (COMPLETIONS, "ner", [5, 6, 7])
    assert (asked.body["max_tokens"], asked.body["temperature"], asked.body["stop_token_ids"]) == (20, 0, [1, 106])
    assert asked.body["repetition_penalty"] == 1  # a model's own settings for conversation would change a greedy answer
    assert "structured_outputs" not in asked.body


def test_an_answer_that_was_cut_off_says_so(vllm, fake):
    vllm.answers[COMPLETIONS] = lambda body: fake.completion([7, 9], finish="length")
    assert engine(vllm).generate([REQUEST]) == [Completion((7, 9), "length")]


def test_a_vllm_without_token_ids_is_read_as_text(vllm, fake):
    vllm.answers[COMPLETIONS] = lambda body: (
        fake.completion([], text="[杭州 | address]")
        | {"choices": [{"index": 0, "text": "[杭州 | address]", "finish_reason": "stop", "logprobs": None}]}
    )
    assert engine(vllm).generate([REQUEST]) == [Completion((), "end", text="[杭州 | address]")]


@pytest.mark.parametrize("name", ["qwen3", "gemma-3"])
def test_the_grammar_for_vllm_ends_with_any_stop_token(family_of, name, vllm):
    llguidance = pytest.importorskip("llguidance")
    from llguidance.hf import from_tokenizer

    renderer = Renderer(family_of(name).tokenizer, spec())
    Recognizer(renderer, engine(vllm), constrained=True).extract("在杭州")
    grammar = vllm.posts()[0].body["structured_outputs"]["grammar"]
    assert grammar == grammar_for_vllm(renderer.grammar("在杭州"), renderer.stop_ids)
    assert grammar.startswith("%llguidance")
    tokenizer = from_tokenizer(family_of(name).tokenizer)
    compiled = llguidance.grammar_from("grammar", grammar)
    assert not llguidance.LLMatcher.validate_grammar(compiled, tokenizer)
    answer = renderer.answer_ids("在[杭州 | address]")
    for stop in renderer.stop_ids:
        assert llguidance.LLMatcher(tokenizer, compiled).validate_tokens([*answer, stop]) == len(answer) + 1
    wrong = [*renderer.answer_ids("在[杭 | address]"), renderer.tail_ids[0]]
    assert llguidance.LLMatcher(tokenizer, compiled).validate_tokens(wrong) < len(wrong)


def test_a_vllm_that_knows_no_structured_outputs_is_not_sent_any(vllm, fake):
    vllm.version = fake.Trouble(200, {"version": "0.10.1"})
    ask = engine(vllm)
    with pytest.raises(EndpointError, match=r"0\.11 or newer") as refused:
        ask.generate([Request((5,), frozenset({1}), 3, grammar="start: /a/")])
    assert refused.value.exit_code == 2
    assert not vllm.posts()
    assert ask.generate([REQUEST])


def test_other_servers_get_messages_and_give_text(plain):
    assert engine(plain).generate([REQUEST]) == [Completion((), "end", text="[]")]
    (asked,) = plain.posts()
    assert asked.path == CHAT
    assert asked.body == {
        "model": "qwen3:4b",
        "messages": [{"role": "system", "content": "专家"}, {"role": "user", "content": "杭州"}],
        "temperature": 0,
        "max_tokens": 20,
    }


SCHEMA = {"type": "array", "items": {"type": "string"}}


def test_a_schema_goes_to_other_servers_as_it_is_for_a_model_trained_on_it(plain):
    request = Request((5,), frozenset({1}), 3, messages=REQUEST.messages, schema=SCHEMA, grammar="start: /a/")
    engine(plain).generate([request])
    assert plain.posts()[0].body["response_format"]["json_schema"]["schema"] == SCHEMA
    assert "structured_outputs" not in plain.posts()[0].body


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("json", '{"entities": [{"label": "address", "text": "杭州"}]}'),
        ("grouped", '{"name": [], "address": ["杭州"]}'),
    ],
)
def test_any_other_model_is_asked_for_an_object_with_every_key_required(plain, fake, answer, said):
    """What OpenAI's strict mode takes; a list is taken out of its object again."""
    plain.answers[CHAT] = lambda body: fake.chat(said)
    prediction = connect(plain.url, prompt=spec(answer)).extract("在杭州")
    assert [(e.label, e.text) for e in prediction.entities] == [("address", "杭州")]
    assert prediction.outcome is ParseOutcome.CLEAN
    schema = plain.posts()[0].body["response_format"]["json_schema"]["schema"]
    assert schema["type"] == "object"
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        assert "minLength" not in part
        if part["type"] == "object":
            assert part["required"] == list(part["properties"])
            assert part["additionalProperties"] is False
        waiting += [*part.get("properties", {}).values(), *([part["items"]] if "items" in part else [])]


def test_formats_that_are_no_json_leave_other_servers_free(plain, fake):
    plain.answers[CHAT] = lambda body: fake.chat("在[杭州 | address]")
    assert connect(plain.url, prompt=spec("inline")).extract("在杭州").entities
    assert "response_format" not in plain.posts()[0].body


@pytest.mark.parametrize(
    ("content", "text"), [("<think>\n嗯\n</think>\n[]", "[]"), (None, ""), ("没有<think>", "没有<think>")]
)
def test_thoughts_and_silence(plain, fake, content, text):
    plain.answers[CHAT] = lambda body: fake.chat(content)
    assert engine(plain).generate([REQUEST])[0].text == text


def test_the_order_of_the_requests_is_kept_and_no_more_are_under_way_than_allowed(vllm, fake):
    together = threading.Barrier(3)

    def answer(body):
        together.wait(10)  # three at a time, or it breaks
        return fake.completion([body["prompt"][-1], 106])

    vllm.answers[COMPLETIONS] = answer
    told: list[int] = []
    requests = [Request((5, number), frozenset({106}), 9) for number in range(12)]
    answers = engine(vllm, concurrency=3).generate(requests, done=told.append)
    assert [answer.ids for answer in answers] == [(number,) for number in range(12)]
    assert told == list(range(1, 13))
    assert vllm.most_at_once == 3


def test_what_may_pass_is_tried_again(vllm, fake, slept):
    vllm.troubles = [
        fake.Trouble(429, {}, {"Retry-After": "7"}),
        fake.Trouble(500, {}),
        fake.DROP,
        fake.Trouble(503, {}),
    ]
    assert engine(vllm).generate([REQUEST]) == [Completion((7, 9), "end")]
    assert len(vllm.posts()) == 5
    assert slept[0] == 7  # what Retry-After asks for
    for nth, seconds in enumerate(slept[1:], 1):  # then twice as long each time, less a quarter at most
        assert 0.75 * 0.5 * 2**nth <= seconds <= 0.5 * 2**nth


def test_a_server_that_keeps_failing_is_one_error_and_ends_the_rest(vllm, fake, slept):
    vllm.troubles = [fake.Trouble(500, {"error": {"message": "EngineDeadError"}})] * 1000
    with pytest.raises(EndpointError, match=r"failed 3 times, at last with status 500.*EngineDeadError") as failed:
        engine(vllm, concurrency=2, retries=2).generate([REQUEST] * 50)
    assert failed.value.exit_code == 1
    assert len(vllm.posts()) <= 3 * 3


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("HANG", r"no answer within 0\.2 s in 1 tries.*--timeout"),
        ("DROP", "cannot be reached"),
        ('{"choices": [', "cannot be read"),
        ("{}", "no completion"),
        ('{"choices": []}', "no completion"),
        ("<html>login</html>", "no completion"),
    ],
)
def test_servers_that_answer_nothing_of_use(vllm, fake, trouble, message):
    vllm.troubles = [getattr(fake, trouble) if trouble.isupper() else fake.Trouble(200, trouble)]
    with pytest.raises(EndpointError, match=message) as failed:
        engine(vllm, timeout=0.2, retries=0).generate([REQUEST])
    assert failed.value.exit_code == 1
    assert str(failed.value).startswith(vllm.url)


def test_too_many_requests_for_ever(vllm, fake, slept):
    vllm.troubles = [fake.Trouble(429, {})] * 9
    with pytest.raises(EndpointError, match="--requests-per-minute"):
        engine(vllm, retries=2).generate([REQUEST])


@pytest.mark.parametrize(("name", "said"), [("NERTUNE_API_KEY", "refuses the key in NERTUNE"), (None, "wants a key")])
def test_a_key_that_is_refused(vllm, fake, monkeypatch, name, said):
    monkeypatch.setenv("OPENAI_API_KEY", "") if name is None else monkeypatch.setenv(name, "sk-secret")
    vllm.listed = fake.Trouble(401, {"error": {"message": "bad key sk-secret"}})
    with pytest.raises(EndpointError, match=f"{said}.*Set NERTUNE_API_KEY or OPENAI_API_KEY") as refused:
        engine(vllm)
    assert refused.value.exit_code == 2
    assert "secret" not in str(refused.value)


def test_nertunes_own_key_comes_first_and_no_message_holds_it(vllm, fake, monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    monkeypatch.setenv("NERTUNE_API_KEY", "sk-secret")
    vllm.troubles = [fake.Trouble(400, {"error": {"message": "header Bearer sk-secret is odd"}})]
    with caplog.at_level("DEBUG"), pytest.raises(EndpointError, match="is odd") as refused:
        engine(vllm).generate([REQUEST])
    assert {asked.headers["authorization"] for asked in vllm.asked} == {"Bearer sk-secret"}
    assert "secret" not in str(refused.value) + caplog.text


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("#nre", r"no model 'nre' there; did you mean 'ner'\? It serves: base, ner"),
        ("", r"which model\?.*#NAME\. It serves: base, ner"),
        ("#NER-large-of-mine", r"no model 'NER-large-of-mine' there\. It serves: base, ner"),
    ],
)
def test_models_that_are_not_served_or_not_named(served, address, message):
    server = served({}, models=("base", "ner"))
    with pytest.raises(UnknownModelError, match=message):
        Endpoint(server.url + address)


def test_the_only_model_need_not_be_named(plain):
    assert Endpoint(plain.url).model == "qwen3:4b"
    assert Endpoint(plain.url + "/#qwen3:4b").vllm is None


def test_a_server_that_lists_no_models_is_believed(plain, fake):
    plain.listed = fake.Trouble(404, {})
    assert Endpoint(plain.url + "#any").model == "any"
    with pytest.raises(EndpointError, match="no such page"):
        Endpoint(plain.url)


def test_an_address_without_its_end_is_told_the_right_one(vllm):
    with pytest.raises(EndpointError, match=f"there is one at {vllm.url}") as wrong:
        Endpoint(vllm.root + "#ner")
    assert wrong.value.exit_code == 2


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ((302, {}, {"location": "http://elsewhere.invalid/v1"}), "leads on to 'http://elsewhere.invalid/v1'"),
        ((200, "<html>welcome</html>", {}), "no OpenAI-compatible API.*ends in /v1"),
        ((200, "[1]", {}), "no OpenAI-compatible API"),
    ],
)
def test_addresses_of_something_else(vllm, fake, listed, message):
    vllm.listed = fake.Trouble(*listed)
    with pytest.raises(EndpointError, match=message) as wrong:
        Endpoint(vllm.url + "#ner")
    assert wrong.value.exit_code == 2


def test_nothing_listens_there(served):
    gone = served({})
    gone._server.server_close()
    with pytest.raises(EndpointError, match=r"cannot be reached.*Does the server run") as failed:
        Endpoint(gone.url, retries=0)
    assert failed.value.exit_code == 1


@pytest.mark.parametrize("address", ["http://", "http://:80/v1", "http://h:x/v1", "https://h:0/v1", "http://[::1/v1"])
def test_addresses_that_are_none(address):
    assert is_endpoint(address)
    with pytest.raises(InputError, match="not the address of a server"):
        Endpoint(address)


@pytest.mark.parametrize("address", ["http://me:pass@host/v1", "https://host/v1?key=pass"])
def test_no_secret_in_an_address(address):
    with pytest.raises(InputError, match="no password") as refused:
        Endpoint(address)
    assert "pass@" not in str(refused.value)
    assert "=pass" not in str(refused.value)


@pytest.mark.parametrize(
    "said",
    [
        "This model's maximum context length is 4096 tokens. However, your prompt contains 5970 input tokens",
        "max_tokens=7563 cannot be greater than max_model_len=4096. Please request fewer output tokens.",
    ],
)
def test_a_prompt_that_is_too_long_names_its_text(vllm, fake, said):
    vllm.troubles = [fake.Trouble(400, {"error": {"message": said}})]
    with pytest.raises(InputError, match=r"text 1: .* do not fit into ner; split the text"):
        engine(vllm, concurrency=1).generate([REQUEST])


def test_a_grammar_that_is_refused(vllm, fake):
    vllm.troubles = [fake.Trouble(400, {"error": {"message": "Grammar error: 1(11): Expected token"}})]
    with pytest.raises(EndpointError, match=r"refuses the grammar.*--unconstrained") as refused:
        engine(vllm).generate([REQUEST])
    assert refused.value.exit_code == 2


def test_a_model_that_goes_away(vllm, fake):
    ask = engine(vllm)
    vllm.troubles = [fake.Trouble(404, {"error": {"message": "The model `ner` does not exist.", "code": 404}})]
    with pytest.raises(UnknownModelError, match="no model 'ner' there"):
        ask.generate([REQUEST])


def test_a_model_that_takes_no_temperature_is_asked_without(plain, fake):
    refusal = {"error": {"message": "Unsupported value", "param": "temperature", "code": "unsupported_value"}}
    plain.troubles = [fake.Trouble(400, refusal)]
    ask = engine(plain)
    ask.generate([REQUEST])
    ask.generate([REQUEST])
    assert ["temperature" in asked.body for asked in plain.posts()] == [True, False, False]


def test_requests_a_minute_are_spaced(vllm, slept):
    engine(vllm, concurrency=1, requests_per_minute=30).generate([REQUEST] * 3)
    waits = [seconds for seconds in slept if seconds > 0]
    assert [round(seconds / 2) for seconds in waits] == [1, 2, 3, 4]  # two requests came before: models, version


def test_the_missing_extra_is_named(vllm, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nertune\[remote\]'"):
        Endpoint(vllm.url)


def test_a_model_not_trained_here_is_asked_by_labels_and_its_answer_grounded(plain, fake):
    rows = [{"entity_text": "杭州", "entity_label": "address"}, {"entity_text": "叶", "entity_label": "name"}]
    plain.answers[CHAT] = lambda body: fake.chat("\n".join(map(json.dumps, rows)))
    recognizer = connect(plain.url, prompt=spec("jsonl"))
    prediction = recognizer.extract("在杭州")
    assert [(e.label, e.start, e.end) for e in prediction.entities] == [("address", 1, 3)]
    assert [mention.text for mention in prediction.ungrounded] == ["叶"]
    assert plain.posts()[0].body["messages"] == [
        {"role": "system", "content": "专家"},
        {"role": "user", "content": "找出name, address：在杭州"},
    ]


def test_a_served_model_without_its_tokenizer_gets_messages_and_the_grammar_from_vllm_too(served, fake):
    server = served({CHAT: lambda body: fake.chat("在[杭州 | address]", finish="length")})
    prediction = connect(server.url, prompt=spec(), max_new_tokens=9).extract("在杭州")
    assert [(e.text, e.label) for e in prediction.entities] == [("杭州", "address")]
    assert prediction.stop == "length"
    (asked,) = server.posts()
    assert asked.body["structured_outputs"] == {"grammar": grammar_for_vllm(spec().answer.grammar("在杭州", LABELS))}
    assert asked.body["max_tokens"] == 9


def test_a_served_run_gives_its_prompt_and_its_tokenizer_and_no_weights(vllm, fake, family_of, tmp_path):
    family_of("qwen3").tokenizer.save_pretrained(tmp_path / "base")
    tokenizer = load_tokenizer(str(tmp_path / "base"))
    run, renderer = tmp_path / "run", Renderer(tokenizer, spec())
    run.mkdir()
    RunManifest(str(tmp_path / "base"), spec(), template_hash(tokenizer), tuple(renderer.stop_ids), 99).write(run)
    answer = [*renderer.answer_ids("在[杭州 | address]"), renderer.tail_ids[0]]
    vllm.answers[COMPLETIONS] = lambda body: fake.completion(answer)
    prediction = load(f"{vllm.url}#ner", run=run).extract("在杭州")
    assert [(e.label, e.start, e.end) for e in prediction.entities] == [("address", 1, 3)]
    (asked,) = vllm.posts()
    assert asked.body["prompt"] == renderer.prompt_ids("在杭州")
    assert asked.body["stop_token_ids"] == sorted(renderer.stop_ids)
    with pytest.raises(InputError, match="has one prompt and no tasks"):
        load(vllm.url, run=run, task="people")
    with pytest.raises(InputError, match="no such run directory"):
        load(vllm.url, run=tmp_path / "gone")
    with pytest.raises(InputError, match="no server's address"):
        load(run, run=run)


def test_a_run_of_free_tokens_wants_a_server_that_takes_the_grammar(vllm, plain, family_of, tmp_path):
    tokenizer = family_of("qwen3").tokenizer
    tokenizer.save_pretrained(tmp_path / "base")
    made = RunManifest(str(tmp_path / "base"), spec(), template_hash(tokenizer), (0,), 99, loss_tokens="free")
    made.write(tmp_path)
    assert connect(vllm.url, run=tmp_path).constrained
    with pytest.raises(InputError, match="needs the grammar: generate here or on vLLM"):
        connect(plain.url, run=tmp_path)
    with pytest.raises(InputError, match="not --unconstrained"):
        connect(vllm.url, run=tmp_path, constrained=False)


def test_a_long_text_is_read_in_windows_that_the_server_can_hold(served, fake, capsys):
    """vLLM tells how long prompt and answer may be, for an adapter by its base model; the answers are the windows."""
    server = served({CHAT: lambda body: fake.chat(body["messages"][-1]["content"].partition("：")[2])})
    rows = [
        {"id": "base", "owned_by": "vllm", "max_model_len": 400},
        {"id": "ner", "owned_by": "vllm", "parent": "base"},
    ]
    server.listed = fake.Trouble(200, {"data": rows})
    recognizer = connect(f"{server.url}#ner", prompt=spec())
    text = "他在杭州。" * 60
    prediction = recognizer.extract(text, debug=True)
    assert (prediction.text, prediction.outcome, prediction.ungrounded) == (text, ParseOutcome.CLEAN, ())
    assert len(server.posts()) > 2
    for asked in server.posts():
        prompt = "".join(message["content"] for message in asked.body["messages"])
        assert len(prompt) + asked.body["max_tokens"] <= 400
    assert "他在杭州。" in capsys.readouterr().err.splitlines()[-1]


def test_a_server_needs_a_run_or_labels(plain):
    with pytest.raises(InputError, match=r"--run RUN.*--labels"):
        connect(plain.url)
    assert not plain.asked


def test_requests_are_json_all_the_way(vllm):
    """Nothing of a request is an object of Python's own."""
    engine(vllm).generate([REQUEST])
    assert json.loads(json.dumps(vllm.posts()[0].body)) == vllm.posts()[0].body


def test_requests_that_come_one_by_one_keep_the_server_busy(vllm, fake):
    four = threading.Barrier(4, timeout=60)  # none is answered before four are there

    def answer(body: dict) -> dict:
        four.wait()
        return fake.completion([body["prompt"][-1], 106])

    vllm.answers[COMPLETIONS] = answer
    asking = engine(vllm, concurrency=4).asking()
    for number in range(12):
        asking.add(number, replace(REQUEST, prompt_ids=(5, number)))
    found = {}
    while len(asking):
        found |= asking.step()
    assert {number: answer.ids for number, answer in found.items()} == {number: (number,) for number in range(12)}
    assert vllm.most_at_once == 4
    asking.close()


def test_of_requests_that_come_one_by_one_a_refused_one_is_named_and_a_failing_server_ends_all(vllm, fake):
    too_long = {"object": "error", "message": "This model's maximum context length is 10 tokens", "code": 400}
    vllm.troubles = [fake.Trouble(400, too_long)]
    asking = engine(vllm, concurrency=1, retries=0).asking()
    asking.add("long", REQUEST)
    asking.add("good", REQUEST)
    found = asking.step()
    while len(asking):
        found |= asking.step()
    assert isinstance(found["long"], InputError)
    assert found["good"] == Completion((7, 9), "end")
    vllm.troubles = [fake.Trouble(401, {"error": {"message": "no"}})]
    asking.add("next", REQUEST)
    with pytest.raises(EndpointError):
        asking.step()


def test_a_large_file_goes_to_a_server_row_by_row_in_order(plain, fake, tmp_path):
    eight = threading.Barrier(8, timeout=60)  # none is answered before eight are there

    def answer(body: dict) -> dict:
        eight.wait()
        found = [{"label": "name", "text": body["messages"][-1]["content"][-2:]}]
        return fake.chat(json.dumps(found, ensure_ascii=False))

    plain.answers[CHAT] = answer
    source, out = tmp_path / "texts.txt", tmp_path / "out.jsonl"
    source.write_text("".join(f"这是{chr(0x4E00 + number)}某\n" for number in range(40)), encoding="utf-8")
    command = ["extract", f"{plain.url}#qwen3:4b", str(source), "-o", str(out), "--labels", "name", "--answer", "json"]
    assert main([*command, "--concurrency", "8"]) == 0
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [row["entities"][0]["text"] for row in rows] == [f"{chr(0x4E00 + number)}某" for number in range(40)]
    assert plain.most_at_once == 8
