"""How long a window may be, in tokens: as long as what was trained, and so that prompt and answer fit into the model."""

from __future__ import annotations

from nertune.errors import InputError
from nertune.extract.recognizer import answer_limit
from nertune.prompt import Renderer
from nertune.schema import Document

__all__ = ["SMALLEST_WINDOW", "window_size"]

# Tokens. Shorter windows are refused; unasked, none is shorter than a sentence, however short the trained rows were.
SMALLEST_WINDOW = 16
_SENTENCE = 64
# Tokens by which a text in its prompt may differ from the text alone.
_SLACK = 8


def window_size(
    renderer: Renderer, *, asked: int | None, trained: int | None, context: int | None, max_new_tokens: int | None
) -> int | None:
    """The longest text, in tokens, that is read in one piece; None where nothing limits it.

    `asked`: what the caller wants. `trained`: the longest row that was trained; a text that could stand in such a row is
    then read in one piece, and nothing longer, because a model reads worse what is longer than all it has seen.
    `context`: tokens of prompt and answer that the model holds. `max_new_tokens`: the limit of an answer, None where it
    is fitted to the text.
    Raises InputError for a window that holds no sentence, or does not fit into the context.
    """
    if asked is not None and asked < SMALLEST_WINDOW:
        raise InputError(f"a window of {asked} tokens holds no sentence; give {SMALLEST_WINDOW} at least")
    shared, sample = len(renderer.shared_prefix_ids), "甲"
    around = max(0, len(renderer.prompt_ids(sample)) - shared - len(renderer.answer_ids(sample)))
    limits = []
    if context is not None:
        room = context - shared - around - _SLACK
        if max_new_tokens is None:
            room = (room - answer_limit(around + _SLACK)) // (1 + answer_limit(1) - answer_limit(0))
        else:
            room -= max_new_tokens
        if asked is not None and asked > room:
            raise InputError(
                f"a window of {asked} tokens does not fit: the prompt takes {shared + around} more, its answer "
                f"{f'up to {answer_limit(asked)}' if max_new_tokens is None else max_new_tokens}, and the model holds "
                f"{context}. Give {max(room, 0)} at most"
                + ("" if max_new_tokens is None else ", or allow shorter answers")
            )
        limits.append(room)
    if asked is not None:
        return asked
    if trained is not None:
        copies = sample in renderer.spec.write(Document(sample))
        own = (trained - shared - around - len(renderer.tail_ids)) // (2 if copies else 1)
        limits.append(max(_SENTENCE, own + _SLACK))
    return max(SMALLEST_WINDOW, min(limits)) if limits else None
