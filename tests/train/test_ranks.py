"""Shares and their gathering on one process (two: test_distributed.py), batches that go round, one GPU of several."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch.utils.data import SequentialSampler

from nertune.prompt import Row
from nertune.train import ranks
from nertune.train.arguments import training_arguments
from nertune.train.batches import collate_packed, collate_padded, untrained
from nertune.train.fit import train
from nertune.train.shares import EvenBatches, even_loader

ROWS = [Row([1, 2, number, 9], [0, 0, 0, 1]) for number in range(3, 8)]


def _process(monkeypatch, rank: int, world: int) -> None:
    for name, value in (("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", world)):
        monkeypatch.setenv(name, str(value))


def test_a_process_alone_has_all_and_gathers_its_own(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert (ranks.rank(), ranks.world_size(), ranks.is_first(), ranks.device()) == (0, 1, True, None)
    assert ranks.share("abc") == ["a", "b", "c"] == ranks.gather(ranks.share("abc"))


@pytest.mark.parametrize("world", [2, 3, 8])
def test_shares_are_everything_once(monkeypatch, world):
    parts = []
    for rank in range(world):
        _process(monkeypatch, rank, world)
        assert ranks.is_first() == (rank == 0)
        parts.append(ranks.share(range(7)))
    assert sorted(item for part in parts for item in part) == list(range(7))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_every_process_builds_the_model_on_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    _process(monkeypatch, 3, 4)
    assert ranks.device() == "cuda:3"


def test_other_threads_finish_what_they_hold_before_the_interpreter_ends(tmp_path):
    script = """
        import sys, threading, time
        import torch.distributed as dist
        from nertune.train import ranks

        ranks.part_at_exit()
        dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1)

        def let_go():
            while dist.is_initialized():
                time.sleep(0.01)
            time.sleep(0.1)
            print("let go", flush=True)

        threading.Thread(target=let_go, daemon=True).start()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "store")],
        env={**os.environ, "RANK": "0", "WORLD_SIZE": "2"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout == "let go\n"


@pytest.mark.parametrize(("size", "processes"), [(2, 2), (2, 4), (5, 2), (1, 3)])
def test_batches_go_round_and_hold_every_row_once(size, processes):
    batches = list(EvenBatches(SequentialSampler(ROWS), size, processes))
    assert len(batches) == len(EvenBatches(SequentialSampler(ROWS), size, processes))
    assert len(batches) % processes == 0
    assert [row for batch in batches for row in batch if row >= 0] == [0, 1, 2, 3, 4]
    assert all(batch == [-1] for batch in batches if -1 in batch)


@pytest.mark.parametrize("collate", [collate_packed, lambda rows: collate_padded(rows, pad_id=0)])
def test_an_idle_process_computes_a_batch_without_trained_tokens(collate):
    loader = even_loader(ROWS, sampler=None, batch_size=2, processes=4, collate=collate, pin_memory=False)
    trained = [int((batch["labels"] != -100).sum()) for batch in loader]
    assert trained == [2, 2, 1, 0]
    whole, idle = collate(ROWS[:1]), untrained(collate(ROWS[:1]))
    assert idle.keys() == whole.keys()
    assert torch.equal(idle["input_ids"], whole["input_ids"])


@pytest.mark.parametrize("collate", [collate_packed, lambda rows: collate_padded(rows, pad_id=0)])
def test_the_loss_of_an_idle_batch_is_zero_and_so_are_its_gradients(collate, tiny_model):
    from nertune.models.attention import use_shared_prefix_attention
    from nertune.train.objective import packed_loss_sum, padded_loss_sum

    model = tiny_model("qwen2").train()
    batch = untrained(collate(ROWS[:1]))
    if "keep" in batch:
        use_shared_prefix_attention(model)
    loss = (packed_loss_sum if "keep" in batch else padded_loss_sum)(model, batch)
    loss.backward()
    assert loss.item() == 0
    gradients = [weight.grad for weight in model.model.layers.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)


def test_of_several_gpus_a_process_alone_uses_one_and_says_how_to_use_all(recipe, monkeypatch):
    """With two GPUs transformers would wrap the model in nn.DataParallel, which cannot cut a packed row in two."""

    class Wrapped(torch.nn.DataParallel):
        def __init__(self, *arguments: object, **options: object) -> None:
            raise AssertionError("the model was wrapped")

    monkeypatch.setattr(torch.nn, "DataParallel", Wrapped)
    said: list[str] = []
    with monkeypatch.context() as patch:
        # transformers asks for the number of GPUs only where it may use one.
        patch.setattr("nertune.train.arguments._on_cpu", lambda: False)
        patch.setattr(torch.cuda, "device_count", lambda: 2)
        arguments = training_arguments(recipe(), Path("unused"), evaluates=False, best_by="loss")
        assert arguments.n_gpu == 1
        assert arguments.train_batch_size == recipe().training.batch_size
        patch.setattr("nertune.train.fit._gpus", lambda: 2)
        trained = train(recipe(training={"max_steps": 1, "eval_steps": "never"}), note=said.append)
    assert trained.steps == 1
    assert "training on 1 of 2 GPUs; on all: torchrun --nproc-per-node 2 -m nertune train …" in said
