"""How the C library's heap serves MXNet, on CPUs."""

import ctypes
import os
import sys

_M_MMAP_THRESHOLD = -3  # its number in glibc's malloc.h
_LARGE = 1 << 20


def return_large_blocks():
    """Let every freed block of 1 MiB or more go back to the system, unless MALLOC_MMAP_THRESHOLD_ says otherwise.

    By itself glibc stops doing so for sizes that it has seen freed, up to 32 MiB, and oneDNN's scratch memory of every
    size leaves a heap full of holes. Without effect where the C library is not glibc.
    """
    if sys.platform == "linux" and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt:
            mallopt(_M_MMAP_THRESHOLD, _LARGE)
