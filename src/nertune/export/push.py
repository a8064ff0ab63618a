"""`nertune export RUN huggingface:ORG/NAME`, or modelscope: a run on a hub, by the hub's own client.

Private unless the user says otherwise. The token comes from the environment alone. What goes is a fixed list of names:
never checkpoints, data, logs, or pages with sentences in them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from nertune.errors import EndpointError, InputError, MissingExtraError
from nertune.run import RunManifest, check_weights

__all__ = ["HUBS", "Destination", "destination", "files_to_push", "push"]

HUBS = ("huggingface", "modelscope")
_TOKENS = {"huggingface": ("HF_TOKEN",), "modelscope": ("MODELSCOPE_API_TOKEN",)}
_PUSHED = (
    "README.md",
    "adapter_config.json",
    "adapter_model.safetensors",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
    "nertune.json",
    "recipe.yaml",
    "calibration.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
)


class Destination(NamedTuple):
    """A repository on a hub: `hub` is one of HUBS, `repository` is `org/name`."""

    hub: str
    repository: str


def destination(text: str) -> Destination | None:
    """`huggingface:org/name` or `modelscope:org/name`; None where it is neither. Raises InputError for a wrong name."""
    hub, sign, repository = text.partition(":")
    if not sign or hub not in HUBS:
        return None
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository) or ".." in repository:
        raise InputError(f"{text}: the repository is named ORG/NAME, such as {hub}:my-team/ner-cluener")
    return Destination(hub, repository)


def files_to_push(run: str | Path) -> list[tuple[str, int]]:
    """Names and bytes of the files of a run that go to a hub. Raises RunError for a run that is not safe to load."""
    folder = Path(run)
    check_weights(folder, RunManifest.read(folder).kind)
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    return [(path.name, path.stat().st_size) for path in files if any(fnmatchcase(path.name, like) for like in _PUSHED)]


def push(run: str | Path, to: Destination, *, public: bool = False, said: Callable[[str], None] | None = None) -> str:
    """Make the repository where it is not there, and put the files into it. Returns its address.

    Raises InputError without a token, or where the repository is public and nobody said so; EndpointError with the hub's
    reason where it refuses.
    """
    folder = Path(run)
    names = [name for name, _ in files_to_push(folder)]
    token = next((os.environ[key] for key in _TOKENS[to.hub] if os.environ.get(key)), None)
    if token is None:
        raise InputError(f"no token for {to.hub}: set {_TOKENS[to.hub][0]} in the environment, to one that may write")
    upload = _to_huggingface if to.hub == "huggingface" else _to_modelscope
    try:
        return upload(folder, names, to.repository, token, public, said or (lambda line: None))
    except (InputError, MissingExtraError):
        raise
    except Exception as error:  # each client has errors of its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].replace(token, "…")
        raise EndpointError(f"{to.hub}:{to.repository}: {reason}") from None


def _refuse_public(to: str, *, public: bool, found: bool) -> None:
    if found and not public:
        raise InputError(f"{to} is there already, and public; say --public, or name another")


def _to_huggingface(
    folder: Path, names: list[str], repository: str, token: str, public: bool, said: Callable[[str], None]
) -> str:
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(token=token)
    if api.repo_exists(repository):
        _refuse_public(f"huggingface:{repository}", public=public, found=not api.model_info(repository).private)
    else:
        api.create_repo(repository, private=not public)
    said(f"uploading {len(names)} files in one commit")
    operations: list[Any] = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(folder / name)) for name in names
    ]
    api.create_commit(repository, operations=operations, commit_message="nertune export")
    return f"{api.endpoint}/{repository}"


def _to_modelscope(
    folder: Path, names: list[str], repository: str, token: str, public: bool, said: Callable[[str], None]
) -> str:
    try:
        from modelscope.hub.api import HubApi
    except ImportError as error:
        raise MissingExtraError("pushing to ModelScope", extra="modelscope") from error
    api = HubApi(token=token)
    if api.repo_exists(repository):
        found = str(api.get_model(repository).get("Visibility", ""))
        _refuse_public(f"modelscope:{repository}", public=public, found=found not in ("1", "private"))
    else:
        api.create_repo(repository, visibility="public" if public else "private", repo_type="model")
    for name in names:
        said(f"uploading {name}")
        api.upload_file(repo_id=repository, path_or_fileobj=str(folder / name), path_in_repo=name)
    return f"{api.endpoint}/models/{repository}"
