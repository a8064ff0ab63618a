"""The remote engine: the same requests, answered by a server that speaks OpenAI's API.

vLLM gets the prompt as token ids, the very ones that training saw, and the grammar; it gives token ids and their
probabilities back. Other servers get the prompt's messages and, where the answer format has one, a JSON schema; they give
text back.
"""

from __future__ import annotations

import json
import math
import queue
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from nertune.errors import EndpointError
from nertune.generate.asking import RemoteAsking
from nertune.generate.endpoint import Endpoint
from nertune.generate.engine import Completion, Request
from nertune.schema import StopReason

__all__ = ["RemoteEngine", "grammar_for_vllm"]

# From this version on `structured_outputs` is known; an older server would ignore it without a word.
_STRUCTURED = (0, 11)
# A server's model may come with settings for conversation, such as Qwen's repetition penalty of 1.05: the greedy answer
# of the same weights is another one then.
_PLAIN = {"repetition_penalty": 1.0, "min_p": 0.0}
_THOUGHT = re.compile(r"\s*<think>.*?</think>\s*", re.S)
_WRAP = "entities"
_ABOVE_ONE = 1e-3  # of a logprob that is 0 but for rounding


class RemoteEngine:
    """Sends requests to an Endpoint, at most `concurrency` at a time.

    `token_ids`: whether the requests' `prompt_ids` are those of the served model's own tokenizer; without it every server
    gets messages. One failed request ends the others: its error is raised, and nothing more is sent.
    """

    def __init__(self, endpoint: Endpoint, *, concurrency: int = 16, token_ids: bool = True) -> None:
        self.endpoint = endpoint
        self._concurrency = concurrency
        self._slots = threading.BoundedSemaphore(concurrency)
        self._token_ids = token_ids
        self._sampling: dict[str, Any] = {"temperature": 0}

    @property
    def at_once(self) -> int:
        """Requests that are sent together."""
        return self._concurrency

    def asking(self) -> RemoteAsking:
        """For requests that come one after another: keeps the server busy, whatever answers are waited for."""
        return RemoteAsking(lambda request: self.answer(request, about="text 1: "), self._concurrency)

    def generate(self, requests: Sequence[Request], *, done: Callable[[int], None] | None = None) -> list[Completion]:
        """Raises InputError for a prompt that the server finds too long, else as Endpoint.call."""
        waiting = iter(enumerate(requests))
        answered: queue.SimpleQueue[tuple[int, Completion | BaseException]] = queue.SimpleQueue()
        taking, stopped = threading.Lock(), threading.Event()

        def work() -> None:
            while not stopped.is_set():
                with taking:
                    place, request = next(waiting, (-1, None))
                if request is None:
                    return
                try:
                    with self._slots:
                        answered.put((place, self.answer(request, about=f"text {place + 1}: ")))
                except BaseException as error:
                    answered.put((place, error))
                    return

        # Daemons: an interrupted program does not wait for answers that nobody will read.
        for _ in range(min(self._concurrency, len(requests))):
            threading.Thread(target=work, daemon=True).start()
        completions: dict[int, Completion] = {}
        try:
            for ended in range(1, len(requests) + 1):
                place, outcome = answered.get()
                if isinstance(outcome, BaseException):
                    raise outcome
                completions[place] = outcome
                if done:
                    done(ended)
        finally:
            stopped.set()
        return [completions[place] for place in range(len(requests))]

    def answer(self, request: Request, *, about: str = "") -> Completion:
        """One request, from any thread; errors begin with `about`. Raises InputError, else as Endpoint.call."""
        if self.endpoint.vllm and request.grammar and (0,) < self.endpoint.vllm < _STRUCTURED:
            version = ".".join(map(str, self.endpoint.vllm))
            raise EndpointError(
                f"{self.endpoint.url}: vLLM {version} knows no structured_outputs: it takes 0.11 or newer, or "
                "--unconstrained, which leaves the model free",
                exit_code=2,
            )
        if self.endpoint.vllm and self._token_ids:
            return self._complete(request, about)
        return self._chat(request, about)

    def _complete(self, request: Request, about: str) -> Completion:
        """Token ids in, token ids out: vLLM's completions."""
        extra: dict[str, Any] = {
            **_PLAIN,
            "stop_token_ids": sorted(request.stop_ids),
            "return_token_ids": True,
            "skip_special_tokens": False,
        }
        if request.grammar:
            extra["structured_outputs"] = {"grammar": self._grammar(request.grammar, request.stop_ids)}
        answer = self.endpoint.call(
            lambda client: client.completions.create(
                model=str(self.endpoint.model),
                prompt=list(request.prompt_ids),
                max_tokens=request.max_new_tokens,
                temperature=0,
                logprobs=0,
                extra_body=extra,
            ),
            about=about,
        )
        choice = self._choice(answer)
        stop = self._stop(choice)
        ids = getattr(choice, "token_ids", None)
        if ids is None:  # before vLLM 0.10.2
            return Completion((), stop, text=choice.text or "")
        chances = _chances(choice, about=f"{about}{self.endpoint.url}")
        end = len(ids) - 1 if ids and ids[-1] in request.stop_ids else len(ids)
        return Completion(tuple(ids[:end]), stop, logprobs=tuple(chances[: len(ids)]))

    def _chat(self, request: Request, about: str) -> Completion:
        """Messages in, text out: what every server knows."""
        extra: dict[str, Any] = {}
        schema = request.schema
        if self.endpoint.vllm:
            extra |= {**_PLAIN, "chat_template_kwargs": {"enable_thinking": False}}
            if request.grammar:
                extra["structured_outputs"], schema = {"grammar": self._grammar(request.grammar)}, None
        # A model trained here is asked for what it was trained on; any other may be behind OpenAI's strict mode, which
        # takes objects alone.
        wrapped = schema is not None and not self._token_ids and schema.get("type") != "object"
        if wrapped:
            schema = {"type": "object", "properties": {_WRAP: schema}, "additionalProperties": False}
        if schema is not None:
            extra["response_format"] = _response_format(schema if self._token_ids else _strict(schema))
        openai_itself = (urlsplit(self.endpoint.url).hostname or "").endswith("openai.com")
        extra["max_completion_tokens" if openai_itself else "max_tokens"] = request.max_new_tokens
        messages: Any = [{"role": role, "content": content} for role, content in request.messages]
        answer = self.endpoint.call(lambda client: self._sampled(client, messages, extra), about=about)
        choice = self._choice(answer)
        text = _THOUGHT.sub("", str(getattr(choice.message, "content", None) or ""), count=1)
        return Completion((), self._stop(choice), text=_unwrapped(text) if wrapped else text)

    def _grammar(self, grammar: str, stop_ids: frozenset[int] = frozenset()) -> str:
        """As the server is to have it: nertune's own ends an answer at any stop token by itself, as it is done here."""
        return grammar if self.endpoint.own else grammar_for_vllm(grammar, stop_ids)

    def _sampled(self, client: Any, messages: Any, extra: Mapping[str, Any]) -> Any:
        """OpenAI's reasoning models refuse a temperature: they are asked without from then on."""
        import openai

        while True:
            sampling = self._sampling
            try:
                return client.chat.completions.create(
                    model=self.endpoint.model, messages=messages, extra_body=extra, **sampling
                )
            except openai.BadRequestError as error:
                if not sampling or error.param not in sampling:
                    raise
                self._sampling = {key: value for key, value in sampling.items() if key != error.param}

    def _choice(self, answer: Any) -> Any:
        choices = getattr(answer, "choices", None)
        if not choices:
            raise EndpointError(f"{self.endpoint.url}: it answered something that is no completion: {answer!r:.200}")
        return choices[0]

    def _stop(self, choice: Any) -> StopReason:
        reason = choice.finish_reason
        if reason in ("abort", "error"):
            raise EndpointError(f"{self.endpoint.url}: it broke an answer off ({reason}); its log says why")
        return "length" if reason in ("length", "content_filter") else "end"


