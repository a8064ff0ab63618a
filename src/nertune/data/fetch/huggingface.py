"""Hugging Face, by `huggingface_hub`: its cache, its retries, its environment variables."""

from __future__ import annotations

import errno
import glob
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nertune.data.fetch.files import NO_DATA
from nertune.data.fetch.hubs import HubFile, Listing, failure
from nertune.errors import DiskSpaceError, EndpointError, NertuneError

__all__ = ["HuggingFace"]

_TRY = "HF_ENDPOINT names a mirror, --offline takes what was fetched before, --from another hub"


class HuggingFace:
    """Data sets of Hugging Face. The token is the client's: HF_TOKEN, or that of `hf auth login`."""

    def offline(self) -> bool:
        from huggingface_hub import is_offline_mode

        return bool(is_offline_mode())

    def listing(self, repository: str, revision: str | None) -> Listing:
        from huggingface_hub import HfApi

        with _translated(repository, revision):
            found = HfApi().dataset_info(repository, revision=revision, files_metadata=True)
        files = tuple(_described(sibling) for sibling in found.siblings or ())
        return Listing(found.sha or revision or "main", _licence(found), files)

    def cached(self, repository: str, revision: str | None, patterns: Sequence[str]) -> Listing:
        folder = Path(_snapshot(repository, revision, list(patterns), offline=True))
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        held = tuple(HubFile(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files)
        return Listing(folder.name, None, held, folder)

    def download(self, repository: str, revision: str | None, paths: Sequence[str]) -> Path:
        return Path(_snapshot(repository, revision, [glob.escape(path) for path in paths], offline=False))


def _snapshot(repository: str, revision: str | None, patterns: list[str], *, offline: bool) -> str:
    from huggingface_hub import snapshot_download

    download: Callable[..., str] = snapshot_download
    with _translated(repository, revision):
        return download(
            repository,
            repo_type="dataset",
            revision=revision,
            allow_patterns=patterns,
            ignore_patterns=list(NO_DATA),
            local_files_only=offline,
        )


def _described(sibling: Any) -> HubFile:
    if sibling.lfs is not None:
        return HubFile(sibling.rfilename, sibling.lfs.size, sibling.lfs.sha256)
    return HubFile(sibling.rfilename, sibling.size, None, sibling.blob_id)


def _licence(found: Any) -> str | None:
    """As the card says it, or the hub's tag."""
    stated = (found.card_data or {}).get("license")
    if isinstance(stated, str | list) and stated:
        return stated if isinstance(stated, str) else ", ".join(map(str, stated))
    tags = (tag.partition(":")[2] for tag in found.tags or () if tag.startswith("license:"))
    return next(tags, None)


@contextmanager
def _translated(repository: str, revision: str | None) -> Iterator[None]:
    """Errors of the client as ours: 2 where the user can change something, 1 where the hub or the way to it failed."""
    from huggingface_hub import errors
    from huggingface_hub.constants import ENDPOINT

    where = f"huggingface:{repository}"
    try:
        yield
    except NertuneError:
        raise
    except errors.GatedRepoError:
        message = f"is gated: accept its terms on {ENDPOINT}/datasets/{repository}, then set HF_TOKEN to your token"
        raise EndpointError(f"{where}: {message}", exit_code=2) from None
    except errors.RepositoryNotFoundError:
        message = "no such data set, or a private one: look at the name, or set HF_TOKEN to a token that may read it"
        raise EndpointError(f"{where}: {message}", exit_code=2) from None
    except errors.RevisionNotFoundError:
        raise EndpointError(f"{where}: has no revision {revision!r}; name another: --revision", exit_code=2) from None
    except errors.LocalEntryNotFoundError as error:
        if error.__cause__ is not None and not isinstance(error.__cause__, errors.OfflineModeIsEnabled):
            raise failure("huggingface", repository, error.__cause__, _TRY) from None
        at = f" at {revision}" if revision else ""
        message = (
            f"is not, or not whole, in the cache{at}; fetch it once with a network (HF_HOME says where the cache is)"
        )
        raise EndpointError(f"{where}: {message}", exit_code=2) from None
    except errors.OfflineModeIsEnabled:
        raise EndpointError(f"{where}: HF_HUB_OFFLINE forbids the network", exit_code=2) from None
    except Exception as error:  # the network's errors are those of whichever HTTP client it uses
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskSpaceError(
                f"{where}: no room left in the cache; make room and run it again, whole files are kept"
            ) from None
        raise failure("huggingface", repository, error, _TRY) from None
