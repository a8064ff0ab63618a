"""`POST /v1/completions` and `POST /tokenize`: prompts as text or token ids; what nertune's own client asks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi import Request as HttpRequest
from fastapi.responses import Response

from nertune.generate import Request
from nertune.serve.answering import Answering, CancellingResponse, TextOffsets, event, token_entries
from nertune.serve.answers import CompletionReply, TextChoice, TextLogprobs, Tokens, Usage
from nertune.serve.bodies import CompletionBody, TokenizeBody
from nertune.serve.errors import ANY_ERROR, ApiError, as_api_error
from nertune.serve.generating import EVENTS, begin, ignored_header
from nertune.serve.json_route import JsonRoute
from nertune.serve.models import ServedModel
from nertune.serve.replies import note
from nertune.serve.service import Service, new_id

__all__ = ["add_completions"]


def add_completions(app: FastAPI, service: Service) -> None:
    """Add the routes."""
    routes = APIRouter(tags=["OpenAI"], route_class=JsonRoute)

    @routes.post(
        "/v1/completions",
        response_model=CompletionReply,
        response_model_exclude_none=True,
        responses=ANY_ERROR | {200: {"model": CompletionReply, "content": EVENTS}},
    )
    async def complete(body: CompletionBody, http: HttpRequest, answer: Response) -> Any:
        """How a prompt goes on. Control tokens in a text act as such here: whoever writes the prompt writes the turns."""
        model = service.catalogue.find(body.model)
        if (body.logprobs or 0) > 1:
            raise ApiError(
                "logprobs: at most 1, which is the token that was chosen; the others' probabilities are not kept",
                param="logprobs",
            )
        text = body.prompt if isinstance(body.prompt, str) else f"{len(body.prompt)} token ids"
        note(http.scope, model=model.name, stream=bool(body.stream), text=text)
        request, answering = await begin(service, model, body, lambda: _prompt_ids(model, body))
        headers = ignored_header(body)
        reply = CompletionReply(id=new_id("cmpl"), created=int(time.time()), model=model.name, choices=[])
        if body.stream:
            return CancellingResponse(
                _events(model, body, request, answering, reply, http),
                over=answering.cancel,
                media_type="text/event-stream",
                headers=headers,
            )
        found = await answering.whole()
        answer.headers.update(headers)
        choice = TextChoice(
            text=found.text,
            logprobs=_logprobs(model, body, found.ids, found.logprobs, TextOffsets()),
            finish_reason=found.finish,
            token_ids=list(found.ids) if body.return_token_ids else None,
            prompt_token_ids=list(request.prompt_ids) if body.return_token_ids else None,
        )
        usage = Usage.of(len(request.prompt_ids), found.generated)
        note(http.scope, **usage.model_dump())
        return reply.model_copy(update={"choices": [choice], "usage": usage})

    @routes.post("/tokenize", response_model=Tokens, responses=ANY_ERROR)
    async def tokenize(body: TokenizeBody) -> Tokens:
        """The token ids of a text, or of messages as the model is sent them."""
        models = service.catalogue
        model = models.find(body.model if body.model is not None else next(iter(models.models)))

        def ids() -> list[int]:
            if body.messages is None:
                return model.conversation.text_ids(body.prompt or "", special=body.add_special_tokens)
            thinking = body.chat_template_kwargs is not None and body.chat_template_kwargs.enable_thinking
            return model.conversation.prompt_ids([message.turn for message in body.messages], thinking=thinking)

        tokens = await service.in_thread(ids)
        return Tokens(count=len(tokens), max_model_len=model.context, tokens=tokens)

    app.include_router(routes)


def _prompt_ids(model: ServedModel, body: CompletionBody) -> Sequence[int]:
    if isinstance(body.prompt, str):
        return model.conversation.text_ids(body.prompt, special=body.add_special_tokens)
    return body.prompt


def _logprobs(
    model: ServedModel, body: CompletionBody, ids: Sequence[int], logprobs: Sequence[float], offsets: TextOffsets
) -> TextLogprobs | None:
    if body.logprobs is None:
        return None
    entries = token_entries(model.places, ids, logprobs)
    return TextLogprobs(
        tokens=[entry.token for entry in entries],
        token_logprobs=[entry.logprob for entry in entries],
        top_logprobs=[{entry.token: entry.logprob} if body.logprobs else {} for entry in entries],
        text_offset=offsets.of(entries),
    )


async def _events(
    model: ServedModel,
    body: CompletionBody,
    request: Request,
    answering: Answering,
    reply: CompletionReply,
    http: HttpRequest,
) -> AsyncIterator[bytes]:
    """What came, why it ended, the usage where it is asked for, and `[DONE]`; or an error."""

    def chunk(choices: list[TextChoice], usage: Usage | None = None) -> bytes:
        return event(reply.model_copy(update={"choices": choices, "usage": usage}).model_dump())

    offsets = TextOffsets()
    try:
        async for piece in answering.pieces():
            yield chunk(
                [
                    TextChoice(
                        text=piece.text,
                        logprobs=_logprobs(model, body, piece.ids, piece.logprobs, offsets),
                        finish_reason=None,
                        token_ids=list(piece.ids) if body.return_token_ids else None,
                    )
                ]
            )
    except Exception as error:  # the status is sent already
        yield event(as_api_error(error).body())
        return
    usage = Usage.of(len(request.prompt_ids), answering.generated)
    note(http.scope, **usage.model_dump())
    yield chunk([TextChoice(text="", finish_reason=answering.finish)])
    if body.stream_options is not None and body.stream_options.include_usage:
        yield chunk([], usage)
    yield event("[DONE]")
