"""Compare memory and time of the classifier and loss: the graph that is trained and the one-hot graph that is saved.

python benchmarks/head_memory.py

Memory is what MXNet plans between the operators; the class weights and their gradient come on top. Times are medians of
steps (forward and backward) that take turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

from insightface_mx import losses
from insightface_mx.base.compat import Symbol, mx
from insightface_mx.cli.fields import add_options, read_options
from insightface_mx.engine.module_state import Executor
from insightface_mx.options import LossOptions
from insightface_mx.training.memory_report import planned_bytes

COLUMNS = "{:>8} {:>10} {:>26} {:>8} {:>8} {:>9}\n"


def no_margin(embedding: Symbol, num_classes: int, loss: LossOptions, emb_size: int) -> Symbol:
    """Return the softmax of the scaled cosines, without a margin: a margin can only add to its cost."""
    weight = mx.sym.L2Normalization(mx.sym.Variable("fc7_weight", shape=(num_classes, emb_size)))
    cosines = mx.sym.FullyConnected(
        mx.sym.L2Normalization(embedding) * loss.margin_s, weight, no_bias=True, num_hidden=num_classes
    )
    return mx.sym.Group([mx.sym.BlockGrad(embedding), mx.sym.SoftmaxOutput(cosines, name="softmax")])


HEADS = {"no margin": no_margin, "trained": losses.training_symbol, "saved, one-hot": losses.checkpoint_symbol}


def bind(num_classes: int, batch: int, loss: LossOptions, emb_size: int) -> dict[str, Executor]:
    """Return an executor for each of HEADS; all share the weights, embeddings and gradients."""
    context = mx.cpu()
    shapes = {"x": (batch, emb_size), "fc7_weight": (num_classes, emb_size)}
    arrays = {name: mx.nd.random.normal(shape=shape) for name, shape in shapes.items()}
    gradients = {name: mx.nd.empty(shape) for name, shape in shapes.items()}
    arrays["softmax_label"] = mx.nd.random.randint(0, num_classes, (batch,)).astype("float32")
    arrays[losses.BETA] = mx.nd.full((1,), loss.beta_min)
    symbols = {name: head(mx.sym.Variable("x"), num_classes, loss, emb_size) for name, head in HEADS.items()}
    used = {name: {key: arrays[key] for key in symbol.list_arguments()} for name, symbol in symbols.items()}
    return {name: symbol.bind(context, used[name], gradients) for name, symbol in symbols.items()}


def step_seconds(executors: dict[str, Executor], steps: int) -> dict[str, float]:
    """Return the median seconds of a step of each executor."""
    seconds: dict[str, list[float]] = {name: [] for name in executors}
    for _ in range(steps + 1):
        for name, executor in executors.items():
            start = time.perf_counter()
            executor.forward(is_train=True)
            executor.backward()
            mx.nd.waitall()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}  # the first one warms up


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--emb-size", type=int, default=512, help="length of the embedding")
    parser.add_argument("--batch", type=int, default=64, help="samples")
    parser.add_argument("--classes", type=int, nargs="+", default=[10000, 85742], help="numbers of classes")
    parser.add_argument("--steps", type=int, default=15, help="steps to take the median of")
    add_options(parser, "loss", LossOptions)
    args = parser.parse_args()
    loss = read_options(args, LossOptions)
    if losses.LOSSES[args.loss_type].margin is None:
        parser.error(f"--loss-type {args.loss_type} has no margin to compare")
    sys.stdout.write(COLUMNS.format("classes", "head", "batch x classes array, MiB", "MiB", "ms", "x one-hot"))
    for num_classes in args.classes:
        executors = bind(num_classes, args.batch, loss, args.emb_size)
        seconds = step_seconds(executors, args.steps)
        for name, executor in executors.items():
            array = f"{args.batch * num_classes * 4 / 2**20:.1f}"
            ratio = f"{seconds[name] / seconds['saved, one-hot']:.2f}"
            row = num_classes, name, array, planned_bytes(executor) >> 20, f"{1000 * seconds[name]:.1f}", ratio
            sys.stdout.write(COLUMNS.format(*row))


if __name__ == "__main__":
    main()
