"""Freed memory goes back to the system at once, where the C library is glibc."""

import platform
import subprocess
import sys

import pytest

# 20 MiB, freed, 10 MiB and a small block on top: by itself glibc keeps the 10 MiB in the heap from then on
PROGRAM = """
import ctypes, re, sys
from insightface_mx import heap
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
resident = lambda: int(re.search("VmRSS:[^0-9]*([0-9]+)", open("/proc/self/status").read()).group(1))
if sys.argv[1] == "returned":
    heap.return_large_blocks()
libc.free(libc.malloc(20 << 20))
large, small = libc.malloc(10 << 20), libc.malloc(100000)
ctypes.memset(large, 1, 10 << 20)
before = resident()
libc.free(large)
print((before - resident()) >> 10)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="without effect where the C library is not glibc")
@pytest.mark.parametrize(("how", "returned"), [("returned", 10), ("as it is", 0)])
def test_large_blocks_are_returned(how, returned):
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    assert int(done.stdout) == pytest.approx(returned, abs=1)
