"""Keep lines of MXNet 1.9.1, which no setting of it disables, off standard error."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Iterator

from insightface_mx.base.compat import mxnet_lock

_STDERR = 2  # file descriptor: MXNet writes below sys.stderr
_LINES = re.compile(
    rb"^\[\d\d:\d\d:\d\d\] \S*/(?:graph_executor|legacy_json_util)\.cc:\d+: (?:"
    rb"subgraph property .* is disabled\.|MXNET_SUBGRAPH_BACKEND=NONE is detected, .*|"
    rb"Loading symbol saved by previous version .*|Symbol successfully upgraded!)\n",
    re.MULTILINE,
)


@contextlib.contextmanager
def quiet_mxnet() -> Iterator[None]:
    """Hold back what is written on standard error meanwhile, and pass it on afterwards without lines that say nothing.

    On every bind MXNet says that oneDNN's fused dense layer, or all fusion, is disabled, as compat.py and proof.py do
    on purpose; and of every symbol of an older version that it could be read. One thread at a time is in the block.
    Elsewhere than on Linux the lines stay.
    """
    with mxnet_lock, contextlib.ExitStack() as stack:
        try:
            stderr = os.dup(_STDERR)
        except OSError:  # closed, so nobody sees a line
            yield
            return
        stack.callback(os.close, stderr)
        if hasattr(os, "memfd_create"):
            stack.enter_context(_held_back(stderr))
        yield


@contextlib.contextmanager
def _held_back(stderr: int) -> Iterator[None]:
    """Collect standard error in memory; stderr: a duplicate of its descriptor."""
    with open(os.memfd_create("stderr"), "w+b") as memory:
        try:
            os.dup2(memory.fileno(), _STDERR)
            yield
        finally:
            os.dup2(stderr, _STDERR)
            memory.seek(0)
            with open(stderr, "wb", closefd=False) as file:
                file.write(_LINES.sub(b"", memory.read()))
