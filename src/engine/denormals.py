"""Numbers so near zero that a processor takes ten to a hundred times longer over them, and what avoids them.

Weight decay drives the weights of dead channels to about 1e-40, below float32's smallest normal number (1.2e-38). Such
denormal weights, and denormal products of weights that are merely small, go through a slow path of the processor: a
MobileFaceNet of 2018 takes 88 ms an image with them and 24 without. They change no output that one could see.
"""

import contextlib
import ctypes
import logging
import platform

import numpy as np

from insightface_mx.base.compat import mx

# Beside weights of 1e-12 one of 1e-20 is beyond float32's 24 bits, and a channel of nothing larger is dead. Products
# with a larger weight turn denormal only where the activation, too, is as good as zero: under 1e-18.
THRESHOLD = 1e-20

_MXCSR = 7  # its place in the C library's fenv_t on x86-64, in words of 32 bits
_FLUSH_TO_ZERO = 0x8000  # results
_DENORMALS_ARE_ZERO = 0x0040  # operands


def flush(params, threshold=THRESHOLD):
    """Set what is nearer to zero than `threshold` to zero, in place; logs and returns how many numbers that were.

    params: dict name -> NDArray, as a checkpoint is loaded; the file stays as it is.
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


def flush_in_threads(contexts):
    """Let MXNet's threads take denormal numbers for zero, on CPU contexts; returns whether they all do.

    contexts: list of MXNet contexts. A thread inherits the processor's control word from the thread that starts it, and
    MXNet starts threads as they are first needed: call this before any operation. Later it has no effect, nor where the
    processor is not x86-64 or the C library not glibc. The calling thread, and so numpy in it, stays as it was.
    """
    on_cpu = [context for context in contexts if context.device_type == "cpu"]
    with _flushing():
        for context in on_cpu:
            _denormals(context)
    return not any(_denormals(context).any() for context in on_cpu)


def _denormals(context):
    """Products of 1e-40, computed in MXNet's threads: zeros where those flush."""
    return (mx.nd.full((1 << 16,), 1e-30, ctx=context) * 1e-10).asnumpy()


@contextlib.contextmanager
def _flushing():
    """Set this thread's flags, where they can be reached, and put them back."""
    try:
        libm = ctypes.CDLL("libm.so.6") if platform.machine() == "x86_64" else None
    except OSError:
        libm = None
    if not libm:
        yield
        return
    before, during = ((ctypes.c_uint32 * 8)() for _ in range(2))
    libm.fegetenv(before)
    libm.fegetenv(during)
    during[_MXCSR] |= _FLUSH_TO_ZERO | _DENORMALS_ARE_ZERO
    libm.fesetenv(during)
    try:
        yield
    finally:
        libm.fesetenv(before)
