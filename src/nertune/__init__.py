"""nertune turns an instruction-tuned LLM into a named-entity recognizer.

recognizer = nertune.load("runs/quickstart")
recognizer.extract("浙商银行企业信贷部叶老桂博士则从另一个角度对五道门槛进行了解读。").entities
"""

from nertune.assemble import connect, load
from nertune.errors import InputError, NertuneError
from nertune.extract import Recognizer
from nertune.schema import Document, Entity, LabelSet, Mention, Prediction

__all__ = [
    "Document",
    "Entity",
    "InputError",
    "LabelSet",
    "Mention",
    "NertuneError",
    "Prediction",
    "Recognizer",
    "__version__",
    "connect",
    "load",
]

__version__ = "0.1.0"
