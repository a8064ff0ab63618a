"""What chat and completion requests hold: OpenAI's names, and the few of vLLM's that nertune's own client sends.

Arguments that choose among the model's tokens (temperature, top_p, …) are taken and not applied, because generation is
greedy; `ignored` names them. Those that would change the model's probabilities are refused where they are not neutral.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from nertune.serve.constraints import ResponseFormat, StructuredOutputs
from nertune.serve.fields import UNICODE, WHOLE, Body, Finite, Text, TokenIds, exactly_one

__all__ = ["ChatBody", "CompletionBody", "Generation", "Message", "TokenizeBody"]

# Values that ask for nothing: with these an argument that is not known otherwise is as good as absent.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "modalities": (["text"],),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "echo": (False,),
    "suffix": ("",),
    "ignore_eos": (False,),
    "min_tokens": (0,),
    "use_beam_search": (False,),
    "add_generation_prompt": (True,),
}
_Stop = Annotated[str, Field(min_length=1, max_length=1000), UNICODE]


class StreamOptions(Body):
    include_usage: bool = False
    include_obfuscation: bool | None = None
    continuous_usage_stats: Literal[False] | None = None


class TemplateOptions(Body):
    """`enable_thinking`: leave the reasoning part of the chat template on, where it has one."""

    enable_thinking: bool = False


class Generation(Body):
    """What chat and completions have in common."""

    model: Annotated[str, Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1, lt=2**31), WHOLE] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: _Stop | Annotated[list[_Stop], Field(max_length=16)] | None = None
    stop_token_ids: Annotated[TokenIds, Field(max_length=1000)] | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    return_token_ids: bool | None = None
    skip_special_tokens: bool = True
    temperature: Annotated[Finite, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Finite, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=2**31), WHOLE] | None = None
    min_p: Annotated[Finite, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, WHOLE] | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _leave_out_neutral(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            key: given
            for key, given in value.items()
            if key not in _NEUTRAL or not (given is None or any(_same(given, known) for known in _NEUTRAL[key]))
        }

    @property
    def limit(self) -> int | None:
        """The most tokens of the answer."""
        return self.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def ignored(self) -> tuple[str, ...]:
        """Arguments that would have made another choice among tokens, and did not."""
        neutral = {"temperature": (0,), "top_p": (1,), "top_k": (-1, 0, 1), "min_p": (0,)}
        return tuple(name for name, values in neutral.items() if getattr(self, name) not in (None, *values))


class TextPart(Body):
    type: Literal["text"]
    text: Text


class Message(Body):
    """A turn. `developer` is `system` by its newer name."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[TextPart], Field(min_length=1)]
    name: str | None = None

    @property
    def turn(self) -> tuple[str, str]:
        """Role and content."""
        said = self.content
        text = said if isinstance(said, str) else "\n".join(part.text for part in said)
        return ("system" if self.role == "developer" else self.role), text


class ChatBody(Generation):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    max_completion_tokens: Annotated[int, Field(ge=1, lt=2**31), WHOLE] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20), WHOLE] | None = None
    chat_template_kwargs: TemplateOptions | None = None

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens


class CompletionBody(Generation):
    """`POST /v1/completions`: a prompt as text or token ids."""

    prompt: Text | Annotated[TokenIds, Field(min_length=1)]
    logprobs: Annotated[int, Field(ge=0, le=20), WHOLE] | None = None
    add_special_tokens: bool = True


class TokenizeBody(Body):
    """`POST /tokenize`, as vLLM has it: a text, or messages as the chat template writes them."""

    model_config = ConfigDict(json_schema_extra=exactly_one("prompt", "messages"))

    model: str | None = None
    prompt: Text | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)] | None = None
    add_special_tokens: bool = True
    add_generation_prompt: Literal[True] = True
    chat_template_kwargs: TemplateOptions | None = None

    @model_validator(mode="after")
    def _one_of(self) -> TokenizeBody:
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("give either a prompt or messages")
        return self


def _same(given: Any, known: Any) -> bool:
    """Equal and of the same kind: 1 and 1.0 are, 1 and true are not."""
    return isinstance(given, bool) == isinstance(known, bool) and bool(given == known)
