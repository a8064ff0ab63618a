"""loss_tokens: free - what the grammar forces carries no loss, everything else as ever."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import nertune
from nertune import data
from nertune.cli import main
from nertune.errors import InputError
from nertune.models.attention import can_share_prefix
from nertune.prompt import PromptSpec, PromptTemplate, Renderer, Row, answer_format
from nertune.run import RunManifest
from nertune.schema import Document, LabelSet
from nertune.train.batches import collate_packed, collate_padded, prepare
from nertune.train.fit import train
from nertune.train.free import FreeTokens
from nertune.train.objective import packed_loss_sum, padded_loss_sum

LABELS = LabelSet(("人名", "地点"))
DOCUMENTS = [Document.of("方鹏去杭州", [("人名", 0, 2), ("地点", 3, 5)]), Document("天晴"), Document("无人出门")]


@pytest.fixture(scope="module")
def renderer(base) -> Renderer:
    spec = PromptSpec(PromptTemplate("抽取{labels}：{text}", "专家"), LABELS, answer_format("json"))
    return Renderer(AutoTokenizer.from_pretrained(base), spec)


def _free(renderer: Renderer) -> tuple[Row, ...]:
    return prepare(DOCUMENTS, renderer, max_tokens=1000, free=FreeTokens(renderer)).rows


def test_the_keys_of_a_json_answer_carry_no_loss_and_the_rest_does(renderer):
    whole = renderer.row(DOCUMENTS[0])
    row = _free(renderer)[0]
    assert row.ids_T == whole.ids_T
    kept = [token for token, flag in zip(row.ids_T, row.loss_mask_T, strict=True) if flag]
    answer = renderer.decode(whole.ids_T[whole.prompt_length :])
    assert answer == '[{"label": "人名", "text": "方鹏"}, {"label": "地点", "text": "杭州"}]'
    written = bytes(renderer.decode(kept), "utf-8", errors="replace").decode("utf-8", errors="replace")
    assert not any(key in written for key in ("label", "text", ": "))
    assert 0 < len(kept) < sum(whole.loss_mask_T) / 2
    prompts = whole.loss_mask_T[: whole.prompt_length]
    assert row.loss_mask_T[: whole.prompt_length] == prompts == [0] * len(prompts)


def test_rows_are_counted_and_the_same_each_time(renderer):
    free = FreeTokens(renderer)
    whole = [renderer.row(document) for document in DOCUMENTS]
    rows = [free.row(row, document.text) for row, document in zip(whole, DOCUMENTS, strict=True)]
    assert rows == list(_free(renderer))
    assert free.tokens == sum(sum(row.loss_mask_T) for row in whole)
    assert free.free == sum(sum(row.loss_mask_T) for row in rows)
    assert (free.parted, free.astray) == (0, 0)
    assert free.said() == (
        f"loss on the {free.free} free of the answers' {free.tokens} tokens ({free.free / free.tokens:.0%})"
    )


def test_answers_that_are_not_in_their_grammar_stay_trained_and_are_told(family_of):
    """As of a tokenizer that writes an answer otherwise than the grammar: here, the answer about another text."""
    spec = PromptSpec(PromptTemplate("{text}", "s"), LABELS, answer_format("inline"))
    renderer = Renderer(family_of("llama-2").tokenizer, spec)
    free = FreeTokens(renderer)
    row = renderer.row(DOCUMENTS[0])
    masked = free.row(row, "完全不同").loss_mask_T
    assert sum(row.loss_mask_T) - sum(masked) <= 1  # the space before the first word is in every grammar
    assert "1 answers are not in their grammar as the tokenizer writes them" in free.said()


def test_answers_without_a_choice_are_left_out_by_name(renderer):
    class Nothing:
        def row(self, row: Row, text: str) -> Row:
            return Row(row.ids_T, [0] * len(row.ids_T)) if text == "天晴" else row

    prepared = prepare(DOCUMENTS, renderer, max_tokens=1000, free=Nothing())
    assert len(prepared.rows) == len(prepared.names) == 2
    assert [str(item) for item in prepared.left_out] == [
        "document 2: the grammar leaves its answer no choice, and loss_tokens: free trains nothing else: '天晴'"
    ]


def test_the_loss_is_that_of_the_whole_answers_without_the_forced_places(base, renderer):
    """Packed and padded, loss and gradients: against the logits of every token, of which the free ones are summed."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    rows = _free(renderer)
    expected = torch.zeros(())
    for row in rows:
        logits_TV = model(input_ids=torch.tensor([row.ids_T])).logits[0]
        loss_T = torch.nn.functional.cross_entropy(logits_TV[:-1], torch.tensor(row.ids_T[1:]), reduction="none")
        expected = expected + loss_T[torch.tensor(row.loss_mask_T[1:]) == 1].sum()
    weight = model.model.layers[0].self_attn.q_proj.weight
    (wanted,) = torch.autograd.grad(expected, weight)
    assert can_share_prefix(model)
    packed = collate_packed(rows)
    assert packed["labels"].numel() == sum(sum(row.loss_mask_T) for row in rows)
    found = packed_loss_sum(model, packed)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    torch.testing.assert_close(torch.autograd.grad(found, weight)[0], wanted, rtol=1e-3, atol=1e-6)
    model.set_attn_implementation("sdpa")
    padded = padded_loss_sum(model, collate_padded(rows, pad_id=0))
    assert float(padded.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_a_run_says_it_needs_the_grammar_and_tells_what_share_of_tokens_was_free(recipe, corpus):
    said: list[str] = []
    made = recipe(answer="json", training={"loss_tokens": "free", "max_steps": 4}, lora={"dropout": 0})
    run = train(made, note=said.append).folder
    (line,) = [line for line in said if line.startswith("loss on the ")]
    assert RunManifest.read(run).loss_tokens == "free"
    assert "loss_tokens: free" in (run / "recipe.yaml").read_text(encoding="utf-8")
    recognizer = nertune.load(run)
    assert recognizer.constrained
    assert recognizer.extract("方鹏去漠北").text == "方鹏去漠北"
    with pytest.raises(InputError, match="loss_tokens: free"):
        nertune.load(run, constrained=False)
    free = FreeTokens(recognizer.renderer)
    for document in data.read(corpus).documents:
        free.row(recognizer.renderer.row(document), document.text)
    assert line == free.said()


def test_every_task_has_its_own_grammar(two_tasks):
    said: list[str] = []
    train(two_tasks(training={"loss_tokens": "free", "max_steps": 2}), note=said.append)
    counted = [line for line in said if "loss on the" in line]
    assert [line.split(":")[0] for line in counted] == ["people", "drugs"]


def test_preview_shows_what_carries_loss(recipe, tmp_path, capsys):
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe(answer="json").to_yaml(), encoding="utf-8")
    shown = {}
    for tokens in ("answer", "free"):
        assert main(["preview", str(path), f"training.loss_tokens={tokens}"]) == 0
        out = capsys.readouterr().out
        shown[tokens] = int(out.split(" trained (")[0].rsplit(" ", 1)[1])
    assert 0 < shown["free"] < shown["answer"] / 2
    assert "loss_tokens: answer" in Path(path).read_text(encoding="utf-8")
