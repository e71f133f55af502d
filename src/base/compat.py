"""The one door to MXNet: `from insightface_mx.base.compat import mx`.

MXNet 1.9.1 uses numpy names that numpy 1.24 removed, and reads some settings from the environment while it loads. Both
are corrected here, and nothing else changes for the rest of the process. MXNet takes seconds to load: it loads when
`mx` is first imported from here, and this module alone does not load it.

MXNet serves one thread at a time. What may be called by several threads binds and runs networks under `mxnet_lock`.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import os
import threading
import warnings
from typing import TYPE_CHECKING, Any, Dict, Iterator

import numpy

from insightface_mx.base.machine import cpu_count

if TYPE_CHECKING:
    mx: Any  # MXNet has no types

# MXNet and its classes in annotations; each is Any for the type checker.
MXNet = Any
Symbol = Any
NDArray = Any
Context = Any
Module = Any
Params = Dict[str, NDArray]  # parameter name -> value

mxnet_lock = threading.RLock()  # of the process, as networks share the engine and the environment that binding reads

L2_EPSILON = 1e-10  # what MXNet's operator L2Normalization adds to a squared length


def __getattr__(name: str) -> MXNet:
    """Load MXNet for the name `mx`."""
    if name == "mx":
        return _load_mxnet()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _restore_numpy_aliases() -> None:
    """Put back numpy.bool, .int, .float, .complex, .object and .str, which are the builtins of the same name."""
    for name in ("bool", "int", "float", "complex", "object", "str"):
        if name not in vars(numpy):
            setattr(numpy, name, getattr(builtins, name))


@contextlib.contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Set the variables that the user has not set, and remove them again."""
    missing = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]


@functools.lru_cache(maxsize=None)
def _load_mxnet() -> MXNet:
    """Import MXNet once, with the settings that it reads from the environment while it loads."""
    _restore_numpy_aliases()
    os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")  # otherwise a line on standard error for every bind
    # Threads wait busily for about 0.1 ms, then sleep. Sleeping at once makes training slower on an idle machine, and
    # waiting longer makes it many times slower on a machine that other programs use, too.
    waiting = {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "10000"}
    settings = {
        **({} if "OMP_WAIT_POLICY" in os.environ else waiting),
        "OMP_NUM_THREADS": str(cpu_count()),  # otherwise MXNet uses only half of the CPUs
        # oneDNN's fused dense layer fails after a 1x1 map, and keeps its old weights after Module.set_params
        "MXNET_DISABLE_MKLDNN_FC_OPT": "1",
    }
    with mxnet_lock, _environment(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about MXNet's own code: numpy functions and escape sequences
        import mxnet
    return mxnet
