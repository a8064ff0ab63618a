"""Rows that LLMs are trained on as a format to write: documents, asked for by one prompt and answered in one way.

The data room holds the files and the prompt room the words; here is where they meet, for conversion and for export.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

from nertune import data
from nertune.data.loss import Expressed, Loss, uncrossed, unnamed, unscored
from nertune.data.occurrence import by_occurrence
from nertune.errors import InputError
from nertune.prompt import PromptSpec, strict
from nertune.schema import Document

__all__ = ["LAYOUTS", "ROWS", "Layout", "PromptedRows"]

ROWS = ("alpaca", "sharegpt")

Layout = Literal["sentence-in-input", "system-in-instruction", "prompt-in-instruction"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
"""How alpaca rows share a prompt among their columns, as the published tutorials do:

- sentence-in-input: the words before the sentence in `instruction`, the sentence in `input`;
- system-in-instruction: the system sentence in `instruction`, prompt and sentence in `input`;
- prompt-in-instruction: prompt and sentence in `instruction`, `input` empty.

The system sentence has a column `system` of its own in the first and the third, where the prompt has one.
"""

_MERGED = "repeated mentions, which its answers name once"
_PLACES = "the places of mentions, which its answers do not tell"
_UNNAMED = "entities that its answers do not name"
_ROUNDS = 3  # readings after which what is read stays as it is


@dataclass(frozen=True)
class PromptedRows:
    """The format `name`, alpaca or sharegpt, with the prompt and the answers of `spec`; `layout` is for alpaca.

    Raises InputError for a layout that needs a system sentence where the prompt has none.
    """

    name: str
    spec: PromptSpec
    layout: Layout = "sentence-in-input"

    def __post_init__(self) -> None:
        if self.layout == "system-in-instruction" and not self.spec.template.system:
            raise InputError(
                "layout system-in-instruction: the prompt has no system sentence; name a template that has one (a folder "
                "with a system.txt), or another layout"
            )

    def express(self, document: Document) -> Expressed:
        """What the answer says of a document: a list of mentions says how often a surface is named and not where it stands."""
        if not document.text.strip():
            return Expressed(None, (Loss("blank texts", left_out=True),))
        return unscored(document).then(unnamed).then(self._writable).then(self._answered)

    def write(self, documents: Iterable[Document], path: str | os.PathLike[str]) -> None:
        """Rows that the format holds whole, atomically, with the file's entry in `dataset_info.json`.

        Raises as `nertune.data.write_alpaca` does.
        """
        if self.name == "sharegpt":
            data.write_sharegpt(map(self._sharegpt, documents), path)
        else:
            data.write_alpaca(map(self._alpaca, documents), path)

    def _alpaca(self, document: Document) -> data.AlpacaRow:
        """A row in the layout; LLaMA-Factory joins `instruction` and `input` by a line break.

        So the sentence has a column of its own where it begins a line, and stands with the prompt in `input` elsewhere.
        """
        before, after, system = self._words
        answer = self.spec.write(document)
        if self.layout == "system-in-instruction":
            return data.AlpacaRow(system or "", before + document.text + after, answer)
        if self.layout == "prompt-in-instruction":
            return data.AlpacaRow(before + document.text + after, "", answer, system)
        told, begun = (before[:-1], "") if before.endswith("\n") else ("", before)
        return data.AlpacaRow(told, begun + document.text + after, answer, system)

    def _sharegpt(self, document: Document) -> data.SharegptRow:
        before, after, system = self._words
        return data.SharegptRow(before + document.text + after, self.spec.write(document), system)

    @property
    def _words(self) -> tuple[str, str, str | None]:
        filled = self.spec.filled()
        return (*filled.around_text(), filled.system or None)

    def _writable(self, document: Document) -> Expressed:
        """Without what crosses, where the answer marks entities in the text; nothing where that does not suffice."""
        if self.spec.answer.refusal(document) is None:
            return Expressed(document)
        found = uncrossed(document)
        refusal = None if found.document is None else self.spec.answer.refusal(found.document)
        return found if refusal is None else Expressed(None, (Loss(refusal.kind, left_out=True),))

    def _answered(self, document: Document) -> Expressed:
        found = document
        for _ in range(_ROUNDS):
            again = self._read_back(found)
            if again == found:
                return Expressed(found, tuple(_losses(document, found)))
            found = again
        return Expressed(None, (Loss("texts whose entities its answer does not tell", left_out=True),))

    def _read_back(self, document: Document) -> Document:
        said = strict(self.spec.answer).read(self.spec.write(document))
        if said is None:
            return replace(document, entities=())
        entities = said.entities if isinstance(said, Document) else by_occurrence(document.text, said)[0]
        named = (replace(entity, label=self.spec.labels.label_of(entity.label)) for entity in entities)
        return replace(document, entities=tuple(dict.fromkeys(named)))


def _losses(document: Document, found: Document) -> Iterator[Loss]:
    """The entities that are not read back as they are.

    Formats that list mentions name a label and a text once, or do not say where it stands: that is their nature, and the
    row is right. Only what the answer does not name at all is left out.
    """
    before, after = set(document.entities), set(found.entities)
    named = {(entity.label, entity.text) for entity in after}
    moved = {(entity.label, entity.text) for entity in after - before}
    for entity in document.entities:
        if entity not in after:
            mention = (entity.label, entity.text)
            kind = _PLACES if mention in moved else _MERGED if mention in named else _UNNAMED
            yield Loss(kind, entity, left_out=mention not in named)
