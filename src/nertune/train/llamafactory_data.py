"""The prompt and the answer format that the rows of a LLaMA-Factory data set show.

Its rows bring their prompts with them, ours have one prompt a run. So the rows are read once: what stands around the
sentence in each must be the same text, and becomes the run's prompt; the answer format is the one that writes most of
the answers as they stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from nertune import data
from nertune.data.formats.dataset_info import PLAIN, DataSet
from nertune.errors import DataError, InputError
from nertune.prompt import KNOWN_ANSWERS, AnswerFormat, PromptTemplate, answer_format, likely_options
from nertune.schema import Document, LabelSet

__all__ = ["Shown", "read_columns", "shown_by"]

_ROWS_TO_CHOOSE = 200  # rows that choose the answer format; all are counted afterwards


class Shown(NamedTuple):
    """What the rows of a data set say about the run, and what is to be said about them."""

    user: str
    system: str | None
    answer: dict[str, Any]
    notes: tuple[str, ...]


def read_columns(source: DataSet) -> dict[str, str] | None:
    """The columns that reading a data set's entities needs, None where they have their usual names."""
    if source.format == "sharegpt":
        return source.columns
    columns = {name: column for name, column in source.named.items() if name in PLAIN}
    return None if columns == PLAIN else columns


def shown_by(source: DataSet, *, limit: int | None, default_system: str | None) -> Shown:
    """Read up to `limit` rows for their common prompt and their answer format.

    Raises DataError for rows that cannot be read, InputError for rows whose prompts differ.
    """
    with data.open_rows(
        source.path, format=source.format, limit=limit, columns=source.named, answers=KNOWN_ANSWERS
    ) as reading:
        first: tuple[str, str, str] | None = None
        documents, answers = [], []
        for row in reading:
            asked = row.raw.asked
            if asked is None:
                continue
            around = asked.system, asked.before, asked.after
            first = first or around
            if asked.earlier:
                raise _error(source, row, "holds earlier turns; single turns alone can be trained")
            if around != first:
                message = "asks otherwise than the first row: a run has one prompt. First "
                raise _error(source, row, f"{message}{first[1]!r:.80}, here {asked.before!r:.80}")
            documents.append(row.document)
            answers.append(asked.answer)
        missed = len(reading.missed)
    system, before, after = first or ("", "", "")
    template = PromptTemplate(before + "{text}" + after, system or default_system)
    if template.fill(LabelSet(("x",), {}, {"x": "x"}), "") != template:
        raise InputError(
            f"{source.path}: the prompt holds {{labels}}, {{descriptions}} or {{answer_format}}, which stand for something "
            "here"
        )
    answer, alike = _answer(documents, answers)
    notes = [f"prompt and answer format ({answer['format']}) as the {len(documents):,} rows of {source.path} show them"]
    if missed:
        notes.append(f"{missed:,} more rows of {source.path} are not read and not trained on")
    if alike < len(documents):
        notes.append(
            f"{len(documents) - alike:,} of {len(documents):,} answers are trained in another wording than the file's: in "
            "the order of the text, each entity that is in the text"
        )
    return Shown(template.user, template.system, answer, tuple(notes))


def _error(source: DataSet, row: data.Row, message: str) -> DataError:
    return DataError(message, path=source.path, line=row.raw.line)


def _answer(documents: Sequence[Document], answers: Sequence[str]) -> tuple[dict[str, Any], int]:
    """The answer format, as a recipe names it, that writes most answers to the letter; and how many of all it does."""

    def alike(choice: dict[str, Any], count: int | None) -> int:
        options = dict(choice)
        written = answer_format(options.pop("format"), options)
        pairs = zip(documents[:count], answers[:count], strict=True)
        return sum(_written(written, document) == answer for document, answer in pairs)

    best = max(likely_options(answers), key=lambda choice: alike(choice, _ROWS_TO_CHOOSE))
    return best, alike(best, None)


def _written(form: AnswerFormat, document: Document) -> str | None:
    """None for a document that the format cannot write."""
    try:
        return form.write(document)
    except InputError:
        return None
