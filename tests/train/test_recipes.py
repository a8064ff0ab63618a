"""The published recipes, file by file: each is trained as it stands on a tiny model of its family, saved, loaded and asked.

Only model, data, output and the number of steps are overridden. The facts asserted are those of docs/recipes.md. The corpora
and Qwen2's tokenizer are read where they lie beside the repository; without them these tests are skipped.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from safetensors.torch import load_file

import nertune
from nertune import data
from nertune.assemble import f1_reader
from nertune.data import AlpacaRow, write_alpaca
from nertune.models import load_tokenizer
from nertune.prompt import PromptSpec, Row
from nertune.run import RunManifest
from nertune.train import Recipe, fit, open_recipe
from nertune.train.arguments import training_arguments
from nertune.train.task import Task, load_tasks

REPOSITORY = Path(__file__).parents[2]
SHARED = REPOSITORY.parent / "shared"
CORPORA = {"cluener": "cluener/train.jsonl", "ccfbdci": "ccfbdci/train.jsonl", "cmeee": "cmeee/train.json"}
SEVEN = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
ROWS = 40


def _published_text(name: str) -> str:
    """A tutorial's text; empty where the folder is absent, and then every test here is skipped."""
    path = SHARED / "tutorials" / name
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _published_row(layout: str) -> dict[str, str]:
    (row,) = json.loads(_published_text(f"alpaca-{layout}.json") or '[{"instruction": ""}]')
    return row


EXPERT = _published_row("system-in-instruction")["instruction"]
CLUENER = _published_text("clue_prompt.txt").format(text="").removesuffix("\n")
CLUENER_ROWS = _published_row("sentence-in-input")["instruction"] + "\n"
CCFBDCI = _published_text("ccfbdci-system.txt")
CMEEE = _published_text("cmeee-system.txt")
CHATML = "<|im_start|>system\n%s<|im_end|>\n<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n"
PHI4 = "<|im_start|>system<|im_sep|>%s<|im_end|><|im_start|>user<|im_sep|>%s<|im_end|><|im_start|>assistant<|im_sep|>"
QWEN_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
ARSENAL = "现在的阿森纳恐怕不能再给人以强队的信心，但教授的神经也真是够硬，在英超夺冠几无希望的情况下，"
XIDIAN = "西安电子科技大学的陈志明爱上了隔壁西北工业大学苏春红，他们约定好毕业后去中国的苏州定居。"
KIDNEY = (
    "肾静态显像观察到急性肾盂肾炎患儿肾瘢痕的阳性率达50%左右，瘢痕征的表现为肾影中单个或多个局部放射性缺损或减低区。"
)


class Published(NamedTuple):
    """What a recipe must do: its prompt around a sentence, LoRA, TrainingArguments, and an example to ask for."""

    file: str
    model: str
    corpus: str
    system: str
    before: str
    turns: str
    lora: tuple[int, int, float]
    modules: set[str]
    arguments: dict[str, Any]
    sentence: str


