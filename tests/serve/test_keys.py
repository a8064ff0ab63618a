"""Who may ask: keys on every route, names of a server without keys, pages of other origins."""

from __future__ import annotations

import pytest

from nertune.errors import InputError, MissingFileError
from nertune.serve.keys import KeyRing, read_keys

FIRST, SECOND = "key-of-sixteen-letters", "another-key-of-some-length"


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# those of the team\n{FIRST}\n\n  {SECOND}  \n", encoding="utf-8")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("target", ["/health", "/metrics", "/echo", "/nowhere", "/docs"])
@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", f"Basic {FIRST}", FIRST, f"Bearer {FIRST}x", f"Bearer {FIRST[:-1]}"],
)
def test_no_route_answers_without_a_key(serve, key_file, target, authorization):
    served = serve(api_key_file=key_file)
    reply = served.ask(target, **({} if authorization is None else {"authorization": authorization}))
    assert (reply.status, reply.error["code"], reply.error["type"]) == (401, "invalid_api_key", "invalid_request_error")
    assert reply.headers["www-authenticate"] == "Bearer"
    assert FIRST not in served.log.getvalue()


@pytest.mark.parametrize("key", [FIRST, SECOND])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_every_key_of_the_file_opens(serve, key_file, key, scheme):
    served = serve(api_key_file=key_file)
    assert served.ask("/health", authorization=f"{scheme} {key}").status == 200
    assert key not in served.log.getvalue()


def test_a_large_body_without_a_key_is_not_read(serve, key_file):
    client = serve(api_key_file=key_file, patience=5).client()
    client.send(b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\nabc")
    assert client.reply().status == 401
    assert client.rest() == b""


def test_a_key_from_the_environment_joins_those_of_the_file(key_file):
    keys, warnings = read_keys(key_file, {"NERTUNE_API_KEY": "a-third-key-from-elsewhere"})
    assert (len(keys), warnings) == (3, [])
    assert keys.opens(b"Bearer a-third-key-from-elsewhere")
    assert keys.opens(f"Bearer {SECOND}".encode())


def test_a_ring_without_keys_opens_nothing():
    assert not KeyRing().opens(b"Bearer ")
    assert not KeyRing(["a"]).opens(None)


def test_a_file_that_others_can_read_is_warned_about_and_so_is_a_short_key(key_file):
    key_file.write_text("short\n", encoding="utf-8")
    key_file.chmod(0o644)
    _, warnings = read_keys(key_file, {})
    assert [f"chmod 600 {key_file}" in warnings[0], "fewer than 16" in warnings[1]] == [True, True]
    assert not any("short" in warning.replace(str(key_file), "") for warning in warnings)


@pytest.mark.parametrize("content", ["", "# nothing\n", "two words\n", "schlüssel-mit-umlaut\n", "a\x00b\n"])
def test_a_file_of_no_use_is_refused_without_showing_it(key_file, content):
    key_file.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="API key") as refused:
        read_keys(key_file, {})
    assert "umlaut" not in str(refused.value)
    assert "words" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(MissingFileError, match="there is no such file of API keys"):
        read_keys(tmp_path / "keys", {})


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "192.168.1.5", ""])
def test_a_server_without_keys_answers_to_localhost_and_to_digits(serve, host):
    assert serve().ask("/health", host=host).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8000", "localhost.evil.example", "[evil]:80", "é"]
)
def test_a_server_without_keys_answers_to_no_other_name(serve, host):
    reply = serve().ask("/health", host=host)
    assert (reply.status, reply.error["code"]) == (421, "unknown_host")


def test_a_name_that_is_allowed_and_any_name_with_a_key_are_answered_to(serve, key_file):
    assert serve(allow_host=("ner.example",)).ask("/health", host="NER.example").status == 200
    served = serve(api_key_file=key_file)
    assert served.ask("/health", host="ner.example", authorization=f"Bearer {FIRST}").status == 200


PREFLIGHT = {"origin": "https://page.example", "access_control_request_method": "POST"}


def test_no_page_of_another_origin_is_let_in_unless_asked(serve):
    served = serve()
    for method, headers in (("GET", {"origin": "https://page.example"}), ("OPTIONS", PREFLIGHT)):
        reply = served.ask("/health", method=method, **headers)
        assert not any(name.startswith("access-control") for name in reply.headers)


def test_a_page_of_an_allowed_origin_is_let_in_and_sees_refusals(serve, key_file):
    served = serve(allow_origin=("https://page.example",), api_key_file=key_file)
    asked = {**PREFLIGHT, "access_control_request_headers": "authorization,content-type"}
    assert served.ask("/echo", method="OPTIONS", **asked).status == 200
    refused = served.ask("/echo", method="POST", origin="https://page.example")
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, "https://page.example")
    other = served.ask("/echo", method="OPTIONS", **{**asked, "origin": "https://other.example"})
    assert other.status == 400
    assert "access-control-allow-origin" not in other.headers
