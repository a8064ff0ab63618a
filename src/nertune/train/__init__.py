"""The training room: recipes, packed batches, the trainer, and the run directory it writes."""

from nertune.train.llamafactory import OpenedRecipe, open_recipe
from nertune.train.recipe import Recipe, load_recipe

__all__ = ["OpenedRecipe", "Recipe", "load_recipe", "open_recipe"]
