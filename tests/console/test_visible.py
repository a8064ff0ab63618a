"""What strangers write is shown, whole and for what it is, and steers neither terminal nor page."""

import io
import json
import re
import shutil
import subprocess
import sys
import unicodedata
from contextlib import suppress
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

import nertune
from nertune.cli import main
from nertune.console import escaped, visible
from nertune.console.visible import STEERING
from nertune.console.writer import SafeConsole, safe_streams

HOSTILE = "\x1b[2J\x1b]0;pwned\x07红\x9b31m\u202etxt.exe\u2066\u200b\r\x00\x7f\ud800\U000e0041"
KIT = Path(nertune.__file__).parent / "pages" / "kit.js"


def harmless(text: str) -> bool:
    return not re.search(f"[{STEERING}]", text)


def test_all_that_cannot_be_seen_is_named_on_one_line():
    assert visible("a\u202eb\nc\td\u200d\u00a0\u3000 e") == "a⟨U+202E⟩b⟨U+000A⟩c⟨U+0009⟩d⟨U+200D⟩⟨U+00A0⟩\u3000 e"
    assert visible("plain 文字\u3000é🙂") == "plain 文字\u3000é🙂"


def test_layout_is_left_and_nothing_that_steers():
    kept = "می\u200cخواهم 👩\u200d🔬\n\tà la\u00a0carte\u3000e\u0301\ue000"
    assert visible(kept, layout=True) == kept
    shown = visible(HOSTILE, layout=True)
    assert harmless(shown)
    assert shown.startswith("⟨U+001B⟩[2J⟨U+001B⟩]0;pwned⟨U+0007⟩红⟨U+009B⟩31m⟨U+202E⟩txt.exe⟨U+2066⟩")
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        category, bidi = unicodedata.category(character), unicodedata.bidirectional(character)
        steers = category in ("Cc", "Cs", "Zl", "Zp") or bidi in (
            "LRE",
            "RLE",
            "LRO",
            "RLO",
            "PDF",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        )
        assert steers <= (visible(character, layout=True) != character) or character in "\n\t"


def test_json_is_escaped_and_the_same_value():
    value = {HOSTILE: [HOSTILE, 1.5, None]}
    for indent in (None, 2):
        text = escaped(json.dumps(value, ensure_ascii=False, indent=indent))
        assert harmless(text)
        assert json.loads(text) == value
    assert "红" in text


def test_a_console_writes_its_own_colours_and_nobody_elses():
    out = io.StringIO()
    console = SafeConsole(file=out, force_terminal=True, width=200)
    table = Table("a", title=Text(HOSTILE))
    table.add_row(Text(HOSTILE), style="red")
    table.add_row("[/x] [bold]b[/] :smile:")
    console.print(table)
    console.print(HOSTILE, "[/x] :smile:", style="bold", soft_wrap=True)
    written = out.getvalue()
    assert "\x1b[1m" in written
    assert harmless(re.sub(r"\x1b\[[\d;]*m", "", written))
    assert written.count("[/x]") == 2
    assert written.count(":smile:") == 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stdout", [io.StringIO, Terminal])
def test_streams_are_safe_and_data_in_a_pipe_are_whole(stdout, monkeypatch):
    out, err = stdout(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with safe_streams():
        print(HOSTILE)
        print(HOSTILE, file=sys.stderr)
        SafeConsole(stderr=True, force_terminal=True).print("red", style="red")
    assert (sys.stdout, sys.stderr) == (out, err)
    assert "\x1b[31mred" in err.getvalue()
    assert harmless(err.getvalue().replace("\x1b[31m", "").replace("\x1b[0m", ""))
    assert out.getvalue() == (visible(HOSTILE, layout=True) if out.isatty() else HOSTILE) + "\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["data", "show", "{}.jsonl"],
        ["data", "{}"],
        ["--debug", "train", "{}.yaml"],
        ["train", "recipe.yaml", "{}"],
        ["data", "convert", "texts.jsonl", "{}.jsonl", "--from", "{}"],
    ],
)
def test_arguments_are_quoted_back_safely(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    hostile = HOSTILE.replace("\0", "").replace("\ud800", "")
    with suppress(SystemExit, nertune.errors.InputError):  # wrong usage, and --debug
        assert main([argument.format(hostile) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert harmless(captured.err)
    assert harmless(captured.out)


def test_pages_show_the_same_characters():
    found = re.search(r"STEERING = (/.*/gu);", KIT.read_text(encoding="utf-8"))
    assert found
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node")
    program = (
        f"const S = {found[1]}; const out = [];"
        "for (let c = 0; c <= 0x10ffff; c++) if (String.fromCodePoint(c).match(S)) out.push(c);"
        "console.log(JSON.stringify(out))"
    )
    done = subprocess.run([node, "-e", program], capture_output=True, text=True, check=True, timeout=60)
    ours = [code for code in range(sys.maxunicode + 1) if re.match(f"[{STEERING}]", chr(code))]
    assert json.loads(done.stdout) == ours
