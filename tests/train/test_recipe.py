"""Recipes: everything checked at once, before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from nertune.errors import MissingFileError, RecipeError
from nertune.prompt import PromptTemplate, answer_format, load_template
from nertune.schema import LabelSet
from nertune.train.other_names import OTHER_NAMES
from nertune.train.recipe import Recipe, load_recipe
from nertune.train.sections import parse_labels

GOOD = "model: m\noutput: out\ndata: {train: 训练.jsonl}\n"


@pytest.fixture
def recipe(tmp_path):
    def load(content: str | bytes, *overrides: str):
        path = tmp_path / "recipe.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_recipe(path, overrides)

    return load


def test_a_recipe_written_out_is_an_equal_recipe(recipe):
    first = recipe(GOOD, "answer={format: json, distinct: false}", "labels=[name, 地点]", "data.validation=dev.jsonl")
    assert recipe(first.to_yaml()) == first
    assert "训练.jsonl" in first.to_yaml()


def test_all_problems_are_listed_together(recipe):
    with pytest.raises(RecipeError) as caught:
        recipe("output: out\ndata: {train: x, limti: 3}\nlora: {rank: 0}\nanswer: jsn\n", "nonsense")
    problems = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 5
    for part in ("model: required", "data.limti: unknown key; did you mean 'limit'", "lora.rank:", "answer: unknown"):
        assert part in problems
    assert "'nonsense': expected key=value" in problems


def test_overrides_and_numbers_as_people_write_them(recipe):
    changed = recipe(GOOD, "training.epochs=3", "training.learning_rate=1e-4", "lora.targets=[q_proj]")
    assert changed.training.epochs == 3
    assert changed.training.learning_rate == 1e-4
    assert changed.lora.targets == ("q_proj",)
    assert recipe(GOOD + "training: {learning_rate: 1e-4}\n").training.learning_rate == 1e-4
    with pytest.raises(RecipeError, match="'model' holds a value"):
        recipe(GOOD, "model.name=x")


def test_files_that_hold_no_recipe(recipe, tmp_path):
    # The first character's two bytes in GB18030 happen to be valid UTF-8; the second's are not.
    with pytest.raises(RecipeError, match=r"line 3: is not UTF-8"):
        recipe("model: m\noutput: o\ndata: 训练\n".encode("gb18030"))
    with pytest.raises(RecipeError, match="not YAML"):
        recipe("a: [")
    for content in ("- a\n", "", "word"):
        with pytest.raises(RecipeError, match="expected keys such as model"):
            recipe(content)
    with pytest.raises(MissingFileError, match="no such file"):
        load_recipe(tmp_path / "none.yaml")


def test_methods_are_read_and_written_out(recipe):
    lora = "lora: {rslora: true, dora: true, plus_ratio: 16, from: runs/first}\n"
    loaded = recipe(GOOD + lora + "tokens: [<ent>]\ntraining: {quantize: 4bit}\n")
    assert (loaded.lora.rslora, loaded.lora.dora, loaded.lora.plus_ratio) == (True, True, 16)
    assert (loaded.lora.start, loaded.tokens, loaded.training.quantize) == ("runs/first", ("<ent>",), "4bit")
    assert "  from: runs/first\n" in loaded.to_yaml()
    assert recipe(loaded.to_yaml()) == loaded
    assert recipe(GOOD, "lora.from=runs/x").lora.start == "runs/x"
    assert recipe(GOOD, "method=full").method == "full"


Load = Callable[..., Recipe]


def problems_of(recipe: Load, content: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        recipe(content, *overrides)
    assert str(caught.value).count("\n") == len(caught.value.problems)
    return caught.value.problems


def test_defaults(recipe: Load) -> None:
    loaded = recipe(GOOD)
    assert (loaded.model, loaded.output, loaded.data.train) == ("m", "out", "训练.jsonl")
    assert (loaded.data.validation, loaded.max_tokens, loaded.overlong, loaded.labels) == (0.1, 1024, "drop", None)
    assert (loaded.lora.rank, loaded.lora.alpha, loaded.lora.dropout) == (64, 16, 0.1)
    assert (loaded.training.epochs, loaded.training.learning_rate, loaded.training.seed) == (2, 1e-4, 1024)
    assert loaded.answer_format() == answer_format("inline")
    assert loaded.prompt.load() == load_template("ner")
    assert recipe(loaded.to_yaml()) == loaded


def test_prompts_parts_replace_the_templates(recipe: Load) -> None:
    loaded = recipe(GOOD + "prompt: {template: cluener, user: '句：{text}'}\n")
    assert loaded.prompt.load() == PromptTemplate("句：{text}", load_template("cluener").system)
    assert recipe(GOOD, "prompt.system=短").prompt.load().system == "短"
    assert load_template("ner").system is not None
    assert recipe(GOOD, "prompt.system=false").prompt.load() == PromptTemplate(load_template("ner").user)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("modle: x", "modle: unknown key; did you mean 'model'?"),
        ("max-tokens: 3", "max-tokens: unknown key; did you mean 'max_tokens'?"),
        ("标签: 3", "标签: unknown key; known: model, data, output,"),
        ("training: {learning-rate: 3}", "training.learning-rate: unknown key; did you mean 'learning_rate'?"),
        ("training: {learningrate: 3}", "training.learningrate: unknown key; did you mean 'learning_rate'?"),
        ("training: {str: 3}", "training.str: unknown key;"),
        ("lora: {r: 3}", "lora.r: unknown key; "),
        ("lora: {rank: 0}", "lora.rank: input should be greater than 0, found 0"),
        ("lora: {rank: big}", "lora.rank: input should be a valid integer"),
        ("lora: {dropout: 1}", "lora.dropout: input should be less than 1, found 1"),
        ("lora: 3", "lora: input should be a valid dictionary"),
        ("training: {epochs: .inf}", "training.epochs: .inf is not finite"),
        ("training: {epochs: .nan}", "training.epochs: .nan is not finite"),
        ("training: {scheduler: cosin}", "training.scheduler: input should be 'linear', 'cosine',"),
        ("overlong: cut", "overlong: input should be 'drop' or 'refuse', found 'cut'"),
        ("labels: name", "labels: input should be a valid tuple, found 'name'"),
        ("labels: []", "labels: a label set needs at least one label"),
        ("labels: [a, a]", "labels: labels named twice: a"),
        ("labels: ['a]']", "labels: label 'a]' cannot be used"),
        ("labels: [3]", "labels: input should be a valid string, found 3"),
        ("labels: {}", "labels: a label set needs at least one label"),
        ("labels: {NO: x}", "labels: the key NO is read as bool; put it in quotes"),
        ("labels: {LOC: 3}", "labels: LOC: expected a display name, or {name: …, description: …}, found 3;"),
        ("labels: {LOC: [地点]}", "labels: LOC: expected a display name"),
        ("labels: {LOC: {nam: 地点}}", "labels: LOC: unknown key 'nam'; a label has name and description"),
        (
            "labels: {LOC: {description: 3}}",
            "labels: LOC: expected a display name, or {name: …, description: …}, found 3",
        ),
        ("labels: {LOC: 地点, GPE: 地点}", "labels: labels LOC and GPE are both shown as '地点'"),
        ("labels: {LOC: '地]'}", "labels: the display name of LOC, '地]' cannot be used"),
        ("data: {train: x, label_map: 3}", "data.label_map: input should be a valid dictionary, found 3"),
        ("data: {train: x, label_map: {a: [b]}}", "data.label_map.a: input should be a valid string, found ['b']"),
        ("data: {train: x, label_map: {'a,': b}}", "data.label_map: 'a,': a label is missing beside a comma"),
        ("data: {train: x, label_map: {a: 'b]'}}", "data.label_map: label 'b]' cannot be used"),
        ("prompt: {template: nope}", "prompt: prompt template 'nope' is neither built in (ccfbdci, cluener,"),
        ("prompt: {user: '句：'}", "prompt: a prompt's user part needs {text} exactly once, found 0 times"),
        ("answer: jsom", "answer: unknown answer format 'jsom'; did you mean 'json'?"),
        ("answer: {format: json, distinkt: 1}", "answer: answer format 'json' has no option 'distinkt'."),
        ("answer: {format: json, distinct: 1}", "answer: option 'distinct' of answer format 'json' must be a bool"),
        (
            "answer: {distinct: true}",
            "answer: a mapping under 'answer' needs 'format': one of inline, xml, json, jsonl, grouped",
        ),
        ("lora: {frm: x}", "lora.frm: unknown key; did you mean 'from'?"),
        ("lora: {plus_ratio: 0.5}", "lora.plus_ratio: input should be greater than or equal to 1, found 0.5"),
        ("lora: {dora: 2}", "lora.dora: input should be a valid boolean"),
        ("method: ful", "method: input should be 'lora' or 'full', found 'ful'"),
        ("training: {quantize: 8bit}", "training.quantize: input should be '4bit', found '8bit'"),
        ("method: full\nlora: {from: x}", "lora.from: method: full trains no adapter"),
        ("method: full\ntraining: {quantize: 4bit}", "training.quantize: 4-bit weights cannot be trained"),
        ("method: full\ntraining: {loss_vocabulary: sampled}", "training.loss_vocabulary: sampled needs a frozen"),
        ("tokens: [a]\ntraining: {loss_vocabulary: sampled}", "training.loss_vocabulary: sampled needs a frozen"),
        ("tokens: [a, a]", "tokens: each must be a text of its own, found ['a', 'a']"),
        ("tokens: ['']", "tokens: each must be a text of its own, found ['']"),
        ("tokens: a", "tokens: input should be a valid tuple, found 'a'"),
        ("1: x", "line 4: the key 1 is read as int; put it in quotes"),
    ],
)
def test_every_problem_names_its_key(recipe: Load, line: str, problem: str) -> None:
    kept = [other for other in GOOD.splitlines() if other.partition(":")[0] != line.partition(":")[0]]
    (found,) = problems_of(recipe, "\n".join([*kept, line, ""]))
    assert found.startswith(problem)


@pytest.mark.parametrize("line", ["answer: 3", "answer: [json]", "lora: {targets: 3}"])
def test_values_of_no_allowed_type(recipe: Load, line: str) -> None:
    key = "answer" if line.startswith("answer") else "lora.targets"
    for problem in problems_of(recipe, f"{GOOD}{line}\n"):
        assert problem.startswith(f"{key}: input should be")


def test_missing_keys_and_everything_else_together(recipe: Load) -> None:
    content = "data: {format: x}\nlora: {rank: 0, alfa: 1}\nprompt: {template: nope}\nanswer: html\nlabels: [a, a]\n"
    problems = problems_of(recipe, content, "training.epoch=3", "bad", "data.format.x=1")
    keys = [problem.split(":")[0] for problem in problems]
    assert keys == [
        "'bad'",
        "data.format.x",
        "model",
        "data.train",
        "output",
        "lora.rank",
        "lora.alfa",
        "training.epoch",
        "prompt",
        "answer",
        "labels",
    ]


@pytest.mark.parametrize("override", ["epochs", "=3", "training.epochs", "training.epochs: 3"])
def test_overrides_need_a_key_and_a_value(recipe: Load, override: str) -> None:
    assert problems_of(recipe, GOOD, override) == [f"{override!r}: expected key=value, such as training.epochs=3"]


def test_overrides_are_yaml(recipe: Load) -> None:
    changed = recipe(
        GOOD + "labels: [a]\n",
        "training.gradient_checkpointing=true",
        "data.validation=0",
        "labels=null",
        "prompt.user={text}=[",
        "training.max_steps=1",
        "output=a=b",
        "model=2024-13-45",
    )
    assert changed.training.gradient_checkpointing is True
    assert (changed.data.validation, changed.labels, changed.training.max_steps) == (0, None, 1)
    assert (changed.prompt.user, changed.output, changed.model) == ("{text}=[", "a=b", "2024-13-45")


@pytest.mark.parametrize("content", ["a: [", "a: {b", "\tx: 1", "a: b: c", "a: \x1b"])
def test_files_that_are_no_yaml(recipe: Load, content: str) -> None:
    (problem,) = problems_of(recipe, content)
    assert problem.startswith("not YAML: ")


def test_a_template_folder_in_another_encoding_is_a_problem_too(recipe: Load, tmp_path: Path) -> None:
    (tmp_path / "user.txt").write_bytes("请识别：{text}".encode("gb18030"))
    (problem,) = problems_of(recipe, f"{GOOD}prompt: {{template: {tmp_path}}}\n")
    assert problem.startswith("prompt: ")
    assert "not UTF-8" in problem


TASKS = """
model: m
output: out
prompt: {template: cluener}
answer: json
tasks:
  news: {data: {train: news.jsonl}, labels: [name]}
  医学-2: {data: {train: med.json}, prompt: {user: '句：{text}'}, answer: inline, weight: 0.5}
