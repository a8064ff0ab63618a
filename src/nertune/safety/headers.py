"""The header of a safetensors file, read by hand before any library maps the file.

A file is the header's length (8 bytes, little-endian), the header (a JSON object: name -> dtype, shape, offsets into what
follows), and the tensors one after another: https://huggingface.co/docs/safetensors#format
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

from nertune.errors import RunError
from nertune.files import parse_json
from nertune.safety.files import MEGABYTE, regular_file

__all__ = ["Tensor", "read_header"]

# A header takes about 120 bytes a tensor: this is enough for 100,000 in one file. safetensors itself takes 100 MB, of which
# Python would make gigabytes.
_HEADER_BYTES = 16 * MEGABYTE
_LARGEST = 2**63 - 1
_DIMENSIONS = 16
_KEYS = frozenset({"dtype", "shape", "data_offsets"})
_BITS = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    **dict.fromkeys(
        ("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E5M2FNUZ", "F8_E4M3FNUZ", "F8_E4M3B11"), 8
    ),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}


class Tensor(NamedTuple):
    """What a header says of one tensor; `start` and `end` are bytes after the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(folder: Path, name: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file in `folder`. Nothing but the header is read.

    Raises RunError for a header that is too long, is no such JSON, or does not fit the file: every tensor's bytes are those
    of its shape, and together they are the file, without gap or overlap.
    """
    path = regular_file(folder, name)
    if path is None:
        raise RunError(f"{folder / name}: no such file")
    try:
        size = path.stat().st_size
        if size < 10:
            raise ValueError(f"{size} bytes are no safetensors file")
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(_HEADER_BYTES, size - 8):
                raise ValueError(
                    f"a header of {length:,} bytes in a file of {size:,}; at most {_HEADER_BYTES:,} are read"
                )
            content = file.read(length)
        if not content.startswith(b"{"):
            raise ValueError("the header is no JSON object")
        return _tensors(parse_json(content, strict=True), size - 8 - length)
    except ValueError as error:
        raise RunError(f"{path}: its header cannot be read: {error}. Restore the file, or make it again") from error


def _tensors(header: Any, size: int) -> dict[str, Tensor]:
    """The tensors of a header before `size` bytes. Raises ValueError."""
    metadata = header.pop("__metadata__", None)
    if metadata is not None and not (
        isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())
    ):
        raise ValueError("__metadata__ holds something else than texts")
    tensors = {name: _tensor(name, entry) for name, entry in header.items()}
    reached = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if tensor.start != reached:
            what = "overlaps another" if tensor.start < reached else "leaves a gap before it"
            raise ValueError(f"tensor {name!r:.80} {what} (bytes {tensor.start:,} to {tensor.end:,})")
        reached = tensor.end
    if reached != size:
        raise ValueError(f"the tensors take {reached:,} bytes, and {size:,} are there")
    return tensors


def _tensor(name: str, entry: Any) -> Tensor:
    if not isinstance(entry, dict) or entry.keys() != _KEYS:
        raise ValueError(f"tensor {name!r:.80} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise ValueError(f"tensor {name!r:.80} is of an unknown dtype, {dtype!r:.40}")
    if not _whole(shape) or len(shape) > _DIMENSIONS:
        raise ValueError(f"tensor {name!r:.80} has no shape: {shape!r:.60}")
    if not _whole(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"tensor {name!r:.80} has no place: data_offsets {offsets!r:.60}")
    bits = math.prod(shape) * _BITS[dtype]
    if bits != 8 * (offsets[1] - offsets[0]):
        raise ValueError(
            f"tensor {name!r:.80}: {dtype} {shape!r:.60} is not the {offsets[1] - offsets[0]:,} bytes that it is given"
        )
    return Tensor(dtype, tuple(shape), offsets[0], offsets[1])


def _whole(values: Any) -> bool:
    """Whether it is a list of whole numbers that a file can have."""
    return isinstance(values, list) and all(type(value) is int and 0 <= value <= _LARGEST for value in values)
