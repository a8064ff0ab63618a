"""`nertune data audit`: what is wrong with annotated files, where, and what to do."""

from __future__ import annotations

import argparse

from nertune.cli.messages import print_json, say
from nertune.cli.options import Commands, from_zero, label_map_of, map_option, positive, similarity
from nertune.cli.reading import reading_of, reading_options

__all__ = ["add_audit"]


def add_audit(tasks: Commands) -> None:
    audit = tasks.add_parser(
        "audit",
        help="every problem of annotated files, with file:line and what to do",
        epilog="Exit code 3 where errors were found (with --fix: errors that it does not repair), 0 for warnings and notes.",
    )
    audit.add_argument("files", nargs="*", metavar="FILE", help="annotated files; several are also checked for leakage")
    audit.add_argument("--labels", metavar="A,B,C", help="display names to choose, where mentions carry several")
    map_option(audit)
    audit.add_argument(
        "--recipe", metavar="RECIPE", help="count what its cut-off would lose; without FILE its own files are audited"
    )
    audit.add_argument("--task", metavar="NAME", help="which of the recipe's tasks, where it has several")
    audit.add_argument("--model", metavar="M", help="instead of --recipe: count tokens with this model's tokenizer")
    audit.add_argument("--max-tokens", type=positive, metavar="N", help="cut-off of a row (default: the recipe's)")
    audit.add_argument(
        "--near",
        type=similarity,
        default=0.8,
        metavar="J",
        help="near-duplicates: from which Jaccard index of character trigrams, 0.5 to 1 (default: %(default)s)",
    )
    audit.add_argument(
        "--no-near", action="store_true", help="no search for near-duplicates: no text is kept in memory"
    )
    audit.add_argument(
        "--top", type=from_zero, default=5, metavar="N", help="places listed of each finding (default: %(default)s)"
    )
    audit.add_argument(
        "--fix", metavar="OUT", help="write the one FILE to OUT, repaired where that is safe; OUT.changes.jsonl logs it"
    )
    audit.add_argument("--json", action="store_true", help="print one JSON value instead of text")
    audit.add_argument(
        "--trust-remote-code", action="store_true", help="run code that comes with the model; never done otherwise"
    )
    reading_options(audit)
    audit.set_defaults(run=_audit)


def _audit(options: argparse.Namespace) -> int:
    from nertune.auditing import Wanted, audit_files
    from nertune.data.audit import KINDS
    from nertune.data.wording import counted
    from nertune.terminal import Meter, stdout

    wanted = Wanted(
        reading=reading_of(options),
        labels=tuple(name.strip() for name in options.labels.split(",")) if options.labels else None,
        label_map=label_map_of(options),
        recipe=options.recipe,
        task=options.task,
        model=options.model,
        max_tokens=options.max_tokens,
        near=None if options.no_near else options.near,
        top=options.top,
        fix=options.fix,
    )
    with Meter("documents read") as meter:
        report, repair, said = audit_files(options.files, wanted, done=meter.update)
    for line in said:
        say(line)
    if repair is not None:
        changes = ", ".join(f"{kind} {count:,}" for kind, count in sorted(repair.changes.items())) or "none"
        say(f"{repair.path}: {counted(repair.documents, 'document')} written as {repair.format}; changes: {changes}")
        say(f"{repair.log}: every change, a line each")
        if repair.left_out:
            left_out = counted(repair.left_out, "mention or document", "mentions or documents")
            say(f"{left_out} could not be written: in the log alone, as left-out")
    if options.json:
        value = report.to_json() | ({} if repair is None else {"repair": repair._asdict()})
        print_json(value)
    else:
        stdout.print(report.to_text(), soft_wrap=True)
    repaired = {code for code, kind in KINDS.items() if kind.repaired} if repair is not None else ()
    return 3 if report.has_errors(besides=repaired) else 0
