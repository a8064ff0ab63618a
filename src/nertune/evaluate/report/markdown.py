"""The report as Markdown: the same tables and lists, without the sentences. Text of the data is no markup in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from nertune.console import visible
from nertune.evaluate.evaluation import Outcomes
from nertune.schema import label_title

__all__ = ["literal", "markdown"]

_MARKUP = re.compile(r"[\\`*_\[\]<>&|~#!$]")
_SHOWN = 20
_NOTHING = "—"


def markdown(value: Mapping[str, Any]) -> str:
    """The Markdown of a report's JSON value."""
    parts = [f"# {literal(value['title'])}", _overview(value), _scores(value), _schemes(value)]
    parts += [
        _errors(value),
        _breakdowns(value),
        _patterns(value),
        _mistakes(value),
        _suspects(value),
        _scores_worth(value),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def literal(text: object) -> str:
    """Text of the data on one line, every character of Markdown and HTML in it escaped (CommonMark 0.31, section 2.4)."""
    return _MARKUP.sub(lambda found: f"\\{found[0]}", visible(" ".join(str(text).split())))


def _overview(value: Mapping[str, Any]) -> str:
    micro = value["evaluation"]["metrics"]["span"]["micro"]
    interval = "" if micro["ci95"] is None else f" (95% interval {_interval(micro)})"
    said = value["summary"]
    lines = [f"**F1 {micro['f1']:.4f}**{interval}, by label and place. {literal(said['headline'])}"]
    for name, title in (("good", "What is good"), ("bad", "What is bad"), ("look", "What to look at")):
        if said[name]:
            lines.append(f"**{title}**\n\n" + "\n".join(f"- {literal(sentence)}" for sentence in said[name]))
    if value["facts"]:
        lines.append(_table(("", ""), value["facts"].items()))
    return "\n\n".join(lines)


def _scores(value: Mapping[str, Any]) -> str:
    parts = []
    shown = _labels(value)
    for measure, scores in value["evaluation"]["metrics"].items():
        rows = [
            (shown(name), *_figures(score), _interval(score), score["support"])
            for name, score in scores["labels"].items()
        ]
        rows += [(name, *_figures(scores[name]), _interval(scores[name]), "") for name in ("micro", "macro")]
        parts.append(f"## Scores: {literal(measure)}\n\n{literal(value['measures'][measure])}.")
        parts.append(_table(("label", "precision", "recall", "F1", "95% interval", "support"), rows))
    return "\n\n".join(parts)


def _schemes(value: Mapping[str, Any]) -> str:
    rows = [
        (scheme, *(scores["micro"][outcome] for outcome in Outcomes._fields), *_figures(scores["micro"]))
        for scheme, scores in value["evaluation"]["semeval"].items()
    ]
    return (
        f"## Scores: SemEval-2013, micro\n\n{_table(('scheme', *Outcomes._fields, 'precision', 'recall', 'F1'), rows)}"
    )


def _errors(value: Mapping[str, Any]) -> str:
    errors, shown = value["errors"], _labels(value)
    rows = [(name, item["count"], item["meaning"]) for name, item in errors["classes"].items()]
    pairs = sorted(
        (item for item in errors["confusion"] if item["gold"] != item["predicted"]), key=lambda item: -item["count"]
    )
    confused = [(shown(item["gold"]), shown(item["predicted"]), item["count"]) for item in pairs[:_SHOWN]]
    return (
        f"## Errors\n\n{errors['gold']} annotated mentions and {errors['predicted']} predicted ones, each in one class.\n\n"
        + _table(("class", "count", "meaning"), rows)
        + ("\n\n### Confused labels\n\n" + _table(("annotated", "predicted", "count"), confused) if confused else "")
    )


def _breakdowns(value: Mapping[str, Any]) -> str:
    parts = []
    for name, title in value["breakdowns"].items():
        shown = _labels(value) if name == "label" else str
        rows = [
            (
                shown(row["name"]),
                f"{row['precision']:.4f}" if row["predicted"] else _NOTHING,
                f"{row['recall']:.4f}" if row["gold"] else _NOTHING,
                f"{row['f1']:.4f}" if row["gold"] else _NOTHING,
                row["gold"],
                row["predicted"],
            )
            for row in value["errors"]["breakdowns"][name]
        ]
        head = (name, "precision", "recall", "F1", "annotated", "predicted")
        parts.append(f"### {title.capitalize()}\n\n{_table(head, rows)}")
    return "\n\n".join(parts)


def _patterns(value: Mapping[str, Any]) -> str:
    shown = _labels(value)
    rows = [
        (item["count"], item["class"], shown(item["gold"]), shown(item["predicted"]), item["examples"][0]["context"])
        for item in value["errors"]["patterns"][:_SHOWN]
    ]
    head = ("times", "class", "annotated", "predicted", "example")
    return f"## Most frequent errors\n\n{_table(head, rows)}" if rows else ""


def _mistakes(value: Mapping[str, Any]) -> str:
    shown = _labels(value)

    def named(mention: Sequence[str] | None) -> str:
        return _NOTHING if mention is None else " ".join((shown(mention[0]), *mention[1:]))

    rows = [
        (item["count"], item["class"], named(item["gold"]), named(item["predicted"]), item["examples"][0]["context"])
        for item in value["errors"]["mistakes"][:_SHOWN]
    ]
    head = ("times", "class", "annotated", "predicted", "example")
    return f"## Repeated mistakes\n\n{_table(head, rows)}" if rows else ""


def _suspects(value: Mapping[str, Any]) -> str:
    shown = _labels(value)

    def named(mention: Mapping[str, Any] | None) -> str:
        return _NOTHING if mention is None else f"{shown(mention['label'])} {mention['text']}"

    rows = [
        (item["document"], f"{item['score']:.3f}", named(item["gold"]), named(item["predicted"]), item["context"])
        for item in value["errors"]["suspects"][:_SHOWN]
    ]
    head = ("document", "score", "annotated", "predicted", "context")
    total = value["errors"]["suspected"]
    said = "" if total == len(rows) else f"The {len(rows)} surest of {total:,}.\n\n"
    return f"## Likely annotation errors\n\n{said}{_table(head, rows)}" if rows else ""


def _scores_worth(value: Mapping[str, Any]) -> str:
    lines = []
    if calibration := value["calibration"]:
        lines.append(f"Scores are off by {calibration['ece']:.4f} on average (expected calibration error).")
    if thresholds := value["thresholds"]:
        lines.append(f"F1 is highest when entities with a score below {thresholds['best']:.4f} are left out.")
    return "## Confidence\n\n" + " ".join(lines) if lines else ""


def _figures(score: Mapping[str, Any]) -> tuple[str, str, str]:
    return f"{score['precision']:.4f}", f"{score['recall']:.4f}", f"{score['f1']:.4f}"


def _interval(score: Mapping[str, Any]) -> str:
    return _NOTHING if score["ci95"] is None else "{:.4f} to {:.4f}".format(*score["ci95"])


def _labels(value: Mapping[str, Any]) -> Callable[[str | None], str]:
    """How a label is shown; None is that of nothing."""
    display = value.get("display", {})
    return lambda name: "(nothing)" if name is None else label_title(name, display)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(map(literal, head))} |", "|" + "---|" * len(head)]
    return "\n".join(lines + [f"| {' | '.join(map(literal, row))} |" for row in rows])
