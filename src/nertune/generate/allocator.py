"""The C library's allocator, told to give large blocks back to the system."""

from __future__ import annotations

import ctypes
import functools
import os
import platform

__all__ = ["give_back_large_blocks"]

_M_MMAP_THRESHOLD = -3  # malloc.h
_LARGE = 16 << 20  # bytes


@functools.cache
def give_back_large_blocks() -> None:
    """From now on blocks of 16 MiB and more go back when they are freed: with glibc, for the whole process.

    Left to itself glibc raises that size to the largest block freed so far, up to 32 MiB (mallopt(3), M_MMAP_THRESHOLD).
    Keys and values that grow with their sequences then leave holes behind which nothing fits into: one text of 20,000
    characters took 10 GB in place of 5. MALLOC_MMAP_THRESHOLD_ in the environment goes before. Other C libraries are
    left alone.
    """
    if platform.libc_ver()[0] == "glibc" and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)
