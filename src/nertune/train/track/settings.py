"""The recipe's `track`: which trackers, offline or online. No tracker's library is imported here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from nertune.errors import InputError

__all__ = ["TRACKERS", "TrackerSettings", "parse_track"]

# The options that each tracker takes. Keys of services are not among them: a recipe is copied into its run.
TRACKERS: dict[str, tuple[str, ...]] = {
    "swanlab": ("mode", "project", "name", "description", "folder"),
    "tensorboard": ("folder",),
    "wandb": ("mode", "project", "name", "description", "folder"),
    "trackio": ("mode", "project", "name", "space", "folder"),
}
_MODES = ("offline", "online")


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """One tracker of a recipe. `name` None is the run directory's name; `folder` None is RUN/track/TRACKER.

    `space` is the Hugging Face Space that an online trackio writes to.
    """

    tracker: str
    mode: Literal["offline", "online"] = "offline"
    project: str = "nertune"
    name: str | None = None
    description: str | None = None
    space: str | None = None
    folder: str | None = None


def parse_track(value: Any) -> tuple[TrackerSettings, ...]:
    """The trackers that `track: [swanlab, {wandb: {mode: online}}]` names.

    Raises InputError with every problem, joined by semicolons.
    """
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise InputError(f"expected a list such as [swanlab], found {value!r:.60}")
    found: list[TrackerSettings] = []
    problems: list[str] = []
    for entry in value:
        settings = _parse_entry(entry, problems)
        if settings is None:
            continue
        if any(settings.tracker == other.tracker for other in found):
            problems.append(f"{settings.tracker} is named twice")
        found.append(settings)
    if problems:
        raise InputError("; ".join(problems))
    return tuple(found)


def _parse_entry(entry: Any, problems: list[str]) -> TrackerSettings | None:
    """One entry, or None with the reasons added to `problems`."""
    options: Any = {}
    name = entry
    if isinstance(entry, dict) and len(entry) == 1:
        name, options = next(iter(entry.items()))
    if not isinstance(name, str):
        problems.append(f"expected a name or a mapping such as {{swanlab: {{mode: online}}}}, found {entry!r:.60}")
        return None
    if name not in TRACKERS:
        problems.append(f"unknown tracker {name!r}; {_hint(name, TRACKERS)}")
        return None
    options = {} if options is None else options
    if not isinstance(options, dict):
        problems.append(f"{name}: expected options such as {{folder: logs}}, found {options!r:.60}")
        return None
    before = len(problems)
    for key, option in options.items():
        _check_option(name, key, option, problems)
    if name == "trackio" and options.get("mode") == "online" and "space" not in options:
        problems.append("trackio: mode online needs space, such as {mode: online, space: user/name}")
    return None if len(problems) > before else TrackerSettings(tracker=name, **options)


def _check_option(tracker: str, key: Any, option: Any, problems: list[str]) -> None:
    if key not in TRACKERS[tracker]:
        if "key" in str(key).lower() or "token" in str(key).lower():
            hint = "keys stay out of recipes, log in with the tracker's own command or environment variable"
        elif key == "mode":
            hint = f"{tracker} only writes files; known: {', '.join(TRACKERS[tracker])}"
        else:
            hint = _hint(str(key), TRACKERS[tracker])
        problems.append(f"{tracker}.{key}: unknown key; {hint}")
    elif key == "mode" and option not in _MODES:
        problems.append(f"{tracker}.mode: {option!r:.60} is unknown; {_hint(str(option), _MODES)}")
    elif not isinstance(option, str) or not option.strip():
        problems.append(f"{tracker}.{key}: expected a text, found {option!r:.60}")


def _hint(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
