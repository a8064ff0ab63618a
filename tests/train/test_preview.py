"""`nertune preview`: text, tokens, ids, attention mask and labels of training rows, no character cut."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nertune import data, terminal
from nertune.cli import main
from nertune.models import load_tokenizer
from nertune.prompt import IGNORED, Renderer
from nertune.schema import Document
from nertune.train import load_recipe
from nertune.train.task import load_tasks

QWEN2 = Path(__file__).parents[3] / "shared" / "tokenizers" / "qwen2"
HEADINGS = ["text", "tokens", "input_ids", "attention_mask", "labels"]


@pytest.fixture(params=["bytes", "qwen2"])
def written(request, recipe, base, tmp_path) -> Path:
    """A recipe's file, on a tokenizer that spells every character in bytes and on Qwen2's own, which cuts some."""
    model = base
    if request.param == "qwen2":
        if not QWEN2.is_dir():
            pytest.skip(f"no tokenizer at {QWEN2}")
        model = tmp_path / "qwen2"
        shutil.copytree(QWEN2, model)
    file = tmp_path / "train.jsonl"
    data.write(
        [Document.of("俄罗斯的 地点", [("地点", 0, 3)]), Document.of("地点 格式", [("地点", 0, 2)])],
        file,
        format="entities",
    )
    made = recipe(model=str(model), data={"train": str(file), "validation": 0}, prompt={"system": "提取 地点; 组织"})
    path = tmp_path / "recipe.yaml"
    path.write_text(made.to_yaml(), encoding="utf-8")
    return path


@pytest.fixture
def preview(written, capsys) -> Callable[[], dict[str, str]]:
    """What stands under each heading of the first sample, and the line before them as `sample`."""

    def shown() -> dict[str, str]:
        assert main(["preview", str(written)]) == 0
        out = capsys.readouterr().out
        assert "\ufffd" not in out
        parts = re.split(rf"^({'|'.join(HEADINGS)})(?: \(.*\))?$\n", re.sub(r"\x1b\[[\d;]*m", "", out), flags=re.M)
        return {
            "sample": parts[0].strip(),
            **{k: v.removesuffix("\n") for k, v in zip(parts[1::2], parts[2::2], strict=True)},
        }

    return shown


def row_of(path: Path):
    recipe = load_recipe(path)
    (task,) = load_tasks(recipe)
    renderer = Renderer(load_tokenizer(recipe.model), task.spec)
    return renderer, renderer.row(task.train[0])


def unwrapped(tokens: str) -> Iterator[tuple[str, int]]:
    """Each shown token with how many it stands for."""
    for word, count in re.findall(r'("(?:[^"\\]|\\.)*")(?:×(\d+))?', tokens):
        yield ast.literal_eval(word), int(count or 1)


def test_a_row_is_shown_without_colour(written, preview):
    shown = preview()
    renderer, row = row_of(written)
    assert list(shown) == ["sample", *HEADINGS]
    assert shown["sample"].startswith(f"sample 1: {len(row.ids_T)} tokens, {sum(row.loss_mask_T)} trained (in ⟦ ⟧)")
    whole = renderer.tokenizer.decode(row.ids_T)
    before = renderer.tokenizer.decode(row.ids_T[: row.prompt_length])
    assert shown["text"] == f"{before}⟦{whole.removeprefix(before)}⟧"
    assert ast.literal_eval(shown["input_ids"]) == row.ids_T
    assert ast.literal_eval(shown["attention_mask"]) == [1] * len(row.ids_T)
    labels = ast.literal_eval(shown["labels"])
    assert labels == [IGNORED] * row.prompt_length + row.ids_T[row.prompt_length :]


def test_tokens_that_share_a_character_are_shown_together(written, preview):
    renderer, row = row_of(written)
    start = 0
    words = list(unwrapped(preview()["tokens"]))
    for word, count in words:
        assert word == renderer.tokenizer.decode(row.ids_T[start : start + count])
        start += count
    assert start == len(row.ids_T)
    assert any(count > 1 for _, count in words)  # " 地" is two tokens of Qwen2's


def test_trained_tokens_are_green_in_colour(preview, monkeypatch, written, capsys):
    from rich.console import Console

    monkeypatch.setattr(terminal, "stdout", Console(force_terminal=True, color_system="truecolor", highlight=False))
    shown = preview()
    assert "trained (green)" in shown["sample"]
    assert "⟦" not in shown["text"]
    renderer, row = row_of(written)
    assert shown["text"] == renderer.tokenizer.decode(row.ids_T)
    assert main(["preview", str(written)]) == 0
    strip = capsys.readouterr().out.partition("text")[2].partition("tokens")[0]
    green = "".join(re.findall(r"\x1b\[30;(?:42|102)m(.*?)\x1b\[0m", strip, flags=re.S))
    assert green == renderer.tokenizer.decode(row.ids_T[row.prompt_length :])
