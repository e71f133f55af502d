"""The one door to MXNet: `from insightface_mx.compat import mx`.

MXNet 1.9.1 uses numpy names that numpy 1.24 removed, and starts with half the processors unless OMP_NUM_THREADS
says otherwise before it loads. Both are put right here, and nothing else changes for the rest of the process.
"""

import builtins
import os
import warnings

import numpy


def _restore_numpy_aliases():
    """Put back numpy.bool, .int, .float, .complex, .object and .str, which are the builtins of the same name."""
    for name in ("bool", "int", "float", "complex", "object", "str"):
        if name not in vars(numpy):
            setattr(numpy, name, getattr(builtins, name))


def processors():
    """Number of processors this process may use (its affinity mask, not the machine's count)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _import_mxnet():
    chosen_by_user = "OMP_NUM_THREADS" in os.environ
    os.environ.setdefault("OMP_NUM_THREADS", str(processors()))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of numpy functions and escape sequences that are MXNet's business
            import mxnet
    finally:
        if not chosen_by_user:
            del os.environ["OMP_NUM_THREADS"]
    return mxnet


_restore_numpy_aliases()
mx = _import_mxnet()
