"""Tell the encoding of a text file from its bytes, and read it as UTF-8. Every text that nertune reads comes through here.

| the file begins with                        | it is read as                                                          |
|---------------------------------------------|------------------------------------------------------------------------|
| a byte order mark                           | UTF-8, UTF-16 or UTF-32, as the mark says; the mark is no text         |
| UTF-8                                       | UTF-8                                                                  |
| NUL bytes, and is plausible text as UTF-16 in one byte order alone | UTF-16                                          |
| no UTF-8, but common Chinese as GB18030     | GB18030 (GBK and GB2312 are parts of it)                               |
| anything else                               | UTF-8; whoever reads the lines meets what is wrong, and names its line |

GB18030 must be certain: nearly all bytes of other East Asian encodings are characters in it as well. It is taken where they
are characters that are common in Chinese, in the shares of Chinese prose.
"""

from __future__ import annotations

import codecs
import io
import os
from collections import Counter
from io import BufferedReader
from pathlib import Path

from nertune.errors import DataError

__all__ = ["as_utf8", "encoding_of", "is_utf8", "read_text", "to_text"]

_HEAD_BYTES = 1 << 16
_CHUNK = 1 << 16
# Longest first: UTF-32's mark begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# The hundred most frequent characters of modern Chinese, which make up four tenths of its prose.
_FREQUENT = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无"
)
_LEAST_CHINESE = 8  # characters, without which nobody can be sure
_PLAUSIBLE = 0.98
_IMPLAUSIBLE = 0.8
_LATIN, _NO_LATIN = 0.25, 0.05


