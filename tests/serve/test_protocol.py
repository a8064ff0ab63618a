"""Every limit of a connection, over real sockets, with the patience of a test."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import time

import pytest

CHUNKED = b"POST /echo HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("at_once", [True, False])
def test_headers_over_the_limit_are_answered_with_431_and_the_connection_ends(serve, at_once):
    client = serve(max_head=65536).client()
    head = b"GET /health HTTP/1.1\r\nhost: localhost\r\nx-long: " + b"a" * 66000
    if at_once:
        client.send(head + b"\r\n\r\n")
    else:
        client.send(head)
    reply = client.reply()
    assert (reply.status, reply.error["code"], reply.headers["connection"]) == (431, "headers_too_large", "close")
    assert client.rest() == b""


def test_headers_just_below_the_limit_are_served(serve):
    assert serve(max_head=65536).ask("/health", x_long="a" * 65000).status == 200


@pytest.mark.parametrize("drip", [False, True])
def test_a_half_sent_head_is_answered_with_408_however_it_drips(serve, drip):
    served = serve()
    client = served.client()
    started = time.monotonic()
    client.send(b"GET /health HTTP/1.1\r\nx-a: ")
    if drip:
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < started + 5:
                client.send(b"a")
                time.sleep(0.05)
    else:
        reply = client.reply()
        assert (reply.status, reply.error["code"]) == (408, "request_timeout")
        assert client.rest() == b""
    assert 0.25 < time.monotonic() - started < 4
    assert served.figure("http_refused_total", reason="request_timeout") == 1


def test_a_connection_that_never_says_anything_is_closed_without_a_word(serve):
    served = serve()
    assert served.client().rest() == b""
    assert [line["reason"] for line in served.lines("refused")] == ["silent_connection"]


def test_a_second_request_that_is_half_sent_is_closed_like_the_first(serve):
    client = serve().client()
    client.ask("/health")
    assert client.reply().status == 200
    client.send(b"GET /hea")
    assert client.reply().status == 408
    assert client.rest() == b""


def test_half_of_a_pipelined_request_is_closed_too(serve):
    client = serve().client()
    client.send(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\nGET /hea")
    assert client.reply().status == 200
    assert client.reply().status == 408


def test_a_connection_at_rest_is_closed_after_the_keep_alive_time(serve):
    client = serve(keep_alive=0.2).client()
    client.ask("/health")
    assert client.reply().status == 200
    assert client.rest() == b""


@pytest.mark.parametrize(
    "head", [b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n", CHUNKED]
)
def test_a_half_sent_body_is_answered_with_408_and_its_request_is_logged_so(serve, head, until):
    served = serve()
    client = served.client()
    client.send(head + (b"" if head is CHUNKED else b"a" * 500_000))
    reply = client.reply()
    assert (reply.status, reply.error["code"]) == (408, "request_timeout")
    assert client.rest() == b""
    until(served.lines)
    assert [(line["status"], line["refused"]) for line in served.lines()] == [(408, "request_timeout")]


def test_a_slow_body_that_keeps_the_pace_gets_through_although_it_takes_longer(serve):
    client = serve().client()
    started = time.monotonic()
    client.send(b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 400000\r\n\r\n")
    for _ in range(20):
        client.send(b"a" * 20_000)
        time.sleep(0.04)
    assert client.reply().body == b"a" * 400_000
    assert time.monotonic() - started > 0.6


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /health\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nbad header\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: a\x00b\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: -5\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n", 501),
        (CHUNKED + b"zz\r\n", 400),
        (CHUNKED + b"1\r\na\r\n" * 2000, 400),
    ],
)
def test_what_is_no_request_is_refused_in_openais_shape(serve, request_bytes, status):
    client = serve(patience=5).client()
    client.send(request_bytes)
    reply = client.reply()
    assert reply.status == status
    assert reply.error["type"] == ("server_error" if status == 501 else "invalid_request_error")
    assert client.rest() == b""


def test_pipelined_requests_are_answered_in_their_order(serve):
    client = serve().client()
    client.send(b"".join(b"GET /wait/%d?seconds=0.01 HTTP/1.1\r\nhost: localhost\r\n\r\n" % n for n in range(20)))
    assert [json.loads(client.reply().body)["name"] for _ in range(20)] == [str(n) for n in range(20)]


def test_a_body_longer_than_it_says_is_no_second_request(serve):
    client = serve().client()
    client.send(b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\nabcdef\r\n\r\n")
    assert client.reply().body == b"abc"
    assert client.reply().status == 400


def test_connections_beyond_the_last_that_fits_get_503_and_fit_again_later(serve, until):
    served = serve(max_connections=3, patience=5)
    clients = [served.client() for _ in range(3)]
    for client in clients:
        client.ask("/health")
        assert client.reply().status == 200
    refused = served.client()
    refused.ask("/health")
    reply = refused.reply()
    assert (reply.status, reply.error["code"], reply.headers["retry-after"]) == (503, "too_many_connections", "1")
    assert refused.rest() == b""
    for client in [*clients, refused]:
        client.close()
    until(lambda: served.figure("http_connections") == 0)
    assert served.ask("/health").status == 200


def test_a_client_that_never_reads_its_stream_is_cut_off_and_holds_little_memory(serve, until):
    served = serve()
    served.client().ask("/flood")
    until(served.lines)
    assert [line["status"] for line in served.lines()] == [499]
    assert served.toy.sent * 65536 < 16 * 1024 * 1024  # what the kernel's buffers take, and one block of ours
    assert served.figure("http_refused_total", reason="slow_reader") == 1


def test_a_client_that_leaves_without_reading_its_answer_is_let_go(serve, until):
    served = serve(patience=5)
    client = served.client()
    client.ask("/flood")
    until(lambda: served.toy.sent > 10)
    client.close()
    until(lambda: served.lines() and served.figure("http_connections") == 0)


def test_an_upgrade_to_another_protocol_is_not_taken_up(serve):
    assert serve().ask("/health", upgrade="websocket", connection="upgrade").status == 200


@pytest.mark.parametrize("target", ["/health", "/metrics", "/health/"])
def test_head_is_get_without_its_body(serve, target):
    client = serve(patience=5).client()
    client.send(f"HEAD {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
    head, _, body = client.rest().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert int(re.search(rb"content-length: (\d+)", head)[1]) > 0
    assert body == b""


def test_a_head_and_a_path_with_a_slash_are_counted_under_their_route(serve, until):
    served = serve()
    assert served.ask("/metrics/").status == 200
    until(served.lines)
    assert [(line["path"], line["route"]) for line in served.lines()] == [("/metrics/", "/metrics")]


def test_figures_are_read_only(serve):
    reply = serve().ask("/metrics", method="POST", body=b"{}")
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
    assert reply.error["message"] == "/metrics takes GET and HEAD only"


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://localhost/health", "localhost", 200),
        ("HTTP://127.0.0.1:1/health?x=1", "localhost", 200),
        ("http://localhost/health", "evil.example", 200),  # the target counts, not the header
        ("http://localhost", "localhost", 404),
        ("http://localhost?x=1", "localhost", 404),
        ("http://evil.example/health", "localhost", 421),
        ("http://localhost@evil.example/health", "localhost", 400),
        ("http:///health", "localhost", 400),
    ],
)
def test_an_absolute_target_is_the_path_at_its_host(serve, target, host, status):
    client = serve(patience=5).client()
    client.send(f"GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
    assert client.reply().status == status


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("/health", b'{"status":"ok"}'),
        ("/wait/a?seconds=0.2", b'{"name":"a"}'),
        ("/stream/a?n=3&pause=0.1", b"data: a 2"),
    ],
)
def test_a_client_that_closes_its_sending_side_gets_its_answer_and_the_connection_ends(serve, version, target, answer):
    served = serve(patience=600)
    client = served.client()
    client.send(f"GET {target} HTTP/{version}\r\nhost: localhost\r\n\r\n".encode())
    client.socket.shutdown(socket.SHUT_WR)
    assert answer in client.rest()
    assert served.toy.cancelled == []


def test_a_client_that_closes_its_sending_side_can_be_read_by_ordinary_libraries(serve):
    """What is sent to see whether the client is there means nothing to it: an interim response, a zero of a chunk's size."""
    served = serve(patience=600)
    for target, body in (
        ("/wait/a?seconds=0.2", b'{"name":"a"}'),
        ("/stream/a?n=2&pause=0.2", b"data: a 0\n\ndata: a 1\n\n"),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
        connection.request("GET", target)
        connection.sock.shutdown(socket.SHUT_WR)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, body)
        connection.close()


