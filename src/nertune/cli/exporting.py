"""`nertune export`."""

from __future__ import annotations

import argparse

from nertune.cli.messages import say
from nertune.cli.options import Commands, given, nothing_with, positive
from nertune.errors import InputError

__all__ = ["add_export"]

_FORMS = ("merged", "gguf", "llamafactory")
# Options by the form that they mean something to; the hubs are one of these forms here.
_COMPARING = ("check", "limit", "no_check", "task", "device")
_OWN = {
    "merged": (*_COMPARING, "dtype"),
    "gguf": (*_COMPARING, "outtype", "converter", "converter_python"),
    "llamafactory": ("data", "template"),
    "a hub": ("public", "dry_run"),
}
_EPILOG = """\
  merged DIR              the base model with the adapter in its weights, compared with the adapter
  gguf FILE               one file for llama.cpp and Ollama, by llama.cpp's own converter
  llamafactory DIR        data, dataset_info.json and the YAML that trains the same there
  huggingface:ORG/NAME    push, private unless --public; the token is in HF_TOKEN
  modelscope:ORG/NAME     likewise; the token is in MODELSCOPE_API_TOKEN
"""


def add_export(commands: Commands) -> None:
    export = commands.add_parser(
        "export",
        help="a run for other tools, or onto a hub",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    export.add_argument("model", metavar="RUN", help="a run directory")
    export.add_argument("form", metavar="FORM", help="merged, gguf, llamafactory, or a hub: see below")
    export.add_argument("target", metavar="DST", nargs="?", help="the new folder or file; a hub needs none")
    export.add_argument("--check", metavar="FILE", help="merged, gguf: texts to compare on (default: sample sentences)")
    export.add_argument(
        "--limit", type=positive, default=20, metavar="N", help="merged, gguf: only the first N texts (default: 20)"
    )
    export.add_argument("--no-check", action="store_true", help="merged, gguf: do not compare")
    export.add_argument(
        "--task", metavar="NAME", help="merged, gguf: whose prompt the comparison uses, where the run has several"
    )
    export.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="merged: of the written weights (default: the base model's own)",
    )
    export.add_argument(
        "--device", metavar="D", help="merged, gguf: cpu, cuda, cuda:1 (default: the first accelerator)"
    )
    export.add_argument(
        "--outtype", default="auto", metavar="T", help="gguf: auto, f32, f16, bf16, q8_0 (default: auto)"
    )
    export.add_argument("--converter", metavar="FILE", help="gguf: convert_hf_to_gguf.py (default: the one on PATH)")
    export.add_argument(
        "--converter-python", metavar="FILE", help="gguf: the Python to run it with (default: this one)"
    )
    export.add_argument(
        "--data", nargs="+", metavar="FILE", default=[], help="llamafactory: annotated file, one a task"
    )
    export.add_argument(
        "--template", metavar="NAME", help="llamafactory: its chat template (default: by the model's name)"
    )
    export.add_argument("--public", action="store_true", help="a hub: for everybody to see (default: private)")
    export.add_argument("--dry-run", action="store_true", help="a hub: list the files and stop")
    export.set_defaults(run=_export, default_of=export.get_default)


def _export(options: argparse.Namespace) -> int:
    from nertune.export.push import destination

    if to := destination(options.form):
        _check(options, "a hub")
        return _push(options, to)
    if options.form not in _FORMS:
        raise InputError(f"{options.form}: neither {', '.join(_FORMS)} nor huggingface:ORG/NAME, modelscope:ORG/NAME")
    _check(options, options.form)
    if options.target is None:
        raise InputError(f"{options.form} needs a {'file' if options.form == 'gguf' else 'folder'} to write: DST")
    if options.form == "llamafactory":
        from nertune.export import export_llamafactory

        for line in export_llamafactory(
            options.model, options.target, data_files=options.data, template=options.template
        ):
            say(line)
        print(options.target)
        say(
            f"Next: llamafactory-cli train {options.target}/train.yaml   or   nertune train {options.target}/train.yaml"
        )
        return 0
    return _merged(options)


def _check(options: argparse.Namespace, form: str) -> None:
    """Raise InputError for an option that would be ignored."""
    others = {name for names in _OWN.values() for name in names} - set(_OWN[form])
    if ignored := given(options, sorted(others)):
        raise InputError(f"{nothing_with(ignored, form)}; leave it out")
    if options.no_check and given(options, ("check", "limit")):
        raise InputError("--no-check compares nothing, so --check and --limit are too much")


def _merged(options: argparse.Namespace) -> int:
    from nertune.export import export_gguf, export_merged
    from nertune.terminal import Meter, quiet_libraries

    texts = [] if options.no_check else _texts(options)
    quiet_libraries()
    with Meter("exporting") as meter:

        def report(what: str, done: int, total: int) -> None:
            meter.update(done, total=total or None, what=what)

        if options.form == "gguf":
            compared = export_gguf(
                options.model,
                options.target,
                texts=texts,
                task=options.task,
                converter=options.converter,
                python=options.converter_python,
                outtype=options.outtype,
                device=options.device,
                report=report,
            )
        else:
            compared = export_merged(
                options.model,
                options.target,
                texts=texts,
                task=options.task,
                dtype=options.dtype,
                device=options.device,
                report=report,
            )
    for line in compared.lines():
        say(line)
    print(options.target)
    return 0 if compared.equal else 3


def _texts(options: argparse.Namespace) -> list[str]:
    """The texts of --check, or sample sentences."""
    from itertools import islice

    from nertune.data import read_texts
    from nertune.data.samples import HELDOUT

    return [source.text for source in islice(read_texts(options.check or str(HELDOUT)), options.limit)]


def _push(options: argparse.Namespace, to: tuple[str, str]) -> int:
    from nertune.export.push import Destination, files_to_push, push

    if options.target is not None:
        raise InputError(f"{options.form} is where the run goes, so {options.target} is too much")
    files = files_to_push(options.model)
    say(f"{options.model} to {options.form}, {'public' if options.public else 'private'}:")
    for name, size in files:
        say(f"  {name}  {size:,} bytes")
    if options.dry_run:
        return 0
    print(push(options.model, Destination(*to), public=options.public, said=say))
    return 0
