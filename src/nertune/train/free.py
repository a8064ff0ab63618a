"""Loss only where generation asks the model: tokens that the grammar of the answer forces are left out of the loss.

Under its grammar an answer is partly no choice: `", "text": "` after a label is the only way on, so generation writes it
unasked, and what the model would have said there changes nothing. `models/grammar.py` tells these places, in training by
the very steps that generation takes. What is left out of the loss is not learned, so such a run is for generation under
its grammar.
"""

from __future__ import annotations

from typing import Any

from nertune.models.grammar import Vocabulary
from nertune.prompt import Renderer, Row
from nertune.train.recipe import Recipe

__all__ = ["FreeTokens", "free_tokens"]


class FreeTokens:
    """Takes out of the rows of one Renderer what the grammar forces, and counts over all rows that it was given.

    `tokens`: of all answers with their ends; `free`: of these, those that stay trained. `parted`: places at which
    generation would write another token than the row has, and `astray`: rows that leave the grammar, as answers do that a
    tokenizer does not spell as the text does; both stay trained there, the latter to their end.
    """

    def __init__(self, renderer: Renderer) -> None:
        """Raises InputError for a tokenizer that no grammar can be used with."""
        self._renderer = renderer
        tokenizer: Any = renderer.tokenizer
        self._vocabulary = Vocabulary(tokenizer, len(tokenizer))
        self._vocabulary.prepare()
        self.tokens = self.free = self.parted = self.astray = 0

    def row(self, row: Row, text: str) -> Row:
        """The row about a text, as `Renderer.row` made it, trained on free tokens alone: on none where no choice is left.

        Of the tail the first token ends generation, so the others are not trained. Raises InputError for a grammar that
        cannot be used.
        """
        prompt, tail = row.prompt_length, len(self._renderer.tail_ids)
        answer = row.ids_T[prompt:-tail]
        constraint = self._vocabulary.constraint(self._renderer.grammar(text), self._renderer.stop_ids)
        followed = constraint.follow(answer)
        mask = [*map(int, followed.free_E), *[0] * (tail - 1)]
        self.tokens += len(mask)
        self.free += sum(mask)
        self.parted += followed.parted
        self.astray += followed.allowed < len(answer)
        return Row(row.ids_T, [0] * prompt + mask)

    def said(self) -> str:
        """What was counted, in a line."""
        line = f"loss on the {self.free:,} free of the answers' {self.tokens:,} tokens ({self.free / max(self.tokens, 1):.0%})"
        if self.parted:
            line += f"; at {self.parted:,} places generation will write another token than the answer has"
        if self.astray:
            line += f"; {self.astray:,} answers are not in their grammar as the tokenizer writes them"
        return line


def free_tokens(recipe: Recipe, renderer: Renderer) -> FreeTokens | None:
    """What the recipe wants to be done to rows; None where all of the answer is trained. Raises as FreeTokens."""
    return FreeTokens(renderer) if recipe.training.loss_tokens == "free" else None
