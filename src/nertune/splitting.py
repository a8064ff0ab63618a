"""`nertune data split`: the parts of one annotated file in a folder, and a manifest that says how to make them again."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

from rich.table import Table
from rich.text import Text

from nertune import __version__, data
from nertune.atomic import write_text
from nertune.data.wording import counted
from nertune.errors import InputError
from nertune.export.folders import new_folder, refuse_existing
from nertune.files import parse_json
from nertune.prompt import KNOWN_ANSWERS
from nertune.schema import Document

__all__ = ["MANIFEST", "Plan", "split_file", "split_table"]

MANIFEST = "split.json"
_PARTS = ("train", "validation", "test")
_ENDINGS = {
    "brat": "",
    "conll": ".conll",
    "hf": ".parquet",
    "labelstudio": ".json",
    "spacy": ".spacy",
}  # others: .jsonl
_AS_THEY_ARE = data.LabelMap()
_PARAMETERS = ("test", "validation", "folds", "few_shot", "seed", "group", "threshold", "to")
_KEPT = "nothing is written over: name another folder, or empty this one"


@dataclass(frozen=True)
class Plan:
    """What is asked for: `test` and `validation` (a share below 1 or a number, 0 for none), or `folds`, or `few_shot`.

    `group`, `threshold`: what stays together, see `data.groups_of`. `to`: the format of the parts. `label_map`: other
    labels for those of the source, given before anything is counted. `reading`: how the source is read, see
    `data.open_rows`.
    """

    test: float | int | None = None
    validation: float | int | None = None
    folds: int | None = None
    few_shot: int | None = None
    seed: int = 1024
    group: data.Grouping = "near"
    threshold: float = 0.8
    to: str = "entities"
    label_map: data.LabelMap = _AS_THEY_ARE
    reading: data.ReadSettings = field(default_factory=data.ReadSettings)

    def settled(self) -> Plan:
        """The plan with its defaults in place. Raises InputError for parts that exclude each other."""
        whole = {"--folds": self.folds, "--few-shot": self.few_shot}
        shares = {"--test": self.test, "--validation": self.validation}
        asked = [f"{name} {value}" for name, value in (whole | shares).items() if value is not None]
        if any(value is not None for value in whole.values()):
            if len(asked) > 1:
                raise InputError(
                    f"{' and '.join(asked)} exclude each other: split twice, the second time a part of the first"
                )
            return self
        values = {name.strip("-"): 0.1 if value is None else value for name, value in shares.items()}
        if not any(values.values()):
            raise InputError("--test 0 and --validation 0 hold nothing out: one of them must be more")
        if sum(value for value in values.values() if isinstance(value, float)) >= 1:
            raise InputError(
                f"--test {values['test']} and --validation {values['validation']} leave nothing to train on: "
                "together they must be below 1"
            )
        return replace(self, test=values["test"], validation=values["validation"])

    def parameters(self) -> dict[str, Any]:
        """All that was asked for, as JSON; of how the source is read, what was told."""
        own = {name: getattr(self, name) for name in _PARAMETERS}
        return own | {"label_map": dict(self.label_map.targets), "reading": self._told()}

    def command(self, source: str) -> str:
        """The command that makes the split of a file of that name; NAMES stands for a file of the tags' names."""
        options: dict[str, Any] = {name: getattr(self, name) for name in _PARAMETERS}
        if self.group != "near":
            del options["threshold"]
        told = self._told()
        options |= {"from": told.pop("format", None), **told, "map": self.label_map.options()}
        options["column"] = [f"{name}={column}" for name, column in options.pop("columns", {}).items()]
        if "tag_names" in options:
            options["tag_names"] = "NAMES"
        given = [
            f"--{name.replace('_', '-')}" + ("" if value is True else f" {shlex.quote(str(value))}")
            for name, values in options.items()
            for value in (values if isinstance(values, list | tuple) else [values])
            if value is not None
        ]
        return " ".join(["nertune data split", shlex.quote(source), "--out DIR", *given])

    def _told(self) -> dict[str, Any]:
        """How the source is read, without what is told from its content."""
        return {name: value for name, value in self.reading.items() if value and (name, value) != ("joiner", "auto")}


