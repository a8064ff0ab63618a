"""`--served-model-name`: what clients call the base model, or a run that is served as a whole model."""

from __future__ import annotations

import dataclasses

import httpx
import pytest

from nertune.errors import InputError
from nertune.serving import load_runs, open_service

NAME = "Qwen/Qwen2.5-7B-Instruct"
HELLO = [{"role": "user", "content": "句：方鹏"}]


@pytest.fixture(scope="module")
def loaded(tiny_runs):
    return load_runs({"tiny": tiny_runs["tiny"]}, batch_size=4)


def test_the_base_model_answers_under_it_and_is_the_parent_of_the_runs(loaded, listening):
    service = open_service(loaded, served_name=NAME)
    try:
        with listening(service.app) as url:
            cards = httpx.get(f"{url}/v1/models", trust_env=False).json()["data"]
            assert [(card["id"], card["parent"], card["root"]) for card in cards] == [
                (NAME, None, loaded.base_model),
                ("tiny", NAME, str(loaded.folders["tiny"])),
            ]
            body = {"model": NAME, "messages": HELLO, "max_tokens": 3}
            answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60, trust_env=False)
            assert (answer.status_code, answer.json()["model"]) == (200, NAME)
            body["model"] = loaded.base_model
            assert httpx.post(f"{url}/v1/chat/completions", json=body, trust_env=False).status_code == 404
    finally:
        service.loop.close(finish=False)


def test_a_run_that_is_a_whole_model_bears_it_itself(loaded):
    whole = dataclasses.replace(loaded, offers_base=False)
    service = open_service(whole, served_name=NAME)
    service.loop.close(finish=False)
    assert list(service.models) == [NAME]
    assert service.models[NAME].recognizer is loaded.recognizers["tiny"]
    reader = loaded.recognizers["tiny"]
    tasks = {"tiny/a": reader, "tiny/b": reader}
    with pytest.raises(InputError, match="answers for several tasks; name the run, as NAME=RUN"):
        open_service(dataclasses.replace(whole, recognizers=tasks), served_name=NAME)
