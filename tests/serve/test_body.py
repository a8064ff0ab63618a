"""The body's limit, and what happens to a handler whose client is gone."""

from __future__ import annotations

import socket
import struct

import pytest


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_read(serve):
    client = serve(max_body=1000).client()
    client.send(b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1001\r\n\r\n")
    reply = client.reply()
    assert (reply.status, reply.error["code"], reply.headers["connection"]) == (413, "body_too_large", "close")
    assert client.rest() == b""


def test_chunks_are_counted_and_refused_as_soon_as_they_are_too_many(serve):
    client = serve(max_body=1000).client()
    client.send(b"POST /echo HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(2):
        client.send(b"258\r\n" + b"a" * 600 + b"\r\n")
    assert client.reply().status == 413
    assert client.rest() == b""


@pytest.mark.parametrize("coding", ["gzip", "br, identity", "x"])
def test_a_compressed_body_is_of_an_unsupported_type(serve, coding):
    client = serve().client()
    client.ask("/echo", method="POST", body=b"\x1f\x8b", content_encoding=coding)
    reply = client.reply()
    assert (reply.status, reply.error["code"]) == (415, "unsupported_encoding")
    assert reply.headers["accept-encoding"] == "identity"
    assert client.rest() == b""


def test_a_body_that_is_said_to_be_as_it_is_is_read(serve):
    assert serve().ask("/echo", method="POST", body=b"a", content_encoding="Identity").body == b"a"


@pytest.mark.parametrize("size", [999, 1000])
def test_a_body_up_to_the_limit_is_served(serve, size):
    assert serve(max_body=1000).ask("/echo", method="POST", body=b"a" * size).body == b"a" * size


def test_a_client_that_sends_all_of_a_large_body_before_it_reads_still_gets_the_answer(serve):
    reply = serve(patience=5).ask("/echo", method="POST", body=b"a" * (20 * 1024 * 1024))
    assert reply.status == 413
    assert "10,485,760" in reply.error["message"]


def test_bodies_beyond_the_memory_for_them_are_refused_and_room_is_given_back(serve, until):
    served = serve(max_held=1500, patience=5)
    client = served.client()
    client.ask("/wait/a", method="POST", body=b"a" * 1000)
    until(lambda: served.toy.begun == ["a"])
    reply = served.ask("/echo", method="POST", body=b"a" * 1000)
    assert (reply.status, reply.error["code"], reply.headers["retry-after"]) == (503, "memory_full", "1")
    client.close()
    until(lambda: served.toy.cancelled == ["a"])
    assert served.ask("/echo", method="POST", body=b"a" * 1000).status == 200


@pytest.mark.parametrize("target", ["/wait/a", "/stream/a?n=1000"])
@pytest.mark.parametrize("reset", [False, True])
def test_a_handler_is_cancelled_when_its_client_is_gone(serve, until, target, reset):
    served = serve(patience=600)  # no timer of ours ends it
    client = served.client()
    client.ask(target)
    until(lambda: served.toy.begun == ["a"])
    if reset:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    until(lambda: served.toy.cancelled == ["a"])
    until(served.lines)
    assert [line["status"] for line in served.lines()] == [499]


def test_a_client_that_pipelines_and_leaves_is_noticed_too(serve, until):
    served = serve(patience=600)
    client = served.client()
    client.ask("/wait/a")
    until(lambda: served.toy.begun == ["a"])
    client.ask("/health")
    client.ask("/health")
    client.close()
    until(lambda: served.toy.cancelled == ["a"])


def test_a_client_that_is_served_to_the_end_cancels_nothing(serve, until):
    served = serve()
    client = served.client()
    client.ask("/stream/a?n=3&pause=0.01")
    assert client.reply().status == 200
    until(lambda: served.toy.finished == ["a"])
    assert served.toy.cancelled == []
