"""Every command that reads a file, given files that mean harm: it ends with a message, soon, and never with a traceback.

A few commands are met by every input in each run of the tests; `make soak` lets every command meet every input.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from nertune.cli import main
from nertune.console.visible import STEERING

SECONDS = 30
STEER = "\x1b[2J\x1b]0;pwned\x07\x9b31m\u202e\u2066\u200b"
BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10)
)
LONG = "长" * 350_000
ENTITY = {"start": 0, "end": 1, "label": LONG, "text": "a"}
MENTION = {"start": 0, "end": 1, "label": STEER, "text": "a"}
CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "a byte": b"\xff",
    "NUL bytes": b"\0" * 5000,
    "UTF-16": '{"text": "a"}'.encode("utf-16"),
    "alias bomb": BOMB.encode(),
    "endless alias": b"a: &a [*a]\n",
    "doubled keys": b'{"text": "a", "text": "b"}\n',
    "doubled keys of YAML": b"text: a\ntext: b\n",
    "open lists": b"[" * 20_000,
    "open objects": b'{"a":' * 20_000,
    "nested lists": b"[" * 20_000 + b"]" * 20_000,
    "nested in a row": b'{"text": "a", "entities": ' + b"[" * 20_000 + b"]" * 20_000 + b"}\n",
    "open tags": b"<a>" * 20_000,
    "open questions": b"? " * 20_000,
    "numbers": b'{"text": "a", "entities": [{"start": 1e999, "end": ' + b"9" * 5000 + b', "label": "x"}]}\n',
    "NaN": b'{"text": NaN, "metrics": NaN}\n',
    "half a surrogate": b'{"text": "\\ud800", "entities": []}\n',
    "escapes": json.dumps({"text": STEER, "entities": [], STEER: STEER}).encode() + b"\n",
    "raw escapes": f"{STEER}: {STEER}\nx\t{STEER}\tB-{STEER}\n".encode(),
    "a steering label": json.dumps({"text": "abc", "entities": [MENTION]}).encode() + b"\n",
    "a long label": json.dumps({"text": "abc", "entities": [ENTITY]}).encode() + b"\n",
    "a long line": b"x" * 1_000_000,
    "a long number": b"9" * 1_000_000,
    "columns": b"a,text,text\n" + b'"' * 5000,
    "CoNLL": b"a B-\n" + b"b\n" * 100 + b"c d e f I-\t\n",
    "brat": b"T1\tX 0 99999999999999999999\ta\nT1\tX 0 1;2\ta\nR1\t\n",
    "a tag of Python": b"a: !!python/object/apply:os.system [ls]\n",
    "another type": b'{"text": 5, "model": [], "entities": {"a": null}, "data": 3, "labels": 7}\n',
    "rows of other types": b'["a", 1, null, [[]], {"text": {}}]\n',
    "broken gzip": gzip.compress(b"text\n" * 1000)[:40] + b"\0" * 9,
    "broken zip": b"PK\x03\x04" + b"\xff" * 200,
    "broken parquet": b"PAR1" + b"\0" * 50 + b"PAR1",
    "broken arrow": b"ARROW1\0\0" + b"\xff" * 64,
    "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00cos\nsystem\n.",
    "a template": b"{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "a directory": b"<directory>",
    "nothing there": b"<missing>",
}
SMALL = [name for name in CONTENTS if not name.startswith(("a long", "open t", "broken z"))]
SUFFIXES = (
    ".jsonl",
    ".json",
    ".csv",
    ".tsv",
    ".txt",
    ".conll",
    ".ann",
    ".parquet",
    ".arrow",
    ".spacy",
    ".gz",
    ".bio",
    "",
)


class Door(NamedTuple):
    """A command, with `{}` for the hostile file; `inside`: the file of a run that it replaces."""

    arguments: tuple[str, ...]
    suffixes: tuple[str, ...] = (".jsonl",)
    inside: str = ""


RUN_FILES = (
    *("nertune.json", "adapter_config.json", "adapter_model.safetensors", "recipe.yaml", "metrics.jsonl"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
    *("chat_template.json", "calibration.json", "results.json", "generation_config.json", "vocab.json"),
)
BASE_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
BASE_FILES += ("model.safetensors", "model.safetensors.index.json")
DATA = (
    Door(("data", "convert", "{}", "out.jsonl"), SUFFIXES),
    Door(("data", "show", "{}"), SUFFIXES),
    Door(("data", "audit", "{}"), SUFFIXES),
    Door(("data", "audit", "{}", "--json"), SUFFIXES),
    Door(("data", "audit", "{}", "--fix", "fixed.jsonl"), (".jsonl", ".json", ".conll")),
    Door(("data", "split", "{}", "--out", "parts"), SUFFIXES),
    Door(("data", "show", "{}", "--html", "page.html"), (".jsonl", ".json", ".conll", ".txt")),
    Door(("data", "show", "good.jsonl", "--map", "{}"), (".yaml", ".json")),
    Door(("data", "audit", "good.jsonl", "--recipe", "{}"), (".yaml",)),
    Door(("score", "{}", "good.jsonl"), SUFFIXES),
    Door(("score", "good.jsonl", "{}"), SUFFIXES),
    Door(("score", "good.jsonl", "good.jsonl", "--train", "{}"), (".jsonl", ".json")),
    Door(("score", "{}", "{}", "--out", "scored"), (".jsonl",)),
    Door(("compare", "{}", "{}"), (".json", "")),
    Door(("compare", "evaluated", "evaluated"), ("",), "evaluation.json"),
    *(
        Door(("data", "convert", "{}", "out.jsonl", "--from", name), (".x",))
        for name in (
            *("entities", "cluener", "conll", "doccano", "hf", "inline", "labelstudio", "alpaca", "sharegpt", "spacy"),
            *("brat",),
        )
    ),
)
RECIPES = (
    Door(("train", "{}"), (".yaml", ".json")),
    Door(("preview", "{}"), (".yaml",)),
    Door(("preview", "recipe.yaml", "data.train={}"), (".jsonl", ".json", ".conll")),
    Door(("preview", "recipe.yaml", "data.label_map={}"), (".yaml",)),
    Door(("preview", "recipe.yaml", "prompt.user={}"), (".txt",)),
    Door(("preview", "recipe.yaml", "prompt.template={}"), (".txt",)),
    Door(("train", "recipe.yaml", "data.train={}"), (".jsonl",)),
    Door(("train", "recipe.yaml", "data.validation={}"), (".jsonl",)),
    Door(("train", "recipe.yaml", "lora.from={}"), ("",)),
    Door(("train", "recipe.yaml", "resume={}"), ("",)),
)
MODELS = (
    *(Door(("extract", "run", "--text", "张三去北京"), ("",), name) for name in RUN_FILES),
    *(Door(("export", "run", "llamafactory", "exported"), ("",), name) for name in ("nertune.json", "recipe.yaml")),
    Door(("export", "run", "merged", "exported", "--no-check"), ("",), "nertune.json"),
    Door(("serve", "run", "--no-api-key", "--dry-run", "--engine", "vllm"), ("",), "nertune.json"),
    *(Door(("preview", "recipe.yaml", "model=base"), ("",), f"../base/{name}") for name in BASE_FILES),
    *(Door(("extract", "base", "--labels", "人名", "--text", "张三"), ("",), f"../base/{name}") for name in BASE_FILES),
    Door(("extract", "run", "{}"), (".txt", ".jsonl", ".csv", ".tsv", ".parquet", "")),
    Door(("extract", "run", "{}", "-o", "done.jsonl"), (".txt", ".jsonl")),
    Door(("evaluate", "run", "--data", "{}"), (".jsonl", ".json", ".conll")),
    Door(("calibrate", "run", "--data", "{}"), (".jsonl",)),
    Door(("parity", "run", "http://127.0.0.1:9/v1#x", "--data", "{}"), (".jsonl",)),
)


class TooLongError(BaseException):
    """A command that did not end in time. No code of ours catches it."""


def write(path: Path, content: bytes) -> Path:
    """The hostile file."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if content == b"<directory>":
        path.mkdir()
    elif content != b"<missing>":
        path.write_bytes(content)
    return path


