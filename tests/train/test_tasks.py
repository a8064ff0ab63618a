"""Several tasks in one training: other labels, prompts and answer formats, one adapter."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import nertune
from nertune import data
from nertune.assemble import f1_reader
from nertune.cli import main
from nertune.errors import InputError, SampleTooLongError
from nertune.extract.ground import ground
from nertune.models import load_tokenizer
from nertune.run import RunManifest
from nertune.schema import Prediction
from nertune.train.batches import collate_packed, shared_prefix_length
from nertune.train.fit import train
from nertune.train.recipe import load_recipe
from nertune.train.sampler import TaskBatches
from nertune.train.task import load_tasks, prepare_task

SHARED = Path(__file__).resolve().parents[3] / "shared"
DATA, QWEN2 = SHARED / "data", SHARED / "tokenizers" / "qwen2"
RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "multi-task.yaml"
SHORT = {"max_steps": 2, "eval_steps": 2}


class InterruptionError(Exception):
    """Stands for the signal that ends a training from outside."""


def _metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def _prepared(recipe) -> list:
    tokenizer = load_tokenizer(recipe.model)
    return [prepare_task(task, tokenizer, recipe, say=lambda line: None) for task in load_tasks(recipe)]


def test_the_prompt_at_inference_is_the_trained_one_for_each_task(two_tasks):
    recipe = two_tasks(training=SHORT)
    run = train(recipe).folder
    people, drugs = _prepared(recipe)
    assert people.task.spec != drugs.task.spec
    for task in (people, drugs):
        recognizer = nertune.load(run, task=task.name)
        assert recognizer.renderer.spec == task.task.spec
        assert len(task.rows) == len(task.task.train)
        for document, row in zip(task.task.train, task.rows, strict=True):
            assert recognizer.renderer.prompt_ids(document.text) == row.ids_T[: row.prompt_length]
            answer = recognizer.renderer.parse(row.ids_T[row.prompt_length :])
            assert set(ground(document.text, answer, task.task.labels)[0]) == set(document.entities)
    assert recognizer.extract("青霉素可治肺炎").text == "青霉素可治肺炎"


def test_the_manifest_names_the_tasks_and_a_plain_run_s_is_as_it_was(two_tasks, recipe):
    tasks, plain = two_tasks("tasks", training=SHORT), recipe("plain", training=SHORT)
    written = json.loads((train(tasks).folder / "nertune.json").read_text(encoding="utf-8"))
    assert list(written["tasks"]) == ["people", "drugs"]
    assert written["tasks"]["drugs"]["labels"] == ["病", "药"]
    assert written["tasks"]["people"]["answer"] == {"format": "inline", "depth": 1}
    alone = json.loads((train(plain).folder / "nertune.json").read_text(encoding="utf-8"))
    keys = ["format", "base_model", "prompt", "template_hash", "stop_ids", "max_tokens", "versions"]
    keys += ["kind", "tokens", "quantize", "loss_tokens"]
    assert list(alone) == keys
    assert list(written) == ["tasks" if key == "prompt" else key for key in keys]
    for made in (tasks, plain):
        assert load_recipe(Path(made.output) / "recipe.yaml") == made
    assert "tasks" not in (Path(plain.output) / "recipe.yaml").read_text(encoding="utf-8")


def test_every_micro_batch_shares_the_whole_prompt_of_its_task(two_tasks, monkeypatch):
    batches = []
    monkeypatch.setattr(
        "nertune.train.fit.collate_packed", lambda rows: (batches.append(list(rows)), collate_packed(rows))[1]
    )
    recipe = two_tasks(training={"epochs": 2, "eval_steps": 100})
    trained = train(recipe)
    tasks = _prepared(recipe)
    whole = {task.name: len(task.renderer.shared_prefix_ids) for task in tasks}
    assert min(whole.values()) > 20
    task_of = {tuple(row.ids_T): task.name for task in tasks for row in (*task.rows, *task.validation_rows)}
    for rows in batches:
        (name,) = {task_of[tuple(row.ids_T)] for row in rows}
        assert shared_prefix_length(rows) >= whole[name]
    assert trained.steps == 2 * (5 + 4)
    seen = Counter(tuple(row.ids_T) for rows in batches for row in rows)
    assert {seen[tuple(row.ids_T)] for task in tasks for row in task.rows} == {2}


def test_padded_batches_give_the_packed_ones_losses(two_tasks, monkeypatch):
    packed = train(two_tasks("packed", lora={"dropout": 0}, training={"max_steps": 4, "eval_steps": 2})).folder
    monkeypatch.setattr("nertune.models.attention.can_share_prefix", lambda model: False)
    padded = train(two_tasks("padded", lora={"dropout": 0}, training={"max_steps": 4, "eval_steps": 2}))
    assert not padded.shares_prefix
    for found, expected in zip(_metrics(padded.folder), _metrics(packed), strict=True):
        assert found == pytest.approx(expected, rel=1e-4)


def test_the_evaluation_loss_is_told_for_all_and_for_each_task(two_tasks):
    recipe = two_tasks(training=SHORT)
    (line,) = [line for line in _metrics(train(recipe).folder) if "eval_loss" in line]
    tokens = {t.name: sum(sum(row.loss_mask_T) for row in t.validation_rows) for t in _prepared(recipe)}
    assert set(line) == {"step", "epoch", "eval_loss", "eval_loss/people", "eval_loss/drugs"}
    whole = sum(line[f"eval_loss/{name}"] * count for name, count in tokens.items())
    assert line["eval_loss"] == pytest.approx(whole / sum(tokens.values()), rel=1e-6)
    assert line["eval_loss/people"] != line["eval_loss/drugs"]


def test_a_task_without_validation_is_trained_and_not_measured(two_tasks, drugs):
    run = train(two_tasks(drugs_task={"data": {"train": str(drugs), "validation": 0}}, training=SHORT)).folder
    (line,) = [line for line in _metrics(run) if "eval_loss" in line]
    assert line["eval_loss"] == line["eval_loss/people"]
    assert "eval_loss/drugs" not in line


@pytest.mark.parametrize("bucket", [False, True])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(two_tasks, bucket):
    """In the middle of the second epoch, with dropout, a weight and accumulation."""
    settings = {"epochs": 3, "eval_steps": 2, "accumulation": 2, "bucket": bucket}

    def build(name: str):
        return two_tasks(name, drugs_task={"weight": 1.5}, training=settings)

    whole = train(build("whole"))
    assert whole.steps == 3 * 5
    measured = [line for line in _metrics(whole.folder) if "eval_loss" in line]
    for key in ("eval_loss/people", "eval_loss/drugs"):
        assert measured[-1][key] < measured[0][key]

    def report(progress) -> None:
        if progress.step == 9:
            raise InterruptionError

    with pytest.raises(InterruptionError):
        train(build("cut"), report=report)
    resumed = train(build("cut"), resume=True).folder
    assert _metrics(resumed) == _metrics(whole.folder)
    wanted, got = (load_file(run / "adapter_model.safetensors") for run in (whole.folder, resumed))
    assert all(torch.equal(got[name], wanted[name]) for name in wanted)


def test_one_data_set_in_buckets(recipe):
    trained = train(recipe(training={**SHORT, "bucket": True}))
    assert RunManifest.read(trained.folder).prompt is not None
    assert [line["step"] for line in _metrics(trained.folder) if "loss" in line] == [1, 2]


def test_documents_left_out_are_told_with_task_and_file(two_tasks, drugs):
    (task,) = [task for task in _prepared(two_tasks()) if task.name == "drugs"]
    lengths = sorted(len(row.ids_T) for row in task.rows)
    said: list[str] = []
    trained = train(two_tasks(max_tokens=lengths[-1] - 1, training=SHORT), note=said.append)
    assert len(trained.left_out) == lengths.count(lengths[-1])
    assert f"{len(trained.left_out)} drugs training documents are left out, none is cut:" in said
    assert all(str(item).startswith(f"drugs, {drugs}: document {item.number}: ") for item in trained.left_out)
    with pytest.raises(SampleTooLongError, match=f"drugs, {drugs}: document"):
        train(two_tasks("other", overlong="refuse", max_tokens=lengths[-1] - 1))
    with pytest.raises(InputError, match=f"none of 7 documents can be trained on. The first: drugs, {drugs}: "):
        train(two_tasks("third", max_tokens=lengths[0] - 1))


def test_an_unknown_label_is_refused_under_its_key(two_tasks):
    with pytest.raises(InputError, match=r"'药'.* Add them to tasks\.drugs\.labels"):
        train(two_tasks(drugs_task={"labels": ["病"]}))


def test_documents_are_read_task_by_task_and_scored_together_and_apart(two_tasks):
    asked = []

    def predict(model, renderer, documents):
        asked.append((renderer.spec.labels.names, len(documents)))
        return [Prediction(document.text, document.entities, ()) for document in documents]

    run = train(two_tasks(training=SHORT), reader=replace(f1_reader(), predict=predict)).folder
    each = [(("人名", "地点"), 4), (("病", "药"), 3)]
    measured = [line for line in _metrics(run) if "eval_f1" in line]
    assert asked == each * len(measured) + each * 2  # the last ones for the report and for the sample predictions
    assert measured[-1]["eval_f1"] == measured[-1]["eval_f1/people"] == measured[-1]["eval_f1/drugs/药"] == 1
    assert "eval_f1/药" not in measured[-1]


def test_the_command_line_asks_for_the_task(two_tasks, drugs, tmp_path, capsys):
    recipe = two_tasks(training=SHORT)
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    assert main(["preview", str(path), "tasks.drugs.weight=0.5"]) == 0
    shown = capsys.readouterr().out
    assert "task people: 10 documents, weight 1" in shown
    assert "task drugs: 7 documents, weight 0.5" in shown
    assert main(["train", str(path), "tasks.drugs.data.limit=9"]) == 0
    assert "--task NAME --data FILE" in " ".join(capsys.readouterr().err.split())
    assert main(["extract", recipe.output, "--text", "黄连"]) == 2
    assert "the run was trained on several tasks: people, drugs. Name one: --task NAME" in capsys.readouterr().err
    assert main(["evaluate", recipe.output, "--data", str(drugs), "--task", "drug"]) == 2
    assert "no task 'drug'; did you mean 'drugs'?" in capsys.readouterr().err
    assert main(["extract", recipe.output, "--task", "drugs", "--text", "黄连", "--max-new-tokens", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == "黄连"
    options = ["--task", "drugs", "--data", str(drugs), "--limit", "2", "--max-new-tokens", "3", "--json"]
    assert main(["evaluate", recipe.output, *options]) == 0
    assert json.loads(capsys.readouterr().out)["documents"] == 2


@pytest.mark.skipif(not (DATA.is_dir() and QWEN2.is_dir()), reason="the real corpora are not on this machine")
def test_real_corpora_share_their_long_prompts_in_every_micro_batch():
    """CLUENER and CMeEE as the example recipe sets them, in Qwen2's tokens."""
    files = {"cluener": "cluener/train.jsonl", "cmeee": "cmeee/train.json"}
    overrides = [f"tasks.{name}.data.train={DATA / file}" for name, file in files.items()]
    overrides += [f"tasks.{name}.data.limit=300" for name in files]
    recipe = load_recipe(RECIPE, [*overrides, f"model={QWEN2}", "max_tokens=1024"])
    tasks = _prepared(recipe)
    assert [task.left_out for task in tasks] == [(), ()]
    rows = [row for task in tasks for row in task.rows]
    sizes = [len(task.rows) for task in tasks]
    least = {task.name: len(task.renderer.shared_prefix_ids) - 1 for task in tasks}
    assert least["cluener"] > 100
    assert least["cmeee"] > 100
    for batch in TaskBatches(sizes, batch_size=16, seed=1):
        name = tasks[batch[0] >= sizes[0]].name
        assert shared_prefix_length([rows[row] for row in batch]) >= least[name]
    mixed = shared_prefix_length([rows[0], rows[sizes[0]]])
    assert mixed < min(least.values()) / 2


def test_a_recipe_may_hold_out_a_part_in_which_every_label_has_its_share(recipe_in, corpus, tmp_path):
    recipe = recipe_in(tmp_path, data={"hold_out": "stratified"})
    (task,) = load_tasks(recipe)
    assert (task.train, task.validation) == data.split_stratified(
        data.read(corpus).documents, held_out=0.25, seed=recipe.data.seed
    )
