"""Jobs on files, with recognizers that other processes can import."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from nertune.bulk import Source, extract_file, made_from

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def fakes() -> ModuleType:
    """The module bulk_fakes.py, which worker processes find because they get this process's path."""
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    import bulk_fakes

    return bulk_fakes


@pytest.fixture
def job(fakes) -> Callable[..., int]:
    """A function that extracts from one file into another and gives the exit code."""

    def run(source: Path, out: Path, *, factory=None, settings=None, model="fake", **options) -> int:
        given = Source(str(source))
        made = made_from(given, model, settings or {})
        return extract_file(given, factory or partial(fakes.make), out=out, made_from=made, **options)

    return run