def test_all_that_was_asked_before_the_sending_side_was_closed_is_answered(serve):
    client = serve(patience=600).client()
    client.send(b"".join(b"GET /wait/%d?seconds=0.1 HTTP/1.1\r\nhost: localhost\r\n\r\n" % n for n in range(3)))
    client.socket.shutdown(socket.SHUT_WR)
    assert re.findall(rb'"name":"(\d)"', client.rest()) == [b"0", b"1", b"2"]


@pytest.mark.parametrize("target", ["/wait/a", "/stream/a?n=2&pause=600"])
def test_a_client_that_closes_its_sending_side_and_leaves_is_noticed(serve, until, target):
    served = serve(patience=600)
    client = served.client()
    client.ask(target)
    until(lambda: served.toy.begun == ["a"])
    client.socket.shutdown(socket.SHUT_WR)
    client.close()
    until(lambda: served.toy.cancelled == ["a"])


def test_a_client_that_waits_for_a_go_ahead_gets_it_or_the_refusal(serve):
    served = serve(max_body=1000)
    client = served.client()
    client.send(b"POST /echo HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
    assert client.reply().status == 100
    client.send(b"abc")
    assert client.reply().body == b"abc"
    client.send(b"POST /echo HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 3000\r\n\r\n")
    assert client.reply().status == 413
