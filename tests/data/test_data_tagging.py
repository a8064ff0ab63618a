"""Tags are read as conlleval and seqeval read them, and written so that they come back."""

from __future__ import annotations

import random

import pytest
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB1, IOB2, IOBES, Entities

from nertune.data.formats.tagging import OUTSIDE, SCHEMES, Tagging, chunks, letters_of, taggable, tags_of
from nertune.data.formats.tokens import tokens_of
from nertune.schema import Document

PREFIXES = Tagging("BIOES")


def read(tags: list[str]) -> list[tuple[str, int, int]]:
    found = chunks(PREFIXES.parse(tag) or OUTSIDE for tag in tags)
    return [(chunk.label, chunk.start, chunk.end - 1) for chunk in found]


def test_any_sequence_is_read_as_seqeval_reads_it() -> None:
    random_ = random.Random(7)
    tags = ["O", *(f"{letter}-{label}" for letter in "BIES" for label in ("PER", "LOC.NAM"))]
    for _ in range(5_000):
        sequence = random_.choices(tags, k=random_.randint(0, 12))
        assert read(sequence) == get_entities(sequence)


@pytest.mark.parametrize(("scheme", "strict"), [("BIO", IOB2), ("IOB1", IOB1), ("BIOES", IOBES)])
def test_well_formed_sequences_are_read_as_seqevals_strict_mode_reads_them(scheme: str, strict: type) -> None:
    random_ = random.Random(8)
    for _ in range(1_000):
        sequence = well_formed(random_, scheme)
        entities = Entities([sequence], strict).entities[0] if sequence else []
        assert read(sequence) == [(entity.tag, entity.start, entity.end - 1) for entity in entities]
        tagging = Tagging(scheme)
        assert not any(tagging.is_broken(chunk) for chunk in chunks(tagging.parse(tag) or OUTSIDE for tag in sequence))


def well_formed(random_: random.Random, scheme: str) -> list[str]:
    tags: list[str] = []
    before = ""
    for _ in range(random_.randint(0, 5)):
        label = random_.choice(["", "A", "B"])
        length = random_.randint(1, 3)
        if not label:
            tags += ["O"] * length
        elif scheme == "BIOES":
            tags += [f"S-{label}"] if length == 1 else [f"B-{label}", *[f"I-{label}"] * (length - 2), f"E-{label}"]
        else:
            first = "B" if scheme == "BIO" or label == before else "I"
            tags += [f"{first}-{label}", *[f"I-{label}"] * (length - 1)]
        before = label
    return tags


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        (["O", "o"], ""),
        (["B-PER", "I-PER", "O"], "BIO"),
        (["O", "I-PER", "I-PER", "B-PER", "I-LOC"], "IOB1"),
        (["O", "I-PER", "O", "B-PER"], "BIO"),  # broken: B stands where IOB1 has none
        (["S-PER", "B-PER", "I-PER", "E-PER"], "BIOES"),
        (["B-NAME", "M-NAME", "E-NAME", "S-ORG"], "BMES"),
        (["U-PER", "B-PER", "I-PER", "L-PER"], "BILOU"),
        (["W-PER", "B-PER", "M-PER", "E-PER"], "BMEW"),
        (["PERSON", "O"], "IO"),
        (["BODY-B", "BODY-I", "O"], "BIO"),
        (["B_PER", "I_PER"], "BIO"),
    ],
)
def test_the_scheme_is_told(tags: list[str], scheme: str) -> None:
    assert Tagging.of([tags]).scheme == scheme


def test_letters_may_stand_behind_the_label() -> None:
    tagging = Tagging.of([["BODY-B", "BODY-I"]])
    assert [tagging.parse(tag) for tag in ("BODY-B", "x-I", "O")] == [("B", "BODY"), ("I", "x"), OUTSIDE]
    assert tagging.parse("B-BODY") is None
    both = Tagging.of([["B-X-B", "I-X-B"]])  # either way: the letter is before
    assert both.parse("B-X-B") == ("B", "X-B")


@pytest.mark.parametrize(
    ("scheme", "tags", "broken"),
    [("BIO", ["I-A"], 1), ("BIO", ["B-A", "I-B"], 1), ("BIOES", ["B-A", "O", "E-A", "S-A"], 2), ("BMES", ["I-A"], 1)],
)
def test_broken_entities_are_told(scheme: str, tags: list[str], broken: int) -> None:
    tagging = Tagging(scheme)
    found = chunks(tagging.parse(tag) or OUTSIDE for tag in tags)
    assert sum(map(tagging.is_broken, found)) == broken


@pytest.mark.parametrize("scheme", SCHEMES)
def test_tags_are_written_in_each_scheme(scheme: str) -> None:
    document = Document.of("ab cd ef gh", [("X", 0, 8), ("Y", 9, 11)])
    tags = tags_of(document, tokens_of(document.text), scheme)  # type: ignore[arg-type]
    written = {
        "bio": ["B-X", "I-X", "I-X", "B-Y"],
        "bioes": ["B-X", "I-X", "E-X", "S-Y"],
        "bmes": ["B-X", "M-X", "E-X", "S-Y"],
    }
    assert tags == written[scheme]
    assert {tag[0] for tag in tags} <= set(letters_of(scheme))  # type: ignore[arg-type]


def test_what_tags_cannot_say_is_listed() -> None:
    document = Document.of(" ab cd", [("X", 0, 3), ("Y", 0, 1), ("Z", 1, 6), ("a\tb", 4, 6), ("", 4, 6)])
    expressed = taggable(document)
    assert expressed.document == Document.of(" ab cd", [("Z", 1, 6)])
    assert [(loss.kind, loss.left_out) for loss in expressed.losses] == [
        ("labels that no tag can hold", True),
        ("labels that no tag can hold", True),
        ("white space at the edges of entities", False),
        ("white space at the edges of entities", True),
        ("entities inside others", True),
    ]