def grammar_for_vllm(grammar: str, stop_ids: frozenset[int] = frozenset()) -> str:
    """A grammar as vLLM is to have it: read by llguidance, and ended by any of the tokens that end an answer.

    The first line is one that xgrammar, which vLLM tries first, refuses. By itself llguidance lets an answer end with the
    tokenizer's end-of-sequence token alone; a trained model ends its turn with another one.
    """
    head = "%llguidance {}\n"
    if not stop_ids:
        return head + grammar
    answer = re.sub(r"^start\s*:", "nertune_answer:", grammar, count=1, flags=re.M)
    ends = ",".join(map(str, sorted(stop_ids)))
    return f"{head}{answer}\nstart: nertune_answer <[{ends}]>?"


def _response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "entities", "strict": True, "schema": schema}}


def _strict(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema within OpenAI's strict mode: every property required, no lengths of strings."""
    strict = {key: value for key, value in schema.items() if key != "minLength"}
    if "items" in strict:
        strict["items"] = _strict(strict["items"])
    if "properties" in strict:
        strict["properties"] = {name: _strict(value) for name, value in strict["properties"].items()}
        strict["required"] = list(strict["properties"])
    return strict


def _unwrapped(text: str) -> str:
    """The list inside the object; the text as it is where there is no such object."""
    try:
        return json.dumps(json.loads(text)[_WRAP], ensure_ascii=False)
    except (ValueError, KeyError, TypeError, RecursionError):
        return text


def _chances(choice: Any, *, about: str) -> tuple[float, ...]:
    """The logprobs of an answer's tokens; empty where the server does not tell. Raises EndpointError for what cannot be."""
    chances = tuple(getattr(choice.logprobs, "token_logprobs", None) or ())
    if None in chances:
        return ()
    if not all(math.isfinite(chance) and chance < _ABOVE_ONE for chance in chances):
        raise EndpointError(
            f"{about}: the server answers with probabilities that are not finite or above 1: its model is damaged, or runs in "
            "a type that is too small for its numbers"
        )
    return chances
