"""Regions of Label Studio's tasks: which annotation of a task is read, and the mentions in its results."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import cast

from nertune.data.occurrence import nearest
from nertune.data.records import Record
from nertune.data.spans import RawMention
from nertune.data.tally import Tally
from nertune.data.wording import describe

__all__ = ["chosen_result", "is_min_region", "mentions", "min_regions"]

_ANNOTATIONS = ("annotations", "completions")  # the older name
_LABELS = ("labels", "hypertextlabels")
_PASSED = ("relation", "choices", "textarea")


def chosen_result(record: Record, tally: Tally, *, predictions: bool) -> list[object]:
    """The results of one annotation of a task: the ground truth, or the first that was not cancelled.

    Of predictions, the first, where `predictions` are asked for or nobody annotated the task. Raises DataError.
    """
    found = [item for key in _ANNOTATIONS for item in _objects(record, key)]
    predicted = _predictions(record, tally)
    sound = [item for item in found if not item.get("was_cancelled")]
    tally.add("annotations that were cancelled, passed over", count=len(found) - len(sound))
    sound.sort(key=lambda item: not item.get("ground_truth"))
    if (predictions or not sound) and predicted:
        if not predictions:
            tally.add("tasks without an annotation, of which the first prediction is read")
        elif sound:
            tally.add("tasks of which the prediction is read and the annotation is not")
        tally.add("further predictions of a task, passed over", count=len(predicted) - 1)
        return _results(record, predicted[0])
    if not sound:
        tally.add("tasks without an annotation: unannotated")
        return []
    results = [_results(record, item) for item in sound]
    if len(results) > 1:
        tally.add("tasks with several annotations, of which the ground truth or else the first is read")
        differ = any(_spans(other) != _spans(results[0]) for other in results[1:])
        tally.add("tasks whose annotations differ from each other", count=differ)
    return results[0]


def is_min_region(item: object) -> bool:
    """Whether this is a region as JSON-MIN has it: an object with offsets and labels."""
    return isinstance(item, dict) and "start" in item and "end" in item and isinstance(_labels_of(item), list)


def min_regions(record: Record) -> list[object]:
    """The regions of a row of JSON-MIN, as results: what stands under the name of the labels' tag."""
    lists = [
        value
        for key, value in record.value.items()
        if isinstance(value, list) and value and all(is_min_region(item) for item in value)
    ]
    return [{"type": "labels", "value": item} for found in lists for item in found]


def mentions(record: Record, text: str, result: list[object], tally: Tally) -> Iterator[RawMention]:
    """A mention for each label of each region. Raises DataError for regions of another shape."""
    for position, item in enumerate(result, 1):
        if not isinstance(item, dict):
            raise record.error(f"result {position} must be an object, found {describe(item)}")
        value = item.get("value")
        labels = _labels_of(value) if isinstance(value, dict) else None
        if item.get("type") == "relation":
            tally.add("relations passed over")
        elif labels is None:
            kind = item.get("type")
            tally.add(f"results of the type {kind!r} passed over" if kind in _PASSED else "other results passed over")
        elif not labels:
            tally.add("regions without a label passed over")
        else:
            yield from _region(record, text, position, item, labels)


def _region(
    record: Record, text: str, position: int, item: dict[str, object], labels: list[object]
) -> Iterator[RawMention]:
    value = cast("dict[str, object]", item["value"])
    start, end = _offsets(record, position, value)
    surface = value.get("text")
    if surface is not None and not isinstance(surface, str):
        raise record.error(f"result {position}: 'text' must be a string, found {describe(surface)}")
    if surface is not None and "\\n" in surface and surface not in text:
        # The editor has written the line breaks of what it selects as a backslash and an n.
        pattern = r"(?:\r\n|\r|\n)".join(map(re.escape, surface.split("\\n")))
        surface = nearest(re.compile(pattern), text, start) or surface
    score = record.score(item.get("score"), "result", position)
    for label in labels:
        yield RawMention(record.label(label), start, end, surface, score)


def _offsets(record: Record, position: int, value: dict[str, object]) -> tuple[int, int]:
    place = value
    if not isinstance(value.get("start"), int) and isinstance(value.get("globalOffsets"), dict):
        place = cast("dict[str, object]", value["globalOffsets"])
    start, end = place.get("start"), place.get("end")
    if type(start) is int and type(end) is int:
        return start, end
    wrong = start if type(start) is not int else end
    hint = "; a HyperText's regions need 'globalOffsets'" if isinstance(wrong, str) else ""
    raise record.error(f"result {position}: 'start' and 'end' must be whole numbers, found {describe(wrong)}{hint}")


def _labels_of(value: dict[str, object]) -> list[object] | None:
    labels = next((value[key] for key in _LABELS if key in value), None)
    return labels if isinstance(labels, list) else None


def _results(record: Record, annotation: dict[str, object]) -> list[object]:
    result = annotation.get("result", [])
    if not isinstance(result, list):
        raise record.error(f"'result' must be a list, found {describe(result)}")
    return result


def _predictions(record: Record, tally: Tally) -> list[dict[str, object]]:
    found = record.value.get("predictions")
    numbers = [item for item in found if isinstance(item, int)] if isinstance(found, list) else []
    if numbers and isinstance(found, list) and len(numbers) == len(found):
        tally.add("predictions that are named by number only, passed over", count=len(numbers))
        return []
    return _objects(record, "predictions")


def _objects(record: Record, key: str) -> list[dict[str, object]]:
    found = record.value.get(key) or []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise record.error(f"{key!r} must be a list of objects, found {describe(record.value[key])}")
    return found


def _spans(result: list[object]) -> set[tuple[object, ...]]:
    """What an annotation says of the text, to be compared."""
    found: set[tuple[object, ...]] = set()
    for item in result:
        value = item.get("value") if isinstance(item, dict) else None
        labels = _labels_of(value) if isinstance(value, dict) else None
        if isinstance(value, dict) and labels:
            places = (value.get(key) for key in ("start", "end", "startOffset", "endOffset"))
            known = (place if isinstance(place, int | str) else None for place in places)
            found.add((*known, *sorted(label for label in labels if isinstance(label, str))))
    return found
