"""The `xml` format: the sentence itself, each entity in a tag named by its label: `<name>叶老桂</name>博士…`.

Nested entities nest their tags: `<机构><地点>南京</地点>大学</机构>`. The characters `& < >` of the text are written
`&amp; &lt; &gt;`; every other character stands for itself, also those that XML knows nothing of. Every mention is placed,
repeated ones too. Crossing entities cannot be written. The format of "XML" in arXiv 2601.17898.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from nertune.errors import InputError
from nertune.prompt.answers.base import ParsedAnswer, Placed, Refusal, Written
from nertune.prompt.answers.lark import copy_grammar, literal
from nertune.prompt.answers.marks import DEPTH, check_depth, completed, refusal, resumed, write_marked
from nertune.schema import Document, LabelSet, ParseOutcome

__all__ = ["XmlAnswer"]

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_CHARACTERS = {"&amp;": "&", "&lt;": "<", "&gt;": ">"}
# Names of XML 1.0, fifth edition, section 2.3: letters of all scripts, digits and - . _ : but no space and no other sign.
_FIRST = (
    r":A-Z_a-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02ff\u0370-\u037d\u037f-\u1fff\u200c-\u200d\u2070-\u218f\u2c00-\u2fef"
    r"\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd\U00010000-\U000effff"
)
_NAME = rf"[{_FIRST}][-.0-9\u00b7\u0300-\u036f\u203f-\u2040{_FIRST}]*"
_LABEL = re.compile(_NAME)
# What an answer holds besides the text: a tag that closes (1) or opens (2), an escape (3).
_PARTS = rf"</({_NAME})>|<({_NAME})>|(&(?:amp|lt|gt);)"
_PART = re.compile(_PARTS)
# And what it may break off in: a tag (4), an escape (5).
_MARKS = re.compile(_PARTS + r"|(<[^<>&]*)\Z|(&[a-z]*)\Z")


@dataclass(frozen=True, slots=True)
class XmlAnswer:
    """Reads and writes `<label>text</label>` inside a verbatim copy of the text, at most `depth` inside each other."""

    depth: int = DEPTH
    name: str = "xml"

    def __post_init__(self) -> None:
        check_depth(self.depth)

    @property
    def instruction(self) -> str:
        return (
            "原样输出整个句子，并把其中的每个实体写成 <实体类别>实体名称</实体类别>，其余部分不变；"
            "嵌套的实体写成嵌套的标签；句子中的 & < > 写成 &amp; &lt; &gt;；没有实体时原样输出句子。"
        )

    def options(self) -> dict[str, object]:
        return {"depth": self.depth}

    def check(self, labels: LabelSet) -> None:
        """Raises InputError for labels that cannot be the name of a tag."""
        unusable = [label for label in labels if not _LABEL.fullmatch(label)]
        if unusable:
            raise InputError(
                f"the xml format cannot name a tag {', '.join(map(repr, unusable))}: a name begins with a letter of any "
                "script or with _ and holds letters, digits, - . _ and : alone. Rename the labels, give them "
                "other display names, or use answer: inline"
            )

    def refusal(self, document: Document) -> Refusal | None:
        return refusal(document, depth=self.depth, name=self.name)

    def write(self, document: Document) -> str:
        """Raises InputError when two entities cross, when one is nested too deep, or when a label can be no tag."""
        if document.entities:
            self.check(LabelSet.from_documents([document]))
        if found := self.refusal(document):
            raise InputError(found.explained(self.name))
        return write_marked(
            document, escape=_escaped, opening=lambda label: f"<{label}>", closing=lambda label: f"</{label}>"
        )

    def parse(self, answer: str, *, cut: bool = False) -> ParsedAnswer:
        """A tag without its other half is left out, anything else is kept as text, both as REPAIRED; INVALID when empty."""
        if not answer.strip():
            return ParsedAnswer(ParseOutcome.INVALID, copy="")
        copy: list[str] = []
        length = end = 0
        placed: list[Placed] = []
        written: list[Written] = []
        opened: list[tuple[str, int, int]] = []  # label, place in the copy, place in the answer
        unclosed: Counter[str] = Counter()
        repaired = False
        for part in (_MARKS if cut else _PART).finditer(answer):
            between = answer[end : part.start()]
            repaired = repaired or any(character in "&<>" for character in between)
            escape = _CHARACTERS.get(part[3], "")
            copy += [between, escape]
            length += len(between) + len(escape)
            end = part.end()
            if part[2]:
                opened.append((part[2], length, part.start()))
                unclosed[part[2]] += 1
            elif part[1]:
                if not unclosed[part[1]]:
                    repaired = True
                    continue
                # Tags that were opened inside and never closed go with the one that closes around them.
                while opened[-1][0] != part[1]:
                    repaired = True
                    unclosed[opened.pop()[0]] -= 1
                label, start, tag = opened.pop()
                unclosed[label] -= 1
                if length > start:
                    placed.append(Placed(label, start, length))
                    written.append(Written((tag, end), (tag + 1, tag + 1 + len(label))))
                else:
                    repaired = True
            elif not part[3]:
                repaired = True
        copy.append(answer[end:])
        if repaired or opened or any(character in "&<>" for character in answer[end:]):
            return ParsedAnswer(ParseOutcome.REPAIRED, copy="".join(copy), placed=tuple(placed))
        return ParsedAnswer(ParseOutcome.CLEAN, copy="".join(copy), placed=tuple(placed), written=tuple(written))

    def grammar(self, text: str, labels: LabelSet) -> str:
        """See `copy_grammar`; its size is that of the text and of labels times depth. Raises InputError as `check` does."""
        self.check(labels)
        tags = [(literal(f"<{label}>"), literal(f"</{label}>")) for label in labels]
        return copy_grammar(
            map(_escaped, text),
            depth=self.depth,
            mark="/<[^<>&]+>/",
            closing=r"/<\/[^<>&]+>/",
            character=r'/(?s:[^&<>])/ | "&amp;" | "&lt;" | "&gt;"',
            never="&" * 64,
            entity=lambda inside: " | ".join(f"{start} {inside} {end}" for start, end in tags),
        )

    def schema(self, labels: LabelSet) -> None:
        """A copy of a text is no JSON."""

    def draft(self, text: str, answer: str, labels: LabelSet | None = None) -> str:
        copied: list[str] = []
        opened: list[str] = []
        end, last = 0, None
        for last in _MARKS.finditer(answer):
            copied += [answer[end : last.start()], _CHARACTERS.get(last[3], "")]
            end = last.end()
            if last[2]:
                opened.append(last[2])
            elif last[1] and opened:
                opened.pop()
        place = resumed(text, "".join([*copied, answer[end:]]))
        if place is None:
            return ""
        rest = _escaped(text[place:])
        if last is None or end < len(answer):
            return rest
        if last[4]:
            missing = _rest_of_tag(last[4], opened, labels)
            return "" if missing is None else missing + rest
        if last[5]:
            return rest[len(last[5]) :] if rest.startswith(last[5]) else ""
        return rest


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES)


def _rest_of_tag(begun: str, opened: list[str], labels: LabelSet | None) -> str | None:
    """What an unfinished tag lacks: a closing one is that of the innermost entity."""
    if begun.startswith("</"):
        whole = f"</{opened[-1]}>" if opened else ""
        return whole[len(begun) :] if whole.startswith(begun) else None
    missing = completed(begun[1:], labels) if len(begun) > 1 else None
    return None if missing is None else missing + ">"
