"""Conversations of any turns as token ids, by the model's own chat template: for servers, which are sent messages.

As for the prompts that are trained, the template is rendered with marks in place of the contents: what a content says can
neither act on the template nor become a control token. A conversation of a system and a user turn has the token ids that
training gives the same two.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from nertune.errors import InputError
from nertune.prompt.chat import PAD, Trim, apply, chat_template_source
from nertune.prompt.encode import Piece, SafeEncoder
from nertune.prompt.sandbox import TemplateRefusedError
from nertune.prompt.tokenizer import Tokenizer

__all__ = ["Conversation"]

_KINDS = 256  # sequences of roles whose pieces are kept


class _Pieces(NamedTuple):
    """The template's text between contents (one piece more than there are contents), and each content's turn and trim."""

    template: tuple[str, ...]
    turns: tuple[int, ...]
    trims: tuple[Trim, ...]
    system_in_user: bool


class Conversation:
    """Renders turns, pairs of role and content, up to where the assistant's next answer begins."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._encoder = SafeEncoder(tokenizer, chat_template_source(tokenizer))
        self._pieces = lru_cache(_KINDS)(self._take_apart)

    def prompt_ids(self, turns: Sequence[tuple[str, str]], *, thinking: bool = False) -> list[int]:
        """Token ids. `thinking`: leave the template's reasoning part on, where it has one.

        Raises InputError for roles in an order that the template refuses, or whose contents it does not keep.
        """
        pieces = self._pieces(tuple(role for role, _ in turns), thinking)
        contents = [content for _, content in turns]
        if pieces.system_in_user:
            contents = [f"{contents[0]}\n\n{contents[1]}", *contents[2:]]
        out: list[Piece] = [(pieces.template[0], True)]
        for turn, trim, after in zip(pieces.turns, pieces.trims, pieces.template[1:], strict=True):
            out += [(trim(contents[turn]), False), (after, True)]
        return self._encoder.encode(out)

    def text_ids(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of a prompt written by hand, control tokens and all. `special`: with what the tokenizer puts around."""
        return list(self._tokenizer.encode(text, add_special_tokens=special))

    def _take_apart(self, roles: tuple[str, ...], thinking: bool) -> _Pieces:
        in_user = False
        try:
            prompt = self._render(roles, thinking)
        except TemplateRefusedError as refused:
            in_user = roles[:2] == ("system", "user")
            roles = roles[1:] if in_user else roles
            try:
                prompt = self._render(roles, thinking)
            except TemplateRefusedError:
                raise InputError(f"turns of {', '.join(roles)} cannot be rendered: {refused}") from refused
        found = sorted((prompt.find(_mark(turn)), turn) for turn in range(len(roles)))
        if any(place < 0 or prompt.count(_mark(turn)) != 1 for place, turn in found):
            raise InputError(f"the model's chat template does not keep the contents of turns of {', '.join(roles)}")
        padded = self._render(roles, thinking, PAD)
        template, end = [], 0
        for place, turn in found:
            template.append(prompt[end:place])
            end = place + len(_mark(turn))
        turns = tuple(turn for _, turn in found)
        trims = tuple(Trim(PAD + _mark(turn) not in padded, _mark(turn) + PAD not in padded) for turn in turns)
        return _Pieces((*template, prompt[end:]), turns, trims, in_user)

    def _render(self, roles: Sequence[str], thinking: bool, around: str = "") -> str:
        turns = [{"role": role, "content": f"{around}{_mark(number)}{around}"} for number, role in enumerate(roles)]
        return apply(self._tokenizer, turns, generation_prompt=True, thinking=thinking)


def _mark(number: int) -> str:
    """What no template looks for and no trimming touches; its end is no prefix of another's."""
    return f"\ue000nertune-{number}\ue001"
