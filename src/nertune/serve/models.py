"""What is served: models by name, each with its prompts and what the engine is to be told about it."""

from __future__ import annotations

import dataclasses
import difflib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nertune.errors import UnknownModelError
from nertune.extract import Recognizer
from nertune.generate import Request
from nertune.prompt import Conversation, Tokenizer, TokenPlaces
from nertune.serve.errors import ApiError
from nertune.serve.replies import quoted

__all__ = ["Catalogue", "ServedModel"]


class ServedModel:
    """A model that clients ask for by `name`.

    `root`: where it comes from; `parent`: the name of the base model, for adapters. `adapter`: what the engine calls it,
    None for the weights as they are. `tokenizer`: a Hugging Face tokenizer. `stop_ids`: what ends an answer. `vocabulary`:
    token ids are below it. `context`: tokens of prompt and answer that the model holds, None where nothing limits it.
    `recognizer`: reads texts for `/v1/extract`; its engine is not used. `check_grammar`: raises InputError for a grammar
    that the engine would refuse, or take too long over.
    """

    def __init__(
        self,
        name: str,
        *,
        root: str,
        tokenizer: Tokenizer,
        stop_ids: frozenset[int],
        vocabulary: int,
        parent: str | None = None,
        adapter: str | None = None,
        context: int | None = None,
        recognizer: Recognizer | None = None,
        check_grammar: Callable[[str], None] = lambda grammar: None,
    ) -> None:
        self.name, self.root, self.parent, self.adapter = name, root, parent, adapter
        self.tokenizer, self.stop_ids, self.vocabulary = tokenizer, stop_ids, vocabulary
        self.context, self.recognizer, self.check_grammar = context, recognizer, check_grammar
        self.conversation = Conversation(tokenizer)
        self.places = TokenPlaces(tokenizer)
        self.created = int(time.time())

    def request(
        self,
        prompt_ids: Sequence[int],
        *,
        max_new_tokens: int | None,
        default_tokens: int,
        grammar: str | None = None,
        stop_ids: Sequence[int] | None = None,
    ) -> Request:
        """A request to the engine. `stop_ids`: further tokens that end the answer. Raises ApiError where it does not fit.

        `max_new_tokens`: None takes `default_tokens`, or what room there is.
        """
        ids = tuple(prompt_ids)
        for where, some in (("prompt", ids), ("stop_token_ids", tuple(stop_ids or ()))):
            if any(not 0 <= token < self.vocabulary for token in some):
                raise ApiError(f"{where}: token ids are from 0 to {self.vocabulary - 1}", param=where)
        if not ids:
            raise ApiError("prompt: it is empty", param="prompt")
        room = self.context - len(ids) if self.context is not None else max(default_tokens, max_new_tokens or 0)
        wanted = min(default_tokens, room) if max_new_tokens is None else max_new_tokens
        if wanted > room or room < 1:
            raise ApiError(
                f"a prompt of {len(ids)} tokens and {max(wanted, 1)} for the answer do not fit into the {self.context} "
                f"of {self.name}; send less, or lower max_tokens",
                code="context_length_exceeded",
            )
        shared = self.recognizer.renderer.shared_prefix_ids if self.recognizer else ()
        request = Request(
            ids,
            self.stop_ids | frozenset(stop_ids or ()),
            wanted,
            shared_prefix=len(shared) if ids[: len(shared)] == shared else 0,
            grammar=grammar,
            foreign=True,
        )
        changes: dict[str, Any] = {} if self.adapter is None else {"adapter": self.adapter}
        return dataclasses.replace(request, **changes)


class Catalogue:
    """The served models, in order."""

    def __init__(self, models: Mapping[str, ServedModel]) -> None:
        self.models = dict(models)

    def find(self, name: str | None) -> ServedModel:
        """The model of that name. Raises UnknownModelError."""
        if name in self.models:
            return self.models[name]
        raise UnknownModelError(f"the model {quoted(str(name))} does not exist{self._near(name)}")

    def reader(self, name: str | None) -> tuple[ServedModel, Recognizer]:
        """The model that is to read texts; None for the only one that can. Raises UnknownModelError, ApiError."""
        readers = {key: model for key, model in self.models.items() if model.recognizer is not None}
        if name is None and len(readers) != 1:
            raise ApiError(f"model: name one of {', '.join(readers) or 'none'}", param="model")
        model = self.find(next(iter(readers)) if name is None else name)
        if model.recognizer is None:
            raise ApiError(
                f"model: {quoted(model.name)} is a base model and was not trained to extract; these were: {', '.join(readers)}",
                param="model",
            )
        return model, model.recognizer

    def _near(self, name: str | None) -> str:
        near = difflib.get_close_matches(str(name)[:200], self.models, n=1)
        return f"; did you mean {quoted(near[0])}?" if near else f". Served here: {', '.join(self.models)}"
