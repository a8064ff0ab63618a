"""The view of a training: lines elsewhere, two live lines on a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from nertune import terminal, watch
from nertune.train.callbacks import Progress
from nertune.watch import TrainingView, _sparkline


def _progress(step, loss=None, eval_loss=None, f1=None):
    return Progress(step, 10, loss, eval_loss, f1, 4.0 if step else 0.0, 30.0 if step else 0.0, 3.21)


@pytest.fixture
def console(monkeypatch):
    def use(**options):
        made = Console(file=io.StringIO(), width=160, **options)
        monkeypatch.setattr(watch, "stderr", made)
        monkeypatch.setattr(terminal, "stderr", made)
        return made.file

    return use


def test_lines_where_there_is_no_terminal(console, monkeypatch):
    out = console()
    now = [0.0]
    monkeypatch.setattr(watch.time, "monotonic", lambda: now[0])
    with TrainingView() as view:
        view.update(_progress(0))
        view.update(_progress(1, 2.5))
        assert out.getvalue() == ""
        now[0] = 21.0
        view.update(_progress(2, 2.0))
        view.update(_progress(3, 1.5))
        view.reading(3, 20)
        view.update(_progress(4, 1.0, 0.9, 0.5))
        view.update(_progress(5, 0.9, 0.9, 0.5))
        view.update(_progress(6, 0.8, 0.95, 0.4))
    assert out.getvalue().splitlines() == [
        "training: 2/10  loss 2.0000  4.00 samples/s  3.2 GB  4 min left",
        "training: 4/10  loss 1.0000  eval loss 0.9000  F1 0.5000  4.00 samples/s  3.2 GB  3 min left",
        "training: 6/10  loss 0.8000  eval loss 0.9500  F1 0.4000 (best 0.5000 at 4)  4.00 samples/s  3.2 GB  2 min left",
    ]


def test_two_live_lines_on_a_terminal(console):
    out = console(force_terminal=True)
    with TrainingView() as view:
        view.preparing("tensors", 3, 10)
        view.update(_progress(0))
        view.reading(3, 20)
        view.update(_progress(4, 1.0, 0.9, 0.5))
        view.update(_progress(5, 0.5, 0.9, 0.5))
    last = out.getvalue()
    assert "step 5/10" in last
    assert "loss 0.5000 █▁  eval loss 0.9000  F1 0.5000  4.00 samples/s  3.2 GB" in last


def test_a_sparkline_has_the_course_of_the_values():
    assert _sparkline([]) == ""
    assert _sparkline([1.0]) == "▁"
    assert _sparkline([8.0, 4.5, 1.0]) == "█▄▁"
    assert len(_sparkline([float(n) for n in range(1000)])) == 32