def split_file(source: str, out: str, plan: Plan) -> tuple[dict[str, Any], list[str]]:
    """Write the parts of `source` and split.json into the folder `out`; return the manifest, and what is to be said.

    `out` must be new, empty, or what an earlier split left, unchanged since; that one is replaced. The same file and plan
    give the same bytes. Raises InputError, before anything is written, for a plan that cannot be carried out.
    """
    plan = plan.settled()
    if Path(source).exists() and not (Path(source).is_file() or Path(source).is_dir()):
        raise InputError(f"{source}: the manifest names its digest, and this can be read once; save it to a file first")
    if Path(os.path.realpath(source)).is_relative_to(os.path.realpath(out)):
        raise InputError(f"{source}: is in {out}, which the parts would replace; name another folder")
    writer = data.writer(plan.to, path=out)
    replace = _is_untouched_split(Path(out))
    corpus = data.read(source, answers=KNOWN_ANSWERS, **plan.reading)
    documents, changes = plan.label_map.apply(corpus.documents)
    said = [f"{source}: read as {corpus.format}, {counted(len(documents), 'document')}"]
    said += [f"{source}: {note}" for note in (*corpus.notes, *plan.label_map.notes(changes))]
    said += _losses(writer, documents)
    groups = data.groups_of(documents, plan.group, threshold=plan.threshold)
    parts, notes = _parts(documents, plan, groups)
    together = _together(groups, plan)
    manifest: dict[str, Any] = {
        "nertune": __version__,
        "command": plan.command(Path(source).name),
        "source": {
            "file": Path(source).name,
            "sha256": _digest(Path(source)),
            "format": corpus.format,
            "left_out": corpus.left_out,
        },
        "parameters": plan.parameters(),
        "groups": together,
        "all": _counts(documents),
        "files": {},
    }
    with new_folder(Path(out), replace=replace) as folder:
        for name, part in parts.items():
            path = folder / (name + _ENDINGS.get(plan.to, ".jsonl"))
            path.parent.mkdir(exist_ok=True)
            data.write(part, path, format=plan.to)
            manifest["files"][path.relative_to(folder).as_posix()] = {**_counts(part), "sha256": _digest(path)}
        write_text(folder / MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=2) + "\n")
    if plan.group != "none":
        alike = "texts that are alike" if plan.group == "near" else "equal texts"
        many, groups_of_them = (
            counted(together["documents_in_them"], "document"),
            counted(together["together"], "group"),
        )
        said.append(f"{alike} stay together: {many} in {groups_of_them}, the largest of {together['largest']:,}")
    return manifest, [*said, *notes, *_missing(manifest)]


def split_table(manifest: Mapping[str, Any]) -> Table:
    """Documents, mentions, and each label's mentions by part; of folds, the least and the most that one holds out."""
    whole, files = manifest["all"], manifest["files"]
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("all", justify="right")
    folds = manifest["parameters"]["folds"] is not None
    held = [counts for name, counts in files.items() if PurePosixPath(name).stem == "validation"]
    names = ["held out, least", "held out, most"] if folds else [PurePosixPath(name).stem for name in files]
    for name in names:
        table.add_column(name, justify="right")
    columns = [whole, *(held if folds else files.values())]
    rows = [(name, [counts[name] for counts in columns]) for name in ("documents", "mentions")]
    rows += [(label, [counts["labels"].get(label, 0) for counts in columns]) for label in whole["labels"]]
    for name, (total, *counts) in rows:
        shown = [min(counts), max(counts)] if folds else counts
        table.add_row(Text(name), f"{total:,}", *(f"{count:,} {count / max(total, 1):7.1%}" for count in shown))
    return table


