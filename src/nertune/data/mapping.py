"""Other labels for the ones of a file: renamed, made one, or left out. It happens once, right after reading.

Rules are written as `GPE,LOC` on the left and the label that takes their place on the right; nothing there, or `-`, leaves
the mentions out. All rules apply at once: with A -> B and B -> A the two change places. A comma or equals sign that belongs
to a label has a backslash before it, which no label holds.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from nertune.data.spans import Row
from nertune.errors import InputError, MissingFileError
from nertune.files import YamlError, read_yaml
from nertune.schema import Document, LabelSet, Prediction, best_of_each

__all__ = ["Changes", "LabelMap", "Mapped"]

_Read = TypeVar("_Read", Document, Prediction)

_SUFFIXES = (".yaml", ".yml", ".json")
_COMMA, _EQUALS = re.compile(r"(?<!\\),"), re.compile(r"(?<!\\)=")
_HELP = "write LABEL=OTHER, 'A,B=OTHER' to make several one, LABEL= to leave its mentions out, or name a .yaml file of rules"


@dataclass(slots=True)
class Changes:
    """What a map met: mentions by the label they had, and how many of them became equal to another and were kept once."""

    seen: Counter[str] = field(default_factory=Counter)
    merged: int = 0

    def add(self, other: Changes) -> None:
        """Count the other's too."""
        self.seen.update(other.seen)
        self.merged += other.merged

    def __add__(self, other: Changes) -> Changes:
        return Changes(self.seen + other.seen, self.merged + other.merged)


class Mapped(NamedTuple, Generic[_Read]):
    """Documents or predictions with the labels that a map gives them, and what it changed."""

    documents: tuple[_Read, ...]
    changes: Changes