def encoding_of(head: bytes) -> tuple[str, int]:
    """The name of a text's encoding, told from its first bytes, and the length of its byte order mark."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name, len(mark)
    if b"\0" in head:  # every line break and every ASCII character of UTF-16 has one
        return "utf-8" if _is_stray(head) else _utf_16(head) or "utf-8", 0
    if _text(head, "utf-8") is None and _is_chinese(head):
        return "gb18030", 0
    return "utf-8", 0


def is_utf8(head: bytes) -> bool:
    """Whether a text that begins so is read as UTF-8."""
    return encoding_of(head)[0] == "utf-8"


def as_utf8(file: BufferedReader, shown: str) -> tuple[BufferedReader, str]:
    """The bytes of a text file as UTF-8 without a byte order mark, and the name of the encoding that it is in.

    Args:
        file: at its beginning. What is UTF-8 already is handed back itself, so that it can still be searched in.
        shown: the file's name in messages.

    Raises DataError, also while what is returned is read: for bytes that are not what the beginning promised.
    """
    name, mark = encoding_of(file.peek(_HEAD_BYTES)[:_HEAD_BYTES])
    if name == "utf-8":
        return file, name
    file.read(mark)
    return BufferedReader(_Utf8(file, name, shown, mark), _CHUNK), name


def to_text(raw: bytes, shown: str) -> str:
    """The text of a whole file's bytes. Raises DataError, with the line, for what is no text."""
    file, _ = as_utf8(BufferedReader(io.BytesIO(raw), max(len(raw), 1)), shown)
    content = file.read().removeprefix(codecs.BOM_UTF8)
    nul = content.find(b"\0")
    if nul >= 0:
        line = 1 + content.count(b"\n", 0, nul)
        raise DataError("holds a NUL byte, which no text file does; is this the right file?", path=shown, line=line)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = 1 + content.count(b"\n", 0, error.start)
        raise DataError(
            f"is not UTF-8 (0x{content[error.start]:02X}) and no other encoding that can be told for certain; convert it with: "
            f"iconv -f ENCODING -t UTF-8 {shown} > NEW",
            path=shown,
            line=line,
        ) from error


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a file, in whichever encoding. Raises OSError, and DataError for what is no text."""
    return to_text(Path(path).read_bytes(), os.fspath(path))


class _Utf8(io.RawIOBase):
    """The bytes of another encoding as those of UTF-8, a piece at a time."""

    def __init__(self, file: BufferedReader, name: str, shown: str, read: int) -> None:
        self._file, self._name, self._shown, self._read = file, name, shown, read
        self._decoder = codecs.getincrementaldecoder(name)()
        self._ready = b""
        self._line = 1
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        while not self._ready and not self._ended:
            raw = self._file.read1(_CHUNK)
            self._ended = not raw
            try:
                self._ready = self._decoder.decode(raw, final=self._ended).encode("utf-8")
            except UnicodeError as error:
                where = f"at byte {self._read + getattr(error, 'start', 0) + 1}, after line {self._line}"
                raise DataError(
                    f"begins as {self._name.upper()} and is not that {where}; is the file whole, and in one encoding?",
                    path=self._shown,
                ) from error
            self._read += len(raw)
            self._line += self._ready.count(b"\n")
        taken, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


def _text(head: bytes, name: str) -> str | None:
    """The characters of bytes that may end in the midst of one; None where they are not in that encoding."""
    try:
        return codecs.getincrementaldecoder(name)().decode(head)
    except UnicodeDecodeError:
        return None


def _is_stray(head: bytes) -> bool:
    """Whether NUL bytes stand in what is text without them: few, and no other control characters."""
    text = _text(head, "utf-8") if 4 * head.count(0) < len(head) else None
    return text is not None and not any(character < " " and character not in "\0\t\n\r" for character in text)


def _utf_16(head: bytes) -> str | None:
    """UTF-16 without a mark, where one order of bytes gives text, a line break or another ASCII character in it, and the other
    order does not."""
    texts = {name: _text(head[: len(head) & ~1], name) for name in ("utf-16-le", "utf-16-be")}
    shares = {name: _share_of_text(text) for name, text in texts.items()}
    best, other = sorted(shares, key=lambda name: -shares[name])
    ascii_of = {name: sum(ord(c) < 0x80 for c in text or "") / max(len(text or ""), 1) for name, text in texts.items()}
    latin, exchanged = sorted(ascii_of, key=lambda name: -ascii_of[name])
    # ASCII with its bytes exchanged is Chinese to the eye of the tables, and no Chinese is ASCII that way.
    if (
        not len(head) & 1
        and ascii_of[latin] >= _LATIN
        and shares[latin] >= _PLAUSIBLE
        and ascii_of[exchanged] < _NO_LATIN
    ):
        return latin
    if shares[best] < _PLAUSIBLE or shares[other] >= _IMPLAUSIBLE or not any(ord(c) < 0x80 for c in texts[best] or ""):
        return None
    return best


def _share_of_text(text: str | None) -> float:
    """The share of characters that texts are made of: letters and signs of the common scripts, no controls."""
    if not text:
        return 0.0
    count = Counter(text)
    return sum(times for character, times in count.items() if _is_common(ord(character))) / len(text)


def _is_common(code: int) -> bool:
    return (
        code in (9, 10, 13)
        or 0x20 <= code < 0x7F
        or 0xA0 <= code < 0x530  # Latin, Greek, Cyrillic
        or 0x2010 <= code < 0x2030
        or 0x3000 <= code < 0x3100  # signs and kana
        or 0x4E00 <= code < 0xA000
        or 0xAC00 <= code < 0xD7B0
        or 0xFF00 <= code < 0xFFF0
    )


def _is_chinese(head: bytes) -> bool:
    """Whether bytes that are not UTF-8 are Chinese in GB18030 beyond doubt."""
    text = _text(head, "gb18030")
    if text is None:
        return False
    foreign = [character for character in text if ord(character) >= 0x80]
    han = [character for character in foreign if 0x4E00 <= ord(character) < 0xA000]
    if len(han) < _LEAST_CHINESE or any(0x3040 <= ord(character) < 0x3100 for character in foreign):
        return False
    # The 3,755 characters that GB2312 lists first are nearly all that is written; other encodings' bytes hit all of them.
    listed = sum(0xB0 <= character.encode("gb18030")[0] <= 0xD7 for character in han)
    frequent = sum(character in _FREQUENT for character in han)
    signs = sum(_is_common(ord(character)) for character in foreign)
    return listed >= 0.9 * len(han) and frequent >= 0.1 * len(han) and signs >= _PLAUSIBLE * len(foreign)
