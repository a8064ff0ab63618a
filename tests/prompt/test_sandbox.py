"""Chat templates of strangers: what a template may cost, and that a kind one is rendered as transformers renders it."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from nertune.errors import InputError
from nertune.prompt import Conversation
from nertune.prompt import sandbox as sandbox_module
from nertune.prompt.chat import DEFAULT_TEMPLATE, take_apart
from nertune.prompt.sandbox import TemplateRefusedError, render_template

TURNS = [
    {"role": "user", "content": "问\n"},
    {"role": "assistant", "content": "<答>&'"},
    {"role": "user", "content": "再"},
]
TIME, MEMORY, SIZE, TOO_MUCH = "takes more than", "MiB of memory", "characters", "asks for too much"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for i in range(10**9) %}x{% endfor %}", TOO_MUCH),
        ("{% for i in range(9999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", TIME),
        ("{% for i in range(9999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}", SIZE),
        ("{% for i in range(9999) %}{{ range(99999)|list|sort|length }}{% endfor %}", TIME),
        ("{{ 'x' * 10**10 }}", MEMORY),
        ("{{ ([1] * 10**9)|length }}", MEMORY),
        ("{{ '%9999999999d' % 1 }}", MEMORY),
        ("{{ '{:9999999999}'.format(1) }}", MEMORY),
        ("{{ 'x'|center(10**10) }}", MEMORY),
        ("{{ ('x\n' * 1000)|indent(10**8) }}", f"{TIME}|{MEMORY}"),
        ("{{ ('x' * 10**6).replace('x', 'y' * 10**5) }}", MEMORY),
        ("{{ [1]|batch(10**9, 'x')|list|length }}", MEMORY),
        (
            "{% set n = namespace(x='xx') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
            MEMORY,
        ),
        ("{% macro a(n) %}{{ a(n + 1) }}{% endmacro %}{{ a(0) }}", TOO_MUCH),
        ("{{ " + "(" * 100_000 + ")" * 100_000 + " }}", TOO_MUCH),
        ("x" * 1_000_001, "1,000,001 characters"),
    ],
)
def test_a_template_gets_no_more_than_the_limits(template, message, monkeypatch):
    monkeypatch.setattr(sandbox_module, "_SECONDS", 1)
    with pytest.raises(InputError, match=message) as raised:
        render_template(template, {})
    assert not isinstance(raised.value, TemplateRefusedError)
    assert render_template("{{ 1 + 1 }}", {}) == "2"  # the next one is rendered


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('\x1b[2J gone\n\nnow') }}", "\x1b[2J gone now"),
        ("{{ raise_exception('long ' * 1000) }}", "long long"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ namespace(_x=1) }}", "underscore"),
        ("{% for %}", "Expected an expression"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ nothing.there }}", "undefined"),
        ("{% include '/etc/passwd' %}", "loader"),
    ],
)
def test_an_error_of_the_template_is_told_in_one_short_line(template, message):
    with pytest.raises(TemplateRefusedError) as raised:
        render_template(template, {})
    told = str(raised.value)
    assert message in told
    assert "\n" not in told
    assert len(told) < 260


def test_a_template_that_refuses_only_some_turns_is_bad_input():
    refusing = "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}{{ 1 / 0 }}{% endif %}{% endfor %}"
    tokenizer = SimpleNamespace(chat_template=refusing, special_tokens_map={}, added_tokens_decoder={})
    with pytest.raises(InputError, match="division by zero"):
        take_apart(tokenizer, with_system=False)
    with pytest.raises(InputError, match=r"turns of user, assistant cannot be rendered: .*division by zero"):
        Conversation(tokenizer).prompt_ids([("user", "a"), ("assistant", "b")])


@pytest.mark.parametrize("template", [5, ["x"], {"default": 5}])
def test_a_template_that_is_no_text_is_bad_input(template):
    with pytest.raises(InputError, match="not a text"):
        take_apart(SimpleNamespace(chat_template=template, special_tokens_map={}), with_system=False)


@pytest.mark.parametrize(
    "template",
    [
        DEFAULT_TEMPLATE,
        "{% for m in messages %}\n    {% if loop.first %}\n  {{ bos_token }}\n    {% endif %}\n{{ m.content|trim }}\n"
        "{% endfor %}",
        "{{ messages | tojson }}|{{ messages | tojson(indent=2) }}",
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
        "{% continue %}{% endif %}{{ m['content'] }}{% if loop.index > 2 %}{% break %}{% endif %}{% endfor %}",
        "{% set n = namespace(seen=0) %}{% for m in messages %}{% set n.seen = n.seen + 1 %}{% endfor %}{{ n.seen }}",
        "{{ dict(a=1) }}{{ tools is none }}{{ documents is defined }}{{ enable_thinking is defined }}{{ strftime_now('%') }}",
    ],
)
def test_a_rendering_is_that_of_transformers(template):
    (expected,), _ = render_jinja_template([TURNS], chat_template=template, add_generation_prompt=True, bos_token="<s>")
    variables = {"messages": TURNS, "tools": None, "documents": None, "add_generation_prompt": True, "bos_token": "<s>"}
    assert render_template(template, variables) == expected


def test_the_process_is_kept_and_sees_no_secret(monkeypatch):
    assert render_template("{{ 1 }}", {}) == "1"
    process = sandbox_module._SANDBOX._process
    assert render_template("{{ 2 }}", {}) == "2"
    assert sandbox_module._SANDBOX._process is process
    environment = Path(f"/proc/{process.pid}/environ")
    assert not environment.exists() or b"HOME=" not in environment.read_bytes()


def test_a_process_that_hangs_is_ended_by_the_clock(monkeypatch):
    monkeypatch.setattr(sandbox_module, "_SECONDS", 1000)
    monkeypatch.setattr(sandbox_module, "_WALL_SECONDS", 0.2)
    assert render_template("{{ 1 }}", {}) == "1"
    started = time.monotonic()
    with pytest.raises(InputError, match=TIME):
        render_template("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", {})
    assert time.monotonic() - started < 30


def test_a_fork_starts_a_process_of_its_own():
    assert render_template("{{ 1 }}", {}) == "1"
    code, child = 1, os.fork()
    if not child:
        try:
            code = 0 if sandbox_module._SANDBOX._process is None and render_template("{{ 3 }}", {}) == "3" else 1
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert render_template("{{ 4 }}", {}) == "4"