def faults(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What is wrong with how a command ends."""

    def late(number: int, frame: object) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        code: object = main(arguments)
    except SystemExit as left:
        code = left.code
    except TooLongError:
        return [f"took more than {SECONDS} s"]
    except Exception as error:
        return [f"raised {type(error).__name__}: {error}"[:300]]
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        told = capsys.readouterr()
    fine = (0, 1, 2, 3) if arguments[0] == "parity" else (0, 2, 3)  # its server is not there
    found = [] if code in fine else [f"exit code {code}"]
    found += [f"says {word!r}" for word in ("This should not happen", "Traceback") if word in told.err]
    found += ["says nothing"] if code == 2 and not told.err.strip() else []
    found += [f"a message of {len(told.err):,} characters"] if len(told.err) > 20_000 else []
    for name, text in (("stdout", told.out), ("stderr", told.err)):
        if steering := re.search(f"[{STEERING}]", text):
            found.append(f"{name} holds {steering[0]!r}")
    return [f"{fault}: {told.err[:300]!r}" for fault in found]


def meet(
    doors: tuple[Door, ...],
    names: list[str],
    capsys: pytest.CaptureFixture[str],
    fresh: Callable[[str], Path] | None = None,
) -> Counter[str]:
    """Let every door meet every input; fails with a list of what is wrong, and returns how often each kind was met."""
    counts: Counter[str] = Counter()
    wrong = []
    for door in doors:
        for suffix in door.suffixes:
            for number, name in enumerate(names):
                for left in (
                    "out.jsonl",
                    "fixed.jsonl",
                    "parts",
                    "page.html",
                    "scored",
                    "exported",
                    "done.jsonl",
                    "trained",
                ):
                    write(Path(left), b"<missing>")
                path = Path(f"hostile{number}{suffix}")
                if door.inside:
                    if fresh is not None:
                        fresh("run")
                        fresh("base")
                    path = (
                        Path("run" if "run" in door.arguments or "base" in door.inside else "evaluated") / door.inside
                    )
                write(path, CONTENTS[name])
                arguments = [argument.format(path) for argument in door.arguments]
                found = faults(arguments, capsys)
                counts[door.arguments[0]] += 1
                wrong += [f"{name} at {' '.join(door.arguments)} ({path}): {fault}" for fault in found]
                if not door.inside:
                    write(path, b"<missing>")
    assert not wrong, f"{len(wrong)} of {counts.total()}:\n" + "\n".join(wrong)
    return counts


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a good file, its evaluation, and a recipe of a model that is not there."""
    monkeypatch.chdir(tmp_path)
    good = {"text": "张三去北京", "entities": [{"start": 0, "end": 2, "label": "人名", "text": "张三"}]}
    Path("good.jsonl").write_text(json.dumps(good, ensure_ascii=False) + "\n", encoding="utf-8")
    recipe = {"model": "base", "output": "trained", "data": {"train": "good.jsonl"}, "training": {"epochs": 1}}
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    assert main(["score", "good.jsonl", "good.jsonl", "--out", "evaluated"]) == 0
    return tmp_path


def test_commands_of_data_meet_the_worst(here, capsys):
    capsys.readouterr()
    narrow = tuple(door._replace(suffixes=door.suffixes[:1]) for door in (*DATA[:10], DATA[14]))
    assert meet(narrow, SMALL, capsys).total() == len(SMALL) * len(narrow)


def test_recipes_meet_the_worst(here, capsys):
    capsys.readouterr()
    doors = (*RECIPES[:1], *(door._replace(suffixes=door.suffixes[:1]) for door in RECIPES[1:5]))
    meet(
        doors,
        ["alias bomb", "open lists", "open questions", "doubled keys of YAML", "escapes", "raw escapes", "empty"],
        capsys,
    )


@pytest.mark.soak
@pytest.mark.parametrize("doors", [DATA, RECIPES, MODELS], ids=["data", "recipes", "models"])
def test_every_door_meets_every_input(here, capsys, run, base, doors):
    def fresh(name: str) -> Path:
        target = here / name
        shutil.rmtree(target, ignore_errors=True)
        ignored = shutil.ignore_patterns("checkpoints")
        return Path(shutil.copytree({"run": run, "base": base}[name], target, ignore=ignored))

    fresh("run")
    fresh("base")
    capsys.readouterr()
    counts = meet(doors, list(CONTENTS), capsys, fresh)
    with capsys.disabled():
        print(f"\n{len(CONTENTS)} inputs, {counts.total()} meetings: {dict(counts)}")
