"""Which devices a run uses."""

import logging
import os

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.engine import denormals

HELP = "devices: cpu, cpu:N for N CPU contexts, gpu:0,1 (default: the GPUs of CUDA_VISIBLE_DEVICES, else the CPU)"


def get_contexts(choice=""):
    """List of MXNet contexts for the option --ctx.

    `choice` is 'cpu', 'cpu:N' (N contexts on the processor, one batch each), 'gpu:0,1', or empty: every GPU that
    CUDA_VISIBLE_DEVICES names, and the processor where it names none. Raises UserError for GPUs that are not there.
    """
    contexts = _contexts(choice)
    denormals.flush_in_threads(contexts)
    return contexts


def _contexts(choice):
    kind, _, which = choice.partition(":")
    if not choice:
        return _visible_gpus() or [_cpu_by_default()]
    if kind == "cpu" and (not which or which.isdigit() and int(which) > 0):
        return [mx.cpu(i) for i in range(int(which or 1))]
    if kind == "gpu" and all(number.isdigit() for number in which.split(",")):
        return _gpus([int(number) for number in which.split(",")], f"--ctx {choice}")
    raise UserError(f"--ctx {choice}: not known; {HELP}")


def _visible_gpus():
    visible = [number for number in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if number.strip()]
    if not visible or visible[0].strip() == "-1":
        return []
    return _gpus(range(len(visible)), f"CUDA_VISIBLE_DEVICES={','.join(visible)}")


def _gpus(numbers, asked_by):
    present = mx.context.num_gpus()
    if any(number >= present for number in numbers):
        raise UserError(f"{asked_by}: MXNet sees {present} GPUs; use --ctx cpu, or install the GPU wheel (cu112)")
    return [mx.gpu(number) for number in numbers]


def _cpu_by_default():
    logging.info("no GPU asked for: training on the CPU")
    return mx.cpu()
