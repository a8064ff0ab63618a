"""Extraction from files of any size: in chunks, in order, from one process or many, and on from where it was killed.

    rows -> chunks -> recognized in this process, in worker processes, or on a Ray cluster -> outcomes, in order -> output

A chunk is always the same rows, and is recognized in one go wherever that happens: so the numbers in its output do not
depend on who worked on it, nor on what was interrupted before.
"""

from nertune.extract.bulk.output import Output, Standing, fingerprint
from nertune.extract.bulk.recognize import CHUNK, Chunk, Outcome, chunked, recognize
from nertune.extract.bulk.window import recognize_steadily
from nertune.extract.bulk.workers import Workers

__all__ = [
    "CHUNK",
    "Chunk",
    "Outcome",
    "Output",
    "Standing",
    "Workers",
    "chunked",
    "fingerprint",
    "recognize",
    "recognize_steadily",
]
