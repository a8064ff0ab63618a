"""`nertune export RUN gguf FILE`: one file for llama.cpp and Ollama, made by llama.cpp's own converter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from nertune.errors import InputError, NertuneError
from nertune.export.merged import Comparison, export_merged
from nertune.run import RunManifest, check_weights

__all__ = ["OUTPUT_TYPES", "export_gguf", "find_converter"]

Report = Callable[[str, int, int], None]
OUTPUT_TYPES = ("auto", "f32", "f16", "bf16", "q8_0")
_NAMES = ("convert_hf_to_gguf.py", "convert-hf-to-gguf", "llama-convert-hf-to-gguf")
_MISSING = (
    "llama.cpp's converter is not here. Type:\n"
    "  git clone --depth 1 https://github.com/ggml-org/llama.cpp\n"
    "  python -m venv gguf-env && gguf-env/bin/pip install -r llama.cpp/requirements/requirements-convert_hf_to_gguf.txt\n"
    "and then add --converter llama.cpp/convert_hf_to_gguf.py --converter-python gguf-env/bin/python"
)


def find_converter(given: str | None, *, python: str | None = None) -> list[str]:
    """The converter as the beginning of a command: `given`, or the one on PATH. Raises InputError where there is none.

    `python`: the interpreter of a converter that is a Python file; None takes this one.
    """
    if given is not None:
        file = Path(given).expanduser()
        if not file.is_file():
            raise InputError(f"--converter {given}: no such file")
        found: str | None = str(file.resolve())
    else:
        found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        raise InputError(_MISSING)
    return [python or sys.executable, found] if found.endswith(".py") else [found]


def export_gguf(
    run: str | Path,
    target: str | Path,
    *,
    texts: Sequence[str] = (),
    task: str | None = None,
    converter: str | None = None,
    python: str | None = None,
    outtype: str = "auto",
    device: str | None = None,
    report: Report | None = None,
) -> Comparison:
    """Merge the run, where it is an adapter, in a folder that is removed again, and convert it to `target`.

    `texts`: the merged model is compared with the adapter on them, before it is converted; the GGUF file itself is not run.
    `outtype`: the converter's own, one of OUTPUT_TYPES. Raises InputError, and NertuneError with the converter's last lines
    where it fails.
    """
    folder, target = Path(run), Path(target)
    command = find_converter(converter, python=python)
    manifest = RunManifest.read(folder)
    if outtype not in OUTPUT_TYPES:
        raise InputError(f"outtype {outtype!r}: one of {', '.join(OUTPUT_TYPES)}")
    if target.exists() or target.is_symlink():
        raise InputError(f"{target} is there already, and nothing is written over: name another file")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
        compared = Comparison(0, ())
        source = folder.resolve()
        if manifest.kind == "model":
            check_weights(folder, "model")
        else:
            source = Path(scratch).resolve() / (folder.resolve().name or "model")
            compared = export_merged(folder, source, texts=texts, task=task, device=device, report=report)
        if report:
            report("converting", 0, 0)
        written = Path(scratch).resolve() / "converted.gguf"
        _convert([*command, str(source), "--outfile", str(written), "--outtype", outtype], written)
        written.rename(target)
    return compared


def _convert(command: list[str], written: Path) -> None:
    """Run the converter, without a shell. Raises NertuneError."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except OSError as error:
        raise InputError(f"{command[0]} cannot be run: {error}") from error
    last = "\n".join(f"  {line}" for line in (done.stdout + done.stderr).splitlines()[-12:])
    if done.returncode != 0:
        raise NertuneError(f"llama.cpp's converter failed with exit code {done.returncode}; its last lines:\n{last}")
    if not written.is_file():
        raise NertuneError(f"llama.cpp's converter wrote no file; its last lines:\n{last}")
    with written.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise NertuneError(f"llama.cpp's converter wrote something else than GGUF; its last lines:\n{last}")