"""


def test_tasks_take_prompt_and_answer_from_the_recipe(recipe: Load) -> None:
    loaded = recipe(TASKS, "tasks.news.data.limit=100", "tasks.医学-2.weight=2")
    news, medical = loaded.by_task().values()
    assert (news.data.limit, news.weight, medical.weight) == (100, 1, 2)
    assert (news.prompt, news.answer, news.labels) == (loaded.prompt, "json", ("name",))
    assert (medical.prompt.load(), medical.answer) == (
        PromptTemplate("句：{text}", load_template("ner").system),
        "inline",
    )
    assert recipe(loaded.to_yaml()) == loaded
    assert "\ndata:" not in loaded.to_yaml()
    plain = recipe(GOOD)
    assert list(plain.by_task()) == [""]
    assert "tasks" not in plain.to_yaml()


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("data.train=x", "tasks: data is set too; "),
        ("labels=[a]", "labels: every data set has its own"),
        ("tasks={}", "tasks: empty; name at least one"),
        ("tasks=null", "data: required key is missing (or tasks, for several data sets)"),
        ("tasks=3", "tasks: input should be a valid dictionary"),
        ("tasks.news=3", "tasks.news: input should be a valid dictionary"),
        ("tasks={a b: {data: {train: x}}}", "tasks: the name 'a b' must be letters, digits, - and _"),
        ("tasks={a.b: {data: {train: x}}}", "tasks: the name 'a.b' must be"),
        ("tasks.news.data.limti=3", "tasks.news.data.limti: unknown key; did you mean 'limit'?"),
        ("tasks.news.lables=[a]", "tasks.news.lables: unknown key; did you mean 'labels'?"),
        ("tasks.医学-2.wieght=2", "tasks.医学-2.wieght: unknown key; did you mean 'weight'?"),
        ("tasks.医学-2.data=null", "tasks.医学-2.data: input should be a valid dictionary"),
        ("tasks.other.labels=[a]", "tasks.other.data: required key is missing"),
        ("tasks.news.weight=0", "tasks.news.weight: input should be greater than 0"),
        ("tasks.news.answer=jsno", "tasks.news.answer: unknown answer format 'jsno'"),
        ("tasks.news.labels=[a, a]", "tasks.news.labels: labels named twice: a"),
        ("tasks.news.labels={a: {x: y}}", "tasks.news.labels: a: unknown key 'x'"),
        ("tasks.news.labels={a: b, b: }", "tasks.news.labels: labels a and b are both shown as 'b'"),
        ("tasks.news.data.label_map={a: 'b|'}", "tasks.news.data.label_map: label 'b|' cannot be used"),
        ("tasks.news.prompt.template=nope", "tasks.news.prompt: prompt template 'nope' is neither built in"),
        ("answer=jsno", "answer: unknown answer format 'jsno'"),
    ],
)
def test_every_problem_of_tasks_names_its_key(recipe: Load, override: str, problem: str) -> None:
    (found,) = problems_of(recipe, TASKS, override)
    assert found.startswith(problem)


def test_problems_of_tasks_are_listed_with_all_others(recipe: Load) -> None:
    content = TASKS + "labels: [a]\nlora: {rank: 0}\n"
    problems = problems_of(recipe, content, "tasks.news.data.limti=1", "tasks.news.answer=x", "data.train=y")
    keys = [problem.split(":")[0] for problem in problems]
    assert keys == ["tasks.news.data.limti", "lora.rank", "tasks", "labels", "tasks.news.answer"]


LABELS = """
labels:
  LOC: 地点
  PER: {name: 人名, description: 真实的人}
  ORG: {description: 公司}
  TIME:
