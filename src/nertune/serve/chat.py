"""`POST /v1/chat/completions`: messages in, words out, whole or as they come."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi import Request as HttpRequest
from fastapi.responses import Response

from nertune.generate import Request
from nertune.serve.answering import Answering, CancellingResponse, event, token_entries
from nertune.serve.answers import AssistantMessage, ChatLogprobs, ChatReply, Choice, TokenLogprob, Usage
from nertune.serve.bodies import ChatBody
from nertune.serve.errors import ANY_ERROR, ApiError, as_api_error
from nertune.serve.generating import EVENTS, begin, ignored_header
from nertune.serve.json_route import JsonRoute
from nertune.serve.models import ServedModel
from nertune.serve.replies import note
from nertune.serve.service import Service, new_id

__all__ = ["add_chat"]


def add_chat(app: FastAPI, service: Service) -> None:
    """Add the route."""
    routes = APIRouter(tags=["OpenAI"], route_class=JsonRoute)

    @routes.post(
        "/v1/chat/completions",
        response_model=ChatReply,
        response_model_exclude_none=True,
        responses=ANY_ERROR | {200: {"model": ChatReply, "content": EVENTS}},
    )
    async def chat(body: ChatBody, http: HttpRequest, answer: Response) -> Any:
        """The model's answer to a conversation. Generation is greedy; a grammar holds it where one is asked for."""
        model = service.catalogue.find(body.model)
        if body.top_logprobs and not body.logprobs:
            raise ApiError("top_logprobs: needs logprobs: true", param="top_logprobs")
        if (body.top_logprobs or 0) > 1:
            raise ApiError(
                "top_logprobs: at most 1, which is the token that was chosen; the others' probabilities are not kept",
                param="top_logprobs",
            )
        note(http.scope, model=model.name, stream=bool(body.stream), text=body.messages[-1].turn[1])
        request, answering = await begin(service, model, body, lambda: _prompt_ids(model, body))
        headers = ignored_header(body)
        if body.stream:
            stream = _Stream(http, model, body, request, answering)
            return CancellingResponse(
                stream.events(), over=answering.cancel, media_type="text/event-stream", headers=headers
            )
        found = await answering.whole()
        usage = Usage.of(len(request.prompt_ids), found.generated)
        note(http.scope, **usage.model_dump())
        answer.headers.update(headers)
        logprobs = ChatLogprobs(content=_entries(model, body, found.ids, found.logprobs)) if body.logprobs else None
        return ChatReply(
            id=new_id("chatcmpl"),
            created=int(time.time()),
            model=model.name,
            choices=[
                Choice(
                    message=AssistantMessage(content=found.text),
                    logprobs=logprobs,
                    finish_reason=found.finish,
                    token_ids=list(found.ids) if body.return_token_ids else None,
                )
            ],
            usage=usage,
            prompt_token_ids=list(request.prompt_ids) if body.return_token_ids else None,
        )

    app.include_router(routes)


def _prompt_ids(model: ServedModel, body: ChatBody) -> Sequence[int]:
    thinking = body.chat_template_kwargs is not None and body.chat_template_kwargs.enable_thinking
    return model.conversation.prompt_ids([message.turn for message in body.messages], thinking=thinking)


def _entries(model: ServedModel, body: ChatBody, ids: Any, logprobs: Any) -> list[TokenLogprob]:
    entries = (entry._asdict() for entry in token_entries(model.places, ids, logprobs))
    return [TokenLogprob(**entry, top_logprobs=[entry] if body.top_logprobs else []) for entry in entries]


class _Stream:
    """An answer as server-sent events."""

    def __init__(
        self, http: HttpRequest, model: ServedModel, body: ChatBody, request: Request, answering: Answering
    ) -> None:
        self._http = http
        self._model, self._body, self._request, self._answering = model, body, request, answering
        self._usage = body.stream_options is not None and body.stream_options.include_usage
        self._id, self._created = new_id("chatcmpl"), int(time.time())

    async def events(self) -> AsyncIterator[bytes]:
        """The role, what came, why it ended, the usage where it is asked for, and `[DONE]`; or an error."""
        first: dict[str, Any] = {"delta": {"role": "assistant", "content": ""}}
        if self._body.return_token_ids:
            yield self._event(first, prompt_token_ids=self._request.prompt_ids)
        else:
            yield self._event(first)
        try:
            async for piece in self._answering.pieces():
                choice: dict[str, Any] = {"delta": {"content": piece.text} if piece.text else {}}
                if self._body.logprobs and piece.ids:
                    entries = _entries(self._model, self._body, piece.ids, piece.logprobs)
                    choice["logprobs"] = {"content": [entry.model_dump() for entry in entries]}
                if self._body.return_token_ids:
                    choice["token_ids"] = piece.ids
                if piece.text or len(choice) > 1:
                    yield self._event(choice)
        except Exception as error:  # the status is sent already
            yield event(as_api_error(error).body())
            return
        yield self._event({"delta": {}, "finish_reason": self._answering.finish})
        usage = Usage.of(len(self._request.prompt_ids), self._answering.generated)
        note(self._http.scope, **usage.model_dump())
        if self._usage:
            yield self._chunk([], usage=usage.model_dump())
        yield event("[DONE]")

    def _event(self, choice: dict[str, Any], **more: Any) -> bytes:
        return self._chunk([{"index": 0, "logprobs": None, "finish_reason": None, **choice}], **more)

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        head = {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": self._model.name}
        return event({**head, "choices": choices, **({"usage": None} if self._usage else {}), **more})
