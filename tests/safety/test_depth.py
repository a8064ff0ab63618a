"""JSON files of a model's folder that libraries read by themselves: refused by size and depth before they do."""

import json

import pytest

from nertune.errors import RunError, UnknownModelError
from nertune.models import load_tokenizer
from nertune.safety import check_tokenizer

DEEP = "damaged (nested more than 32 levels deep, or a bracket is missing)"


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json"])
@pytest.mark.parametrize(
    "content",
    [
        b"[" * 30_000_000,
        b"[" * 3_000_000 + b"]" * 3_000_000,
        b'{"a":' * 1_000_000,
        b"[" * 33 + b"]" * 33,
        b"[[], {}, [" * 40,
        b'["a", "b]"',
    ],
    ids=["open", "nested", "objects", "one too deep", "with siblings", "a bracket missing"],
)
def test_nests_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RunError) as raised:
        check_tokenizer(tmp_path)
    assert str(raised.value) == f"{tmp_path / name}: {DEEP}; restore it"


@pytest.mark.parametrize(
    "value",
    [
        {"a[": ["\\", '"[[[', ']]\\"', {"b\\\\": "{" * 99}, "", "\\\\", [[]], {}]},
        {
            "model": {
                "vocab": {token: number for number, token in enumerate(('"', "\\", "[", "]", "{", "}", '\\"', "[[]"))}
            }
        },
        [[[[]]]] * 1000,
        "[" * 99,
    ],
    ids=range(4),
)
def test_brackets_in_strings_are_no_nests(tmp_path, value):
    for ascii_only in (True, False):
        (tmp_path / "tokenizer.json").write_text(json.dumps(value, ensure_ascii=ascii_only, indent=1), encoding="utf-8")
        check_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["added_tokens.json", "special_tokens_map.json", "chat_template.json", "config.json"])
def test_the_small_files_are_looked_into(tmp_path, name):
    (tmp_path / name).write_bytes(b'{"a":' * 100_000)
    with pytest.raises(RunError, match=rf"{name}: damaged \(nested too deeply\)"):
        check_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["chat_template.jinja", "additional_chat_templates/tools.jinja"])
def test_a_template_of_megabytes_is_refused(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"x" * 1_000_001)
    with pytest.raises(RunError, match="1,000,001 bytes are no tokenizer's"):
        check_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "content", ["{}", "[]", '{"model": {"type": "BPE", "vocab": [1], "merges": 5}}', "{", "\0", '{"version": 1e999}']
)
def test_a_tokenizer_that_the_library_cannot_read_is_bad_input(tmp_path, content):
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UnknownModelError, match="cannot be loaded"):
        load_tokenizer(str(tmp_path))
