"""Read YAML strictly: every key once and a string, finite numbers, no tags of other languages, and sane sizes.

YAML 1.1 as PyYAML's safe loader reads it, with these differences:

| YAML                           | here                                                      |
|--------------------------------|-----------------------------------------------------------|
| `a: 1` and later `a: 2`        | refused; YAML forbids it, and PyYAML keeps the last       |
| `1: x`, `no: x`, `? [a]`       | refused: keys are strings, so these want quotes           |
| `!!python/name:os.system`, `!x`| refused; of tags only str, int, float, bool, null, seq, map |
| `.nan`, `.inf`, integers of more than 64 bits | refused                                    |
| `2026-12-01`, `12:30`          | strings, not a date and not the number 750                |
| `&a` and `*a`, `<<`            | taken; what they stand for counts as often as it is named |
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, NoReturn

import yaml

__all__ = ["YamlError", "parse_yaml", "read_yaml"]

_BYTES = 1_000_000
_DEPTH = 64
_NODES = 50_000  # keys and values, those that an alias stands for counted at every place
_DIGITS = 100
_CORE = "tag:yaml.org,2002:"
_TAGS = frozenset(_CORE + name for name in ("str", "int", "float", "bool", "null", "seq", "map"))
_MERGE, _STRING = _CORE + "merge", _CORE + "str"
_UNREAD = (_CORE + "timestamp", _CORE + "value")  # what plain scalars are not taken for


class YamlError(ValueError):
    """What is wrong with a YAML text, by line and key. `syntax`: it is no YAML at all."""

    def __init__(self, message: str, *, syntax: bool = False) -> None:
        super().__init__(message)
        self.syntax = syntax


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """The value of a YAML file in UTF-8. Raises YamlError and OSError."""
    with Path(path).open("rb") as file:
        raw = file.read(_BYTES + 1)
    try:
        return parse_yaml(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        if len(raw) > _BYTES:
            raise YamlError(f"more than {_BYTES:,} bytes") from None
        raise YamlError(f"not UTF-8: {error.reason} at byte {error.start}") from error


def parse_yaml(text: str) -> Any:
    """The value of a YAML text: None, a string, a number, true or false, a list, or a dict with strings as keys.

    Raises YamlError.
    """
    if len(text) > _BYTES:
        raise YamlError(f"more than {_BYTES:,} bytes")
    try:
        loader = _Loader(text)
        return loader.get_single_data()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        found = error.character if isinstance(error.character, int) else ord(error.character[:1])
        raise YamlError(f"line {line}: the character U+{found:04X}, which no YAML holds", syntax=True) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise YamlError(place + " ".join(said.split())[:200], syntax=True) from error


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which checks each node as soon as it is read."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - an instance variable by its stubs
        first: [(tag, pattern) for tag, pattern in found if tag not in _UNREAD]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._path: list[str] = []
        self._depth = self._count = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """One node with all that it holds; an alias gives the node that it names."""
        event = self._next()
        step = _step(index)
        self._path += step
        self._depth += 1
        if self._depth > _DEPTH:
            self._refuse(event, f"nested more than {_DEPTH} levels deep", at=self._path[:3])
        before = self._count
        self._count += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._sizes:
                self._refuse(event, f"*{event.anchor} stands inside of what it names, which never ends")
            self._count += self._sizes[id(node)] - 1
        if self._count > _NODES:
            self._refuse(event, f"more than {_NODES:,} keys and values, those named by * counted at every place")
        self._sizes[id(node)] = self._count - before
        self._depth -= 1
        if step:
            del self._path[-1]
        return node

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        """A scalar, of a kind that JSON has too."""
        event = self._next()
        self._check_tag(event)
        node: yaml.ScalarNode = super().compose_scalar_node(anchor)
        if node.tag in (_CORE + "int", _CORE + "float") and ":" in node.value:  # in the base 60
            node.tag = _STRING
        try:
            node.value.encode("utf-8")
        except UnicodeEncodeError:
            node.value = self._joined(event, node.value)
        if "\0" in node.value:
            self._refuse(event, "a NUL character, which no text holds")
        if node.tag in _TAGS and node.tag != _STRING:
            if len(node.value) > _DIGITS:
                self._refuse(event, f"{node.value[:20]}…, a number of {len(node.value):,} characters")
            try:
                value = self.yaml_constructors[node.tag](self, node)
            except (ValueError, KeyError):
                self._refuse(event, f"{node.value[:40]!r} is no {node.tag.removeprefix(_CORE)}")
            if isinstance(value, float) and not math.isfinite(value):
                self._refuse(event, f"{node.value[:40]} is not finite")
            if isinstance(value, int) and not -(2**63) <= value < 2**64:
                self._refuse(event, f"{node.value}, an integer of more than 64 bits")
        return node

    def compose_sequence_node(self, anchor: Any) -> yaml.SequenceNode:
        """A list."""
        self._check_tag(self._next())
        node: yaml.SequenceNode = super().compose_sequence_node(anchor)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping whose keys are strings, each given once."""
        self._check_tag(self._next())
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag not in (_STRING, _MERGE):
                if not isinstance(key, yaml.ScalarNode):
                    self._refuse(key, "a list or a mapping is a key here; keys are strings")
                kind = key.tag.removeprefix(_CORE)
                self._refuse(key, f"the key {key.value[:40]} is read as {kind}; put it in quotes")
            if key.value in lines:
                first = lines[key.value]
                self._refuse(key, f"given twice, first on line {first}; keep one of them", at=[*self._path, key.value])
            lines[key.value] = key.start_mark.line + 1
        return node

    def _next(self) -> Any:
        return self.peek_event()  # type: ignore[no-untyped-call]

    def _joined(self, event: Any, value: str) -> str:
        """The text with pairs of surrogates, as JSON writes characters beyond U+FFFF, made the characters that they are."""
        try:
            return value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self._refuse(event, "half of a surrogate pair, which is no character")

    def _check_tag(self, event: Any) -> None:
        if event.tag not in (None, "!") and event.tag not in _TAGS:
            tag = event.tag.replace(_CORE, "!!", 1)
            self._refuse(event, f"the tag {tag[:80]} is not taken; write a plain value")

    def _refuse(self, where: Any, message: str, *, at: list[str] | None = None) -> NoReturn:
        key = ".".join(part[:60] for part in (self._path if at is None else at))
        line = f"line {where.start_mark.line + 1}"
        raise YamlError(f"{key}: {message} ({line})" if key else f"{line}: {message}")


def _step(index: Any) -> list[str]:
    """What a node adds to the path: the key that it is the value of, or its place in a list, from 0."""
    if isinstance(index, yaml.ScalarNode):
        return [index.value]
    return [] if index is None else [str(index) if isinstance(index, int) else "?"]
