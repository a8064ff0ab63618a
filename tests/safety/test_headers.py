"""The header of a safetensors file: what safetensors writes is read, whatever does not fit the file is refused."""

from __future__ import annotations

import json
import resource
import struct
import time

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from nertune.errors import RunError
from nertune.safety import read_header

NAME = "adapter_model.safetensors"


def entry(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_what_safetensors_writes_is_read(tmp_path):
    weights = {
        "a": torch.zeros(3, 5),
        "b": torch.ones(2, dtype=torch.bfloat16),
        "c": torch.zeros(0, 7),
        "d": torch.tensor(1, dtype=torch.int64),
        "e": torch.zeros(4, dtype=torch.float8_e4m3fn),
        "f": torch.zeros(3, dtype=torch.bool),
    }
    save_file(weights, tmp_path / NAME, metadata={"format": "pt"})
    found = read_header(tmp_path, NAME)
    assert {name: tensor.shape for name, tensor in found.items()} == {k: tuple(v.shape) for k, v in weights.items()}
    assert found["b"].dtype == "BF16"


@pytest.mark.parametrize(
    ("header", "data", "said"),
    [
        ({"a": entry([2], 0, 8)}, 7, "take 8 bytes, and 7 are there"),
        ({"a": entry([2], 0, 8)}, 9, "take 8 bytes, and 9 are there"),
        ({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, 12, "overlaps another"),
        ({"a": entry([2], 0, 8), "b": entry([2], 0, 8)}, 8, "overlaps another"),
        ({"a": entry([2], 8, 16)}, 16, "leaves a gap"),
        ({"a": entry([3], 0, 8)}, 8, "is not the 8 bytes"),
        ({"a": entry([2**40, 2**40], 0, 8)}, 8, "is not the 8 bytes"),
        ({"a": entry([2**62, 4, 0], 0, 8)}, 8, "is not the 8 bytes"),
        ({"a": entry([-2], 0, 8)}, 8, "no shape"),
        ({"a": entry([True], 0, 4)}, 4, "no shape"),
        ({"a": entry([2.0], 0, 8)}, 8, "no shape"),
        ({"a": entry([1] * 17, 0, 4)}, 4, "no shape"),
        ({"a": entry([2], 8, 0)}, 8, "no place"),
        ({"a": entry([2], 0, 2**64)}, 8, "no place"),
        ({"a": entry([2], 0, 8, "F33")}, 8, "unknown dtype"),
        ({"a": entry([2], 0, 8, ["F32"])}, 8, "unknown dtype"),
        ({"a": 3}, 0, "not described by dtype"),
        ({"a": {**entry([2], 0, 8), "extra": 1}}, 8, "not described by dtype"),
        ({"__metadata__": {"a": 1}}, 0, "__metadata__"),
        ({"__metadata__": []}, 0, "__metadata__"),
    ],
    ids=str,
)
def test_a_header_that_does_not_fit_is_refused(tmp_path, files, header, data, said):
    (tmp_path / NAME).write_bytes(files.packed(json.dumps(header).encode(), bytes(data)))
    with pytest.raises(RunError, match=said) as refused:
        read_header(tmp_path, NAME)
    assert str(tmp_path / NAME) in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"half",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 100) + b"{}",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2**64 - 1) + b"{}",
        struct.pack("<Q", 0) + b"{}",
        struct.pack("<Q", 2) + b"\xff\xfe",
        struct.pack("<Q", 4) + b'{"a"',
    ],
    ids=repr,
)
def test_what_is_no_safetensors_file_is_refused(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(RunError, match="its header cannot be read"):
        read_header(tmp_path, NAME)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"a": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}", "nested too deeply"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": {"dtype": "F32", "shape": [' + b"9" * 10_000 + b'], "data_offsets": [0, 4]}}', "digits"),
        (b'{"a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4], "shape": [1]}}', "'shape' comes more than once"),
        (b'{"a": 1, "a": 2}', "'a' comes more than once"),
    ],
    ids=["lists", "objects", "nan", "digits", "inner twice", "twice"],
)
def test_absurd_json_is_one_error(tmp_path, files, header, said):
    (tmp_path / NAME).write_bytes(files.packed(header))
    with pytest.raises(RunError, match=said):
        read_header(tmp_path, NAME)


def test_a_header_longer_than_any_is_not_even_read(tmp_path):
    """A sparse file of 3 GB that says that all of it is header."""
    with (tmp_path / NAME).open("wb") as file:
        file.write(struct.pack("<Q", 3_000_000_000) + b"{")
        file.truncate(3_000_000_008)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RunError, match="a header of 3,000,000,000 bytes"):
        read_header(tmp_path, NAME)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_thousands_of_mutated_files_are_read_or_are_one_error(tmp_path, files, data):
    """Bytes changed, cut, put in or taken out, in the header more than elsewhere: safetensors reads no file that we refuse
    to its harm, and we read none that it refuses.
    """
    from safetensors import safe_open

    content = bytearray(files.tensors({"a": (2, 3), "b": (4,), "c": ()}))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1)) if content else 0
        kind = data.draw(st.sampled_from(["set", "cut", "insert", "remove", "number"]))
        if kind == "set" and content:
            content[place] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del content[place:]
        elif kind == "insert":
            content[place:place] = data.draw(st.binary(min_size=1, max_size=8))
        elif kind == "remove":
            del content[place : place + data.draw(st.integers(1, 8))]
        else:
            digits = [index for index, byte in enumerate(content) if chr(byte).isdigit()]
            if digits:
                content[data.draw(st.sampled_from(digits))] = ord(data.draw(st.sampled_from("0123456789-.e")))
    (tmp_path / NAME).write_bytes(bytes(content))
    started = time.monotonic()
    said = ""
    try:
        read_header(tmp_path, NAME)
    except RunError as error:
        said = str(error)
    assert "\n" not in said
    if not said:
        with safe_open(tmp_path / NAME, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                opened.get_slice(name).get_shape()
    assert time.monotonic() - started < 5