PUBLISHED = {
    "cluener-qwen2.5-7b": Published(
        "cluener-qwen2.5-7b.yaml", "qwen2", "cluener", EXPERT, CLUENER, CHATML, (64, 16, 0.1), SEVEN,
        {"batch": 2, "accumulation": 2, "epochs": 2, "scheduler": "linear", "warmup": 0, "log": 10, "evaluate": 200,
         "save": 200, "keep": 2, "best": "loss"},
        ARSENAL,
    ),
    "cluener-llamafactory": Published(
        "cluener-llamafactory.yaml", "qwen2", "cluener", QWEN_SYSTEM, CLUENER_ROWS, CHATML, (8, 16, 0.0), SEVEN,
        {"batch": 4, "accumulation": 8, "epochs": 3, "scheduler": "cosine", "warmup": 0.1, "log": 10, "evaluate": 500,
         "save": 500, "keep": None, "best": False},
        ARSENAL,
    ),
    "ccfbdci-qwen2-1.5b": Published(
        "ccfbdci-qwen2-1.5b.yaml", "qwen2", "ccfbdci", CCFBDCI, "文本:", CHATML, (8, 32, 0.1), SEVEN,
        {"batch": 4, "accumulation": 4, "epochs": 2, "scheduler": "linear", "warmup": 0, "log": 10, "evaluate": 100,
         "save": 100, "keep": 2, "best": "f1"},
        XIDIAN,
    ),
    "cmeee-phi4": Published(
        "cmeee-phi4.yaml", "phi-4", "cmeee", CMEEE, "", PHI4, (64, 16, 0.1),
        {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"},
        {"batch": 4, "accumulation": 4, "epochs": 1, "scheduler": "linear", "warmup": 0, "log": 5, "evaluate": 100,
         "save": 100, "keep": 2, "best": "f1"},
        KIDNEY,
    ),
}  # fmt: skip


class Done(NamedTuple):
    """A finished training: its folder, the rows it trained on, what it said."""

    folder: Path
    recipe: Recipe
    rows: tuple[Row, ...]
    said: tuple[str, ...]

    @property
    def tokenizer(self) -> Any:
        return _tokenizer(self.recipe.model)


@functools.cache
def _tokenizer(folder: str) -> Any:
    return load_tokenizer(folder)


def _task(recipe: Recipe) -> Task:
    (task,) = load_tasks(recipe)
    return task


def _corpus(name: str) -> Path:
    path = SHARED / "data" / CORPORA[name]
    if not path.is_file() or not CMEEE:
        pytest.skip(f"no corpus at {path}, or no tutorials beside it")
    return path


@pytest.fixture(scope="module")
def opened(tmp_path_factory, tiny_model, family_of) -> Callable[..., Recipe]:
    """A function from a recipe's name to the recipe of that file on a tiny model; `whole` takes the whole corpus."""

    @functools.cache
    def base(family: str) -> Path:
        folder = tmp_path_factory.mktemp(family)
        tokenizer = family_of(family).tokenizer
        tokenizer.save_pretrained(folder)
        model = tiny_model({"qwen2": "qwen2", "phi-4": "phi3"}[family], vocab_size=len(tokenizer), eos_token_id=None)
        model.save_pretrained(folder)
        return folder

    @functools.cache
    def first_rows(name: str) -> Path:
        path = tmp_path_factory.mktemp(name) / Path(CORPORA[name]).name
        if path.suffix == ".json":
            rows = json.loads(_corpus(name).read_text(encoding="utf-8"))
            # The test's tokenizer spells most characters in bytes.
            rows = [row for row in rows if len(row["text"]) < 80][:ROWS]
            path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
        else:
            with _corpus(name).open(encoding="utf-8") as lines:
                path.write_text("".join(islice(lines, ROWS)), encoding="utf-8")
        return path

    @functools.cache
    def alpaca() -> Path:
        """The rows that the tutorial writes: the prompt without the sentence, the sentence, the answer."""
        folder = tmp_path_factory.mktemp("alpaca")
        documents = data.read(first_rows("cluener")).documents
        write = PromptSpec.from_json({"system": None, "user": "{text}", "labels": ["x"], "answer": {"format": "json"}})
        rows = [AlpacaRow(CLUENER_ROWS.removesuffix("\n"), d.text, write.answer.write(d)) for d in documents]
        write_alpaca(rows, folder / "alpaca_clue_train.json")
        return folder

    def build(name: str, output: Path, *steps: str, whole: bool = False) -> Recipe:
        published = PUBLISHED[name]
        corpus = _corpus(published.corpus)
        if name == "cluener-llamafactory":
            changes = {"model_name_or_path": base("qwen2"), "dataset_dir": alpaca(), "output_dir": output}
        else:
            train = corpus if whole else first_rows(published.corpus)
            changes = {"model": base(published.model), "data.train": train, "output": output}
        overrides = [f"{key}={value}" for key, value in changes.items()]
        return open_recipe(REPOSITORY / "recipes" / published.file, [*overrides, *steps]).recipe

    return build


@pytest.fixture(scope="module", params=PUBLISHED)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def done(name, opened, tmp_path_factory) -> Done:
    """The recipe's file, trained for two steps; evaluated and saved at the second."""
    steps = ["max_steps=2", "eval_steps=2"]
    steps = steps if name == "cluener-llamafactory" else [f"training.{step}" for step in steps]
    recipe = opened(name, tmp_path_factory.mktemp("runs") / name, *steps)
    prepared, said = [], []

    def prepare(*arguments: Any, **options: Any) -> Any:
        prepared.append(fit_prepare(*arguments, **options))
        return prepared[-1]

    fit_prepare = fit.prepare_task
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "prepare_task", prepare)
        # An untrained model would not stop by itself.
        patch.setattr("nertune.extract.recognizer._ANSWER_FACTOR", 0)
        patch.setattr("nertune.extract.recognizer._ANSWER_BASE", 4)
        trained = fit.train(recipe, reader=f1_reader(), note=said.append)
    return Done(trained.folder, recipe, prepared[0].rows, tuple(said))


