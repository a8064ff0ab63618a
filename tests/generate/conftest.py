"""Models beyond those of the outer conftest.py."""

from __future__ import annotations

import runpy
from pathlib import Path

other_model = runpy.run_path(str(Path(__file__).parents[1] / "tiny_models.py"))["other_model"]
