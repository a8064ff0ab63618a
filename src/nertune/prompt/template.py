"""Prompt templates: the words around a text. First step of the road from a Document to token ids.

A template is a folder with `user.txt` and, optionally, `system.txt`. Placeholders: `{text}` (exactly once, in the user
part), `{labels}` (names joined by ", "; `{labels:; }` joins by "; "), `{descriptions}` (for each label that has one a line
break and `name：description`; `{descriptions:: }` puts ": " between the two), `{answer_format}` (how the answer is written,
said by the answer format itself). Every other brace is literal. One line break at the end of a file is not part of the
prompt.

A single file is a template too: the user part. Where it is a format string of Python, as scripts keep their prompts, its
doubled braces are read as Python's `str.format` reads them: `{{` is `{`.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from nertune.errors import InputError, MissingFileError
from nertune.files import to_text
from nertune.schema import LabelSet

__all__ = ["PromptTemplate", "builtin_templates", "doubled_braces", "load_template"]

_PLACEHOLDER = re.compile(r"\{(text|answer_format|(?:labels|descriptions)(?::[^{}]*)?)\}")
_NAMES = frozenset({"text", "answer_format", "labels", "descriptions"})


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """System and user part of a prompt, placeholders unfilled. Raises InputError unless `{text}` is in the user part once."""

    user: str
    system: str | None = None

    def __post_init__(self) -> None:
        if self.user.count("{text}") != 1:
            raise InputError(
                f"a prompt's user part needs {{text}} exactly once, found {self.user.count('{text}')} times"
            )
        if self.system is not None and "{text}" in self.system:
            raise InputError("{text} belongs in the user part of a prompt, not in its system part")

    @property
    def has_descriptions(self) -> bool:
        """Whether descriptions of labels have a place in it."""
        parts = (self.user, self.system or "")
        return any(match[1].startswith("descriptions") for part in parts for match in _PLACEHOLDER.finditer(part))

    def fill(self, labels: LabelSet, answer_instruction: str) -> PromptTemplate:
        """The template with labels, as they are named here, and answer format filled in; only `{text}` remains.

        Raises InputError for a label or description that holds `{text}`, which would become a place of the text.
        """
        for name in labels:
            if "{text}" in name or "{text}" in labels.descriptions.get(name, ""):
                raise InputError(f"label {name!r} or its description holds {{text}}, where a prompt would put the text")

        def value(match: re.Match[str]) -> str:
            key, _, between = match[1].partition(":")
            if key == "text":
                return match[0]
            if key == "descriptions":
                lines = [f"\n{name}{between or '：'}{text}" for name, text in labels.descriptions.items()]
                return "".join(lines)
            return answer_instruction if key == "answer_format" else (between or ", ").join(labels)

        def filled(part: str) -> str:
            return _PLACEHOLDER.sub(value, part)

        return PromptTemplate(filled(self.user), None if self.system is None else filled(self.system))

    def around_text(self) -> tuple[str, str]:
        """The user part before and after the text."""
        before, _, after = self.user.partition("{text}")
        return before, after


def builtin_templates() -> tuple[str, ...]:
    """Names of the templates that come with the package."""
    return tuple(sorted(entry.name for entry in files(__package__).joinpath("templates").iterdir() if entry.is_dir()))


def load_template(name: str, notes: list[str] | None = None) -> PromptTemplate:
    """Load a template: a built-in one by name, a folder with `user.txt` and, optionally, `system.txt`, or a file.

    Args:
        name: name or path.
        notes: takes a warning where a folder's files hold doubled braces, which stay as they are there.

    Raises:
        MissingFileError: there is nothing of that name.
        InputError: a file is not UTF-8, or the user part has no `{text}`.
    """
    if name in builtin_templates():
        return _of_folder(files(__package__).joinpath("templates", name))
    path = Path(name)
    if path.is_dir():
        template = _of_folder(path)
        if notes is not None:
            parts = (("user.txt", template.user), ("system.txt", template.system))
            notes += [f"{path / file}: {problem}" for file, part in parts if (problem := doubled_braces(part))]
        return template
    if path.is_file():
        return PromptTemplate(_plain(_read(path), path))
    known = ", ".join(builtin_templates())
    raise MissingFileError(
        f"prompt template {name!r} is neither built in ({known}) nor a folder with a user.txt nor a file"
    )


def doubled_braces(part: str | None) -> str | None:
    """A warning for a part in which `{{` stands literally, as a format string of Python has it; None where none does."""
    for number, line in enumerate((part or "").split("\n"), 1):
        if "{{" in line:
            return (
                f"line {number} holds {{{{, which the model will see as it is: {line.strip()!r:.60}. Braces need no "
                "doubling in a template; write { for {{ and } for }}"
            )
    return None


def _of_folder(folder: Traversable) -> PromptTemplate:
    user, system = folder.joinpath("user.txt"), folder.joinpath("system.txt")
    if not user.is_file():
        raise MissingFileError(f"{folder}: a prompt template needs a file user.txt")
    return PromptTemplate(_read(user), _read(system) if system.is_file() else None)


def _plain(text: str, path: Path) -> str:
    """A format string of Python with its doubled braces made single; any other text as it is.

    Raises InputError for a doubled placeholder such as `{{labels}}`, which a prompt cannot say literally.
    """
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError:
        return text
    fields = [(field, spec) for _, field, spec, _ in parts if field is not None]
    if "{{" not in text or not {field for field, _ in fields} <= _NAMES:
        return text
    plain = "".join(
        literal + ("" if field is None else f"{{{field}:{spec}}}" if spec else f"{{{field}}}")
        for literal, field, spec, _ in parts
    )
    if len(_PLACEHOLDER.findall(plain)) != len(fields):
        raise InputError(
            f"{path}: holds a placeholder in doubled braces, such as {{{{labels}}}}; write it in single ones"
        )
    return plain


def _read(file: Traversable) -> str:
    return to_text(file.read_bytes(), str(file)).removesuffix("\n")