def test_llamafactorys_file_is_the_published_one_but_for_its_paths():
    published = yaml.safe_load(_published_text("llamafactory.yaml"))
    if published is None:
        pytest.skip("no tutorials beside the repository")
    ours = yaml.safe_load((REPOSITORY / "recipes" / "cluener-llamafactory.yaml").read_text(encoding="utf-8"))
    paths = {"model_name_or_path", "dataset_dir", "output_dir"}
    assert {key for key in published if ours[key] != published[key]} == paths
    assert list(ours) == list(published)


def test_the_published_yaml_itself_is_read(opened, tmp_path):
    given = opened("cluener-llamafactory", tmp_path)
    overrides = [
        f"model_name_or_path={given.model}",
        f"dataset_dir={Path(given.data.train).parent}",
        f"output_dir={tmp_path}",
    ]
    assert open_recipe(SHARED / "tutorials" / "llamafactory.yaml", overrides).recipe == given


def test_every_training_argument_is_the_published_one(name, opened, tmp_path):
    recipe = opened(name, tmp_path)
    made, expected = training_arguments(recipe, tmp_path, evaluates=True, best_by="loss"), PUBLISHED[name].arguments
    assert {
        "batch": made.per_device_train_batch_size,
        "accumulation": made.gradient_accumulation_steps,
        "epochs": made.num_train_epochs,
        "scheduler": made.lr_scheduler_type.value,
        "warmup": made.warmup_steps,
        "log": made.logging_steps,
        "evaluate": made.eval_steps,
        "save": made.save_steps,
        "keep": made.save_total_limit,
        "best": made.load_best_model_at_end and recipe.training.best_by,
    } == expected
    assert (made.learning_rate, made.activation_checkpointing) == (1e-4, True)
    assert (made.eval_strategy, made.save_strategy, made.max_steps) == ("steps", "steps", -1)


