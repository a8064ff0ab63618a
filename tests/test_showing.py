"""`nertune data show`: documents in the terminal and on a page, whatever is in them."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from nertune import data
from nertune.cli import main
from nertune.schema import Document, Entity

DOCUMENTS = [
    Document.of("叶老桂在浙商银行", [("name", 0, 3), ("company", 4, 8)], id="a"),
    Document.of("天晴", [], id="b"),
    Document.of("北京大学第一医院😀的叶老桂", [("org", 0, 8), ("place", 0, 2), ("name", 10, 13)], id="c"),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    data.write(DOCUMENTS, path, format="entities")
    return path


def shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["data", "show", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_documents_are_printed_with_their_entities(file, capsys):
    out = shown(capsys, file)
    assert "#1 a\n[叶老桂 name]在[浙商银行 company]\n" in out
    assert "#2 b\n天晴\n" in out
    assert "[[北京 place]大学第一医院 org]😀的[叶老桂 name]" in out


def test_documents_are_chosen_by_label_text_and_number(file, capsys):
    assert [line for line in shown(capsys, file, "--label", "org").splitlines() if line[:1] == "#"] == ["#3 c"]
    assert [line for line in shown(capsys, file, "--search", "叶老桂").splitlines() if line[:1] == "#"] == [
        "#1 a",
        "#3 c",
    ]
    assert "#3 c" in shown(capsys, file, "--search", "叶老桂", "--first", "2")
    assert "#2 b" not in shown(capsys, file, "--limit", "1")


@pytest.mark.parametrize("arguments", [["--label", "game"], ["--search", "nowhere"], ["--first", "4"]])
@pytest.mark.parametrize("html", [False, True])
def test_nothing_to_show_is_an_error(file, tmp_path, capsys, arguments, html):
    page = tmp_path / "page.html"
    assert main(["data", "show", str(file), *arguments, *(["--html", str(page)] if html else [])]) == 2
    assert "none of its documents fits" in capsys.readouterr().err
    assert not page.exists()


def test_the_page_never_replaces_what_it_shows(file, capsys):
    before = file.read_bytes()
    assert main(["data", "show", str(file), "--html", str(file)]) == 2
    assert "is the file to be shown; give the page another name" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_labels_are_mapped_before_they_are_looked_for(file, capsys):
    out = shown(capsys, file, "--map", "name,company=名称", "--label", "名称", "--limit", "1")
    assert "[叶老桂 名称]在[浙商银行 名称]" in out


def test_what_the_text_does_not_hold_is_shown(tmp_path, capsys):
    path = tmp_path / "lost.jsonl"
    mention = {"start": 0, "end": 2, "label": "name", "text": "南京"}
    sound = {"start": 0, "end": 2, "label": "name", "text": "北京"}
    path.write_text(json.dumps({"text": "北京", "entities": [sound, mention]}, ensure_ascii=False), encoding="utf-8")
    assert "without a place in the text: 南京 name" in shown(capsys, path)


def test_no_character_of_a_text_steers_the_terminal(tmp_path, capsys):
    text = "\x1b[31m红\x07\x9b31m\r\x7f\u202e尾"
    path = tmp_path / "hostile.jsonl"
    data.write([Document(text, (Entity("x", 0, 6, text[:6]),), id="\x1b]0;title\x07")], path, format="entities")
    out = shown(capsys, path)
    assert not any(
        (ord(character) < 32 and character != "\n") or 0x7F <= ord(character) < 0xA0 or character == "\u202e"
        for character in out
    )
    assert "[⟨U+001B⟩[31m红 x]⟨U+0007⟩⟨U+009B⟩31m⟨U+000D⟩⟨U+007F⟩⟨U+202E⟩尾" in out
    assert "#1 ⟨U+001B⟩]0;title⟨U+0007⟩" in out


def test_on_a_terminal_the_users_pager_gets_it_and_may_leave(file, tmp_path):
    kept = tmp_path / "kept"
    pager = tmp_path / "pager.sh"
    pager.write_text(f"#!/bin/sh\nhead -n 3 > {kept}\n")
    pager.chmod(0o755)
    data.write([Document.of("叶老桂" * 30, [("name", 0, 3)])] * 3000, file, format="entities")
    master, slave = pty.openpty()
    try:
        command = [sys.executable, "-m", "nertune", "data", "show", str(file)]
        done = subprocess.run(
            command,
            stdin=slave,
            stdout=slave,
            stderr=subprocess.PIPE,
            env={**os.environ, "PAGER": str(pager)},
            timeout=60,
        )
    finally:
        os.close(slave)
        os.close(master)
    assert done.returncode == 0, done.stderr
    content = kept.read_text(encoding="utf-8")
    assert "#1" in content
    assert "\x1b[" in content, "in colour"


def test_a_reader_that_goes_away_ends_it_quietly(file):
    data.write([Document.of("叶老桂" * 30, [("name", 0, 3)])] * 3000, file, format="entities")
    command = f"{sys.executable} -m nertune data show {file} | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.stdout.splitlines(), done.stderr) == (["#1", "0"], "")


def test_the_page_shows_filters_and_turns_pages(file, tmp_path, capsys, browser):
    data.write([*DOCUMENTS, *[Document(f"第{n}句") for n in range(60)]], file, format="entities")
    page = tmp_path / "page.html"
    assert main(["data", "show", str(file), "--html", str(page)]) == 0
    browser.open(page)
    assert browser.run("document.getElementById('count').textContent") == "63 of 63 documents"
    assert browser.run("document.querySelectorAll('.doc').length") == 50
    texts = browser.run("[...document.querySelectorAll('.e')].map(e => e.textContent.replaceAll('\\u2060', ''))")
    assert texts == ["叶老桂name", "浙商银行company", "北京place大学第一医院org", "北京place", "叶老桂name"]
    browser.run("document.querySelectorAll('.pager button')[1].click()")
    assert browser.run("document.querySelector('.pager .soft').textContent") == "page 2 of 2"
    chip = "[...document.querySelectorAll('.chip')].find(b => b.textContent.startsWith('org')).click()"
    browser.run(chip)
    assert browser.run("document.getElementById('count').textContent") == "1 of 63 documents"
    browser.run(chip)
    browser.run("const s = document.getElementById('search'); s.value = '天晴'; s.dispatchEvent(new Event('input'))")
    assert browser.run("document.querySelector('.doc mark').textContent") == "天晴"
    browser.run("s.value = ''; s.dispatchEvent(new Event('input')); document.getElementById('bare').click()")
    assert browser.run("document.getElementById('count').textContent") == "2 of 63 documents"


def test_hostile_text_stays_text_on_the_page(tmp_path, browser, payloads):
    path, page = tmp_path / "hostile.jsonl", tmp_path / "page.html"
    rows = [
        {"id": text, "text": text, "entities": [{"start": 0, "end": 4, "label": f"x{n}<b>", "text": text[:4]}]}
        for n, text in enumerate(payloads)
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    assert main(["data", "show", str(path), "--html", str(page)]) == 0
    browser.open(page)
    for _ in range(2):
        assert browser.run("window.hacked") is None
        browser.run("document.querySelectorAll('.pager button')[1].click()")
    assert browser.run("document.querySelectorAll('script').length") == 2
    assert not browser.run("document.querySelectorAll('img, iframe, svg, link, meta[http-equiv=refresh]').length")


def test_a_page_of_many_documents_shows_the_first_and_says_so(tmp_path, browser):
    path, page = tmp_path / "many.jsonl", tmp_path / "page.html"
    data.write([Document(f"第{n}句") for n in range(30)], path, format="entities")
    assert main(["data", "show", str(path), "--html", str(page), "--limit", "10"]) == 0
    browser.open(page)
    assert browser.run("document.querySelectorAll('.doc').length") == 10
