"""Runs to export: tiny ones, trained in the test."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import pytest

from nertune.train.fit import train

_beside = runpy.run_path(str(Path(__file__).parents[1] / "train" / "conftest.py"))
base_of, base, corpus, recipe_in, recipe = (
    _beside[name] for name in ("base_of", "base", "corpus", "recipe_in", "recipe")
)
drugs, two_tasks_in, two_tasks = (_beside[name] for name in ("drugs", "two_tasks_in", "two_tasks"))
other_model = _beside["other_model"]
TRAINING = {"epochs": 2, "eval_steps": "never", "keep_best": False}


@pytest.fixture(scope="session")
def run(tmp_path_factory, recipe_in) -> Path:
    """A run of a tiny Qwen2; its answers are JSON."""
    return train(recipe_in(tmp_path_factory.mktemp("runs"), answer="json", training=TRAINING)).folder


@pytest.fixture
def own_run(run, tmp_path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(run, tmp_path / "own", ignore=shutil.ignore_patterns("checkpoints")))