def test_the_adapter_is_the_published_one(name, done):
    config = json.loads((done.folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == PUBLISHED[name].lora
    # PEFT shortens the names of many modules to their last part, of a tiny model's few it does not.
    assert {module.rpartition(".")[2] for module in config["target_modules"]} == PUBLISHED[name].modules
    assert len(load_file(done.folder / "adapter_model.safetensors")) == 3 * 2 * len(PUBLISHED[name].modules)
    assert config["base_model_name_or_path"] == done.recipe.model


def test_every_trained_row_is_the_published_prompt_the_answer_and_the_end_of_turn_and_text(name, done):
    published, tokenizer = PUBLISHED[name], done.tokenizer
    texts = [document.text for document in _task(done.recipe).train]
    for row, text in zip(done.rows, texts, strict=True):
        prompt = published.turns % (published.system, published.before + text)
        assert row.ids_T[: row.prompt_length] == tokenizer(prompt, add_special_tokens=False)["input_ids"]
        trained = [token for token, flag in zip(row.ids_T, row.loss_mask_T, strict=True) if flag]
        assert row.ids_T[row.prompt_length :] == trained
        assert tokenizer.convert_ids_to_tokens(trained[-2:]) == ["<|im_end|>", "<|endoftext|>"]
        if published.model == "qwen2":
            assert trained[-2:] == [151645, 151643]


def test_the_prompt_at_inference_is_the_trained_one(name, done):
    published = PUBLISHED[name]
    recognizer = nertune.load(done.folder, max_new_tokens=12)
    wanted = published.turns % (published.system, published.before + published.sentence)
    assert recognizer.renderer.prompt_text(published.sentence) == wanted
    assert (
        recognizer.renderer.prompt_ids(published.sentence)
        == done.tokenizer(wanted, add_special_tokens=False)["input_ids"]
    )
    trained = {tuple(row.ids_T[: row.prompt_length]) for row in done.rows}
    texts = [document.text for document in _task(done.recipe).train]
    assert {tuple(recognizer.renderer.prompt_ids(text)) for text in texts} == trained
    assert RunManifest.read(done.folder).base_model == done.recipe.model


def test_the_saved_run_extracts_without_chance_and_answers_of_any_content_are_grounded(name, done):
    texts = [PUBLISHED[name].sentence, "天晴。"]
    recognizer = nertune.load(done.folder, max_new_tokens=12)
    first, again = recognizer.extract_many(texts), recognizer.extract_many(texts)
    assert first == again
    for prediction in first:
        assert all(prediction.text[e.start : e.end] == e.text for e in prediction.entities)


def test_the_losses_are_of_the_second_step_too_and_the_run_is_whole(done):
    lines = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines if "eval_loss" in line] == [2]
    assert all(torch.isfinite(torch.tensor(line.get("loss", line.get("eval_loss", 0.0)))) for line in lines)
    assert {"loss.png", "recipe.yaml", "report.html", "adapter_model.safetensors"} <= {
        p.name for p in done.folder.iterdir()
    }
    assert (done.folder / "checkpoints" / "checkpoint-2" / "trainer_state.json").is_file()


@pytest.mark.parametrize(
    ("name", "text", "answer"),
    [
        (
            "cluener-qwen2.5-7b",
            "浙商银行企业信贷部叶老桂博士则从另一个角度对五道门槛进行了解读。叶老桂认为，对目前国内商业银行而言，",
            '[{"label": "company", "text": "浙商银行"}, {"label": "name", "text": "叶老桂"}]',
        ),
        (
            "ccfbdci-qwen2-1.5b",
            "阿美达在７月份前往和落岛为遭到绑架、狭持的人质祷告。",
            '{"entity_text": "阿美达", "entity_label": "人名"}\n{"entity_text": "和落岛", "entity_label": "地点"}',
        ),
        (
            "cmeee-phi4",
            "因而儿童肺部病变较轻，肺内炎性病变吸收较快。",
            '{"entity_text": "肺部病变", "entity_label": "dis"}\n{"entity_text": "肺内炎性病变", "entity_label": "dis"}',
        ),
    ],
)
def test_answers_are_written_with_the_published_keys(name, text, answer, opened, tmp_path):
    recipe = opened(name, tmp_path)
    (document,) = [d for d in data.read(recipe.data.train, labels=recipe.labels).documents if d.text == text]
    assert recipe.answer_format().write(document) == answer


@pytest.mark.parametrize("name", ["ccfbdci-qwen2-1.5b", "cmeee-phi4"])
def test_a_sentence_without_entities_is_answered_in_words(name, opened, tmp_path):
    answer = opened(name, tmp_path).answer_format()
    assert answer.write(nertune.Document("天晴。")) == "没有找到任何实体"
    assert answer.parse("没有找到任何实体").mentions == ()


def test_cluener_holds_out_a_tenth(opened, tmp_path):
    task = _task(opened("cluener-qwen2.5-7b", tmp_path, whole=True))
    assert (len(task.train), len(task.validation)) == (9673, 1075)
    assert not {d.text for d in task.train} & {d.text for d in task.validation}


def test_ccfbdci_holds_out_its_first_tenth_and_trains_on_none_of_its_sentences(opened, tmp_path):
    recipe = opened("ccfbdci-qwen2-1.5b", tmp_path, whole=True)
    everything = data.read(recipe.data.train, labels=recipe.labels).documents
    task = _task(recipe)
    assert task.validation == everything[:1272]
    assert (len(everything), len(task.train)) == (12724, 12724 - 1272 - 421)
    assert "421 documents repeat a text that is held out: they are not trained on" in task.notes
    assert not {d.text for d in task.train} & {d.text for d in task.validation}
    assert {entity.label for d in everything for entity in d.entities} == set(recipe.labels)


def test_cmeee_takes_the_first_2000_documents_and_holds_out_the_first_200(opened, tmp_path):
    recipe = opened("cmeee-phi4", tmp_path, whole=True)
    everything = data.read(recipe.data.train).documents
    task = _task(recipe)
    assert (task.validation, task.train) == (everything[:200], everything[200:2000])
    assert any(a.end > b.start for d in task.train for a, b in zip(d.entities, d.entities[1:], strict=False))  # nested


def test_rows_over_the_cut_off_are_left_out_by_name_and_no_answer_is_cut(opened, tmp_path):
    recipe = opened("ccfbdci-qwen2-1.5b", tmp_path)
    lines = Path(recipe.data.train).read_text(encoding="utf-8").splitlines()
    longest = max(lines, key=len)
    assert recipe.max_tokens == 384
    value = json.loads(longest)
    value["text"] = value["text"] + "长" * 400
    path = tmp_path / "long.jsonl"
    path.write_text("\n".join([*lines, json.dumps(value, ensure_ascii=False)]) + "\n", encoding="utf-8")
    said: list[str] = []
    changed = recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"train": str(path)}),
            "output": str(tmp_path / "run"),
            "track": [],
            "training": recipe.training.model_copy(update={"max_steps": 1, "eval_steps": "never"}),
        }
    )
    trained = fit.train(changed, note=said.append)
    assert [item.number for item in trained.left_out] == [len(lines) + 1]
    assert any("more than max_tokens=384: its answer would be cut" in line for line in said)


