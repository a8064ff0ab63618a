"""One inert JSON line a request, and figures whose number does not grow with what clients send."""

from __future__ import annotations

import io
import json
import logging

import pytest

from nertune.serve.logs import Log, LogHandler

TEXT = "叶老桂博士"


def test_a_request_is_one_line_with_what_happened_and_what_the_application_noted(serve, until):
    served = serve()
    reply = served.ask("/echo?secret=1", method="POST", body=TEXT.encode(), x_request_id="my-id.1")
    until(served.lines)
    (line,) = served.lines()
    assert reply.headers["x-request-id"] == "my-id.1"
    told = {"id": "my-id.1", "method": "POST", "path": "/echo", "route": "/echo", "status": 200, "model": "toy"}
    assert {name: line[name] for name in told} == told
    assert line["texts"] == 1
    assert line["milliseconds"] >= 0
    assert line["client"] == "127.0.0.1"
    assert line["time"].endswith("Z")


@pytest.mark.parametrize("log_text", [False, True])
def test_what_users_wrote_is_in_the_log_only_when_asked(serve, until, log_text):
    served = serve(log_text=log_text)
    served.ask("/echo", method="POST", body=TEXT.encode())
    served.ask("/fail")
    until(lambda: len(served.lines()) == 2)
    written = json.dumps([served.lines(), served.lines("failure")], ensure_ascii=False)
    assert (TEXT in written) is log_text
    assert ("what the user wrote" in written) is log_text


def test_a_failure_is_a_500_that_tells_nothing_and_its_place_is_in_the_log(serve, until):
    served = serve()
    reply = served.ask("/fail")
    until(served.lines)
    assert reply.status == 500
    assert "叶老桂" not in reply.error["message"]
    assert reply.headers["x-request-id"] in reply.error["message"]
    (failure,) = served.lines("failure")
    assert failure["error"] == "ValueError"
    assert any("toy.py" in frame for frame in failure["trace"])


@pytest.mark.parametrize("target", ["/a%0a%7b%22event%22:%22request%22%7d", "/%1b%5b2J", "/%00", "/%e2%80%a8", "/%ff"])
def test_no_path_begins_a_line_of_its_own_or_steers_a_terminal(serve, until, target):
    served = serve()
    assert served.ask(target, user_agent="a\tb", x_request_id="no plain word").status == 404
    until(served.lines)
    raw = served.log.getvalue()
    assert len(raw.splitlines()) == len(raw.rstrip("\n").split("\n")) == 2  # serving, request
    assert raw.replace("\n", "").isprintable()
    assert raw.isascii()
    assert served.lines()[0]["id"].isalnum()


def test_a_long_path_is_cut(serve, until):
    served = serve()
    served.ask("/" + "a" * 5000)
    until(served.lines)
    assert len(served.lines()[0]["path"]) == 256


def test_notes_that_are_no_plain_values_are_left_out_and_a_log_without_a_reader_is_no_failure():
    stream = io.StringIO()
    log = Log(stream)
    log.write("request", model="m" * 1000, tokens=3, body={"text": TEXT}, words=[TEXT], text=TEXT)
    line = json.loads(stream.getvalue())
    assert (len(line["model"]), line["tokens"]) == (256, 3)
    assert not {"body", "words", "text"} & set(line)
    stream.close()
    log.write("request")


def test_what_libraries_log_becomes_a_line_without_its_arguments():
    stream = io.StringIO()
    logger = logging.getLogger("nertune.test")
    logger.propagate = False
    logger.addHandler(LogHandler(Log(stream)))
    logger.warning("about %s", TEXT)
    try:
        raise ValueError(TEXT)
    except ValueError:
        logger.exception("it broke")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["message", "failure"]
    assert lines[0]["message"] == "about %s"
    assert lines[1]["error"] == "ValueError"


def test_figures_count_routes_by_their_template_and_everything_unknown_as_one(serve, until):
    served = serve()
    for target in ("/wait/a?seconds=0", "/wait/b?seconds=0", "/nowhere", "/nobody", "/%0a"):
        served.ask(target)
    served.ask("/health", method="BREW")
    until(lambda: len(served.lines()) == 6)
    count = "http_requests_total"
    assert served.figure(count, method="GET", route="/wait/{name}", status="200") == 2
    assert served.figure(count, method="GET", route="none", status="404") == 3
    assert served.figure(count, method="OTHER", route="/health", status="405") == 1
    assert served.figure("http_request_seconds_count", route="/wait/{name}") == 2
    assert served.figure("http_requests_in_flight") == 0


def test_refusals_are_counted_by_reason(serve, until):
    served = serve(max_body=10)
    served.ask("/echo", method="POST", body=b"a" * 11)
    served.ask("/health", host="evil.example")
    until(lambda: len(served.lines()) == 2)
    assert served.figure("http_refused_total", reason="body_too_large") == 1
    assert served.figure("http_refused_total", reason="unknown_host") == 1


def test_metrics_are_what_prometheus_reads_with_the_applications_own(serve):
    served = serve()
    served.toy.metrics.gauge("queue_length", "Requests that wait", lambda: 7)
    served.toy.metrics.counter("tokens", "Tokens generated", lambda: 3)
    reply = served.ask("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = reply.body.decode()
    assert "nertune_queue_length 7.0" in text
    assert "# TYPE nertune_tokens_total counter\nnertune_tokens_total 3.0" in text
    assert "nertune_http_requests_in_flight 1.0" in text
    assert "process_resident_memory_bytes" in text
