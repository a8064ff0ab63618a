"""report.html in a real browser: it draws, filters, and pages; hostile text stays text; it asks nothing of a network."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import nertune
from nertune.console import visible
from nertune.evaluate.report import Report, build_report
from nertune.schema import Document, Entity, Mention, Prediction


def _hostile(payloads: list[str]) -> str:
    """A page in which every payload is a text, a label, an id, an invented name, and more."""
    gold, predicted = [], []
    for payload in payloads:
        gold.append(Document(payload, (Entity(payload, 0, len(payload), payload),), id=payload))
        named = (Entity(payload, 1, len(payload), payload[1:], 0.95), Entity("name", 0, 1, payload[0], 0.95))
        predicted.append(Prediction(payload, named, (Mention(payload, payload),)))
    everything = "".join(payloads)
    return build_report(
        gold,
        predicted,
        title=everything,
        train=gold,
        facts={payload: payload for payload in payloads},
        metrics=[{"step": 1, "loss": 1.0}],
        recipe=everything,
    ).files()["report.html"]


def test_there_are_a_hundred_payloads(payloads):
    assert len(set(payloads)) == 100


def test_hostile_text_cannot_leave_its_script_element(payloads):
    """But for the title, which is escaped, and the data, all of a hostile page is that of an innocent one."""
    harmless = build_report([Document("无")], [Prediction("无")], title="t").files()["report.html"]
    hostile = _hostile(payloads)
    data = re.compile(r'(<script type="application/json" id="data">)([^<>&\u2028\u2029]*)(</script>)')
    assert len(data.findall(hostile)) == 1
    bare, other = (re.sub("<title>[^<>]*</title>", "", data.sub(r"\1\3", text)) for text in (hostile, harmless))
    assert bare == other
    value = json.loads(data.search(hostile)[2])
    assert [row[2] for row in value["documents"]] == payloads


def test_hostile_text_stays_inert_in_the_browser(browser, tmp_path, payloads):
    path = tmp_path / "<img src=x onerror=window.hacked=1>.html"
    path.write_text(_hostile(payloads), encoding="utf-8")
    browser.open(path)
    assert browser.run("document.title").startswith(visible(payloads[0]))
    # All pages of the list, each drawn, and every button and select that there is.
    browser.run("for (const b of document.querySelectorAll('button:not(.pager button)')) b.click()")
    browser.run("document.getElementById('wrong').click()")
    for select in ("kind", "label"):
        browser.run(
            f"for (const o of [...document.getElementById('{select}').options]) {{ o.selected = true; "
            f"document.getElementById('{select}').onchange({{target: document.getElementById('{select}')}}); }}; "
            f"document.getElementById('{select}').value = ''; "
            f"document.getElementById('{select}').onchange({{target: document.getElementById('{select}')}})"
        )
    texts = []
    for _ in range(4):
        texts += browser.run(
            "[...document.querySelectorAll('.doc .side:first-child h4 + .text')].map(e => e.textContent)"
        )
        browser.run("document.querySelectorAll('.pager button')[1].click()")
    for payload in payloads:
        assert any(text.startswith(visible(payload, layout=True)) for text in texts)
    assert browser.run("window.hacked") is None
    assert browser.run("document.querySelectorAll('img, iframe, link, object, embed, base, form, style').length") == 1
    assert browser.run("document.scripts.length") == 2
    names = "[...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames())"
    assert not browser.run(f"{names}.some(n => n.startsWith('on'))")
    requests = [event["request"]["url"] for event in browser.events("Network.requestWillBeSent")]
    assert requests == [path.as_uri()]
    assert not [event for event in browser.events("Log.entryAdded") if event["entry"]["level"] == "error"]


def test_the_policy_forbids_what_slips_through(browser, tmp_path):
    """Even markup in the page itself would run and load nothing."""
    text = build_report([Document("无")], [Prediction("无")], title="t").files()["report.html"]
    path = tmp_path / "report.html"
    slipped = "<img src=http://127.0.0.1:9/x onerror=window.hacked=1><script>window.hacked=1</script>"
    path.write_text(text.replace("<main ", slipped + "<main "), encoding="utf-8")
    browser.open(path)
    assert browser.run("window.hacked") is None


@pytest.fixture(scope="module")
def written(pairs: Callable, tmp_path_factory) -> Path:
    gold, predicted = pairs(60)
    folder = tmp_path_factory.mktemp("report")
    metrics = [{"step": step, "loss": 1 / step, "eval_f1": step / 20} for step in range(1, 11)]
    build_report(gold, predicted, title="试验", train=gold[:30], metrics=metrics, recipe="model: 甲").write(folder)
    return folder / "report.html"


def test_the_page_is_drawn_and_filtered(browser, written):
    browser.open(written)
    assert "Of 100 entities that the model names" in browser.run("document.querySelector('.headline').textContent")
    figures = browser.run("[...document.querySelectorAll('figure svg')].map(s => s.getAttribute('aria-label'))")
    measures = "[...document.querySelectorAll('#labels .filters button')].map(b => b.textContent)"
    assert browser.run(measures) == ["text", "span", "partial", "exact", "type"]
    browser.run("document.querySelectorAll('#labels .filters button')[3].click()")
    assert "right where the places are equal" in browser.run("document.querySelector('#labels .soft').textContent")
    heads = browser.run("[...document.querySelectorAll('#errors h3')].map(h => h.textContent)")
    assert heads[3:] == ["Most frequent errors", "Repeated mistakes", "Likely errors of the annotation"]
    assert browser.run("document.querySelector('#errors .long .item p').textContent") == "60×missed: 人名 → nothing"
    assert {"F1 by label", "loss over optimizer steps", "share of right entities over their score"} <= set(figures)
    assert "组织" in browser.run("document.querySelector('svg[aria-label=\"F1 by label\"]').textContent")
    count = "document.getElementById('count').textContent"
    assert browser.run(count) == "60 of 60 texts"
    assert browser.run("document.querySelectorAll('.doc').length") == 25
    choose = "(id, value) => {{ const e = document.getElementById(id); e.value = value; e.{on}({{target: e}}); }}"
    browser.run(f"({choose.format(on='onchange')})('kind', 'hallucinated')")
    assert browser.run(count) == "12 of 60 texts"
    assert "王小明" in browser.run("document.querySelector('.nowhere').textContent")
    browser.run(f"({choose.format(on='oninput')})('search', '第15医院')")
    assert browser.run(count) == "1 of 60 texts"
    assert browser.run("document.querySelector('mark').textContent") == "第15医院"
    browser.run(f"({choose.format(on='onchange')})('kind', 'missed')")
    browser.run(f"({choose.format(on='onchange')})('label', '书名')")
    assert browser.run(count) == "0 of 60 texts"


def test_a_cell_of_the_confusion_matrix_shows_its_sentences(browser, written):
    browser.open(written)
    browser.run("document.querySelector('button[title=\"annotated (nothing), predicted 人名: 12\"]').click()")
    assert browser.run("document.getElementById('count').textContent") == "12 of 60 texts"
    browser.run("document.querySelector('.chip').click()")
    assert browser.run("document.getElementById('count').textContent") == "60 of 60 texts"


def test_of_many_labels_the_most_frequent_are_in_the_matrix(browser, tmp_path):
    text = "字" * 50
    gold = [Document.of(text, [(f"l{place:02}", place, place + 1) for place in range(start, 50)]) for start in (0, 12)]
    found = [
        Prediction(d.text, (*d.entities[1:], Entity("l49", d.entities[0].start, d.entities[0].end, "字"))) for d in gold
    ]
    build_report(gold, found, title="t").write(tmp_path)
    browser.open(tmp_path / "report.html", width=390)
    assert browser.run("document.querySelectorAll('.matrix tbody tr').length") == 41
    assert "The 40 most frequent labels; 10 more are in report.json." in browser.run(
        "document.getElementById('errors').textContent"
    )
    browser.run("document.querySelector('.matrix button[title=\"annotated l12, predicted l49: 1\"]').click()")
    assert browser.run("document.getElementById('count').textContent") == "1 of 2 texts"
    assert browser.run("document.documentElement.scrollWidth") <= 390


def test_chinese_heads_of_the_matrix_stand_upright(browser, pairs, tmp_path):
    """Turned by half as Latin ones are, which lie on their side, they would stand on their heads."""
    gold, predicted = pairs(5)
    build_report(gold, predicted, title="t", display={}).write(tmp_path)
    browser.open(tmp_path / "report.html")
    turned = (
        "[...document.querySelectorAll('.matrix thead span')].map(s => [s.textContent, getComputedStyle(s).transform])"
    )
    shown = dict(browser.run(turned))
    assert shown["人名"] == "none"
    assert shown["(nothing)"] != "none"


def test_examples_left_out_of_a_page_cannot_be_chosen(browser, pairs, tmp_path):
    whole = build_report(*pairs(10), title="t").value
    Report({**whole, "documents": whole["documents"][1:]}).write(tmp_path)
    browser.open(tmp_path / "report.html")
    buttons = browser.run(
        "[...document.querySelectorAll('#errors .item button')].map(b => [b.textContent, b.disabled])"
    )
    assert {name for name, disabled in buttons if disabled} == {"text 1"}
    assert ["text 2", False] in buttons


def test_labels_are_shown_with_their_display_names_and_chosen_by_their_own(browser, pairs, tmp_path):
    gold, predicted = pairs(20)
    build_report(gold, predicted, title="t", display={"书名": "BOOK", "人名": "<b>PER"}).write(tmp_path)
    browser.open(tmp_path / "report.html")
    table = browser.run("[...document.querySelectorAll('#labels td:first-child')].map(cell => cell.textContent)")
    assert {"书名 (BOOK)", "人名 (<b>PER)", "组织", "地点"} <= set(table)
    titles = browser.run("[...document.querySelectorAll('.matrix button')].map(button => button.title)")
    assert "annotated 人名 (<b>PER), predicted (nothing): 20" in titles
    options = browser.run("[...document.getElementById('label').options].map(o => [o.value, o.textContent])")
    assert ["书名", "书名 (BOOK)"] in options
    browser.run("document.querySelector('.matrix button[title*=\"predicted 书名 (BOOK): 2\"]').click()")
    assert browser.run("document.getElementById('count').textContent") == "20 of 20 texts"
    assert "书名 (BOOK)" in browser.run("document.querySelector('.chip').textContent")
    tags = browser.run("[...document.querySelectorAll('.doc .tag')].map(tag => tag.textContent)")
    assert "书名 (BOOK) · spurious" in tags


def test_keys_turn_pages_and_search(browser, written):
    browser.open(written)
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"):
        browser.call("Input.dispatchKeyEvent", type="keyDown", key=key)
    assert browser.run("document.querySelector('.pager .soft').textContent") == "page 2 of 3"
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="/", text="/")
    assert browser.run("document.activeElement.id") == "search"


def test_nested_and_crossing_entities_are_boxes_around_their_text(browser, tmp_path):
    text = "𠮷林大学第一医院"
    gold = [Document.of(text, [("org", 0, 8), ("place", 0, 2), ("crossing", 1, 4), ("org2", 0, 8)])]
    build_report(gold, [Prediction(text)], title="t").write(tmp_path)
    browser.open(tmp_path / "report.html")
    boxes = browser.run(
        """(() => {
             const inner = (e) => [...e.childNodes].map(
               (n) => n.nodeType === 3 ? n.data : n.classList.contains("tag") ? "" : inner(n)).join("");
             return [...document.querySelectorAll(".text .e")].map((e) => [e.title.split(",")[0], inner(e)]);
           })()"""
    )
    together: dict[str, str] = {}
    for label, part in boxes:
        together[label] = together.get(label, "") + part
    assert together == {"org": text, "org2": text, "place": "𠮷林", "crossing": "林大学"}
    assert browser.run("document.querySelectorAll('.text .tag').length") == 4


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_nothing_is_wider_than_the_window(browser, written, width):
    browser.open(written, width=width)
    assert browser.run("document.documentElement.scrollWidth") <= width


def test_dark_and_light(browser, written):
    browser.open(written)
    background = "getComputedStyle(document.body).backgroundColor"
    light = browser.run(background)
    browser.run("document.querySelector('nav button').click()")
    assert browser.run(background) != light
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert browser.run(background) == "rgb(255, 255, 255)"
    browser.call("Emulation.setEmulatedMedia", media="")


def test_five_thousand_documents_stay_small_and_quick(browser, pairs, tmp_path):
    gold, predicted = pairs(5_000)
    build_report(gold, predicted, title="many").write(tmp_path)
    path = tmp_path / "report.html"
    assert path.stat().st_size < 5_000_000
    browser.open(path)
    assert browser.run("document.getElementById('count').textContent") == "5,000 of 5,000 texts"
    assert browser.run("document.querySelectorAll('*').length") < 5_000


def test_the_script_knows_no_way_from_text_to_markup():
    scripts = [*Path(nertune.__file__).parent.rglob("*.js")]
    assert {script.name for script in scripts} == {"kit.js", "page.js", "show.js"}
    script = "".join(script.read_text(encoding="utf-8") for script in scripts)
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        'setTimeout("',
        "import(",
    ):
        assert way not in script
