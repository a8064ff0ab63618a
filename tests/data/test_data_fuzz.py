"""Files that are no good: whatever is in them, a reader gives documents or one error that names the file; it never hangs.

`make soak` reads 100,000 of them; `make test` a few hundred.
"""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nertune.data import FORMATS, WritableFormat, read, write
from nertune.errors import DataError, InputError, NertuneError
from nertune.prompt import KNOWN_ANSWERS
from nertune.schema import Document

_SECONDS = 20  # that one small file may take

_DOCUMENTS = [
    Document.of("浙商银行企业信贷部叶老桂博士", [("company", 0, 4), ("name", 9, 12)], id="a"),
    Document.of("天晴", [], id="b"),
    Document.of("He went to New York with 😀 Ann 😀.", [("place", 11, 19), ("name", 27, 30)], id="c"),
    Document.of("北京大学第一医院", [("org", 0, 8), ("org", 0, 4), ("place", 0, 2)], id="d"),
]
_WRONG = (None, True, -1, 10**30, 1.5, "", "x\0y", "\ud83d", "a" * 300, [], {}, [[]], {"a": {}}, [None], [[1, 2, 3]])
_BYTES = (
    *(
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"\\ud800",
        b"\\u0000",
        b"\x1b[2J",
        b"\r",
        b"\r\n",
    ),
    *(
        b"\n\n",
        b"\t",
        b'"',
        b"[",
        b"{",
        b"}",
        b"]",
        b"\\",
        b"<",
        b">",
        b"|",
        b"NaN",
        b"-DOCSTART- O\n",
        b"B-",
        b"I-x",
        b"#",
    ),
    "叶".encode("gb18030"),
    "\u2028\u202e\u200b".encode(),
    b"9" * 5000,
)


@contextmanager
def _alarm(what: object) -> Iterator[None]:
    """An AssertionError where the block takes too long."""

    def late(*_: object) -> None:
        raise AssertionError(f"a reader hangs at {what!r}")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _seeds(folder: Path) -> dict[str, dict[str, bytes]]:
    """Of each format, the files of a sound data set: by name within its folder, "" for a single file."""
    found: dict[str, dict[str, bytes]] = {}
    for name, entry in FORMATS.items():
        if not isinstance(entry, WritableFormat):
            continue
        path = folder / f"seed-{name}"
        write(_DOCUMENTS, path, format=name)
        if path.is_dir():
            found[name] = {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
        else:
            found[name] = {"": path.read_bytes()}
    answer = '[{"label": "name", "text": "叶老桂"}]'
    row = {"instruction": "找出实体", "input": "文本:叶老桂", "output": answer}
    found["alpaca"] = {"": json.dumps([row, row], ensure_ascii=False).encode()}
    turns = [{"from": "human", "value": "找出实体\n<输入文本>\n叶老桂"}, {"from": "gpt", "value": answer}]
    found["sharegpt"] = {"": json.dumps([{"conversations": turns}] * 2, ensure_ascii=False).encode()}
    found["inline"] = {"": "[叶老桂 | name]博士在[[北京 | place]大学 | org]\n天晴\n".encode()}
    return found


def _mutated(content: bytes, chosen: random.Random) -> bytes:
    """A file like `content`, with one to three things wrong."""
    for _ in range(chosen.randint(1, 3)):
        at = chosen.randint(0, len(content))
        match chosen.randrange(9):
            case 0:
                content = content[:at]
            case 1:
                content = content[:at] + bytes([chosen.randrange(256)]) + content[at + 1 :]
            case 2 | 3:
                content = content[:at] + chosen.choice(_BYTES) + content[at:]
            case 4:
                content = content[:at] + content[at + chosen.randint(1, 20) :]
            case 5:
                content = content[:at] + content[chosen.randint(0, at) :]
            case 6:
                content = _wrong_value(content, chosen)
            case 7:
                content = chosen.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"", b" \n", b"\n" * 50)) + content
            case _:
                depth = chosen.choice((3, 200, 10_000))
                opening, closing = chosen.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"[a | ", b"]"), (b"<a>", b"</a>")))
                content = content[:at] + opening * depth + closing * chosen.choice((0, depth)) + content[at:]
    if chosen.random() < 0.03:
        content = content.decode("utf-8", "replace").encode(chosen.choice(("gb18030", "utf-16", "utf-32")), "replace")
    return content


def _wrong_value(content: bytes, chosen: random.Random) -> bytes:
    """JSON with a value of another kind in one place; the content as it is, where it is no JSON."""
    lines = content.splitlines() or [b""]
    place = chosen.randrange(len(lines))
    for whole in (lines[place], content):
        try:
            value = json.loads(whole)
        except (ValueError, RecursionError):
            continue
        changed = json.dumps(_replaced(value, chosen)).encode()
        return content.replace(whole, changed, 1)
    return content


