"""Add the options that choose a device, --ctx and --gpu: they mean the same in every command."""

from __future__ import annotations

import argparse

_CTX = "device: cpu, cpu:N for N CPU contexts, gpu:0,1"
CTX_HELP = f"{_CTX} (default: the GPUs of CUDA_VISIBLE_DEVICES, otherwise the CPU)"


def add_device_options(parser: argparse.ArgumentParser, gpu: int | None = None) -> None:
    """Add --ctx and --gpu, which exclude each other; both set `args.ctx`, a device for `devices.get_contexts`.

    Args:
        parser: The command's parser.
        gpu: The default of --gpu: this GPU if there is one, otherwise the CPU. None: the default is that of --ctx, and
            a GPU that does not exist is an error.
    """
    group = parser.add_argument_group("device").add_mutually_exclusive_group()
    if gpu is None:
        default, ctx_help, gpu_help, gpu_type = "", CTX_HELP, "index of a GPU; -1: the CPU", _gpu
    else:
        default, ctx_help, gpu_type = _gpu_or_cpu(str(gpu)), f"{_CTX} (in place of --gpu)", _gpu_or_cpu
        gpu_help = f"index of a GPU; -1, or no such GPU: the CPU (default: {gpu})"
    group.add_argument("--ctx", default=default, help=ctx_help)
    # SUPPRESS: the default of --ctx is that of both
    group.add_argument("--gpu", dest="ctx", default=argparse.SUPPRESS, type=gpu_type, metavar="N", help=gpu_help)


def _gpu(text: str) -> str:
    """Return the device of --gpu: 'gpu:N', or 'cpu' for a negative index."""
    index = _index(text)
    return f"gpu:{index}" if index >= 0 else "cpu"


def _gpu_or_cpu(text: str) -> str:
    """Return the device of --gpu: 'gpu-or-cpu:N', or 'cpu' for a negative index."""
    index = _index(text)
    return f"gpu-or-cpu:{index}" if index >= 0 else "cpu"


def _index(text: str) -> int:
    """Parse the index of a GPU."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not the index of a GPU, or -1 for the CPU") from None
