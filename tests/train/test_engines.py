"""`nertune train` under torchrun and accelerate launch; accelerate's files; FSDP on two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from safetensors.torch import load_file

import nertune
from nertune.errors import InputError
from nertune.train import sharded
from nertune.train.fit import train
from nertune.train.heads import loss_head

FILES = Path(__file__).parents[2] / "recipes" / "accelerate"
TWO = ["--standalone", "--nproc-per-node=2"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", *TWO]
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes=2", "--num_machines=1"]
LAUNCH += ["--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]
# accelerate starts FSDP where there are GPUs; here it is told that the two processes have some.
FSDP = textwrap.dedent("""
    import sys
    from accelerate import PartialState
    from accelerate.utils import DistributedType
    from nertune.train import fit
    from nertune.train.recipe import load_recipe

    made = fit.training_arguments

    def training_arguments(*arguments, **options):
        built = made(*arguments, **options)
        PartialState().distributed_type = DistributedType.MULTI_GPU
        return built

    fit.training_arguments = training_arguments
    fit.train(load_recipe(sys.argv[1]))
""")


def _run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, env={**os.environ, **environment}
    )


def _file(recipe, path: Path) -> str:
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    return str(path)


def _metrics(run: str) -> list[dict]:
    return [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def _environment(name: str) -> dict[str, str]:
    """What `accelerate launch` would set for the processes of one of the files."""
    arguments = launch_command_parser().parse_args(["--config_file", str(FILES / name), "-m", "nertune", "train", "x"])
    arguments, _, _ = _validate_launch_command(arguments)
    return prepare_multi_gpu_env(arguments)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [TORCHRUN, LAUNCH], ids=["torchrun", "accelerate"])
def test_the_command_under_a_launcher_speaks_once(launcher, recipe, tmp_path):
    made = recipe(training={"max_steps": 2, "eval_steps": 2})
    done = _run([*launcher, "-m", "nertune", "train", _file(made, tmp_path / "recipe.yaml"), "training.log_steps=1"])
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == f"{made.output}\n"
    assert done.stderr.count("2 steps in") == 1
    assert done.stderr.count("spans: ") == 1
    assert [line["step"] for line in _metrics(made.output)] == [1, 2, 2]
    assert nertune.load(made.output, max_new_tokens=4).extract("方鹏去漠北").text == "方鹏去漠北"


@pytest.mark.slow
def test_bad_input_is_told_once_and_ends_with_2(tmp_path):
    (tmp_path / "bad.yaml").write_text("model: x\ndata: {train: y}\noutput: z\nlorra: 3\n")
    done = _run([*TORCHRUN, "-m", "nertune", "train", str(tmp_path / "bad.yaml")])
    assert done.stderr.count("did you mean 'lora'?") == 1
    assert "exitcode: 2" in done.stderr.replace("exitcode  : 2", "exitcode: 2")  # torchrun itself ends with 1


def test_another_process_waits_for_the_first_to_tell_and_then_names_itself(capsys, monkeypatch, tmp_path):
    from nertune.cli import main

    waited: list[float] = []
    monkeypatch.setattr("nertune.cli.time.sleep", waited.append)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train", str(tmp_path / "gone.yaml")]) == 2
    assert capsys.readouterr().err.startswith("nertune: process 1: recipe ")
    assert waited == [20.0]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ddp", "MULTI_GPU"),
        ("fsdp", "FSDP"),
        ("deepspeed-zero2", "DEEPSPEED"),
        ("deepspeed-zero3", "DEEPSPEED"),
    ],
)
def test_accelerate_reads_its_files(name, kind):
    config = load_config_from_file(str(FILES / f"{name}.yaml"))  # refuses unknown keys
    assert (config.distributed_type.value, config.num_processes, config.use_cpu) == (kind, 8, False)
    if kind == "FSDP":
        assert config.fsdp_config["fsdp_version"] == 2
    if kind == "DEEPSPEED":
        assert config.deepspeed_config["zero_stage"] == int(name[-1])


def test_the_engine_is_read_off_the_environment_that_the_file_makes(monkeypatch):
    assert sharded.engine() is None
    made = _environment("fsdp.yaml")
    for key in ("ACCELERATE_USE_FSDP", "FSDP_VERSION"):
        monkeypatch.setenv(key, made[key])
    assert sharded.engine() == "fsdp"
    sharded.check_engine(loss_vocabulary="full")
    with pytest.raises(InputError, match="sampled needs the whole output layer, which fsdp takes apart"):
        sharded.check_engine(loss_vocabulary="sampled")
    monkeypatch.setenv("FSDP_VERSION", "1")
    with pytest.raises(InputError, match="say fsdp_version: 2"):
        sharded.check_engine(loss_vocabulary="full")


def test_under_an_engine_or_with_a_weight_in_parts_the_model_keeps_its_output_layer(tiny_model, monkeypatch):
    for mark in ("environment", "weight"):
        model = tiny_model("llama").requires_grad_(False)
        layer = model.get_output_embeddings()
        with monkeypatch.context() as patch:
            if mark == "environment":
                patch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
            else:
                layer.weight.ds_id = 7  # what ZeRO-3 marks its parameters with
            assert loss_head(model) is None
        assert model.get_output_embeddings() is layer


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch knows no processes")
def test_two_processes_under_fsdp_make_the_losses_and_the_adapter_of_one(recipe, tmp_path):
    settings = {"max_steps": 4, "eval_steps": 2, "learning_rate": 0.05}
    changes = {"data": {"limit": 13, "validation": 3, "hold_out": "first"}, "lora": {"dropout": 0.0}}
    alone = train(recipe("alone", **changes, training={**settings, "batch_size": 4})).folder
    two = recipe("two", **changes, training={**settings, "batch_size": 2, "gradient_checkpointing": True})
    (tmp_path / "script.py").write_text(FSDP)
    made = {key: value for key, value in _environment("fsdp.yaml").items() if "FSDP" in key}
    done = _run([*TORCHRUN, str(tmp_path / "script.py"), _file(two, tmp_path / "two.yaml")], **made)
    assert done.returncode == 0, done.stderr[-3000:]
    for found, expected in zip(_metrics(two.output), _metrics(str(alone)), strict=True):
        assert found == pytest.approx(expected, rel=1e-4)
    # Each process wrote its own part of the weights.
    assert (
        len(list((Path(two.output) / "checkpoints" / "checkpoint-4" / "pytorch_model_fsdp_0").glob("__?_0.distcp")))
        == 2
    )
    wanted, got = (load_file(Path(run) / "adapter_model.safetensors") for run in (alone, two.output))
    assert got.keys() == wanted.keys()
    for name, weight in wanted.items():
        assert got[name].shape == weight.shape
        assert float((got[name] - weight).norm()) <= 1e-3 * float(weight.norm()), name
    texts = ["方鹏去漠北", "天晴"]
    assert nertune.load(two.output, max_new_tokens=8).extract_many(texts) == nertune.load(
        alone, max_new_tokens=8
    ).extract_many(texts)
