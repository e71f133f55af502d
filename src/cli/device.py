"""The options that choose a device, --ctx and --gpu, which every command with a device understands."""

from __future__ import annotations

import argparse

_CTX = "device: cpu, cpu:N for N CPU contexts, gpu:0,1"
CTX_HELP = f"{_CTX} (default: the GPUs of CUDA_VISIBLE_DEVICES, otherwise the CPU)"


def add_device_options(parser: argparse.ArgumentParser, gpu: int | None = None) -> None:
    """Add --ctx and --gpu, of which one may be given; both set `args.ctx`, a device as `devices.get_contexts` takes it.

    Args:
        parser: The command's parser.
        gpu: The default of --gpu: that GPU where there is one, otherwise the CPU. None: the default is that of --ctx,
            and a GPU that is asked for must be there.
    """
    group = parser.add_argument_group("device").add_mutually_exclusive_group()
    if gpu is None:
        default, ctx_help, gpu_help, gpu_type = "", CTX_HELP, "number of a GPU; -1: the CPU", _gpu
    else:
        default, ctx_help, gpu_type = _gpu_or_cpu(str(gpu)), f"{_CTX} (in place of --gpu)", _gpu_or_cpu
        gpu_help = f"number of a GPU; -1, or no such GPU: the CPU (default: {gpu})"
    group.add_argument("--ctx", default=default, help=ctx_help)
    # SUPPRESS: the default of --ctx is that of both
    group.add_argument("--gpu", dest="ctx", default=argparse.SUPPRESS, type=gpu_type, metavar="N", help=gpu_help)


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not the number of a GPU, or -1 for the CPU") from None


def _gpu(text: str) -> str:
    """Turn the number of --gpu into a device: 'gpu:N', or 'cpu' for a negative number."""
    number = _number(text)
    return f"gpu:{number}" if number >= 0 else "cpu"


def _gpu_or_cpu(text: str) -> str:
    """Turn the number of --gpu into a device: 'gpu-or-cpu:N', or 'cpu' for a negative number."""
    number = _number(text)
    return f"gpu-or-cpu:{number}" if number >= 0 else "cpu"