"""


def test_labels_may_have_display_names_and_descriptions(recipe: Load) -> None:
    loaded = recipe(GOOD + LABELS)
    assert loaded.labels is not None
    expected = LabelSet(
        ("LOC", "PER", "ORG", "TIME"), {"LOC": "地点", "PER": "人名"}, {"PER": "真实的人", "ORG": "公司"}
    )
    assert parse_labels(loaded.labels) == expected
    assert recipe(loaded.to_yaml()) == loaded
    changed = recipe(GOOD + LABELS, "labels.LOC=地方", "data.label_map={'GPE,LOC': LOC, DATE: }")
    assert parse_labels(changed.labels or ()).display["LOC"] == "地方"
    assert changed.data is not None
    assert changed.data.mapping().targets == {"GPE": "LOC", "LOC": "LOC", "DATE": None}
    assert recipe(changed.to_yaml()) == changed
    task = recipe(TASKS, "tasks.news.labels={name: 人名}").by_task()["news"]
    assert parse_labels(task.labels or ()) == LabelSet(("name",), {"name": "人名"})


def test_a_recipe_made_in_python_is_checked_alike() -> None:
    with pytest.raises(ValidationError, match="data: required key is missing"):
        Recipe(model="m", output="o")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("load_best_model_at_end", "training.keep_best"),
        ("save_total_limit", "training.keep_checkpoints"),
        ("metric_for_best_model", "training.best_by"),
        ("report_to", "track"),
        ("per_device_train_batch_size", "training.batch_size"),
        ("num_train_epochs", "training.epochs"),
        ("overwrite_output_dir", "overwrite"),
        ("lora.lora_alpha", "lora.alpha"),
        ("lora.r", "lora.rank"),
        ("lora.target_modules", "lora.targets"),
        ("training.lr", "training.learning_rate"),
        ("prompt.system_prompt", "prompt.system"),
        ("epochs", "training.epochs"),  # ours, in another section
        ("training.model", "model"),
    ],
)
def test_names_of_other_tools_lead_to_ours(tmp_path, theirs, ours):
    path = tmp_path / "recipe.yaml"
    path.write_text("model: x\ndata: {train: y}\noutput: z\n", encoding="utf-8")
    with pytest.raises(RecipeError) as refused:
        load_recipe(path, [f"{theirs}=1"])
    assert f"{theirs}: unknown key; did you mean {ours!r}?" in str(refused.value)


def test_every_name_of_other_tools_leads_to_a_key_that_is_there():
    recipe = Recipe(model="x", data={"train": "y"}, output="z")
    for ours in OTHER_NAMES.values():
        *sections, key = ours.split(".")
        known = (type(getattr(recipe, sections[0])) if sections else Recipe).keys()
        assert key in known, ours
