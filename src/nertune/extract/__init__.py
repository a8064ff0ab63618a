"""The extraction room: grounding, and the Recognizer that turns texts into predictions."""

from nertune.extract.ground import Grounded, ground
from nertune.extract.recognizer import Recognizer
from nertune.extract.trace import Trace

__all__ = ["Grounded", "Recognizer", "Trace", "ground"]
