"""The loss curve of a run as a PNG picture."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["draw_losses"]


def draw_losses(metrics: Path, picture: Path) -> None:
    """Draw training and validation loss (nats a token, over optimizer steps) from `metrics.jsonl`."""
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for key, name, style in (("loss", "training", "-"), ("eval_loss", "validation", "o-")):
        points = [(line["step"], line[key]) for line in lines if key in line]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=name, linewidth=1.5, markersize=4)
    axes.set(xlabel="optimizer step", ylabel="loss (nats per trained token)", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(picture)
