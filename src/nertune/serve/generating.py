"""What chat and completions do alike with a request: hold it to a grammar, size it, hand it to the engine."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from nertune.errors import InputError
from nertune.generate import Request
from nertune.serve.answering import Answering
from nertune.serve.bodies import Generation
from nertune.serve.constraints import grammar_of
from nertune.serve.errors import ApiError
from nertune.serve.models import ServedModel
from nertune.serve.service import Service
from nertune.serve.words import Words

__all__ = ["EVENTS", "IGNORED", "begin", "ignored_header"]

_WRAPPING = re.compile(r"\bat \d+\(\d+\): |\n *\d+ \| start: (?s:.*)")
IGNORED = "X-Nertune-Ignored"
"""The header that names arguments of a request which were not applied."""
EVENTS: dict[str, dict[str, object]] = {"text/event-stream": {}}
"""What OpenAPI says of an answer that is streamed."""


async def begin(
    service: Service, model: ServedModel, body: Generation, prompt: Callable[[], Sequence[int]]
) -> tuple[Request, Answering]:
    """Hand a request to the engine. `prompt`: writes its token ids, in a thread. Raises ApiError, QueueFullError."""

    def request() -> Request:
        grammar = grammar_of(body.response_format, body.structured_outputs)
        if grammar is not None:
            _check_grammar(model, body, grammar)
        return model.request(
            prompt(),
            max_new_tokens=body.limit,
            default_tokens=service.default_tokens,
            grammar=grammar,
            stop_ids=body.stop_token_ids,
        )

    if body.stream_options is not None and not body.stream:
        raise ApiError("stream_options: needs stream: true", param="stream_options")
    service.loop.check()
    made = await service.in_thread(request)
    words = Words(model.tokenizer, stops=body.stops, special=not body.skip_special_tokens)
    return made, Answering(service.loop, made, words, streamed=bool(body.stream or body.stops))


def _check_grammar(model: ServedModel, body: Generation, grammar: str) -> None:
    try:
        model.check_grammar(grammar)
    except InputError as error:
        wanted = "response_format" if body.structured_outputs is None else "structured_outputs"
        reason = str(error)
        if body.structured_outputs is None or body.structured_outputs.grammar is None:
            reason = _WRAPPING.sub("", reason)  # places in a grammar that is ours, around what the client sent
        raise ApiError(f"{wanted}: {reason}", param=wanted) from error


def ignored_header(body: Generation) -> dict[str, str]:
    """Which arguments were not applied; nothing where all were."""
    return {IGNORED: ", ".join(body.ignored)} if body.ignored else {}
