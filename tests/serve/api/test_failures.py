"""What nobody foresaw: the client gets an id and nothing else, and the log has the cause beside that id."""

from __future__ import annotations

import re

import pytest

from nertune.extract import Recognizer

SECRET = "叶老桂的病历"


@pytest.fixture
def failing(saying, monkeypatch):
    """A server whose answers cannot be read."""

    def fail(*_, **__):
        raise ZeroDivisionError(SECRET)

    monkeypatch.setattr(Recognizer, "read", fail)
    return saying(lambda prompt: "甲")


def _incident(error: dict) -> str:
    assert (error["type"], error["code"]) == ("server_error", "failure")
    found = re.fullmatch(r"the server failed; incident (\w+) in its log", error["message"])
    assert found, error
    return found[1]


def test_an_unforeseen_failure_is_told_by_the_id_of_the_request(failing):
    answer = failing.http.post("/v1/extract", json={"text": "甲"})
    assert answer.status_code == 500
    assert _incident(answer.json()["error"]) == answer.headers["x-request-id"]  # under which the shell logs it


def test_an_unforeseen_failure_of_one_of_many_is_told_by_an_id_of_its_own(failing, caplog):
    answer = failing.http.post("/v1/extract", json={"texts": ["甲", "乙"]})
    assert answer.status_code == 200
    incidents = [_incident(row["error"]) for row in answer.json()["data"]]
    assert len(set(incidents)) == 2
    assert SECRET not in answer.text
    for incident in incidents:
        [record] = [record for record in caplog.records if incident in record.getMessage()]
        assert record.exc_info[0] is ZeroDivisionError
