"""YAML of strangers: nothing is lost without a word, and nothing works for ever."""

import pytest

from nertune.errors import InputError, RecipeError
from nertune.files import YamlError, parse_yaml, read_yaml

BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "training:\n  max_tokens: 512\n  x: 1\n  max_tokens: 64\n",
            r"^training.max_tokens: given twice, first on line 2; keep one of them \(line 4\)$",
        ),
        ("<<: {a: 1}\n<<: {b: 2}", "^<<: given twice"),
        (BOMB, r"^a4.* more than 50,000 keys and values.* \(line 5\)"),
        ("- a\n" * 60_000, "more than 50,000"),
        ("a: &a [*a]", r"^a.0: \*a stands inside of what it names"),
        ("[" * 20_000, "nested more than 64 levels"),
        ("{a: " * 20_000, "nested more than 64 levels"),
        ("? " * 20_000, "nested more than 64 levels"),
        ("".join(" " * level + "a:\n" for level in range(900)), r"^a.a.a: nested more than 64 levels deep \(line 64\)"),
        ("a: !!python/object/apply:os.system [ls]", "the tag !!python/object/apply:os.system is not taken"),
        ("a: !x 5", "the tag !x is not taken"),
        ("a: !!set {b}", "the tag !!set is not taken"),
        ("a:\n - b: .nan", r"^a.0.b: .nan is not finite \(line 2\)"),
        ("a: -.inf", "not finite"),
        ("a: 1.0e+400", "not finite"),
        ("a: " + "9" * 5000, "a number of 5,000 characters"),
        ("a: 0x1" + "0" * 20, "more than 64 bits"),
        ("a: !!int x", "'x' is no int"),
        ("no: x", "^line 1: the key no is read as bool; put it in quotes"),
        ("1: x", "the key 1 is read as int"),
        ("a: {~: b}", "^a: the key ~ is read as null"),
        ("? [a]\n: b", "a list or a mapping is a key here"),
        ('a: "\\ud83d"', "half of a surrogate pair"),
        ('a: "\\0"', "a NUL character"),
        ("x" * 1_000_001, "more than 1,000,000 bytes"),
    ],
    ids=range(25),
)
def test_what_is_lost_or_never_ends_is_refused_by_line_and_key(text, message):
    with pytest.raises(YamlError, match=message) as raised:
        parse_yaml(text)
    assert not raised.value.syntax


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: \x1b[2J", r"^line 2: the character U\+001B"),
        ("a: [", "^line 1, column 5: "),
        ("a:\n\t- b", "^line 2, column 1: "),
        ("a: 1\n---\nb: 2", "single document"),
        ("a: *b", "undefined alias"),
        ("<<: 5", "for merging"),
    ],
)
def test_what_is_no_yaml_is_told_by_line(text, message):
    with pytest.raises(YamlError, match=message) as raised:
        parse_yaml(text)
    assert raised.value.syntax


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: 2026-13-45\nb: 12:30\nc: 2026-12-01", {"a": "2026-13-45", "b": "12:30", "c": "2026-12-01"}),
        ("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}", {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}),
        ("a: [1, -2, 0x10, 1.5, true, no, ~, '1']", {"a": [1, -2, 16, 1.5, True, False, None, "1"]}),
        ("'1': x\n=: =", {"1": "x", "=": "="}),
        ("a: !!str 5", {"a": "5"}),
        ('{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
    ],
)
def test_plain_yaml_is_read_as_ever(text, value):
    assert parse_yaml(text) == value


def test_a_file_is_read_to_its_limit(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes("\ufeff标签: 人名".encode())
    assert read_yaml(path) == {"标签": "人名"}
    path.write_bytes(b"a: \xff\n")
    with pytest.raises(YamlError, match="not UTF-8: invalid start byte at byte 3"):
        read_yaml(path)
    with pytest.raises(YamlError, match="more than 1,000,000 bytes"):
        read_yaml("/dev/zero")


def test_recipes_overrides_and_label_maps_are_read_so(tmp_path):
    from nertune.data import LabelMap
    from nertune.train import load_recipe

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: m\noutput: o\ndata: {train: x}\nmax_tokens: 512\nmax_tokens: 64\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"max_tokens: given twice, first on line 4; keep one of them \(line 5\)"):
        load_recipe(recipe)
    recipe.write_text("model: m\noutput: o\ndata: {train: x}\n", encoding="utf-8")
    for text, message in (("{a: 1, a: 2}", "prompt: a: given twice"), ("[" * 20_000, "nested more than")):
        with pytest.raises(RecipeError, match=message):
            load_recipe(recipe, [f"prompt={text}"])
    rules = tmp_path / "rules.yaml"
    rules.write_text("A: x\nB: y\nA: z\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"rules.yaml: A: given twice, first on line 1.* \(line 3\)"):
        LabelMap.of_options([str(rules)])
