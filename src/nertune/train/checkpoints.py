"""Where a training may write, and from which checkpoint it goes on."""

from __future__ import annotations

import json
from pathlib import Path

from nertune.errors import InputError, MissingFileError
from nertune.run import MANIFEST

__all__ = ["starting_point"]


def starting_point(folder: Path, *, resume: bool | str) -> Path | None:
    """The checkpoint to go on from, if any. Refuses to write over a run that is there."""
    if isinstance(resume, str):
        if not (Path(resume) / "trainer_state.json").is_file():
            raise MissingFileError(f"resume: {resume} is not the folder of a checkpoint: no trainer_state.json there")
        return Path(resume)
    last = _last_whole_checkpoint(folder / "checkpoints")
    if resume:
        if last is None:
            raise MissingFileError(
                f"{folder}: no checkpoint to resume from; start without --resume (or with resume: false)"
            )
        return last
    if last is not None or (folder / MANIFEST).exists():
        raise InputError(f"{folder} already holds a run. Go on with it: --resume; or write elsewhere: output=FOLDER")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output {folder} is a file, not a folder")
    return None


def _last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that a kill did not cut off: transformers writes its trainer_state.json last."""
    by_step = {
        int(number): path
        for path in folder.glob("checkpoint-*")
        if (number := path.name.removeprefix("checkpoint-")).isdecimal()
    }
    for step in sorted(by_step, reverse=True):
        try:
            json.loads((by_step[step] / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return by_step[step]
    return None
