"""GGUF by llama.cpp's own converter: a fake one here, the real one where it is installed."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from nertune.cli import main
from nertune.errors import InputError, NertuneError
from nertune.export.gguf import export_gguf, find_converter

FAKE = """\
import json, pathlib, sys
model, out = pathlib.Path(sys.argv[1]), sys.argv[sys.argv.index("--outfile") + 1]
assert (model / "model.safetensors").is_file() and not (model / "adapter_config.json").exists()
print("arguments", json.dumps(sys.argv[2:]))
if "f32" in sys.argv:
    raise SystemExit("no such architecture")
if "f16" not in sys.argv:
    pathlib.Path(out).write_bytes(b"nothing" if "q8_0" in sys.argv else b"GGUF" + model.name.encode())
"""


@pytest.fixture
def converter(tmp_path) -> str:
    path = tmp_path / "a folder; echo" / "convert_hf_to_gguf.py"
    path.parent.mkdir()
    path.write_text(FAKE)
    return str(path)


def test_an_adapter_is_merged_and_converted(run, tmp_path, converter, capsys):
    target = tmp_path / "out" / "ner.gguf"
    assert main(["export", str(run), "gguf", str(target), "--converter", converter, "--limit", "2"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{target}\n"
    assert "2 of 2 texts have the adapter's entities" in said.err
    assert target.read_bytes() == b"GGUFrun"
    assert os.listdir(target.parent) == ["ner.gguf"]
    with pytest.raises(InputError, match="is there already"):
        export_gguf(run, target, converter=converter)


@pytest.mark.parametrize(
    ("outtype", "said"),
    [
        ("f32", "exit code 1; its last lines:\n.*\n? *no such architecture"),
        ("f16", "wrote no file"),
        ("q8_0", "than GGUF"),
    ],
)
def test_a_converter_that_fails_is_quoted_and_leaves_nothing(run, tmp_path, converter, outtype, said):
    with pytest.raises(NertuneError, match=said):
        export_gguf(run, tmp_path / "out" / "x.gguf", converter=converter, outtype=outtype)
    assert os.listdir(tmp_path / "out") == []


def test_without_a_converter_the_lines_to_type_are_given(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["export", str(run), "gguf", str(tmp_path / "x.gguf")]) == 2
    assert "git clone --depth 1 https://github.com/ggml-org/llama.cpp" in capsys.readouterr().err
    with pytest.raises(InputError, match="no such file"):
        find_converter(str(tmp_path / "none.py"))
    with pytest.raises(InputError, match="outtype 'q4'"):
        export_gguf(run, tmp_path / "x.gguf", converter=__file__, outtype="q4")


def test_the_converter_on_the_path_is_found(tmp_path, monkeypatch):
    program = tmp_path / "convert-hf-to-gguf"
    program.write_text("#!/bin/sh\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_converter(None) == [str(program)]
    assert find_converter(__file__, python="/x/python") == ["/x/python", str(Path(__file__).resolve())]


@pytest.mark.peer
def test_the_real_converter_takes_a_merged_run(run, tmp_path):
    """NERTUNE_GGUF_CONVERTER names it, or it is on PATH. A byte-level vocabulary of 260 tokens is none that it knows, so the
    tokenizer is Qwen2's where the folder `shared` has it.
    """
    given = os.environ.get("NERTUNE_GGUF_CONVERTER")
    qwen2 = Path(__file__).resolve().parents[3] / "shared" / "tokenizers" / "qwen2"
    if not (given or shutil.which("convert_hf_to_gguf.py") or shutil.which("convert-hf-to-gguf")) or not qwen2.is_dir():
        pytest.skip("no converter, or no tokenizer that it knows")
    gguf = pytest.importorskip("gguf")
    from nertune.train.fit import train

    _ = run
    recipe = _on(qwen2, tmp_path)
    target = tmp_path / "ner.gguf"
    compared = export_gguf(train(recipe).folder, target, texts=["方鹏去杭州"], converter=given, outtype="f32")
    assert compared.equal
    reader = gguf.GGUFReader(target)
    assert reader.get_field("general.architecture").contents() == "qwen2"
    assert reader.get_field("tokenizer.chat_template") is not None
    assert {tensor.name for tensor in reader.tensors} >= {"token_embd.weight", "blk.0.attn_q.weight"}


def _on(tokenizer: Path, folder: Path):
    """A recipe for a tiny Qwen2 with a real vocabulary."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from nertune import data
    from nertune.schema import Document
    from nertune.train.recipe import Recipe

    model = folder / "model"
    shutil.copytree(tokenizer, model)
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    Qwen2ForCausalLM(Qwen2Config(vocab_size=151_936, num_key_value_heads=1, **sizes)).save_pretrained(model)
    data.write([Document.of("方鹏去杭州", [("人名", 0, 2)])] * 4, folder / "t.jsonl", format="entities")
    return Recipe.model_validate(
        {
            "model": str(model),
            "data": {"train": str(folder / "t.jsonl"), "validation": 0.0},
            "output": str(folder / "run"),
            "lora": {"rank": 2},
            "training": {"max_steps": 1, "eval_steps": "never", "keep_best": False},
        }
    )
