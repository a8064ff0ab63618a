"""The models room: where base models come from, and attention over a prompt prefix that many sequences share.

Training and generation both stand on it; it knows nothing of entities, prompts or recipes.
"""

from nertune.models.builtin import BUILTIN, cache_folder, ensure_builtin
from nertune.models.loading import load_model, load_tokenizer, resolve_model

__all__ = ["BUILTIN", "cache_folder", "ensure_builtin", "load_model", "load_tokenizer", "resolve_model"]
