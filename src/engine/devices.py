"""Turn the text of a device option into MXNet contexts."""

from __future__ import annotations

import os
from typing import Iterable

from insightface_mx.base.compat import Context, mx
from insightface_mx.base.errors import UserError
from insightface_mx.cli.device import CTX_HELP
from insightface_mx.engine.cpu_rewrite import once_log


def get_contexts(device: str = "") -> list[Context]:
    """Return the MXNet contexts of a device.

    This starts no thread of MXNet, so call `denormals.flush_in_threads` with the result before any operation.

    Args:
        device: 'cpu'; 'cpu:N' for N contexts on the CPU, one batch each; 'gpu:0,1' for these GPUs; 'gpu-or-cpu:N' for
            GPU N where there is one, otherwise the CPU; '' for every GPU that CUDA_VISIBLE_DEVICES names, otherwise
            the CPU.

    Raises:
        UserError: The text is not understood, or MXNet does not see a GPU that it names.
    """
    kind, _, ids = device.partition(":")
    if not device:
        return _visible_gpus() or _cpu("no GPU asked for: on the CPU")
    if kind == "cpu" and (not ids or ids.isdigit() and int(ids) > 0):
        return [mx.cpu(i) for i in range(int(ids or 1))]
    if kind == "gpu" and all(gpu.isdigit() for gpu in ids.split(",")):
        return _gpus([int(gpu) for gpu in ids.split(",")], f"device {device}")
    if kind == "gpu-or-cpu" and ids.isdigit():
        present = int(ids) < mx.context.num_gpus()
        return [mx.gpu(int(ids))] if present else _cpu(f"no GPU {ids}: on the CPU")
    raise UserError(f"device {device} is not known; {CTX_HELP}")


def _cpu(log_line: str) -> list[Context]:
    """Return the CPU where another device might have been expected, and log why, once."""
    once_log(log_line)
    return [mx.cpu()]


def _visible_gpus() -> list[Context]:
    visible = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu.strip()]
    if not visible or visible[0].strip() == "-1":
        return []
    return _gpus(range(len(visible)), f"CUDA_VISIBLE_DEVICES={','.join(visible)}")


def _gpus(ids: Iterable[int], asked_by: str) -> list[Context]:
    present = mx.context.num_gpus()
    if any(gpu >= present for gpu in ids):
        raise UserError(f"{asked_by}: MXNet sees {present} GPUs; use --ctx cpu, or install the GPU wheel (cu112)")
    return [mx.gpu(gpu) for gpu in ids]
