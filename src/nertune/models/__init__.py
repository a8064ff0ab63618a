"""The models room: where base models come from, attention over a prompt prefix that many sequences share, and grammars.

Training and generation both stand on it; it knows nothing of entities, prompts or recipes.
"""

from nertune.models.builtin import BUILTIN, cache_folder, ensure_builtin
from nertune.models.loading import load_model, load_tokenizer, resolve_model
from nertune.models.tokens import add_rows, add_tokens, make_room

__all__ = [
    "BUILTIN",
    "add_rows",
    "add_tokens",
    "cache_folder",
    "ensure_builtin",
    "load_model",
    "load_tokenizer",
    "make_room",
    "resolve_model",
]
