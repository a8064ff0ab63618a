"""Pushing: private unless said, by the hub's client, the token from the environment, and only files that were listed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import huggingface_hub
import pytest

from nertune.cli import main
from nertune.errors import InputError
from nertune.export.push import destination, files_to_push

TOKEN = "hf_secret123"


@pytest.fixture
def hub(monkeypatch):
    """Hugging Face's client, replaced: `state` is what the hub has and what it was asked."""
    state = SimpleNamespace(existing=None, created=[], committed=[], fails=None, tokens=[])

    class Api:
        endpoint = "https://hub"

        def __init__(self, token):
            state.tokens.append(token)

        def repo_exists(self, repository):
            if state.fails:
                raise RuntimeError(state.fails)
            return state.existing is not None

        def model_info(self, repository):
            return SimpleNamespace(private=state.existing == "private")

        def create_repo(self, repository, *, private):
            state.created.append((repository, private))

        def create_commit(self, repository, *, operations, commit_message):
            state.committed.append((repository, [operation.path_in_repo for operation in operations]))

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return state


def test_only_the_files_of_the_run_go_and_they_are_listed_before(own_run, hub, capsys):
    for name in ("secrets.txt", "train.jsonl", "optimizer.pt", "model.safetensors.bak"):
        (own_run / name).write_text("mine")
    (own_run / "checkpoints").mkdir(exist_ok=True)
    (own_run / "checkpoints" / "adapter_model.safetensors").write_text("mine")
    assert main(["export", str(own_run), "huggingface:team/ner"]) == 0
    said = capsys.readouterr()
    assert said.out == "https://hub/team/ner\n"
    assert hub.created == [("team/ner", True)]
    ((repository, names),) = hub.committed
    assert repository == "team/ner"
    assert {"adapter_config.json", "adapter_model.safetensors", "nertune.json", "recipe.yaml"} <= set(names)
    assert not {
        name for name in names if "/" in name or name.endswith((".txt", ".jsonl", ".pt", ".bak", ".html", ".png"))
    }
    assert [name for name, _ in files_to_push(own_run)] == names
    listed = said.err.split("uploading")[0]
    assert "private" in listed
    assert all(f"  {name}  " in listed for name in names)
    assert TOKEN not in said.err + said.out
    assert hub.tokens == [TOKEN]


def test_public_is_said(own_run, hub):
    assert main(["export", str(own_run), "huggingface:team/ner", "--public"]) == 0
    assert hub.created == [("team/ner", False)]


def test_a_repository_that_is_public_already_is_not_filled_by_accident(own_run, hub, capsys):
    hub.existing = "public"
    assert main(["export", str(own_run), "huggingface:team/ner"]) == 2
    assert "there already, and public; say --public" in capsys.readouterr().err
    assert hub.committed == []
    hub.existing = "private"
    assert main(["export", str(own_run), "huggingface:team/ner"]) == 0
    assert hub.created == []


def test_a_dry_run_needs_no_token_and_sends_nothing(own_run, hub, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN")
    assert main(["export", str(own_run), "huggingface:team/ner", "--dry-run"]) == 0
    assert "adapter_model.safetensors" in capsys.readouterr().err
    assert main(["export", str(own_run), "huggingface:team/ner"]) == 2
    assert "set HF_TOKEN in the environment" in capsys.readouterr().err
    assert hub.tokens == []


def test_what_the_hub_says_is_one_line_without_the_token(own_run, hub, capsys):
    hub.fails = f"401 Unauthorized for {TOKEN}\nand more"
    assert main(["export", str(own_run), "huggingface:team/ner"]) == 1
    said = capsys.readouterr().err
    assert "huggingface:team/ner: 401 Unauthorized for …" in said
    assert TOKEN not in said


def test_modelscope_by_its_own_client(own_run, monkeypatch, capsys):
    asked: list[object] = []

    class HubApi:
        endpoint = "https://scope"

        def __init__(self, token):
            asked.append(token)

        def repo_exists(self, repository):
            return False

        def create_repo(self, repository, *, visibility, repo_type):
            asked.append((repository, visibility, repo_type))

        def upload_file(self, *, repo_id, path_or_fileobj, path_in_repo):
            assert Path(path_or_fileobj).is_file()
            asked.append(path_in_repo)

    for name in ("modelscope", "modelscope.hub"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    api = ModuleType("modelscope.hub.api")
    api.HubApi = HubApi
    monkeypatch.setitem(sys.modules, "modelscope.hub.api", api)
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-secret")
    assert main(["export", str(own_run), "modelscope:team/ner"]) == 0
    assert asked[:2] == ["ms-secret", ("team/ner", "private", "model")]
    assert "adapter_model.safetensors" in asked
    assert capsys.readouterr().out == "https://scope/models/team/ner\n"


def test_the_extra_is_named_where_the_client_is_absent(own_run, monkeypatch, capsys):
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-secret")
    monkeypatch.setitem(sys.modules, "modelscope", None)
    assert main(["export", str(own_run), "modelscope:team/ner"]) == 2
    assert "pip install 'nertune[modelscope]'" in capsys.readouterr().err


def test_destinations_are_hubs_with_a_name():
    assert destination("merged") is None
    assert destination("huggingface:a/b") == ("huggingface", "a/b")
    for wrong in ("huggingface:", "huggingface:a", "modelscope:a/b/c", "huggingface:../x", "huggingface:a b/c"):
        with pytest.raises(InputError, match="ORG/NAME"):
            destination(wrong)
