"""Answers that are to look like something, do: on a model of random weights, which writes nothing of the kind by itself."""

from __future__ import annotations

import json
import re

import pytest

ASK = [{"role": "user", "content": "叶老桂"}]
SCHEMA = {
    "type": "object",
    "properties": {"label": {"enum": ["name", "address"]}, "text": {"type": "string", "maxLength": 5}},
    "required": ["label", "text"],
    "additionalProperties": False,
}


def said(tiny, **options) -> str:
    """What the model says; the same streamed."""
    body = {"model": "tiny", "messages": ASK, "max_tokens": 400, **options}
    answer = tiny.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    [choice] = answer.json()["choices"]
    with tiny.http.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as stream:
        chunks = [json.loads(line[6:]) for line in stream.iter_lines() if line and "[DONE]" not in line]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == choice["message"]["content"]
    assert choice["finish_reason"] == "stop"
    return choice["message"]["content"]


@pytest.mark.parametrize(
    "options",
    [
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "entity", "strict": True, "schema": SCHEMA},
            }
        },
        {"structured_outputs": {"json": SCHEMA}},
        {"structured_outputs": {"json": json.dumps(SCHEMA)}},
    ],
)
def test_a_json_schema(tiny, options):
    found = json.loads(said(tiny, **options))
    assert set(found) == {"label", "text"}
    assert found["label"] in ("name", "address")


def test_other_structures(tiny):
    assert re.fullmatch(r"[a-c]{3}/\d", said(tiny, structured_outputs={"regex": r"[a-c]{3}/\d"}))
    assert said(tiny, structured_outputs={"choice": ["是", "否\n"]}) in ("是", "否\n")
    assert said(tiny, structured_outputs={"grammar": 'start: "a" ("b" | "c")'}) in ("ab", "ac")


def test_text_is_free(tiny):
    free = tiny.http.post("/v1/chat/completions", json={"model": "tiny", "messages": ASK, "max_tokens": 5}).json()
    body = {"model": "tiny", "messages": ASK, "max_tokens": 5, "response_format": {"type": "text"}}
    assert tiny.http.post("/v1/chat/completions", json=body).json()["choices"] == free["choices"]


def test_json_object_begins_one(tiny):
    body = {"model": "tiny", "messages": ASK, "max_tokens": 60, "response_format": {"type": "json_object"}}
    [choice] = tiny.http.post("/v1/chat/completions", json=body).json()["choices"]
    assert choice["message"]["content"].startswith("{")
    assert not re.search(r"\s{21}", choice["message"]["content"])


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"$ref": "#"}, "refers to itself without end"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}}, "refers to itself without end"),
        ({"$ref": "#/$defs/a"}, "failed to compile JSON schema: Pointer '/$defs/a' does not exist"),
        ({"type": "nothing"}, "failed to compile JSON schema: Invalid type: nothing"),
        ("[" * 20_000, "nested too deeply"),
    ],
)
def test_why_a_schema_cannot_be_used_is_said_in_a_line(tiny, schema, reason):
    body = {"model": "tiny", "messages": ASK, "structured_outputs": {"json": schema}}
    message = tiny.http.post("/v1/chat/completions", json=body).json()["error"]["message"]
    assert reason in message
    assert "\n" not in message
    assert "x-guidance" not in message


def test_a_schema_may_hold_itself_where_something_is_written_before(tiny):
    tree = {"type": "object", "properties": {"a": {"$ref": "#"}}, "additionalProperties": False}
    body = {"model": "tiny", "messages": ASK, "max_tokens": 30, "structured_outputs": {"json": tree}}
    [choice] = tiny.http.post("/v1/chat/completions", json=body).json()["choices"]
    assert choice["message"]["content"].startswith("{")


@pytest.mark.parametrize(
    "structure",
    [
        {"regex": "(a"},
        {"grammar": "start: ("},
        {"json": {"type": "nothing"}},
        {"json": "no schema"},
        {"json": "[1]"},
        {"json": {"$ref": "file:///etc/passwd"}},
        {"choice": []},
        {"grammar": "\ud83d"},
        {},
    ],
)
def test_what_cannot_be_used_is_refused_and_harms_nobody(tiny, structure):
    body = json.dumps({"model": "tiny", "messages": ASK, "structured_outputs": structure})
    answer = tiny.http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert "structured_outputs" in answer.json()["error"]["message"]
    assert answer.json()["error"]["param"].startswith("structured_outputs")
    assert tiny.http.get("/health").status_code == 200