def _parts(
    documents: Sequence[Document], plan: Plan, groups: Sequence[int]
) -> tuple[dict[str, tuple[Document, ...]], list[str]]:
    """Documents by the name of their file, without its ending, and what is to be said of them."""
    if plan.few_shot is not None:
        few = data.few_shot(documents, mentions=plan.few_shot, seed=plan.seed, groups=groups)
        said = [
            f"label {label!r} has {count} mentions, fewer than {plan.few_shot}: all were taken"
            for label, count in few.short.items()
        ]
        said += [
            f"label {label!r}: {count} mentions were taken, more than twice {plan.few_shot}; what others lack brings them"
            for label, count in few.over.items()
        ]
        return {"few-shot": few.taken, "rest": few.rest}, said
    if plan.folds is not None:
        folds = data.split_folds(documents, folds=plan.folds, seed=plan.seed, groups=groups)
        named_folds = [
            (f"fold-{number}/{name}", part)
            for number, fold in enumerate(folds, 1)
            for name, part in (("train", fold.train), ("validation", fold.held_out))
        ]
        return dict(named_folds), []
    if plan.test and plan.validation:
        three = data.split_three(documents, validation=plan.validation, test=plan.test, seed=plan.seed, groups=groups)
        return dict(zip(_PARTS, three, strict=True)), []
    held_out = plan.test or plan.validation or 0
    two = data.split_stratified(documents, held_out=held_out, seed=plan.seed, groups=groups)
    return {"train": two.train, "test" if plan.test else "validation": two.held_out}, []


def _losses(writer: data.WritableFormat, documents: Sequence[Document]) -> list[str]:
    """What the parts' format cannot hold, in words. Raises InputError where an entity or a whole document would be lost."""
    kinds: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    for document in documents:
        written, losses = writer.express(document)
        kinds.update(loss.kind for loss in losses)
        lost.update(loss.kind for loss in losses if loss.left_out or written is None)
    if lost:
        listed = ", ".join(f"{kind} ({count:,})" for kind, count in lost.most_common())
        raise InputError(
            f"{writer.name} cannot hold {listed}: split without --to, then convert the parts, which lists what is left out"
        )
    return [f"{writer.name} cannot hold {kind}: {count:,}" for kind, count in kinds.most_common()]


def _together(groups: Sequence[int], plan: Plan) -> dict[str, Any]:
    """What is kept together, and how much that is."""
    sizes = [size for size in Counter(groups).values() if size > 1]
    found: dict[str, Any] = {"by": plan.group}
    if plan.group == "near":
        found |= {"threshold": plan.threshold, "datasketch": version("datasketch")}
    return found | {
        "groups": len(set(groups)),
        "together": len(sizes),
        "documents_in_them": sum(sizes),
        "largest": max(sizes, default=1),
    }


def _counts(documents: Sequence[Document]) -> dict[str, Any]:
    """How many documents and mentions there are, and mentions by label, the most frequent first."""
    labels = Counter(entity.label for document in documents for entity in document.entities)
    ordered = dict(sorted(labels.items(), key=lambda item: (-item[1], item[0])))
    return {"documents": len(documents), "mentions": sum(labels.values()), "labels": ordered}


def _missing(manifest: Mapping[str, Any]) -> list[str]:
    """A line for each part in which a label does not occur."""
    labels = manifest["all"]["labels"]
    found = []
    for name, counts in manifest["files"].items():
        absent = [f"{label} ({count} in all)" for label, count in labels.items() if label not in counts["labels"]]
        if absent:
            found.append(f"{name} has no mention of {', '.join(absent)}")
    return found


def _is_untouched_split(folder: Path) -> bool:
    """Whether an earlier split is all that is in the folder, which may then be replaced.

    Raises InputError where the folder holds anything else, or a part that was changed since.
    """
    if folder.is_symlink() or not (folder / MANIFEST).is_file():
        refuse_existing(folder)
        return False
    try:
        files = {name: entry["sha256"] for name, entry in parse_json((folder / MANIFEST).read_bytes())["files"].items()}
    except (ValueError, LookupError, TypeError, AttributeError):
        refuse_existing(folder)
        raise
    parts = {folder / name for name in files}
    for path in sorted(path for path in folder.rglob("*") if not path.is_dir()):
        if path != folder / MANIFEST and parts.isdisjoint((path, *path.parents)):
            raise InputError(f"{path} is no part of the split there; {_KEPT}")
    for path in sorted(parts):
        if path.exists() and _digest(path) != files[path.relative_to(folder).as_posix()]:
            raise InputError(f"{path} was changed since it was split; {_KEPT}")
    return True


def _digest(path: Path) -> str:
    """SHA-256 of a file; of a folder, of its files' names and digests."""
    if path.is_dir():
        listed = [(file.relative_to(path).as_posix(), _digest(file)) for file in path.rglob("*") if file.is_file()]
        return hashlib.sha256(json.dumps(sorted(listed)).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
