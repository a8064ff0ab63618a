"""Every method of fine-tuning: what is trained, saved, and loaded again is one and the same model."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import nertune
from nertune.cli import main
from nertune.errors import InputError, MissingExtraError, RunError
from nertune.models import add_rows
from nertune.models.attention import PackedRow
from nertune.prompt import Row
from nertune.run import RunManifest
from nertune.train.adapter import inner_model, prepare_model
from nertune.train.batches import collate_packed, collate_padded
from nertune.train.dropout import LaneDropout
from nertune.train.fit import train
from nertune.train.heads import loss_head
from nertune.train.measure import Reader
from nertune.train.objective import packed_loss_sum, padded_loss_sum
from nertune.train.optimizer import raise_rate_of_b

SHORT = {"max_steps": 4, "eval_steps": 4, "learning_rate": 0.005, "f1_documents": 0}
TOKENS = ["[", " | 人名]", " | 地点]"]
IDS, ROW = [40, 50, 60, 70, 80, 90, 100, 110, 120], (3, [2, 4])

METHODS = {
    "lora": {},
    "rslora": {"lora": {"rslora": True}},
    "dora": {"lora": {"dora": True}},
    "lora+": {"lora": {"plus_ratio": 16}},
    "full": {"method": "full", "lora": None},
    "tokens": {"tokens": TOKENS},
    "tokens and dora": {"tokens": TOKENS, "lora": {"dora": True}},
    "tokens and full": {"tokens": TOKENS, "method": "full", "lora": None},
}


def _packed_logits(model) -> torch.Tensor:
    row = PackedRow(*ROW, device="cpu")
    with torch.no_grad():
        return model(
            input_ids=torch.tensor([IDS]), position_ids=row.position_ids_1S, use_cache=False, nertune_context=row
        ).logits[0]


def _plain_logits(model) -> torch.Tensor:
    """The same places as in the packed row, each suffix behind the prefix."""
    prefix, lengths = ROW
    found, start = [], prefix
    with torch.no_grad():
        for length in lengths:
            ids = torch.tensor([IDS[:prefix] + IDS[start : start + length]])
            found.append(model(input_ids=ids, use_cache=False).logits[0, prefix:])
            start += length
    return torch.cat(found)


def _trained(recipe) -> tuple[Path, torch.Tensor]:
    """The run, and the logits of the model at the end of training."""
    seen: list[torch.Tensor] = []
    reader = Reader(lambda model, *_: seen.append(_packed_logits(model)) or [], lambda *_: {})
    run = train(recipe, reader=reader).folder
    logits = seen[-1]
    return run, logits


@pytest.mark.parametrize("name", ["qwen2", "gemma3-tied"])
@pytest.mark.parametrize("method", METHODS)
def test_a_run_loads_as_the_model_that_was_trained(recipe, base_of, method, name):
    base = base_of(name)
    run, trained = _trained(recipe(model=str(base), training=SHORT, **METHODS[method]))
    losses = [line["loss"] for line in map(json.loads, (run / "metrics.jsonl").open()) if "loss" in line]
    assert losses[-1] < losses[0]
    assert RunManifest.read(run).kind == ("model" if "full" in method else "adapter")

    recognizer = nertune.load(run)
    torch.testing.assert_close(_packed_logits(recognizer.engine.model), trained, rtol=1e-4, atol=1e-4)
    assert recognizer.extract("方鹏去漠北").text == "方鹏去漠北"
    assert ("full" in method) == (run / "model.safetensors").exists() != (run / "adapter_model.safetensors").exists()

    if "full" in method:
        peer = AutoModelForCausalLM.from_pretrained(run)
    else:
        peer = AutoModelForCausalLM.from_pretrained(base)
        if "tokens" in method:
            peer.resize_token_embeddings(len(AutoTokenizer.from_pretrained(run)))
        peer = PeftModel.from_pretrained(peer, run)
    torch.testing.assert_close(_plain_logits(peer.eval()), trained[3:], rtol=1e-4, atol=1e-4)


def _prepared(model, recipe):
    """A model ready to train, its weights moved so that no gradient is zero by construction."""
    pieces = {ids: [ids] for ids in (5, 17)} if recipe.tokens else {}
    model, packed = prepare_model(model, recipe, token_ids=add_rows(model, pieces))
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape)
    return model, packed


@pytest.mark.parametrize("name", ["qwen2", "gemma3-tied"])
@pytest.mark.parametrize("method", ["rslora", "dora", "tokens", "full"])
def test_packed_training_is_padded_training(recipe, tiny_model, other_model, method, name):
    """Loss and every gradient, those of embeddings and output layer too."""
    build = tiny_model if name == "qwen2" else other_model
    changes = {**METHODS[method]}
    if method != "full":
        changes["lora"] = {**changes.get("lora", {}), "dropout": 0.0}
    model, packed = _prepared(build(name), recipe(**changes))
    assert packed
    own_attention = build(name).config._attn_implementation
    head = loss_head(inner_model(model))
    assert (head is None) == (method in ("tokens", "full"))
    draw = torch.Generator().manual_seed(0)
    common = torch.randint(3, 160, (9,), generator=draw).tolist()
    rows = []
    for number, (asked, answered) in enumerate([(3, 7), (1, 2), (6, 4)]):
        own = [3 + number, *torch.randint(3, 160, (asked + answered - 1,), generator=draw).tolist()]
        rows.append(Row([*common, *own[:-1], 17], [0] * (9 + asked) + [1] * answered))

    def gradients(loss):
        model.zero_grad()
        loss.backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}

    found = packed_loss_sum(model, collate_packed(rows), head)
    got = gradients(found)
    inner_model(model).set_attn_implementation(own_attention)
    expected = padded_loss_sum(model, collate_padded(rows, pad_id=0), head)
    wanted = gradients(expected)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    for key, gradient in wanted.items():
        assert gradient.norm() > 0, key
        assert (got[key] - gradient).norm() <= 1e-4 * gradient.norm(), key


def test_dropout_in_front_of_dora_takes_its_path_in_training(recipe, tiny_model):
    """PEFT computes the frozen product anew from the input that was dropped; without drops that changes nothing."""
    model, _ = _prepared(tiny_model("qwen2"), recipe(lora={"dora": True, "dropout": 0.5}))
    dropouts = [module for module in model.modules() if isinstance(module, LaneDropout)]
    assert len(dropouts) == 3 * 7
    plain = _packed_logits(model.eval())
    torch.manual_seed(0)
    assert not torch.allclose(_packed_logits(model.train()), plain, atol=1e-3)
    for dropout in dropouts:
        dropout.p = 1e-9
    torch.testing.assert_close(_packed_logits(model), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"dora": True}], ids=["lora", "dora"])
def test_lora_plus_groups_are_peft_s(recipe, tiny_model, changes):
    model, _ = _prepared(tiny_model("qwen2"), recipe(lora=changes))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    ours = torch.optim.AdamW(trained, lr=0.01, weight_decay=0.1)
    raise_rate_of_b(ours, model, 16)
    theirs = create_loraplus_optimizer(
        model, torch.optim.AdamW, lr=0.01, loraplus_lr_ratio=16, loraplus_weight_decay=0.1
    )

    def settings(optimizer):
        groups = optimizer.param_groups
        return {
            id(parameter): (group["lr"], group["weight_decay"]) for group in groups for parameter in group["params"]
        }

    assert settings(ours) == settings(theirs)
    assert {rate for rate, _ in settings(ours).values()} == {0.01, 0.16}


def test_the_schedule_moves_both_rates_of_lora_plus(recipe):
    settings = {**SHORT, "warmup": 1, "weight_decay": 0.1}
    run = train(recipe(training=settings, lora={"plus_ratio": 16})).folder
    saved = torch.load(run / "checkpoints" / "checkpoint-4" / "optimizer.pt", weights_only=True)
    rates = sorted((group["initial_lr"], group["weight_decay"]) for group in saved["param_groups"] if group["params"])
    assert rates == [(0.005, 0.1), (0.08, 0.1)]
    scheduler = torch.load(run / "checkpoints" / "checkpoint-4" / "scheduler.pt", weights_only=True)
    assert set(scheduler["_last_lr"]) == {0.0}


def test_a_whole_model_is_computed_with_in_bfloat16_and_kept_in_float32(recipe):
    run = train(recipe(method="full", lora=None, training={**SHORT, "dtype": "bfloat16"})).folder
    kept = load_file(run / "checkpoints" / "checkpoint-4" / "model.safetensors")
    assert {weight.dtype for weight in kept.values()} == {torch.float32}
    assert {weight.dtype for weight in load_file(run / "model.safetensors").values()} == {torch.bfloat16}
    nertune.load(run).extract("方鹏去漠北")


def test_added_tokens_are_read_and_written_as_one(recipe, capsys):
    run = train(recipe(tokens=TOKENS, training=SHORT)).folder
    renderer = nertune.load(run).renderer
    plain = renderer.tokenizer.convert_tokens_to_ids(TOKENS)
    ids = renderer.answer_ids("[方鹏 | 人名]去")
    assert (ids[0], ids[-4]) == (plain[0], plain[1])
    assert renderer.decode(ids) == "[方鹏 | 人名]去"
    capsys.readouterr()
    assert main(["preview", str(run / "recipe.yaml")]) == 0
    assert f"{plain[0]}, " in capsys.readouterr().out
    saved = load_file(run / "adapter_model.safetensors")
    assert sorted({weight.shape[0] for key, weight in saved.items() if "trainable_tokens" in key}) == [len(TOKENS)]
    # A run whose tokenizer is lost, or has another chat template, is not used.
    path = run / "chat_template.jinja"
    path.write_text(path.read_text(encoding="utf-8") + " ", encoding="utf-8")
    with pytest.raises(RunError, match="another chat template"):
        nertune.load(run)


@pytest.mark.parametrize("method", ["full", "tokens"])
@pytest.mark.parametrize("name", ["gemma2", "mamba"])
def test_models_that_cannot_share_a_prefix_train_too(recipe, base_of, method, name):
    changes = METHODS[method]
    if name == "mamba" and method == "tokens":
        changes = {**changes, "lora": {"targets": ["in_proj", "x_proj"]}}
    trained = train(recipe(model=str(base_of(name)), training=SHORT, **changes))
    assert not trained.shares_prefix
    assert nertune.load(trained.folder).extract("方鹏去漠北").text == "方鹏去漠北"


def test_a_whole_model_is_a_base_for_the_next_run(recipe):
    first = train(recipe("first", training=SHORT, **METHODS["tokens and full"])).folder
    second = train(recipe("second", model=str(first), training=SHORT)).folder
    assert RunManifest.read(second).base_model == str(first)
    nertune.load(second).extract("方鹏去漠北")
    for command in (["preview", str(second / "recipe.yaml")], ["extract", str(first), "--text", "方鹏去漠北"]):
        assert main(command) == 0


def test_rows_of_an_output_layer_with_a_bias_are_refused(recipe, tiny_model):
    model = tiny_model("qwen2")
    model.lm_head = torch.nn.Linear(32, 160)
    with pytest.raises(InputError, match=r"tokens: the output layer .* has a bias"):
        prepare_model(model, recipe(tokens=["x"]), token_ids=(3,))


def test_a_section_that_is_not_used_is_told(recipe):
    said: list[str] = []
    train(recipe(method="full", training={"max_steps": 1, "eval_steps": "never"}), note=said.append)
    assert any("the section lora is not used" in line for line in said)


def test_a_whole_run_with_pickled_weights_is_refused(recipe):
    run = train(recipe(method="full", lora=None, training={"max_steps": 1, "eval_steps": "never"})).folder
    (run / "model.safetensors").rename(run / "pytorch_model.bin")
    with pytest.raises(RunError, match=r"only pytorch_model\.bin, which is not loaded because it can run code"):
        nertune.load(run)


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_four_bits_without_their_library_name_the_extra(recipe, tmp_path):
    with pytest.raises(MissingExtraError, match=r"pip install 'nertune\[quantize\]'"):
        train(recipe(training={**SHORT, "quantize": "4bit"}))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("lora", [{}, {"dora": True}], ids=["lora", "dora"])
@pytest.mark.parametrize("name", ["qwen2", "gemma3-tied"])
def test_a_run_on_four_bits_loads_as_the_model_that_was_trained(recipe, base_of, name, lora):
    """bitsandbytes computes on processors too; it is no dependency of the tests."""
    pytest.importorskip("bitsandbytes")
    changes = {"tokens": TOKENS} if lora else {}
    settings = {**SHORT, "quantize": "4bit", "gradient_checkpointing": True}
    run, trained = _trained(recipe(model=str(base_of(name)), training=settings, lora=lora, **changes))
    assert RunManifest.read(run).quantize == "4bit"
    model = nertune.load(run).engine.model
    assert type(model.model.layers[0].mlp.up_proj.base_layer).__name__ == "Linear4bit"
    torch.testing.assert_close(_packed_logits(model), trained, rtol=1e-3, atol=1e-3)
    whole = nertune.load(run, dtype="float32").engine.model
    assert whole.model.layers[0].mlp.up_proj.weight.dtype == torch.float32
    assert not torch.allclose(_packed_logits(whole), trained, atol=1e-4)


class InterruptionError(Exception):
    """Stands for the signal that ends a training from outside."""


@pytest.mark.parametrize("method", ["dora", "lora+", "full", "tokens"])
def test_checkpointing_changes_no_number_and_an_interrupted_run_goes_on(recipe, method):
    """Activation checkpointing in the run that is interrupted, none in the one that is not: the same weights."""

    def interrupt(progress) -> None:
        if progress.step == 3:
            raise InterruptionError

    settings = {**SHORT, "eval_steps": 2, "learning_rate": 0.001}
    whole = train(recipe("whole", training=settings, **METHODS[method])).folder
    saving = recipe("saving", training={**settings, "gradient_checkpointing": True}, **METHODS[method])
    with pytest.raises(InterruptionError):
        train(saving, report=interrupt)
    resumed = train(saving, resume=True).folder
    weights = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    found, expected = load_file(resumed / weights), load_file(whole / weights)
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-5, msg=name)
    for saved in load_file(resumed / "checkpoints" / "checkpoint-4" / weights):
        assert saved in expected
