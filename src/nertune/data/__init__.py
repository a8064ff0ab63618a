"""Annotated files in and out: the beginning of the road, where every file becomes `Document`s.

Readers know the formats and the ways in which files count offsets; past this room there are only half-open spans.
"""

from nertune.data.corpus import Corpus, Reading, detect, open_rows, read, write, writer
from nertune.data.few_shot import FewShot, few_shot
from nertune.data.formats.alpaca import AlpacaRow, write_alpaca
from nertune.data.formats.answers import Answers
from nertune.data.formats.features import tag_names
from nertune.data.formats.inline import MarkedLines
from nertune.data.formats.sharegpt import SharegptRow, write_sharegpt
from nertune.data.formats.table import FORMATS, WritableFormat, Writer
from nertune.data.formats.tagging import SCHEMES, Scheme
from nertune.data.formats.tokens import JOINERS
from nertune.data.mapping import Changes, LabelMap
from nertune.data.predictions import PredictionFile, read_predictions
from nertune.data.source import Offsets, ReadSettings
from nertune.data.spans import Row
from nertune.data.split import (
    Grouping,
    Split,
    Three,
    groups_of,
    split,
    split_first,
    split_folds,
    split_stratified,
    split_three,
)
from nertune.data.texts import read_texts
from nertune.schema import SourceText

__all__ = [
    "FORMATS",
    "JOINERS",
    "SCHEMES",
    "AlpacaRow",
    "Answers",
    "Changes",
    "Corpus",
    "FewShot",
    "Grouping",
    "LabelMap",
    "MarkedLines",
    "Offsets",
    "PredictionFile",
    "ReadSettings",
    "Reading",
    "Row",
    "Scheme",
    "SharegptRow",
    "SourceText",
    "Split",
    "Three",
    "WritableFormat",
    "Writer",
    "detect",
    "few_shot",
    "groups_of",
    "open_rows",
    "read",
    "read_predictions",
    "read_texts",
    "split",
    "split_first",
    "split_folds",
    "split_stratified",
    "split_three",
    "tag_names",
    "write",
    "write_alpaca",
    "write_sharegpt",
    "writer",
]
