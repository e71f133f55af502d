"""Compare a training step on a CPU with the rewritten graph, the original graph, and PyTorch where it is installed.

    python benchmarks/training_step.py --networks y1 r18 r50 r100 --batch 16

A step is the forward and backward pass, with ArcFace, and SGD with momentum. All start from the same parameters. Their
embeddings are compared first, to prove that the networks are equal.
"""

from __future__ import annotations

import argparse
import importlib.util
from types import ModuleType

import numpy as np
from interleaved import Subjects, measure, print_headings, print_machine, print_rows
from modules import images, prepare, step_of, training_module

from insightface_mx.base.machine import cpu_count


def subjects(network: str, batch: int, classes: int, torch_side: ModuleType | None) -> Subjects:
    """Return the steps of equal networks; torch_side: the module torch_networks, or None."""
    plain, data = training_module(network, batch, classes, fast=False)
    fast, _ = training_module(network, batch, classes, fast=True)
    params = plain.get_params()
    fast.set_params(*params)
    found: Subjects = {"plain graph": step_of(plain, data), "fast graph": step_of(fast, data)}
    plain.forward(data, is_train=False)
    expected = plain.get_outputs()[0].asnumpy()
    fast.forward(data, is_train=False)
    compare(network, fast.get_outputs()[0].asnumpy(), expected)
    if torch_side:
        ordered = {name: params[0][name] for name in plain.symbol.list_arguments() if name in params[0]}
        labels, pixels = data.label[0].asnumpy().astype(np.int64), images(batch)
        model, found["PyTorch"] = torch_side.training_step(network, classes, pixels, labels, ordered, cpu_count())
        compare(network, torch_side.embeddings(model, pixels), expected)
    return found


def compare(network: str, found: np.ndarray, expected: np.ndarray) -> None:
    """Raise ValueError if embeddings of the same images differ."""
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    if not difference < 1e-4:
        raise ValueError(f"{network}: the networks are not equal, their embeddings differ by {difference:.1e}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = ["y1", "r18", "r34", "r50", "r100"]
    parser.add_argument("--networks", nargs="+", default=["y1", "r18", "r50", "r100"], choices=known)
    parser.add_argument("--batch", type=int, nargs="+", default=[16], help="images a step (default: 16)")
    parser.add_argument("--classes", type=int, default=1000, help="number of classes (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds, after two to warm up (default: %(default)s)")
    args = parser.parse_args()
    prepare()
    # torch is an optional package
    torch_side = importlib.import_module("torch_networks") if importlib.util.find_spec("torch") else None
    print_headings("network", "batch", "step")
    for network in args.networks:
        for batch in args.batch:
            seconds = measure(subjects(network, batch, args.classes, torch_side), args.repeats)
            print_rows((network, str(batch)), seconds, batch)
    print_machine(f"torch {torch_side.torch.__version__}" if torch_side else "no torch (pip install torch)")


if __name__ == "__main__":
    main()
