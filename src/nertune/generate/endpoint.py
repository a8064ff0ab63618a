"""An OpenAI-compatible server as nertune meets it: its address, what it serves, and one clear sentence when it fails.

The official client does the talking: it retries what may pass (no connection, time-outs, status 408, 409, 429 and from 500
on) with exponential backoff and jitter, and waits as long as a Retry-After asks for, up to two minutes.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from nertune.errors import EndpointError, InputError, MissingExtraError, UnknownModelError

if TYPE_CHECKING:
    import openai

__all__ = ["Endpoint", "is_endpoint"]

_T = TypeVar("_T")
_KEYS = ("NERTUNE_API_KEY", "OPENAI_API_KEY")
_CONNECT_SECONDS = 10.0
_SHOWN = 300  # characters of what a server says
_TOO_LONG = re.compile(r"context[ _](?:length|size|window)|too (?:long|large)|too many tokens|max_model_len", re.I)
_CONSTRAINT = re.compile(r"grammar|structured|response_format|json_?schema|guided", re.I)


def is_endpoint(model: object) -> bool:
    """Whether a MODEL is the address of a server."""
    return isinstance(model, str) and model.startswith(("http://", "https://"))


class Endpoint:
    """A server and one of its models, `http://host:port/v1#model-name`; the name may be left out where there is one.

    The server is asked at once what it serves. `models`: their names, empty where it does not tell; `vllm`: its version
    where it is vLLM, (0,) where it does not say which, else None; `own`: it is `nertune serve`, which takes what the newest
    vLLM takes, and `vllm` is (0,); `context`: tokens of prompt and answer that the model holds,
    where it tells. `timeout`: seconds for one answer. `retries`: tries
    after the first. `requests_per_minute`: never more, retries included; None sets no limit.
    `key`: None takes it from the environment, NERTUNE_API_KEY before OPENAI_API_KEY.
    Raises InputError for an address that is none, UnknownModelError for a model that is not served, EndpointError where
    the server is not there or refuses the key.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float = 300,
        retries: int = 5,
        requests_per_minute: float | None = None,
        key: str | None = None,
    ) -> None:
        self.url, self.model = _parts(address)
        self.timeout, self.retries = timeout, retries
        self._key_name = next((name for name in _KEYS if os.environ.get(name)), None) if key is None else None
        self._key = os.environ[self._key_name] if self._key_name else key or ""
        self._names = " or ".join(_KEYS if key is None else _KEYS[1:])
        self._pace = _Pace(requests_per_minute)
        self.client = self._connect()
        self.models: tuple[str, ...] = ()
        self.vllm: tuple[int, ...] | None = None
        self.own = False
        self.context: int | None = None
        self._look()

    @property
    def root(self) -> str:
        """The address without `/v1`: where vLLM has `/version` and `/tokenize`."""
        return self.url.removesuffix("/v1")

    def call(self, ask: Callable[[openai.OpenAI], _T], *, about: str = "") -> _T:
        """What `ask` makes of the client; every failure becomes an error of nertune's, which begins with `about`.

        Raises InputError for a prompt that is too long, UnknownModelError, EndpointError.
        """
        return self._call(self.client, ask, about)

    def _call(self, client: openai.OpenAI, ask: Callable[[openai.OpenAI], _T], about: str) -> _T:
        import openai

        try:
            return ask(client)
        except openai.APITimeoutError as error:
            raise self._error(
                f"no answer within {self.timeout:g} s in {self.retries + 1} tries. Allow more time, or ask less at once "
                "(--timeout, --concurrency)"
            ) from error
        except openai.APIConnectionError as error:
            reason = error.__cause__ or error
            raise self._error(f"cannot be reached: {reason}. Does the server run, and is this its address?") from error
        except openai.APIStatusError as error:
            self._refused(error, about)
        except (openai.OpenAIError, ValueError) as error:  # a body that is not JSON
            raise self._error(f"what it answered cannot be read ({type(error).__name__}: {error})") from error

    def tokenize(self, messages: Sequence[tuple[str, str]]) -> list[int] | None:
        """The prompt that the server itself makes of messages, as token ids; None where it does not tell.

        vLLM's `/tokenize`, which applies the model's chat template.
        """
        body = {
            "model": self.model,
            "messages": [{"role": role, "content": content} for role, content in messages],
            "add_generation_prompt": True,
            "chat_template_kwargs": {"enable_thinking": False},
        }
        said = self._told(lambda client: client.post(f"{self.root}/tokenize", body=body, cast_to=object))
        ids = said.get("tokens") if isinstance(said, dict) else None
        if not isinstance(ids, list) or not ids or not all(isinstance(token_id, int) for token_id in ids):
            return None
        return ids

    def count(self, messages: Sequence[tuple[str, str]]) -> int | None:
        """How many tokens the server makes of messages, as it counts them for an answer; None where it does not."""
        chat: Any = [{"role": role, "content": content} for role, content in messages]
        answer = self._told(
            lambda client: client.chat.completions.create(
                model=str(self.model), messages=chat, extra_body={"max_tokens": 1}, temperature=0
            )
        )
        return getattr(getattr(answer, "usage", None), "prompt_tokens", None)

    def _told(self, ask: Callable[[openai.OpenAI], Any]) -> Any:
        """What a server tells that not every server knows to tell; None where it refuses."""
        try:
            return self.call(ask)
        except EndpointError as error:
            if error.exit_code == 2:
                return None
            raise

    def _connect(self) -> openai.OpenAI:
        try:
            import openai
        except ImportError as error:
            raise MissingExtraError("a server as the engine", extra="remote") from error
        # No redirects: prompts and key go to the named address or nowhere. A proxy has no business on this machine.
        http = openai.DefaultHttpxClient(
            follow_redirects=False,
            trust_env=not _is_loopback(self.url),
            event_hooks={"request": [lambda request: self._pace.wait()]},
        )
        return openai.OpenAI(
            base_url=self.url,
            api_key=self._key or "none",
            max_retries=self.retries,
            timeout=openai.Timeout(self.timeout, connect=_CONNECT_SECONDS),
            http_client=http,
        )

    def _look(self) -> None:
        """What the server serves, and whether it is vLLM."""
        quick = self.client.with_options(max_retries=min(self.retries, 1), timeout=min(self.timeout, 30.0))
        try:
            listed: Any = self._call(quick, lambda client: client.get("/models", cast_to=object), "")
        except _NotFoundError:
            self._look_below(quick)
            if self.model is None:
                raise
            return  # some gateways do not list their models
        rows = listed.get("data") if isinstance(listed, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self._error(f"this is no OpenAI-compatible API. {_ENDS_IN_V1}", exit_code=2)
        self.models = tuple(str(row.get("id")) for row in rows)
        self.model = self._known(self.model)
        self.context = _context({str(row.get("id")): row for row in rows}, self.model)
        self.own = any(row.get("owned_by") == "nertune" for row in rows)
        if self.own:
            self.vllm = (0,)
        elif any(row.get("owned_by") == "vllm" for row in rows):
            self.vllm = self._version(quick)

    def _look_below(self, client: openai.OpenAI) -> None:
        """Say so where the address lacks its end."""
        try:
            self._call(client, lambda client: client.get(f"{self.url}/v1/models", cast_to=object), "")
        except EndpointError:
            return
        raise self._error(f"no API there, but there is one at {self.url}/v1. Name that address", 2)

    def _known(self, name: str | None) -> str:
        if name is None and len(self.models) == 1:
            return self.models[0]
        shown = ", ".join(self.models[:20]) + (", …" if len(self.models) > 20 else "")
        if name is None:
            raise UnknownModelError(
                f"{self.url}: which model? Name one as {self.url}#NAME. It serves: {shown or 'none'}"
            )
        if name not in self.models:
            near = difflib.get_close_matches(name, self.models, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise UnknownModelError(f"{self.url}: no model {name!r} there{hint} It serves: {shown or 'none'}")
        return name

    def _version(self, client: openai.OpenAI) -> tuple[int, ...]:
        try:
            said: Any = self._call(client, lambda client: client.get(f"{self.root}/version", cast_to=object), "")
            return tuple(int(part) for part in re.findall(r"\d+", said["version"])[:3]) or (0,)
        except (EndpointError, KeyError, TypeError):
            return (0,)

    def _refused(self, error: openai.APIStatusError, about: str) -> NoReturn:
        """Raise what a status means, in words that say what to do."""
        status, said = error.status_code, self._said(error)
        tail = f" The server says: {said}" if said else ""
        if status in (401, 403):
            given = "refuses the key" if self._key else "wants a key"
            tried = f"refuses the key in {self._key_name}" if self._key_name else given
            raise self._error(f"{tried} (status {status}). Set {self._names}", 2) from error
        if 300 <= status < 400:
            target = error.response.headers.get("location", "")
            raise self._error(f"leads on to {target!r:.200}, and that is not followed. Name that address", 2) from error
        if status == 404:
            if self.model is not None and "model" in said.lower():
                raise UnknownModelError(f"{self.url}: no model {self.model!r} there.{tail}") from error
            raise _NotFoundError(
                f"{self.url}: no such page there (status 404, {error.request.url.path}). {_ENDS_IN_V1}", exit_code=2
            ) from error
        if status in (400, 413, 422) and (_TOO_LONG.search(said) or error.code == "context_length_exceeded"):
            raise InputError(f"{about}prompt and answer do not fit into {self.model}; split the text.{tail}") from error
        if status in (400, 422) and _CONSTRAINT.search(said):
            raise self._error(
                f"refuses the grammar or schema that answers are to keep to.{tail} --unconstrained leaves the model free",
                2,
            ) from error
        if status == 429:
            raise self._error(
                f"too many requests, {self.retries + 1} times (status 429). Ask less at once "
                f"(--requests-per-minute, --concurrency).{tail}"
            ) from error
        if status >= 500 or status in (408, 409):
            raise self._error(f"failed {self.retries + 1} times, at last with status {status}.{tail}") from error
        raise self._error(f"{about}refused with status {status}.{tail}", 2) from error

    def _said(self, error: openai.APIStatusError) -> str:
        """A server's own words, short and without the key."""
        body = error.body
        if isinstance(body, dict):
            body = body.get("message") or body.get("detail") or body
        said = " ".join(str(body or "").split())
        return (said.replace(self._key, "…") if self._key else said)[:_SHOWN]

    def _error(self, message: str, exit_code: int = 1) -> EndpointError:
        return EndpointError(f"{self.url}: {message}", exit_code=exit_code)


_ENDS_IN_V1 = "Such an address mostly ends in /v1"


class _NotFoundError(EndpointError):
    """Status 404 of a page, not of a model."""


class _Pace:
    """Lets at most so many requests a minute through, evenly spaced."""

    def __init__(self, per_minute: float | None) -> None:
        self._gap = 60 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        if not self._gap:
            return
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + self._gap
        time.sleep(max(0.0, turn - time.monotonic()))


def _parts(address: str) -> tuple[str, str | None]:
    """The address of the API and the model's name."""
    url, _, model = address.partition("#")
    try:
        split = urlsplit(url)
        usable = split.scheme in ("http", "https") and bool(split.hostname) and (split.port is None or split.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise InputError(f"{url!r} is not the address of a server. Write http://host:port/v1#model-name")
    if split.username is not None or split.password is not None or split.query:
        raise InputError(
            f"the address of a server holds no password and no query ({split.hostname}): set NERTUNE_API_KEY instead"
        )
    return url.rstrip("/"), model or None


def _context(rows: Mapping[str, Any], model: str | None) -> int | None:
    """vLLM's max_model_len of a model; an adapter's is that of its base model."""
    for name in (model, rows.get(str(model), {}).get("parent")):
        length = rows.get(str(name), {}).get("max_model_len")
        if isinstance(length, int) and length > 0:
            return length
    return None


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
