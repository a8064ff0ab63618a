"""The training room: recipes, packed batches, the trainer, and the run directory it writes."""

from nertune.train.recipe import Recipe, load_recipe

__all__ = ["Recipe", "load_recipe"]
