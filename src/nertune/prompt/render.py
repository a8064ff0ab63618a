"""The one place where prompts and answers become token ids: training and inference both come through here.

`Renderer.prompt_ids` is what generation sends; `Renderer.row` is the same ids followed by the answer and the end of the
turn, so the untrained part of a row and the prompt at inference are equal by construction.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

from nertune.errors import InputError
from nertune.prompt.answers import AnswerFormat, ParsedAnswer, answer_format
from nertune.prompt.chat import ChatPieces, chat_template_source, take_apart
from nertune.prompt.encode import SafeEncoder
from nertune.prompt.places import TokenPlaces
from nertune.prompt.template import PromptTemplate
from nertune.prompt.tokenizer import Tokenizer
from nertune.schema import Document, LabelSet

__all__ = ["IGNORED", "PromptSpec", "Renderer", "Row"]

IGNORED = -100
"""The label of a token that is not trained; PyTorch's cross-entropy leaves it out."""

_KINDS = {str: "text", list: "list", Mapping: "table"}


class Row(NamedTuple):
    """One training row. `ids_T`: token ids; `loss_mask_T`: 1 where the token is trained, 0 elsewhere; equal lengths."""

    ids_T: list[int]
    loss_mask_T: list[int]

    def labels(self) -> list[int]:
        """Labels of shape (T): the ids that the loss compares with: `IGNORED` where the token is not trained."""
        return [token if flag else IGNORED for token, flag in zip(self.ids_T, self.loss_mask_T, strict=True)]

    @property
    def prompt_length(self) -> int:
        """Tokens before the first trained one; all, where none is trained."""
        return self.loss_mask_T.index(1) if 1 in self.loss_mask_T else len(self.ids_T)


