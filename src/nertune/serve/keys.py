"""Who may ask: API keys, and the names under which a server without keys lets itself be called."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from nertune.errors import InputError, MissingFileError
from nertune.serve.replies import ASGIApp, Receive, Scope, Send, send_error
from nertune.serve.settings import Settings, is_loopback

__all__ = ["VARIABLE", "HostGuard", "KeyGuard", "KeyRing", "read_keys"]

VARIABLE = "NERTUNE_API_KEY"
_SHORT = 16


class KeyRing:
    """API keys, kept as hashes only: a comparison takes as long for every key that is offered."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._hashes = [_hash(key.encode()) for key in keys]

    def __len__(self) -> int:
        return len(self._hashes)

    def opens(self, authorization: bytes | None) -> bool:
        """Whether the value of an Authorization header holds one of the keys."""
        scheme, _, offered = (authorization or b"").partition(b" ")
        hashed = _hash(offered.strip())
        found = [hmac.compare_digest(hashed, known) for known in self._hashes]
        return any(found) and scheme.lower() == b"bearer"


def read_keys(path: Path | None, environment: Mapping[str, str]) -> tuple[KeyRing, list[str]]:
    """The keys of a file (one a line, `#` begins a comment line) and of the environment, and what to warn about.

    Raises InputError for a file without a key, or with one that no header can carry. No message ever holds a key.
    """
    keys, warnings = [], []
    if given := environment.get(VARIABLE, "").strip():
        keys.append(_checked(given, VARIABLE))
    if path is not None:
        if not path.is_file():
            raise MissingFileError(f"{path}: there is no such file of API keys")
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        in_file = [
            _checked(line.strip(), f"{path}:{number}")
            for number, line in enumerate(lines, 1)
            if line.strip() and not line.startswith("#")
        ]
        if not in_file:
            raise InputError(f"{path}: it holds no API key. Write one a line")
        if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            warnings.append(f"{path}: others on this machine can read the API keys. Type: chmod 600 {path}")
        keys += in_file
    if any(len(key) < _SHORT for key in keys):
        warnings.append(f"an API key has fewer than {_SHORT} characters: it can be guessed")
    return KeyRing(keys), warnings


class KeyGuard:
    """Asks every request for a key, if there are any."""

    def __init__(self, app: ASGIApp, keys: KeyRing) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._keys or self._keys.opens(_header(scope, b"authorization")):
            await self._app(scope, receive, send)
            return
        message = "This server wants an API key: Authorization: Bearer KEY"
        challenge = ((b"www-authenticate", b"Bearer"),)
        await send_error(scope, send, 401, message, code="invalid_api_key", headers=challenge, close=True)


class HostGuard:
    """Keeps web pages out of a server that has no keys because only this machine reaches it.

    A page may rebind its own name to 127.0.0.1 and so read what it asks for; the Host header still tells that name. Names are
    let in only if allowed; localhost and addresses in digits always are (CVE-2024-28224 shows it done to a peer).
    """

    def __init__(self, app: ASGIApp, settings: Settings, keys: KeyRing) -> None:
        self._app = app
        self._names = settings.allow_host
        self._asks = is_loopback(settings.host) and not keys and "*" not in settings.allow_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._asks or self._known(_header(scope, b"host")):
            await self._app(scope, receive, send)
            return
        message = "This server is not called so. Start it with --allow-host NAME, or with an API key"
        await send_error(scope, send, 421, message, code="unknown_host", close=True)

    def _known(self, host: bytes | None) -> bool:
        if not host:
            return True
        name = host.decode("latin-1").lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name.rstrip(".") == "localhost" or name in self._names
        return True


def _header(scope: Scope, name: bytes) -> bytes | None:
    return next((value for key, value in scope["headers"] if key == name), None)


def _hash(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _checked(key: str, where: str) -> str:
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InputError(f"{where}: an API key is made of ASCII letters, digits and signs, without spaces")
    return key
