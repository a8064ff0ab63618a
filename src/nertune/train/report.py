"""The report of a run as one HTML page that needs nothing else: no script, no request, the machine's own fonts."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from nertune.train.track import SampleRow

__all__ = ["report_page"]

_STYLE = """
body { font: 15px/1.5 system-ui, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif;
       max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; } td, th { border-bottom: 1px solid #ddd; padding: .2em .8em .2em 0;
       text-align: left; vertical-align: top; }
img { max-width: 100%; } pre { background: #f6f6f6; padding: 1em; overflow-x: auto; } td { overflow-wrap: anywhere; }
"""


def report_page(
    *,
    name: str,
    numbers: Mapping[str, str],
    metrics: Sequence[Mapping[str, Any]],
    picture: bytes,
    recipe: str,
    samples: Iterable[SampleRow] = (),
) -> str:
    """The page: `numbers` to show first, the `picture` of the curves (PNG), F1 by label, samples, the recipe (YAML).

    `metrics` are the lines of metrics.jsonl; of F1 by label the last measured is shown. Everything is escaped.
    """
    image = base64.b64encode(picture).decode("ascii")
    parts = [
        "<!doctype html>",
        '<html><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        # Even were some text to slip through, a browser would fetch and run nothing.
        """<meta http-equiv="Content-Security-Policy" """
        """content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">""",
        f"<title>{escape(name)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(name)}</h1>",
        _table((), numbers.items()),
        f'<h2>Curves</h2><img alt="loss and F1 over optimizer steps" src="data:image/png;base64,{image}">',
        _labels(metrics),
        _samples(list(samples)),
        f"<h2>Recipe</h2><pre>{escape(recipe)}</pre>",
        "</body></html>",
    ]
    # A lone surrogate in a text must not keep the page from being written.
    return "\n".join(part for part in parts if part).encode("utf-8", "replace").decode("utf-8") + "\n"


def _labels(metrics: Sequence[Mapping[str, Any]]) -> str:
    last: dict[str, tuple[int, float]] = {}
    for line in metrics:
        for key, value in line.items():
            if key.startswith(("eval_f1/", "f1/")):
                last[key.split("/", 1)[1]] = (line["step"], value)
    rows = [(label, str(step), f"{value:.4f}") for label, (step, value) in last.items()]
    return "<h2>F1 by label</h2>" + _table(("label", "step", "F1"), rows) if rows else ""


def _samples(samples: Sequence[SampleRow]) -> str:
    if not samples:
        return ""
    return "<h2>Sample predictions</h2>" + _table(SampleRow._fields, samples)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>" if head else ""
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{top}{body}</table>"
