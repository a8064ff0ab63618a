"""Memory of large blocks that were freed between others that stay."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import textwrap

import pytest

SCRIPT = textwrap.dedent("""
    import ctypes, sys
    from nertune.generate.allocator import give_back_large_blocks

    if sys.argv[1:]:
        give_back_large_blocks()
    c = ctypes.CDLL(None)
    c.malloc.restype = ctypes.c_void_p
    c.free.argtypes = [ctypes.c_void_p]

    def block(megabytes):
        size = megabytes << 20
        place = c.malloc(ctypes.c_size_t(size))
        ctypes.memset(place, 1, size)
        return place

    def resident():
        return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20

    before = resident()
    c.free(block(30))
    large, stay = zip(*[(block(20), block(1)) for _ in range(20)])
    for place in large:
        c.free(place)
    print(resident() - before)
""")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what is set is a setting of glibc")
def test_large_blocks_go_back_to_the_system_when_they_are_freed():
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_MMAP_THRESHOLD_"}
    kept = [
        int(
            subprocess.run(
                [sys.executable, "-c", SCRIPT, *told], env=environment, capture_output=True, check=True
            ).stdout
        )
        for told in ([], ["told"])
    ]
    assert kept[0] > 300  # MiB: what glibc does of its own accord
    assert kept[1] < 40  # those that stay, and a little
