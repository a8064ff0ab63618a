"""ModelScope, by `modelscope` (an extra): its cache, and its retries."""

from __future__ import annotations

import errno
import glob
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nertune.data.fetch.hubs import HubFile, Listing, failure
from nertune.errors import DiskSpaceError, EndpointError, InputError, MissingExtraError, NertuneError

__all__ = ["ModelScope"]

_BRANCH = "master"
_PAGE = 100  # files a request
_TRY = "--offline takes what was fetched before, --from another hub"


class ModelScope:
    """Data sets of ModelScope. The token is in MODELSCOPE_API_TOKEN, where one is needed."""

    def offline(self) -> bool:
        return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")

    def listing(self, repository: str, revision: str | None) -> Listing:
        with _translated(repository, revision):
            api = _api()
            rows: list[Any] = []
            while not len(rows) % _PAGE:
                more = api.get_dataset_files(
                    repository, revision=revision or _BRANCH, page_number=len(rows) // _PAGE + 1, page_size=_PAGE
                )
                if not more:
                    break
                rows += more
        files = tuple(
            HubFile(row["Path"], row.get("Size"), row.get("Sha256") or None)
            for row in rows
            if row.get("Type") != "tree"
        )
        return Listing(revision or _BRANCH, None, files)

    def cached(self, repository: str, revision: str | None, patterns: Sequence[str]) -> Listing:
        folder = _snapshot(repository, revision, patterns, offline=True)
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        held = tuple(HubFile(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files)
        return Listing(revision or _BRANCH, None, held, folder)

    def download(self, repository: str, revision: str | None, paths: Sequence[str]) -> Path:
        return _snapshot(repository, revision, [glob.escape(path) for path in paths], offline=False)


def _api() -> Any:
    from modelscope.hub.api import HubApi

    _quiet()
    token = os.environ.get("MODELSCOPE_API_TOKEN")
    return HubApi(token=token) if token else HubApi()


def _snapshot(repository: str, revision: str | None, patterns: Sequence[str], *, offline: bool) -> Path:
    with _translated(repository, revision):
        from modelscope.hub.snapshot_download import snapshot_download

        _quiet()
        folder = snapshot_download(
            repo_id=repository,
            repo_type="dataset",
            revision=revision or _BRANCH,
            allow_patterns=list(patterns),  # no ignore_patterns: its client takes `.*` for everything
            local_files_only=offline,
        )
    return Path(folder)


def _quiet() -> None:
    """Warnings alone, unless the user asked the client for more; it sets its own level when it is imported."""
    if not os.environ.get("MODELSCOPE_LOG_LEVEL"):
        for name in ("modelscope", "modelscope_hub"):
            logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def _translated(repository: str, revision: str | None) -> Iterator[None]:
    """Errors of the client as ours. They are told by their names, since its versions have them in different modules."""
    where = f"modelscope:{repository}"
    try:
        yield
    except NertuneError:
        raise
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] == "modelscope":
            raise MissingExtraError("fetching from ModelScope", extra="modelscope") from error
        raise InputError(f"{where}: its client needs {error.name}. Type: pip install -U modelscope") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskSpaceError(
                f"{where}: no room left in the cache; make room and run it again, whole files are kept"
            ) from None
        kind = type(error).__name__
        status = getattr(getattr(error, "response", None), "status_code", None)
        if kind in ("AuthenticationError", "PermissionDeniedError", "NotLoginException") or status in (401, 403):
            message = "is private or gated: set MODELSCOPE_API_TOKEN to a token that may read it"
        elif kind == "NoValidRevisionError":
            message = f"has no revision {revision!r}; name another: --revision"
        elif kind == "NotExistError" or status == 404:
            message = f"no such data set{f', or no revision {revision!r} of it' if revision else ''}; look at the name"
        elif kind == "CacheNotFound":
            message = "is not in the cache; fetch it once with a network (MODELSCOPE_CACHE says where the cache is)"
        else:
            raise failure("modelscope", repository, error, _TRY) from None
        raise EndpointError(f"{where}: {message}", exit_code=2) from None
