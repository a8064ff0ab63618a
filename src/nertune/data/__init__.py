"""Annotated files in and out: the beginning of the road, where every file becomes `Document`s.

Readers know the formats and the ways in which files count offsets; past this room there are only half-open spans.
"""

from nertune.data.alpaca import AlpacaRow, write_alpaca
from nertune.data.corpus import Corpus, Reading, detect, open_rows, read, write, writer
from nertune.data.formats import FORMATS, WritableFormat
from nertune.data.mapping import Changes, LabelMap
from nertune.data.predictions import PredictionFile, read_predictions
from nertune.data.spans import Row
from nertune.data.split import Split, split, split_first
from nertune.data.texts import read_texts
from nertune.schema import SourceText

__all__ = [
    "FORMATS",
    "AlpacaRow",
    "Changes",
    "Corpus",
    "LabelMap",
    "PredictionFile",
    "Reading",
    "Row",
    "SourceText",
    "Split",
    "WritableFormat",
    "detect",
    "open_rows",
    "read",
    "read_predictions",
    "read_texts",
    "split",
    "split_first",
    "write",
    "write_alpaca",
    "writer",
]
