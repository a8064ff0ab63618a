"""Matrix products of single precision on a processor, by whichever library is fast there.

torch gives them to MKL, which on AMD processors with AVX-512 does not use it: half the speed that the processor has.
oneDNN, which every x86 build of torch carries for convolutions and inductor, does. Both compute in fp32; results differ
in the order of summation, by about 1e-6. Elsewhere (accelerators, other types, other processors), and for small products,
which gain nothing, it is torch's own product.

oneDNN makes a kernel for every shape that it meets, in some milliseconds and about a megabyte, and keeps the last 1,024. So
callers whose shapes vary round them up (`rounded`), and fewer kernels are kept.
"""

from __future__ import annotations

import functools
import os
import platform
from typing import Any

import torch
from torch import Tensor

__all__ = ["add_matmul_nt", "matmul_nt", "rounded"]

_KERNELS = "512"
_SMALL = 1 << 24  # multiplications
_STEP = 32

# Read by oneDNN and by torch's own layer over it at their first product.
for _name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_name, _KERNELS)


def matmul_nt(a_MK: Tensor, b_NK: Tensor) -> Tensor:
    """a @ b.T, (M, N). Either may be a transposed view. Not differentiable: for use inside autograd functions."""
    if _uses_onednn(a_MK, b_NK):
        product: Tensor = _onednn()(a_MK, b_NK, None, "none", [], "")
        return product
    return a_MK @ b_NK.T


def add_matmul_nt(total_MN: Tensor, a_MK: Tensor, b_NK: Tensor) -> Tensor:
    """total + a @ b.T in one pass, as a new tensor."""
    if _uses_onednn(a_MK, b_NK) and total_MN.is_contiguous():
        added: Tensor = _onednn().binary(a_MK, total_MN, b_NK, None, "add")
        return added
    return torch.addmm(total_MN, a_MK, b_NK.T)


def rounded(rows: int, like: Tensor) -> int:
    """To how many rows a product of this tensor's type and device is best padded, so that there are few shapes."""
    fast = like.dtype == torch.float32 and like.device.type == "cpu" and _onednn() is not None
    return -(-rows // _STEP) * _STEP if fast else rows


def _uses_onednn(a: Tensor, b: Tensor) -> bool:
    return (
        a.dtype == b.dtype == torch.float32
        and a.device.type == b.device.type == "cpu"
        and len(a) * b.numel() >= _SMALL
        and _onednn() is not None
    )


@functools.cache
def _onednn() -> Any:
    """oneDNN's linear operator, or None where this torch or processor lacks it, or NERTUNE_ONEDNN=0 forbids it."""
    if os.environ.get("NERTUNE_ONEDNN") == "0" or platform.machine().lower() not in ("x86_64", "amd64"):
        return None
    try:
        operator = torch.ops.mkldnn._linear_pointwise
        a, b, c = torch.ones(4, 3), torch.ones(3, 5), torch.ones(4, 5)
        works = bool((operator(a, b.T, None, "none", [], "") == 3).all())
        works = works and bool((operator.binary(a, c, b.T, None, "add") == 4).all())
    except (AttributeError, RuntimeError, TypeError):  # not an operator that this torch promises to keep
        return None
    return operator if works else None
