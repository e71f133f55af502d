"""Bind a graph without the lines that MXNet 1.9.1 then writes on standard error, and that no setting of it disables."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Iterator

from insightface_mx.base.compat import mxnet_lock

_STDERR = 2  # file descriptor: MXNet writes below sys.stderr
_LINES = re.compile(
    rb"^\[\d\d:\d\d:\d\d\] \S*graph_executor\.cc:\d+: "
    rb"(?:subgraph property .* is disabled\.|MXNET_SUBGRAPH_BACKEND=NONE is detected, .*)\n",
    re.MULTILINE,
)


@contextlib.contextmanager
def quiet_bind() -> Iterator[None]:
    """Hold back what is written on standard error meanwhile, and pass it on afterwards without MXNet's two lines.

    They say on every bind that oneDNN's fused dense layer, or all fusion, is disabled, as compat.py and proof.py do on
    purpose. One thread at a time binds. Elsewhere than on Linux the lines stay.
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
        os.dup2(memory.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(stderr, _STDERR)
            memory.seek(0)
            with open(stderr, "wb", closefd=False) as file:
                file.write(_LINES.sub(b"", memory.read()))
