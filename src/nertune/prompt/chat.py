"""A model's own chat template, taken apart once into the fixed pieces around system, user and answer.

The template is rendered with marks in place of the contents and split at the marks. So contents can never act on the
template, the pieces are the same for every text, and the piece before the user's text is what all prompts share.
Models without a template use `DEFAULT_TEMPLATE`; models whose template refuses a system turn get the system text at
the head of the user's turn.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

from nertune.errors import InputError
from nertune.prompt.sandbox import TemplateRefusedError, render_template
from nertune.prompt.tokenizer import Tokenizer

__all__ = [
    "DEFAULT_TEMPLATE",
    "PAD",
    "ChatPieces",
    "Trim",
    "apply",
    "chat_template_source",
    "take_apart",
    "template_hash",
]

DEFAULT_TEMPLATE = """\
{{- bos_token or '' -}}
{%- for message in messages -%}
{{- '### ' + message.role | capitalize + ':\\n' + message.content -}}
{%- if message.role == 'assistant' -%}{{- eos_token or '' -}}{%- else -%}{{- '\\n\\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '### Assistant:\\n' -}}{%- endif -%}
"""

# Marks that no template looks for and no trimming touches.
_SYSTEM, _USER, _ANSWER = "\ue000nertune-system\ue001", "\ue000nertune-user\ue001", "\ue000nertune-answer\ue001"
# White space that no template writes: where it is gone, the template trims.
PAD = "\u2003"
# Reasoning models open a reasoning part unless told not to; templates that know no such switch ignore it.
_SWITCHES = {"enable_thinking": False}


class Trim(NamedTuple):
    """On which sides a template strips the white space of a content."""

    left: bool
    right: bool

    def __call__(self, content: str) -> str:
        content = content.lstrip() if self.left else content
        return content.rstrip() if self.right else content


@dataclass(frozen=True, slots=True)
class ChatPieces:
    """The template's text around the contents, for one system turn (or none) and one user turn.

    A prompt is `before_system + system + before_user + user + before_answer`; a trained row goes on with the answer and
    `turn_end`. With `system_in_user` the system text is the head of the user's content. `trim_system` and `trim_user`
    strip what the template strips.
    """

    before_system: str
    before_user: str
    before_answer: str
    turn_end: str
    has_system: bool
    system_in_user: bool
    trim_system: Trim
    trim_user: Trim

    def contents(self, system: str | None, user: str) -> tuple[str, str]:
        """System and user content as they enter the prompt."""
        if system is None or self.system_in_user:
            user = user if system is None else f"{system}\n\n{user}"
            system = ""
        return self.trim_system(system), self.trim_user(user)


def chat_template_source(tokenizer: Tokenizer) -> str:
    """The Jinja source in use: the tokenizer's own (its "default" where it has several), or `DEFAULT_TEMPLATE`.

    Raises InputError where it is no text.
    """
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default") or next(iter(template.values()), None)
    if template is not None and not isinstance(template, str):
        raise InputError(f"the model's chat template is a {type(template).__name__}, not a text; restore it")
    return template or DEFAULT_TEMPLATE


def template_hash(tokenizer: Tokenizer) -> str:
    """SHA-256 of the template's source, hexadecimal: two runs with the same hash see the same turns."""
    return hashlib.sha256(chat_template_source(tokenizer).encode()).hexdigest()


def take_apart(tokenizer: Tokenizer, *, with_system: bool) -> ChatPieces:
    """Render the model's template around marks and cut it there.

    Raises InputError when the template drops or reorders contents, so that no prompt could be built from it.
    """
    in_user = False
    try:
        prompt = _render(tokenizer, system=_SYSTEM if with_system else None, user=_USER)
    except TemplateRefusedError as refused:  # "System role not supported", for one
        try:
            prompt, in_user = _render(tokenizer, system=None, user=_USER), with_system
        except TemplateRefusedError:
            raise InputError(f"a single user turn cannot be rendered: {refused}") from refused
    marked = with_system and not in_user
    if prompt.count(_USER) != 1 or (marked and prompt.count(_SYSTEM) != 1):
        raise InputError("the model's chat template does not keep system and user text as they are; name another model")
    before_user, before_answer = prompt.split(_USER)
    before_system = ""
    if marked:
        if _SYSTEM not in before_user:
            raise InputError("the model's chat template puts the system text after the user's; name another model")
        before_system, before_user = before_user.split(_SYSTEM)
    padded = _render(tokenizer, system=PAD + _SYSTEM + PAD if marked else None, user=PAD + _USER + PAD)
    return ChatPieces(
        before_system=before_system,
        before_user=before_user,
        before_answer=before_answer,
        turn_end=_turn_end(tokenizer),
        has_system=marked,
        system_in_user=in_user,
        trim_system=_trim(padded, _SYSTEM),
        trim_user=_trim(padded, _USER),
    )


def _trim(padded: str, mark: str) -> Trim:
    return Trim(left=PAD + mark not in padded, right=mark + PAD not in padded)


def _turn_end(tokenizer: Tokenizer) -> str:
    """What the template writes after an answer: the end of the turn, white space around it dropped."""
    turns = [{"role": "user", "content": _USER}, {"role": "assistant", "content": _ANSWER}]
    rendered = apply(tokenizer, turns, generation_prompt=False)
    _, mark, end = rendered.partition(_ANSWER)
    if not mark:
        raise InputError("the model's chat template does not keep the assistant's text; name another model")
    return end.strip()


def _render(tokenizer: Tokenizer, *, system: str | None, user: str) -> str:
    turns = [{"role": "user", "content": user}]
    if system is not None:
        turns.insert(0, {"role": "system", "content": system})
    return apply(tokenizer, turns, generation_prompt=True)


def apply(tokenizer: Tokenizer, turns: list[dict[str, str]], *, generation_prompt: bool, thinking: bool = False) -> str:
    """The template's own rendering of turns, as `tokenizer.apply_chat_template` writes it, within limits.

    Raises TemplateRefusedError for an error of the template's own, InputError where it asks for too much.
    """
    variables = {
        **tokenizer.special_tokens_map,
        **(_SWITCHES | ({"enable_thinking": True} if thinking else {})),
        "messages": turns,
        "tools": None,
        "documents": None,
        "add_generation_prompt": generation_prompt,
    }
    return render_template(chat_template_source(tokenizer), variables)
