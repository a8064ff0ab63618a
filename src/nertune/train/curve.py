"""The curves of a run as a PNG picture: losses, and entity F1 where it was measured during training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nertune.files import parse_json

__all__ = ["draw_losses", "read_metrics"]


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`."""
    return [parse_json(line) for line in path.read_text(encoding="utf-8").splitlines()]


def draw_losses(metrics: Path, picture: Path) -> None:
    """Draw training and validation loss (nats a token) and, in a panel below, `eval_f1` (0 to 1) over optimizer steps."""
    from matplotlib.figure import Figure

    lines = read_metrics(metrics)
    measured = any("eval_f1" in line for line in lines)
    figure = Figure(figsize=(7, 6 if measured else 4), dpi=120, layout="constrained")
    panels = figure.subplots(2 if measured else 1, 1, sharex=True, squeeze=False)[:, 0]
    _draw(panels[0], lines, {"loss": ("training", "-"), "eval_loss": ("validation", "o-")})
    panels[0].set(ylabel="loss (nats per trained token)", ylim=(0, None))
    if measured:
        _draw(panels[1], lines, {"eval_f1": ("validation", "o-")})
        panels[1].set(ylabel="entity F1 (micro)", ylim=(0, 1))
    panels[-1].set(xlabel="optimizer step")
    figure.savefig(picture)


def _draw(axes: Any, lines: list[dict[str, Any]], curves: dict[str, tuple[str, str]]) -> None:
    for key, (name, style) in curves.items():
        points = [(line["step"], line[key]) for line in lines if key in line]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=name, linewidth=1.5, markersize=4)
    axes.grid(alpha=0.3)
    axes.legend()