@dataclass(frozen=True, slots=True)
class PromptSpec:
    """Everything that decides a prompt besides the model: template, labels, answer format. Stored in every run.

    Raises InputError for labels that the answer format cannot write.
    """

    template: PromptTemplate
    labels: LabelSet
    answer: AnswerFormat

    def __post_init__(self) -> None:
        self.answer.check(self.labels.shown())

    def filled(self) -> PromptTemplate:
        """System and user part with labels and answer format in place; `{text}` remains in the user part."""
        return self.template.fill(self.labels.shown(), self.answer.instruction)

    def write(self, document: Document) -> str:
        """The answer that a perfect model gives, in display names. Raises InputError where the format cannot write it."""
        return self.answer.write(self.labels.displayed(document))

    def to_json(self) -> dict[str, Any]:
        """A description from which `from_json` builds an equal spec."""
        return {
            "system": self.template.system,
            "user": self.template.user,
            "labels": list(self.labels),
            **({"display": self.labels.display} if self.labels.display else {}),
            **({"descriptions": self.labels.descriptions} if self.labels.descriptions else {}),
            "answer": {"format": self.answer.name, **self.answer.options()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PromptSpec:
        """Raises InputError for what is no description of a prompt, with the key that is wrong."""
        if not isinstance(value, Mapping):
            raise InputError("a prompt is a table with user, labels and answer")
        answer = _typed(value, "answer", Mapping)
        system = None if value.get("system") is None else _typed(value, "system", str)
        labels = _typed(value, "labels", list)
        _all_texts("labels", labels)
        tables = [_typed(value, key, Mapping) if key in value else {} for key in ("display", "descriptions")]
        for key, table in zip(("display", "descriptions"), tables, strict=True):
            _all_texts(key, [*table, *table.values()])
        options = {key: option for key, option in answer.items() if key != "format"}
        return cls(
            PromptTemplate(user=_typed(value, "user", str), system=system),
            LabelSet(tuple(labels), *tables),
            answer_format(_typed(answer, "format", str), options),
        )


def _typed(value: Mapping[str, Any], key: str, kind: Any) -> Any:
    if key not in value:
        raise InputError(f"{key} is missing")
    if not isinstance(value[key], kind):
        raise InputError(f"{key} is no {_KINDS[kind]}")
    return value[key]


def _all_texts(key: str, found: Iterable[Any]) -> None:
    if not all(isinstance(item, str) for item in found):
        raise InputError(f"{key} holds something else than texts")


class Renderer:
    """Turns texts into prompts and documents into training rows for one model and one PromptSpec.

    `shown`: the labels as the model sees and writes them. Answers are in these; `nertune.extract.ground` reads them back.
    """

    def __init__(self, tokenizer: Tokenizer, spec: PromptSpec) -> None:
        self.tokenizer = tokenizer
        self.spec = spec
        self.shown: LabelSet = spec.labels.shown()
        self._filled = spec.filled()
        source = chat_template_source(tokenizer)
        self._encoder = SafeEncoder(tokenizer, source)
        self.pieces: ChatPieces = take_apart(tokenizer, with_system=self._filled.system is not None)

    def prompt_text(self, text: str) -> str:
        """The prompt as a string, as the model's chat template writes it."""
        return "".join(piece for piece, _ in self._prompt_pieces(text))

    def prompt_ids(self, text: str) -> list[int]:
        """The prompt as token ids, ready for generation."""
        return self._encoder.encode(self._prompt_pieces(text))

    def messages(self, text: str) -> tuple[tuple[str, str], ...]:
        """The prompt as pairs of role and content, for servers that apply the chat template themselves."""
        system, user = self._contents(text)
        return (("system", system), ("user", user)) if self.pieces.has_system else (("user", user),)

    def answer_ids(self, answer: str) -> list[int]:
        """An answer as token ids, without the end of the turn."""
        return self._encoder.encode([(answer, False)]) if answer else []

    def row(self, document: Document) -> Row:
        """Prompt, answer and end of turn; trained on the last two. Raises InputError when the answer cannot be written."""
        prompt = self.prompt_ids(document.text)
        trained = self.answer_ids(self.spec.write(document)) + list(self.tail_ids)
        return Row(prompt + trained, [0] * len(prompt) + [1] * len(trained))

    def grammar(self, text: str) -> str:
        """The language of the answers that can be true of a text, as the answer format writes it.

        What the tokenizer makes of every answer is in it, because the model is trained on that: composed characters where
        it normalizes to NFC, and the space that some vocabularies put before the first word.
        """
        grammar = self.spec.answer.grammar(self._as_encoded(text), self.shown)
        if not self._leading_space:
            return grammar
        return 'start: " " written\n' + re.sub(r"^start\s*:", "written:", grammar, count=1, flags=re.M)

    def schema(self) -> Mapping[str, Any] | None:
        """A JSON schema of the answers; None where they are no JSON values."""
        return self._schema

    def draft(self, text: str) -> Callable[[str], str]:
        """From an unfinished answer to what most likely follows it."""
        expected = partial(self.spec.answer.draft, self._as_encoded(text), labels=self.shown)
        return (lambda answer: expected(answer.removeprefix(" "))) if self._leading_space else expected

    def parse(self, answer_ids: Sequence[int], *, cut: bool = False) -> ParsedAnswer:
        """Read a generated answer; ids from the first stop token on are ignored. `cut`: it was cut off before it ended."""
        return self.spec.answer.parse(self.decode(answer_ids), cut=cut)

    def decode(self, answer_ids: Sequence[int]) -> str:
        """The text of a generated answer, up to its first stop token."""
        ids = self._before_stop(answer_ids)
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def token_places(self, answer_ids: Sequence[int]) -> list[tuple[int, int]] | None:
        """For each token up to the first stop token, the half-open characters of `decode(answer_ids)` that it holds.

        Tokens share a character that is split over them. None where the tokenizer's decoding is not understood.
        """
        return self._places.find(self._before_stop(answer_ids), self.decode(answer_ids))

    def _as_encoded(self, text: str) -> str:
        """The text in NFC (Unicode Standard Annex #15) where the tokenizer makes no difference between the two."""
        if unicodedata.is_normalized("NFC", text):
            return text
        composed = unicodedata.normalize("NFC", text)
        return composed if self.answer_ids(composed) == self.answer_ids(text) else text

    @cached_property
    def _leading_space(self) -> bool:
        """Whether the tokenizer writes a space before an answer, and takes it off again (sentencepiece's dummy prefix)."""
        ids = self.answer_ids("甲")
        pieces = self.tokenizer.convert_ids_to_tokens(ids)
        return str(pieces[0]).startswith("▁") and self.decode(ids) == "甲"

    @cached_property
    def tail_ids(self) -> tuple[int, ...]:
        """What is trained after the answer: the end of the turn, then the end of the document where it is another token.

        Qwen2: `<|im_end|><|endoftext|>`; Gemma: `<end_of_turn><eos>`; Llama 3: `<|eot_id|><|end_of_text|>`.
        """
        tail = self._encoder.control_ids(self.pieces.turn_end)
        end = self._document_end()
        if end is not None and end not in tail:
            tail.append(end)
        if not tail:
            raise InputError("the model has no end-of-turn and no end-of-sequence token: answers would never stop")
        return tuple(tail)

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end an answer: the trained tail and the tokenizer's own end-of-sequence."""
        eos = self.tokenizer.eos_token_id
        return frozenset(self.tail_ids) | (frozenset() if eos is None else {eos})

    @cached_property
    def shared_prefix_ids(self) -> tuple[int, ...]:
        """The leading tokens that prompts have in common, whatever the text (a text may still merge with the last of them)."""
        first, second = self.prompt_ids("甲"), self.prompt_ids("Z9")
        return tuple(
            a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
        )

    @cached_property
    def _schema(self) -> Mapping[str, Any] | None:
        return self.spec.answer.schema(self.shown)

    @cached_property
    def _places(self) -> TokenPlaces:
        return TokenPlaces(self.tokenizer)

    def _before_stop(self, answer_ids: Sequence[int]) -> list[int]:
        ids = list(answer_ids)
        end = next((place for place, token_id in enumerate(ids) if token_id in self.stop_ids), len(ids))
        return ids[:end]

    def _document_end(self) -> int | None:
        eos = self.tokenizer.eos_token_id
        if eos is not None and eos not in self._encoder.control_ids(self.pieces.turn_end):
            return eos
        by_text = {added.content: token_id for token_id, added in self.tokenizer.added_tokens_decoder.items()}
        return next((by_text[name] for name in ("<|endoftext|>", "<|end_of_text|>") if name in by_text), None)

    def _prompt_pieces(self, text: str) -> list[tuple[str, bool]]:
        system, user = self._contents(text)
        return [
            (self.pieces.before_system, True),
            (system, False),
            (self.pieces.before_user, True),
            (user, False),
            (self.pieces.before_answer, True),
        ]

    def _contents(self, text: str) -> tuple[str, str]:
        """System and user content of one text."""
        before, after = self._filled.around_text()
        return self.pieces.contents(self._filled.system, before + text + after)
