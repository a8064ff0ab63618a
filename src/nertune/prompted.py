"""Rows that LLMs are trained on as a format to write: documents, asked for by one prompt and answered in one way.

The data room holds the files and the prompt room the words; here is where they meet, for conversion and for export.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace

from nertune import data
from nertune.data.loss import Expressed, Loss, uncrossed, unnamed, unscored
from nertune.data.occurrence import by_occurrence
from nertune.prompt import PromptSpec, strict
from nertune.schema import Document

__all__ = ["ROWS", "PromptedRows"]

ROWS = ("alpaca", "sharegpt")

_PLACES = "entities whose place or number the answer does not tell"
_ROUNDS = 3  # readings after which what is read stays as it is


@dataclass(frozen=True)
class PromptedRows:
    """The format `name`, alpaca or sharegpt, with the prompt and the answers of `spec`."""

    name: str
    spec: PromptSpec

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
        """The sentence in a column of its own where it begins a line: LLaMA-Factory joins the columns by a line break."""
        before, after, system = self._words
        told, begun = (before[:-1], "") if before.endswith("\n") else ("", before)
        return data.AlpacaRow(told, begun + document.text + after, self.spec.write(document), system)

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
                lost = [entity for entity in document.entities if entity not in set(found.entities)]
                return Expressed(found, tuple(Loss(_PLACES, entity, left_out=True) for entity in lost))
            found = again
        return Expressed(None, (Loss("texts whose entities its answer does not tell", left_out=True),))

    def _read_back(self, document: Document) -> Document:
        said = strict(self.spec.answer).read(self.spec.write(document))
        if said is None:
            return replace(document, entities=())
        entities = said.entities if isinstance(said, Document) else by_occurrence(document.text, said)[0]
        named = (replace(entity, label=self.spec.labels.label_of(entity.label)) for entity in entities)
        return replace(document, entities=tuple(dict.fromkeys(named)))
