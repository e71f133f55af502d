"""Avoid denormal numbers, with which a CPU computes ten to a hundred times more slowly.

Weight decay drives the weights of dead channels to about 1e-40, below float32's smallest normal number (1.2e-38). Such
denormal weights, and denormal products of weights that are merely small, take a slow path of the CPU: it can take
several times as long to run a network with them. They change no output visibly.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import platform
from typing import Iterator

import numpy as np

from insightface_mx.base.compat import Context, Params, mx

# Added to a weight of 1e-12, 1e-20 is lost in float32 (24 bits); a channel whose weights are all that small is dead.
# Products with a larger weight become denormal only if the activation is under 1e-18, which is as good as zero.
THRESHOLD = 1e-20

_MXCSR = 7  # index of this register in the C library's fenv_t on x86-64, in words of 32 bits
_FLUSH_TO_ZERO = 0x8000  # bit for results
_DENORMALS_ARE_ZERO = 0x0040  # bit for operands


def flush(params: Params, threshold: float = THRESHOLD) -> int:
    """Set values that are nearer to zero than `threshold` to zero, in place; the checkpoint file stays as it is.

    Args:
        params: Parameters as a checkpoint is loaded.
        threshold: The smallest absolute value that stays.

    Returns:
        The number of values that were set to zero, which is also logged.
    """
    flushed = 0
    for array in params.values():
        values = array.asnumpy()
        small = (np.abs(values) < threshold) & (values != 0)
        if small.any():
            values[small] = 0
            array[:] = values
            flushed += int(small.sum())
    if flushed:
        logging.info("%d numbers under %g taken as 0, for speed", flushed, threshold)
    return flushed


def flush_in_threads(contexts: list[Context]) -> bool:
    """Make MXNet's threads on CPU contexts treat denormal numbers as zero.

    A thread inherits the floating-point mode of the thread that starts it, and MXNet starts a thread when it is first
    needed. So call this before any operation: later it has no effect. It has no effect either if the CPU is not x86-64
    or the C library not glibc. The mode of the calling thread, and so of numpy in it, does not change.

    Args:
        contexts: The contexts that will be used; GPUs are ignored.

    Returns:
        Whether all threads treat denormal numbers as zero now.
    """
    on_cpu = [context for context in contexts if context.device_type == "cpu"]
    with _flushing():
        for context in on_cpu:
            _denormal_products(context)  # starts the threads
    return not any(_denormal_products(context).any() for context in on_cpu)


def _denormal_products(context: Context) -> np.ndarray:
    """Return products of 1e-40 that MXNet's threads compute: zeros if these treat denormal numbers as zero."""
    return (mx.nd.full((1 << 16,), 1e-30, ctx=context) * 1e-10).asnumpy()


@contextlib.contextmanager
def _flushing() -> Iterator[None]:
    """Make this thread treat denormal numbers as zero where that is possible, and restore its mode afterwards."""
    try:
        libm = ctypes.CDLL("libm.so.6") if platform.machine() == "x86_64" else None
    except OSError:
        libm = None
    if not libm:
        yield
        return
    before, during = (ctypes.c_uint32 * 8)(), (ctypes.c_uint32 * 8)()
    libm.fegetenv(before)
    libm.fegetenv(during)
    during[_MXCSR] |= _FLUSH_TO_ZERO | _DENORMALS_ARE_ZERO
    libm.fesetenv(during)
    try:
        yield
    finally:
        libm.fesetenv(before)