def _replaced(value: object, chosen: random.Random) -> object:
    if chosen.random() < 0.25 or not value or not isinstance(value, list | dict):
        return chosen.choice(_WRONG)
    if isinstance(value, list):
        place = chosen.randrange(len(value))
        return [_replaced(item, chosen) if number == place else item for number, item in enumerate(value)]
    key = chosen.choice(list(value))
    if chosen.random() < 0.2:
        return {name: item for name, item in value.items() if name != key}
    return value | {key: _replaced(value[key], chosen)}


def _check(path: Path, format: str | None) -> bool:
    """Read what may be anything; whether it was read. Whatever is wrong must be told with the file's name."""
    failure, corpus = None, None
    try:
        with _alarm((path, format)):
            corpus = read(path, format=format, answers=KNOWN_ANSWERS)
    except NertuneError as error:
        failure = error
    if corpus is None:
        assert isinstance(failure, InputError), repr(failure)
        assert str(path) in str(failure)
        assert len(str(failure)) < 3000, "an error is a message, not the file"
        assert not any(ord(character) < 32 and character not in "\t\n" for character in str(failure)), ascii(
            str(failure)
        )
        return False
    for document in corpus.documents:
        assert all(document.text[e.start : e.end] == e.text for e in document.entities)
    return True


def _fuzz(folder: Path, name: str, files: dict[str, bytes], count: int, seed: int) -> tuple[int, int]:
    chosen = random.Random(f"{name} {seed}")
    outcomes = [0, 0]
    for number in range(count):
        path = folder / "fuzzed"
        wrong = chosen.choice(list(files))
        for part, content in files.items():
            target = path / part if part else path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(_mutated(content, chosen) if part == wrong else content)
        outcomes[_check(path, name if number % 2 else None)] += 1
    return outcomes[0], outcomes[1]


@pytest.mark.parametrize("name", FORMATS)
def test_a_few_hundred_broken_files_of_each_format(tmp_path: Path, name: str) -> None:
    refused, taken = _fuzz(tmp_path, name, _seeds(tmp_path)[name], 250, seed=1)
    assert refused > 20, "the files are hardly broken"
    assert refused + taken == 250


@pytest.mark.soak
def test_a_hundred_thousand_broken_files(tmp_path: Path) -> None:
    seeds = _seeds(tmp_path)
    each = -(-100_000 // len(seeds))
    outcomes = {}
    for name, files in seeds.items():
        folder = tmp_path / f"of-{name}"
        folder.mkdir()
        outcomes[name] = _fuzz(folder, name, files, each, seed=2)
        print(name, "refused, taken:", *outcomes[name], flush=True)
    assert sum(map(sum, outcomes.values())) >= 100_000


def test_every_format_is_fuzzed(tmp_path: Path) -> None:
    assert set(_seeds(tmp_path)) == set(FORMATS)


@pytest.mark.parametrize("deep", ["[" * 10_000, '{"a":' * 10_000, "[a|" * 10_000, "<a>" * 10_000])
@pytest.mark.parametrize("name", [None, *FORMATS])
def test_ten_thousand_deep(tmp_path: Path, deep: str, name: str | None) -> None:
    path = tmp_path / "deep"
    for content in (
        deep,
        json.dumps({"text": "天", "label": 1})[:-1] + ', "x": ' + deep,
        f'{{"text": {json.dumps(deep)}}}',
    ):
        path.write_text(content, encoding="utf-8")
        _check(path, name)


@pytest.mark.soak
@pytest.mark.parametrize("begins", ['{"text": "', '[{"text": "', "", "[a | ", "B-x "])
def test_a_line_of_a_gigabyte(tmp_path: Path, begins: str) -> None:
    path = tmp_path / "long"
    with path.open("wb") as file:
        file.write(begins.encode())
        for _ in range(1024):
            file.write(b"a" * (1 << 20))
    with pytest.raises(DataError, match=r"long:1: "):
        read(path, format=None if begins.startswith(("{", "[{")) else "conll" if begins == "B-x " else None)


def test_hostile_names_of_labels_and_texts_are_quoted_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "hostile.jsonl"
    label = "\x1b[31m\x07\u202e"
    path.write_text(json.dumps({"text": "天", "entities": [{"start": 0, "end": 1, "label": label + "|"}]}))
    with pytest.raises(DataError) as raised:
        read(path)
    assert not any(ord(character) < 32 for character in str(raised.value))


def test_the_sound_files_are_sound(tmp_path: Path) -> None:
    for name, files in _seeds(tmp_path).items():
        if list(files) == [""]:
            (tmp_path / name).write_bytes(files[""])
            assert read(tmp_path / name, answers=KNOWN_ANSWERS).format == name