@pytest.mark.parametrize("name", ["ccfbdci-qwen2-1.5b", "cmeee-phi4"], indirect=True)
def test_swanlab_has_names_settings_and_sample_predictions_and_needs_no_login(name, done):
    pytest.importorskip("swanlab")
    assert not any("swanlab" in line for line in done.said), done.said
    (settings,) = done.recipe.trackers()
    assert settings.mode == "offline"
    (folder,) = (done.folder / "track" / "swanlab").glob("run-*")
    (record,) = folder.glob("run-*.swanlab")
    for expected in (settings.project, settings.name, settings.description, "train/loss", "eval/loss"):
        assert expected.encode() in record.read_bytes()
    config = yaml.safe_load((folder / "files" / "config.yaml").read_text(encoding="utf-8"))
    kept = {key: entry["value"] for key, entry in config.items()}
    assert (kept["model"], kept["data"]["train"]) == (done.recipe.model, done.recipe.data.train)
    assert (kept["lora"]["rank"], kept["lora"]["alpha"], kept["lora"]["dropout"]) == PUBLISHED[name].lora
    written = [path.read_text(encoding="utf-8") for path in (folder / "media" / "text").iterdir()]
    shown = _task(done.recipe).validation[:20]
    assert len(written) == len(shown) == 4
    assert all(any(document.text in text for text in written) for document in shown)
    assert b"Prediction" in record.read_bytes()
    assert (kept["dataset"], kept["lora_rank"]) == (done.recipe.data.train, PUBLISHED[name].lora[0])


def test_names_of_other_projections_are_refused_for_phi_4(opened, tmp_path):
    recipe = opened("cmeee-phi4", tmp_path / "run", "lora.targets=[q_proj, k_proj, v_proj, o_proj]")
    with pytest.raises(
        nertune.errors.InputError, match=r"lora\.targets: k_proj, q_proj, v_proj not in .*; use all-linear"
    ):
        fit.train(recipe)
    assert not (tmp_path / "run").exists()
