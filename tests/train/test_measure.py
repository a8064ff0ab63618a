"""Entity F1 during training: measured on the model as it is, without a trace in the training, and used to choose by."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from nertune import data
from nertune.assemble import f1_reader, load
from nertune.evaluate import evaluate
from nertune.schema import Prediction
from nertune.train.fit import train
from nertune.train.measure import Reader, _draw


def _weights(folder):
    return load_file(folder / "adapter_model.safetensors")


def _lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def _scripted(values):
    """A reader whose F1 at each evaluation is the next of `values`."""
    waiting = iter(values)

    def predict(model, renderer, documents):
        assert not model.training
        return [Prediction(document.text, (), ()) for document in documents]

    return Reader(predict, lambda documents, predictions: {"f1": next(waiting)})


@pytest.mark.parametrize("vocabulary", ["full", "sampled"])
def test_measuring_leaves_no_trace_in_the_weights(recipe, vocabulary):
    settings = {"loss_vocabulary": vocabulary, "keep_best": False}
    without = train(recipe("without", training=settings)).folder
    measured = train(recipe("measured", training=settings), reader=f1_reader()).folder
    assert all(torch.equal(weight, _weights(without)[name]) for name, weight in _weights(measured).items())
    kept = [
        {key: value for key, value in line.items() if "f1" not in key and key not in ("eval_precision", "eval_recall")}
        for line in _lines(measured)
    ]
    assert kept == _lines(without)


def test_the_last_f1_is_that_of_the_saved_run(recipe, corpus, tmp_path):
    """A learnt corpus, so that there is something to be right about."""
    held_out = tmp_path / "validation.jsonl"
    documents = data.read(corpus).documents[:6]
    data.write(documents, held_out, format="entities")
    # Short sequences of bytes: this model learns them by heart.
    settings = {"epochs": 80, "batch_size": 14, "learning_rate": 0.02, "eval_steps": 80, "keep_best": False}
    run = train(
        recipe(data={"validation": str(held_out)}, training=settings, lora={"rank": 32, "dropout": 0.0}),
        reader=f1_reader(),
    ).folder
    measured = [line for line in _lines(run) if "eval_f1" in line]
    assert [line["step"] for line in measured] == [80]
    scores = evaluate(documents, load(run).extract_many([document.text for document in documents])).metrics["text"]
    assert scores.micro.f1 > 0.5, "something is learned"
    assert measured[0]["eval_f1"] == pytest.approx(scores.micro.f1, abs=1e-12)
    assert measured[0]["eval_precision"] == pytest.approx(scores.micro.precision, abs=1e-12)
    assert measured[0]["eval_f1/人名"] == pytest.approx(scores.labels["人名"].f1, abs=1e-12)


def test_the_run_is_the_checkpoint_of_the_best_f1(recipe):
    trained = train(recipe(training={"eval_steps": 2, "max_steps": 8}), reader=_scripted([0.1, 0.7, 0.3, 0.2]))
    assert trained.best_f1 == 0.7
    best = load_file(trained.folder / "checkpoints" / "checkpoint-4" / "adapter_model.safetensors")
    assert all(torch.equal(weight, best[name]) for name, weight in _weights(trained.folder).items())


def test_best_by_loss_stays_available(recipe):
    reader = _scripted([0.1, 0.7, 0.3, 0.2])
    trained = train(recipe(training={"eval_steps": 2, "max_steps": 8, "best_by": "loss"}), reader=reader)
    losses = {line["step"]: line["eval_loss"] for line in _lines(trained.folder) if "eval_loss" in line}
    least = min(losses, key=losses.__getitem__)
    best = load_file(trained.folder / "checkpoints" / f"checkpoint-{least}" / "adapter_model.safetensors")
    assert all(torch.equal(weight, best[name]) for name, weight in _weights(trained.folder).items())


@pytest.mark.parametrize(("values", "steps"), [([0.1, 0.5, 0.4, 0.5, 0.9], 8), ([0.1, 0.2, 0.1, 0.3, 0.3], 10)])
def test_training_ends_when_patience_does(recipe, values, steps):
    """Two evaluations in a row without a better one: an equal one is not better."""
    settings = {"eval_steps": 2, "max_steps": 10, "patience": 2}
    assert train(recipe(training=settings), reader=_scripted(values)).steps == steps


def test_patience_goes_on_counting_after_a_resume(recipe):
    """The second evaluation without a better one comes after the interruption and ends the training."""
    settings = recipe(training={"eval_steps": 2, "max_steps": 12, "patience": 2})

    def stop(progress):
        if progress.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings, reader=_scripted([0.5, 0.4]), report=stop)
    resumed = train(settings, reader=_scripted([0.3, 0.9, 0.9, 0.9]), resume=True)
    assert resumed.steps == 6


def test_the_same_documents_are_drawn_every_time(corpus):
    documents = data.read(corpus).documents

    def drawn(seed):
        return [document.text for document in _draw(documents, 5, seed)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert len(drawn(1)) == 5
    assert _draw(documents, 99, 1) == list(documents)
