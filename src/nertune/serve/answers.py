"""What chat, completions, tokenize and the list of models answer, for OpenAPI and for the clients."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

__all__ = [
    "ChatReply",
    "Choice",
    "CompletionReply",
    "Health",
    "ModelCard",
    "ModelList",
    "TextChoice",
    "TokenLogprob",
    "Tokens",
    "Usage",
]

Finish = Literal["stop", "length"]


class Usage(BaseModel):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, prompt: int, completion: int) -> Usage:
        return cls(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


class TopLogprob(BaseModel):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """`logprob`: natural logarithm of the probability among the tokens that the grammar allowed, where there is one."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    content: list[TokenLogprob]


class AssistantMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(BaseModel):
    index: int = 0
    message: AssistantMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: Finish
    token_ids: list[int] | None = None


class ChatReply(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    prompt_token_ids: list[int] | None = None


class TextLogprobs(BaseModel):
    """`text_offset`: of each token in the answer's text, in characters."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(BaseModel):
    index: int = 0
    text: str
    logprobs: TextLogprobs | None = None
    finish_reason: Finish | None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None


class CompletionReply(BaseModel):
    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | None = None


class Tokens(BaseModel):
    """`/tokenize`: how many tokens, how many the model holds, and which."""

    count: int
    max_model_len: int | None
    tokens: list[int]


class ModelCard(BaseModel):
    """A model. `root`: where it comes from; `parent`: the base model of an adapter."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["nertune"] = "nertune"
    root: str
    parent: str | None
    max_model_len: int | None


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class Health(BaseModel):
    """`unfinished`: requests that are accepted and not answered yet."""

    status: Literal["ok"] = "ok"
    unfinished: int
