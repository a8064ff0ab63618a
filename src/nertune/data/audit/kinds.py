"""The kinds of findings: a fixed code, how bad it is, what it is in words, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

__all__ = ["KINDS", "SEVERITIES", "Kind", "Severity"]

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Kind:
    """What findings of one code have in common.

    `error`: something in the file is certainly wrong, or training would refuse it; `warning`: likely wrong, or harmful;
    `note`: worth knowing. `repaired`: `--fix` mends every finding of this kind.
    """

    code: str
    severity: Severity
    message: str
    advice: str
    repaired: bool = False


_LOOK = "look at the places listed and mend them in the file"

_TABLE = (
    # Where mentions stand.
    Kind(
        "span-moved",
        "error",
        "mentions whose span cuts out another text, though their surface stands at their start, or in the text exactly once",
        "--fix puts them there; then look for what shifted the offsets (a text that was cleaned after it was annotated)",
        repaired=True,
    ),
    Kind(
        "span-ambiguous",
        "error",
        "mentions whose span cuts out another text, and whose surface stands at several places, none of them their start",
        f"they are read at the nearest place: {_LOOK}",
    ),
    Kind(
        "span-mismatch",
        "error",
        "mentions whose span cuts out another text, and whose surface stands nowhere in it",
        f"they are not read at all: {_LOOK}",
    ),
    Kind(
        "span-out-of-range",
        "error",
        "mentions that begin or end outside their text",
        f"they are not read at all: {_LOOK}; offsets in bytes or UTF-16 units do this too where a file mixes units",
    ),
    Kind("span-empty", "error", "mentions that end where they begin, or before", f"they are not read at all: {_LOOK}"),
    Kind(
        "mention-absent",
        "error",
        "mentions without offsets that the text does not hold, or not so often",
        f"they are not read at all: {_LOOK}",
    ),
    Kind(
        "span-pieces",
        "warning",
        "mentions of several pieces with a gap between them, which no single span can stand for",
        "they are not read at all: annotate what stands in one piece, or each piece by itself",
    ),
    Kind(
        "span-crossing",
        "warning",
        "entities that cross another one without lying inside it",
        "correct the borders, or train with a format that lists entities: inline and xml refuse such documents",
    ),
    Kind(
        "span-two-labels",
        "warning",
        "stretches of text that carry more than one label",
        "decide on one label, unless the task means both",
    ),
    Kind(
        "span-nested", "note", "entities inside others", "nothing, unless a tool is to read them that knows no nesting"
    ),
    Kind("span-duplicate", "warning", "mentions given twice in one document", "--fix keeps one of each", repaired=True),
    Kind(
        "edge-space",
        "warning",
        "entities that begin or end with white space",
        "--fix takes the white space out of the entity; the text stays as it is",
        repaired=True,
    ),
    Kind(
        "edge-half-pair",
        "warning",
        "entities that begin or end with half a pair of quotes or brackets, the other half outside or missing",
        "take in both halves, or neither",
    ),
    Kind(
        "edge-punctuation",
        "note",
        "entities that begin or end with a comma, full stop, colon, semicolon, question or exclamation mark",
        "decide whether it belongs to the name, and annotate so everywhere",
    ),
    Kind(
        "edge-quotes",
        "note",
        "entities that take in the quotes or brackets around them, or leave them outside, unlike most of their label",
        "decide on one way for each label: a model that learned both is wrong by a character half of the time",
    ),
    # What is said about labels and surfaces.
    Kind(
        "label-spelling",
        "error",
        "labels that differ only by case, spaces, hyphens or width from a more frequent one",
        "rename them: a model learns two labels where one is meant",
    ),
    Kind(
        "label-unknown",
        "error",
        "mentions with a label that the recipe does not list",
        "add the label to the recipe's labels, or rename it; training stops on it",
    ),
    Kind(
        "label-rare",
        "warning",
        "labels with less than a twentieth of the mentions that the most frequent label has",
        "annotate more of them, or merge them into another label; expect a low recall, and look at macro-F1",
    ),
    Kind(
        "label-one-file",
        "warning",
        "labels that some of the files do not have",
        "split again, stratified by label: what training never shows is not found, what is not measured is not known",
    ),
    Kind(
        "surface-noise",
        "warning",
        "mentions whose label is that of less than 10% of their surface's mentions, and of 3 at most: likely slips",
        _LOOK,
    ),
    Kind(
        "surface-ambiguous",
        "note",
        "surfaces that have several labels, of which none is a slip by that rule",
        "nothing where the meaning changes; otherwise the guidelines leave the case open",
    ),
    Kind(
        "surface-variants",
        "warning",
        "mentions written with other code points than the usual spelling of the same surface (equal in NFKC)",
        "normalize texts and offsets together before annotating; a model and a gazetteer take them for two names",
    ),
    Kind(
        "entity-missed",
        "warning",
        "places without an entity where a surface stands that is annotated 3 times or more, with one label, and in more "
        "than half of the places where it stands",
        "annotate them, or remove the others: training on both teaches to leave out",
    ),
    # Texts that come again.
    Kind(
        "duplicate-same",
        "warning",
        "documents whose text and entities stand in the same file before",
        "--fix keeps the first of each",
        repaired=True,
    ),
    Kind(
        "duplicate-differs",
        "error",
        "documents whose text was there before with other entities",
        "decide which annotation is right and remove the other",
    ),
    Kind(
        "leak-exact",
        "error",
        "documents whose very text stands in another of the files",
        "remove them from one of the two: a model is measured on what it was trained on",
    ),
    Kind(
        "leak-near",
        "warning",
        "documents nearly equal to one of another file",
        "split again with near-duplicates on one side, or remove them from one of the two",
    ),
    Kind(
        "near-duplicate",
        "note",
        "documents nearly equal to an earlier one of the same file",
        "keep them on one side of a split",
    ),
    # Characters.
    Kind(
        "control-character",
        "warning",
        "documents with control characters other than tab and line ends",
        "--fix removes them; those that separate (vertical tab, form feed, separators, next line) become spaces",
        repaired=True,
    ),
    Kind(
        "byte-order-mark",
        "warning",
        "documents with a byte order mark (U+FEFF) inside",
        "--fix removes it; it comes from files put one behind the other",
        repaired=True,
    ),
    Kind(
        "invisible-character",
        "warning",
        "documents with characters that nobody sees: zero-width, soft hyphens, fillers, line separators",
        "remove them and move the offsets, before training and before extraction alike",
    ),
    Kind(
        "bidi-control",
        "warning",
        "documents with marks that turn the direction of writing",
        "remove them unless the text is Arabic or Hebrew: what is seen is not the order of the characters",
    ),
    Kind(
        "replacement-character",
        "warning",
        "documents with U+FFFD: characters were lost when a file was decoded",
        "read the source again in its own encoding; what is lost cannot be told from this file",
    ),
    Kind(
        "private-use",
        "warning",
        "documents with private-use characters, which mean something in one font only",
        "replace them by what that font shows",
    ),
    Kind(
        "line-ends",
        "warning",
        "documents with other line ends (LF, CRLF, CR) inside than most have",
        "write all line ends as \\n and move the offsets",
    ),
    Kind(
        "not-composed",
        "note",
        "documents that are not in Unicode's composed form (NFC)",
        "normalize texts and offsets together, in training and in extraction alike",
    ),
    Kind(
        "compatibility-character",
        "note",
        "documents with letters or digits that have a plain equivalent (NFKC), such as full-width ones",
        "nothing where the texts to be read have them too",
    ),
    # Documents and lengths.
    Kind(
        "document-unread",
        "error",
        "documents that are not written as their file's format wants it",
        f"they are not read at all: {_LOOK}",
    ),
    Kind(
        "text-empty",
        "warning",
        "documents without text, or of white space only",
        "--fix removes them",
        repaired=True,
    ),
    Kind(
        "no-entities",
        "note",
        "documents without an entity",
        "some are needed, for a model that is to find nothing where nothing is; if they were not annotated, leave them out",
    ),
    Kind(
        "answer-cut",
        "warning",
        "documents whose prompt and answer are longer than the cut-off",
        "raise max_tokens or split the texts; nertune leaves such documents out, other tools cut the end of the answer",
    ),
    Kind(
        "answer-unwritable",
        "error",
        "documents that the answer format cannot write",
        "mend them, or choose a format that lists entities; training stops on them",
    ),
)
KINDS: Mapping[str, Kind] = MappingProxyType({kind.code: kind for kind in _TABLE})
"""All kinds by code, in the order of the documentation."""
