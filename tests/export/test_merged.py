"""The merged model answers as the adapter does, loads as a model, and is there whole or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import nertune
from nertune.cli import main
from nertune.errors import DiskSpaceError, InputError, RunError
from nertune.export import export_merged
from nertune.export import merged as room
from nertune.run import RunManifest
from nertune.train.fit import train

TEXTS = ["方鹏去杭州", "林屿去漠北", "天晴", "邱岳到青川去了"]


def test_the_merged_model_has_the_adapters_entities_and_its_stop_tokens(run, tmp_path):
    compared = export_merged(run, tmp_path / "deep" / "merged", texts=TEXTS)
    assert compared.equal
    assert compared.lines() == ["4 of 4 texts have the adapter's entities"]
    folder = tmp_path / "deep" / "merged"
    manifest, adapter = RunManifest.read(folder), RunManifest.read(run)
    assert manifest == replace(adapter, kind="model")
    generation = json.loads((folder / "generation_config.json").read_text())
    assert generation["eos_token_id"] == sorted(adapter.stop_ids)
    assert not generation.get("do_sample")
    assert (folder / "recipe.yaml").read_text() == (run / "recipe.yaml").read_text()
    assert not (folder / "adapter_config.json").exists()
    assert "nertune" not in (folder / "config.json").read_text()
    here, there = nertune.load(run), nertune.load(folder)
    assert [p.entities for p in here.extract_many(TEXTS)] == [p.entities for p in there.extract_many(TEXTS)]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["merged"]


def test_transformers_alone_loads_it_and_gives_the_adapters_numbers(run, tmp_path):
    export_merged(run, tmp_path / "merged", texts=[])
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    own = nertune.load(run)
    prompt = own.renderer.prompt_ids("方鹏去杭州")
    messages = [{"role": role, "content": content} for role, content in own.renderer.messages("方鹏去杭州")]
    assert tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"] == prompt
    theirs = dict(model.named_parameters())
    for name, weight in own.engine.model.named_parameters():
        torch.testing.assert_close(theirs[name.replace("._head", "")], weight, msg=name)


def test_a_run_with_added_tokens_keeps_them(recipe, tmp_path):
    training = {"max_steps": 2, "eval_steps": "never"}
    run = train(recipe(tokens=["<ent>"], training=training)).folder
    assert export_merged(run, tmp_path / "merged", texts=TEXTS[:2]).equal
    assert RunManifest.read(tmp_path / "merged").tokens == ("<ent>",)
    assert len(nertune.load(tmp_path / "merged").renderer.tokenizer.encode("<ent>", add_special_tokens=False)) == 1


def test_the_type_of_the_written_weights_can_be_chosen(run, tmp_path):
    export_merged(run, tmp_path / "merged", texts=[], dtype="bfloat16")
    assert {weight.dtype for weight in load_file(tmp_path / "merged" / "model.safetensors").values()} == {
        torch.bfloat16
    }


def test_what_is_there_is_not_written_over(run, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name, said in [("full", "not empty"), ("file", "no folder"), ("link", "no folder")]:
        with pytest.raises(InputError, match=said):
            export_merged(run, tmp_path / name, texts=[])
    (tmp_path / "empty").mkdir()
    export_merged(run, tmp_path / "empty", texts=[])
    assert (tmp_path / "empty" / "model.safetensors").is_file()


def test_a_failure_leaves_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(DiskSpaceError, match="the model takes"):
        export_merged(run, tmp_path / "out" / "merged", texts=[])
    assert list((tmp_path / "out").iterdir()) == []


def test_a_difference_is_told_by_its_text(run, tmp_path, monkeypatch, capsys):
    load = room.load

    def otherwise(folder: Path, **options):
        recognizer = load(folder, **options)
        weight = recognizer.engine.model.get_input_embeddings().weight
        with torch.no_grad():
            weight.copy_(weight.flip(0))
        return recognizer

    monkeypatch.setattr(room, "load", otherwise)
    assert main(["export", str(run), "merged", str(tmp_path / "merged"), "--limit", "4"]) in (0, 3)
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'merged'}\n"
    assert "of 4 texts have the adapter's entities" in said.err


def test_a_whole_model_and_an_unsafe_one_are_refused(own_run, recipe, tmp_path):
    whole = train(recipe("whole", method="full", lora=None, training={"max_steps": 1, "eval_steps": "never"})).folder
    with pytest.raises(InputError, match="a whole model already"):
        export_merged(whole, tmp_path / "merged", texts=[])
    (own_run / "adapter_model.safetensors").rename(own_run / "adapter_model.bin")
    with pytest.raises(RunError, match="it can run code"):
        export_merged(own_run, tmp_path / "merged", texts=[])


def test_the_command_line_says_what_it_needs(run, tmp_path, capsys):
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS), encoding="utf-8")
    assert main(["export", str(run), "merged", str(tmp_path / "merged"), "--check", str(texts), "--limit", "3"]) == 0
    assert "3 of 3 texts" in capsys.readouterr().err
    for arguments, said in [(["merged"], "needs a folder"), (["zip", "x"], "neither merged, gguf, llamafactory")]:
        assert main(["export", str(run), *arguments]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["merged", "new", "--dry-run"], "--dry-run: means nothing with merged"),
        (["merged", "new", "--outtype", "f16", "--data", "x"], "--data, --outtype: mean nothing with merged"),
        (["gguf", "new", "--dtype", "float16"], "--dtype: means nothing with gguf"),
        (["llamafactory", "new", "--no-check"], "--no-check: means nothing with llamafactory"),
        (["huggingface:a/b", "--check", "x"], "--check: means nothing with a hub"),
        (["merged", "new", "--no-check", "--limit", "3"], "--no-check compares nothing"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "run", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
