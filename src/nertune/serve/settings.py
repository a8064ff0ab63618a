"""What can be set about the server, each limit with its default, and the command line's options for it.

Standard library only: the command line's parser is built from here.
"""

from __future__ import annotations

import argparse
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from nertune.errors import InputError

__all__ = ["Settings", "add_server_options", "is_loopback", "settings_of"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every limit of the HTTP shell; sizes in bytes, times in seconds.

    A head (request line and headers) must be complete `patience` seconds after the connection opened or, on a connection
    that was used before, after its first byte. A body must bring 16 KiB, or its end, within every `patience` seconds: a
    half-sent one is closed, and 10 MiB over a slow line get through. The same pace is asked of a client that reads an
    answer. `max_held` bounds the bodies of all requests together, from their first byte to the end of their answer.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key_file: Path | None = None
    no_api_key: bool = False
    allow_origin: tuple[str, ...] = ()
    allow_host: tuple[str, ...] = ()
    max_head: int = 64 * 1024
    max_body: int = 10 * 1024 * 1024
    max_held: int = 256 * 1024 * 1024
    max_connections: int = 2048
    patience: float = 10.0
    keep_alive: float = 75.0
    linger: float = 2.0
    grace: float = 25.0
    log_text: bool = False


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Options of the HTTP server, in groups of their own; `settings_of` reads them."""
    default = Settings()
    group = parser.add_argument_group("address")
    group.add_argument(
        "--host", default=default.host, metavar="H", help="0.0.0.0: all of this machine's (default: %(default)s)"
    )
    group.add_argument(
        "--port", type=_port, default=default.port, metavar="N", help="0: any that is free (default: %(default)s)"
    )
    group = parser.add_argument_group("who may ask", "A key may stand in the environment, too: NERTUNE_API_KEY.")
    group.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help="keys, one a line: every route, /health and /metrics too, then wants `Authorization: Bearer KEY`",
    )
    group.add_argument(
        "--no-api-key", action="store_true", help="serve whoever reaches an address beyond this machine, without a key"
    )
    group.add_argument(
        "--allow-origin",
        action="append",
        metavar="URL",
        help="let pages of this origin ask, `*` for any; repeatable (default: none)",
    )
    group.add_argument(
        "--allow-host",
        action="append",
        metavar="NAME",
        help="a name that requests may give this server while it has no keys, behind a proxy say; repeatable (default: "
        "localhost and addresses in digits)",
    )
    _limit_options(parser, default)


def _limit_options(parser: argparse.ArgumentParser, default: Settings) -> None:
    group = parser.add_argument_group("limits")
    group.add_argument(
        "--max-body", type=_size, default=default.max_body, metavar="N", help="bytes, or 10M (default: 10M)"
    )
    group.add_argument(
        "--max-connections",
        type=_count,
        default=default.max_connections,
        metavar="N",
        help="open at a time; further ones get status 503 (default: %(default)s)",
    )
    group.add_argument(
        "--patience",
        type=_seconds,
        default=default.patience,
        metavar="S",
        help="seconds for a request's headers, and for each 16 KiB of its body (default: %(default)g)",
    )
    group.add_argument(
        "--grace",
        type=_seconds,
        default=default.grace,
        metavar="S",
        help="seconds to finish what was accepted, when stopped (default: %(default)g)",
    )
    group.add_argument("--log-text", action="store_true", help="write what users send and get into the log")


def settings_of(options: argparse.Namespace) -> Settings:
    """What was given on the command line; host and keys are checked together where the server is made."""
    return Settings(
        host=options.host,
        port=options.port,
        api_key_file=options.api_key_file,
        no_api_key=options.no_api_key,
        allow_origin=tuple(_origin(origin) for origin in options.allow_origin or ()),
        allow_host=tuple(name.lower() for name in options.allow_host or ()),
        max_body=options.max_body,
        max_connections=options.max_connections,
        patience=options.patience,
        grace=options.grace,
        log_text=options.log_text,
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address: localhost, 127.0.0.0/8, ::1."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _origin(text: str) -> str:
    if text == "*" or (text.startswith(("http://", "https://")) and text.count("/") == 2):
        return text
    raise InputError(f"--allow-origin {text}: an origin is `*`, or scheme, host and port: https://example.org:8443")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above zero")
    return int(text)


def _size(text: str) -> int:
    digits, factor = (
        (text[:-1], 1024 ** ("KMG".index(text[-1].upper()) + 1)) if text[-1:].upper() in set("KMG") else (text, 1)
    )
    if not digits.isdecimal() or int(digits) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: bytes, or a number with K, M or G")
    return int(digits) * factor


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above zero")
    return value
