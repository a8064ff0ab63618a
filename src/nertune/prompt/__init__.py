"""The prompt room: templates, answer formats, and the one renderer that training and inference share."""

from nertune.prompt.answers import (
    ANSWER_FORMATS,
    KNOWN_ANSWERS,
    AnswerFormat,
    ParsedAnswer,
    Placed,
    Refusal,
    StrictAnswer,
    Written,
    answer_format,
    fitted,
    likely_options,
    refuse_unwritable,
    strict,
)
from nertune.prompt.chat import DEFAULT_TEMPLATE, template_hash
from nertune.prompt.conversation import Conversation
from nertune.prompt.places import TokenPlaces
from nertune.prompt.plain import PlainTokenizer
from nertune.prompt.render import IGNORED, PromptSpec, Renderer, Row
from nertune.prompt.template import PromptTemplate, builtin_templates, doubled_braces, load_template
from nertune.prompt.tokenizer import Tokenizer

__all__ = [
    "ANSWER_FORMATS",
    "DEFAULT_TEMPLATE",
    "IGNORED",
    "KNOWN_ANSWERS",
    "AnswerFormat",
    "Conversation",
    "ParsedAnswer",
    "Placed",
    "PlainTokenizer",
    "PromptSpec",
    "PromptTemplate",
    "Refusal",
    "Renderer",
    "Row",
    "StrictAnswer",
    "TokenPlaces",
    "Tokenizer",
    "Written",
    "answer_format",
    "builtin_templates",
    "doubled_braces",
    "fitted",
    "likely_options",
    "load_template",
    "refuse_unwritable",
    "strict",
    "template_hash",
]
