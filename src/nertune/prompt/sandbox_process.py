"""Render chat templates in a process of its own: the program that `sandbox.py` starts.

It reads one JSON object a line (`template`, `variables`, `seconds`, `characters`) and answers each with one: `text`,
`refused` where the template itself raises an error, or `limit` where it asks for more than it may have. Its address
space, its output and the processor time of each job are limited, and it can write no file.

The environment is the one that transformers renders chat templates in (`transformers.utils.chat_template_utils`). It is
written again here so that the process starts in a tenth of a second, without transformers; tests compare the two.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import ext, nodes
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__: list[str] = []

_BYTES = 1 << 29  # address space
_LONGEST = 1000  # characters of an error that are sent back


class _Generation(ext.Extension):
    """`{% generation %}…{% endgeneration %}`: marks what is trained elsewhere, and writes its contents."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_written"), [], [], body).set_lineno(line)

    def _written(self, caller: Callable[[], str]) -> str:
        return caller()


class _Namespace(jinja2.utils.Namespace):
    """`namespace(…)` without underscored names, through which a template could reach Python's internals."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, values = args[0], dict(*args[1:], **kwargs)
        for name in values:
            _Namespace._check(name)
        jinja2.utils.Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _Namespace._check(name)
        super().__setitem__(name, value)

    @staticmethod
    def _check(name: Any) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace takes no name with an underscore before it: {name!r}")


class _Dict:
    """`dict(…)` without the attributes of the class."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _environment() -> ImmutableSandboxedEnvironment:
    found = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, ext.loopcontrols]
    )
    found.filters["tojson"] = _to_json
    found.globals.update({"raise_exception": _raise, "strftime_now": _now, "dict": _Dict(), "namespace": _Namespace})
    return found


@lru_cache(8)
def _compiled(source: str) -> jinja2.Template:
    return _environment().from_string(source)


def _render(template: str, variables: dict[str, Any], characters: int) -> dict[str, str]:
    pieces: list[str] = []
    room = characters
    try:
        for piece in _compiled(template).generate(variables):
            room -= len(piece)
            if room < 0:
                return {"limit": f"writes more than {characters:,} characters"}
            pieces.append(piece)
    except MemoryError:
        return {"limit": "needs more than 512 MiB of memory"}
    except (RecursionError, OverflowError) as error:
        return {"limit": f"asks for too much ({error})"[:_LONGEST]}
    except Exception as error:  # Jinja templates raise what they like, "System role not supported" among it.
        return {"refused": (str(error) or type(error).__name__)[:_LONGEST]}
    return {"text": "".join(pieces)}


def _limit_process() -> None:
    with suppress(ImportError, ValueError, OSError):  # no such limits on this system
        import resource

        for what, most in ((resource.RLIMIT_AS, _BYTES), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
            resource.setrlimit(what, (most, most))


def _limit_job(seconds: int) -> None:
    """Let the kernel end the process after so many more seconds of processor time."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + seconds, hard))


def _serve() -> None:
    _limit_process()
    for line in sys.stdin.buffer:
        job = json.loads(line)
        _limit_job(job["seconds"])
        answer = _render(job["template"], job["variables"], job["characters"])
        sys.stdout.buffer.write(json.dumps(answer).encode("ascii") + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve()
