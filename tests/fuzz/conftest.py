"""The tiny run that hostile files are put into."""

from __future__ import annotations

import runpy
from pathlib import Path

_beside = runpy.run_path(str(Path(__file__).parents[1] / "export" / "conftest.py"))
base_of, base, corpus, recipe_in, run = (_beside[name] for name in ("base_of", "base", "corpus", "recipe_in", "run"))
other_model = _beside["other_model"]