@dataclass(frozen=True, slots=True)
class LabelMap:
    """`targets`: from a label to the one that takes its place, None to leave its mentions out. Others stay as they are.

    Raises InputError for a target that cannot be a label.
    """

    targets: Mapping[str, str | None] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for target in self.targets.values():
            if target is not None:
                LabelSet((target,))

    def __bool__(self) -> bool:
        return bool(self.targets)

    @classmethod
    def parse(cls, rules: Mapping[Any, Any]) -> LabelMap:
        """The map of rules as a recipe or a YAML file holds them: `GPE,LOC` to a label, to nothing, or to `-`.

        Raises InputError for what is no rule, and for a label with two rules.
        """
        if not isinstance(rules, Mapping):
            raise InputError(f"expected labels and what takes their place, such as {{GPE: LOC}}, found {rules!r:.60}")
        return cls(_one_each(rule for sources, target in rules.items() for rule in _rule(sources, target)))

    @classmethod
    def of_options(cls, options: Iterable[str]) -> LabelMap:
        """The map of command-line options: rules such as `GPE,LOC=地点`, or names of YAML files of them.

        Raises MissingFileError, and InputError with the option for what is no rule.
        """
        return cls(_one_each(rule for option in options for rule in _of_option(option).targets.items()))

    def apply_document(self, document: _Read) -> tuple[_Read, Changes]:
        """A document or prediction with its labels mapped, and what changed; the very same one where nothing did.

        Of mentions that become equal one is kept, that with the highest score.
        """
        ungrounded = document.ungrounded if isinstance(document, Prediction) else ()
        seen = Counter(item.label for items in (document.entities, ungrounded) for item in items)
        if all(self.targets.get(label, label) == label for label in seen):
            return document, Changes(seen)
        kept = list(self._renamed(document.entities))
        entities = best_of_each(kept)
        changed: dict[str, Any] = {"entities": entities}
        if ungrounded:
            changed["ungrounded"] = tuple(self._renamed(ungrounded))
        return replace(document, **changed), Changes(seen, len(kept) - len(entities))

    def apply(self, documents: Iterable[_Read]) -> Mapped[_Read]:
        """Documents or predictions with their labels mapped, in their order, and what changed in all of them."""
        total, found = Changes(), list[_Read]()
        for document in documents:
            mapped, changes = self.apply_document(document)
            total.add(changes)
            found.append(mapped)
        return Mapped(tuple(found), total)

    def rows(self, rows: Iterable[Row], total: Changes) -> Iterator[Row]:
        """Rows as they are read, their documents mapped; `total` counts what changed so far."""
        for row in rows:
            document, changes = self.apply_document(row.document)
            total.add(changes)
            yield row if document is row.document else row._replace(document=document)

    def notes(self, changes: Changes) -> tuple[str, ...]:
        """What is to be said: what was done, and which labels of the map do not occur. Empty without rules."""
        return (*self.done(changes), *self.missing(changes))

    def done(self, changes: Changes) -> tuple[str, ...]:
        """What became what, what was left out, and what was made one, with how many mentions each."""
        met = [(source, target, changes.seen.get(source, 0)) for source, target in self.targets.items()]
        notes = []
        if renamed := [f"{s} to {t} ({n:,})" for s, t, n in met if n and t is not None and t != s]:
            notes.append(f"mentions given another label: {', '.join(renamed)}")
        if dropped := [f"{s} ({n:,})" for s, t, n in met if n and t is None]:
            notes.append(f"mentions left out, as the label map says: {', '.join(dropped)}")
        if changes.merged:
            notes.append(f"mentions that became equal to another by it and are kept once: {changes.merged:,}")
        return tuple(notes)

    def missing(self, changes: Changes) -> tuple[str, ...]:
        """Which labels of the map no mention bears, with the nearest one that some do."""
        missing = [_hint(source, changes.seen) for source in self.targets if not changes.seen.get(source)]
        if not missing:
            return ()
        there = ", ".join(sorted(changes.seen)) or "none"
        return (f"the label map names what no mention bears: {', '.join(missing)}. Labels there: {there}",)

    def wanted(self, labels: Sequence[str] | None) -> tuple[str, ...] | None:
        """The names to choose in reading where mentions carry several: `labels`, what becomes one of them, what is left out."""
        if labels is None:
            return None
        known = (*labels, None)
        return (
            *labels,
            *(source for source, target in self.targets.items() if target in known and source not in known),
        )

    def options(self) -> tuple[str, ...]:
        """The rules as `of_options` takes them."""
        return tuple(f"{_escaped(source)}={_escaped(target or '', '=')}" for source, target in self.targets.items())

    def _renamed(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            target = self.targets.get(item.label, item.label)
            if target is not None:
                yield item if target == item.label else replace(item, label=target)


def _one_each(rules: Iterable[tuple[str, str | None]]) -> dict[str, str | None]:
    """The rules by label. Raises InputError for a label with two of them."""
    targets: dict[str, str | None] = {}
    for source, target in rules:
        if targets.setdefault(source, target) != target:
            raise InputError(f"label {source!r} is to become {_named(targets[source])} and {_named(target)}: keep one")
    return targets


def _of_option(option: str) -> LabelMap:
    sides = _EQUALS.split(option)
    if Path(option).suffix.lower() in _SUFFIXES and (len(sides) == 1 or Path(option).is_file()):
        return _read(option)
    if len(sides) != 2:
        found = "none" if len(sides) == 1 else f"{len(sides) - 1} (one that belongs to a label is written \\=)"
        raise InputError(f"--map {option!r}: a rule has one equals sign, found {found}; {_HELP}")
    try:
        return LabelMap.parse({sides[0]: sides[1].replace("\\=", "=")})
    except InputError as error:
        raise InputError(f"--map {option!r}: {error}") from error


def _read(path: str | os.PathLike[str]) -> LabelMap:
    """The rules of a YAML file, which JSON is too."""
    shown = os.fspath(path)
    try:
        rules = read_yaml(path)
    except FileNotFoundError:
        raise MissingFileError(f"--map {shown}: no such file (looked for {Path(path).absolute()})") from None
    except OSError as error:
        raise InputError(f"{shown}: cannot be read: {error.strerror}") from error
    except YamlError as error:
        what = "not a YAML file of rules (a dash alone wants quotes): " if error.syntax else ""
        raise InputError(f"{shown}: {what}{error}") from error
    try:
        return LabelMap.parse(rules)
    except InputError as error:
        raise InputError(f"{shown}: {error}") from error


def _rule(sources: Any, target: Any) -> Iterator[tuple[str, str | None]]:
    """Each label of a rule's left side with what takes its place."""
    for value in (sources, target):
        if not isinstance(value, str) and value is not None:
            quoted = (
                f"put it in quotes, YAML reads it as {type(value).__name__}"
                if not isinstance(value, list | dict)
                else _HELP
            )
            raise InputError(f"{value!r:.60} is no label: {quoted}")
    if sources is None:
        raise InputError(f"a rule without a label on its left: {_HELP}")
    other = None if target is None or target.strip() in ("", "-") else target.strip()
    names = [part.strip().replace("\\,", ",").replace("\\=", "=") for part in _COMMA.split(sources)]
    if not all(names):
        raise InputError(f"{sources!r}: a label is missing beside a comma, or on the left; {_HELP}")
    yield from ((name, other) for name in names)


def _escaped(label: str, characters: str = ",=") -> str:
    return re.sub(f"([{characters}])", r"\\\1", label)


def _named(target: str | None) -> str:
    return "left out" if target is None else repr(target)


def _hint(source: str, seen: Mapping[str, int]) -> str:
    near = [label for label in seen if label.casefold() == source.casefold()]
    near += difflib.get_close_matches(source, seen, n=1)
    return f"{source} (like {near[0]})" if near else source
