"""Each format knows its own files and no other's: a sample of each, of what its users have."""

from __future__ import annotations

from pathlib import Path

import pytest

from nertune.data import FORMATS, detect

# (format, content)
SAMPLES = [
    ("cluener", '{"text": "叶老桂", "label": {"name": {"叶老桂": [[0, 2]]}}}'),
    ("cluener", '{"id": 1, "text": "叶老桂"}'),
    ("entities", '{"text": "叶老桂", "entities": [{"start": 0, "end": 3, "label": "name", "text": "叶老桂"}]}'),
    (
        "entities",
        '[{"text": "叶老桂", "entities": [{"start_idx": 0, "end_idx": 2, "type": "name", "entity": "叶老桂"}]}]',
    ),
    ("entities", '{"text": "a", "entities": []}'),
    ("conll", "EU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n"),
    ("conll", "-DOCSTART- -X- O O\n\nEU NNP B-NP I-ORG\nrejects VBZ B-VP O\n"),
    ("conll", "叶\tB-PER\n老\tI-PER\n"),
    ("conll", "# id = 3\n# text = a b\na\tO\nb\tS-X\n"),
    ("conll", "[ O\n北 B-LOC\n] O\n"),
    ("hf", '{"id": "0", "tokens": ["EU"], "ner_tags": [3]}'),
    ("hf", '{"id": "0", "text": "EU", "tokens": ["EU"], "ner_tags": ["B-ORG"]}'),
    ("hf", '[{"tokens": ["EU"], "tags": [3]}]'),
    ("spacy", '[["Uber blew", {"entities": [[0, 4, "ORG"]]}]]'),
    ("spacy", '["Uber blew", {"entities": [[0, 4, "ORG"]]}]\n'),
    ("spacy", '{"classes": ["ORG"], "annotations": [["Uber blew", {"entities": [[0, 4, "ORG"]]}]]}'),
    ("spacy", '{"text": "Uber", "entities": []}\n{"text": "Uber", "entities": [[0, 4, "ORG"]]}'),
    ("spacy", '{"text": "Uber", "ents": [{"start": 0, "end": 4, "label": "ORG"}], "tokens": []}'),
    ("spacy", '[{"id": 0, "paragraphs": [{"raw": "Uber", "sentences": []}]}]'),
]


@pytest.mark.parametrize(("name", "content"), SAMPLES)
def test_each_is_told(tmp_path: Path, name: str, content: str) -> None:
    assert name in FORMATS
    (tmp_path / "file").write_text(content, encoding="utf-8")
    assert detect(tmp_path / "file") == name
