"""Memory and time of the training head: the graph that is trained against the one-hot graph that is saved.

python benchmarks/head_memory.py

Memory is what MXNet plans between the head's operators, beside the class weights and their gradient. Times are medians
of steps (forward and backward) taken in turn.
"""

import argparse
import statistics
import sys
import time

from insightface_mx import losses
from insightface_mx.base.compat import mx
from insightface_mx.cli.fields import add_options, read_options
from insightface_mx.options import LossOptions
from insightface_mx.training.memory_report import planned_bytes

COLUMNS = "{:>8} {:>10} {:>26} {:>8} {:>8} {:>9}\n"


def no_margin(embedding, num_classes, loss, emb_size):
    """Softmax of the scaled cosines: what no margin can be cheaper than."""
    weight = mx.sym.L2Normalization(mx.sym.Variable("fc7_weight", shape=(num_classes, emb_size)))
    cosines = mx.sym.FullyConnected(
        mx.sym.L2Normalization(embedding) * loss.margin_s, weight, no_bias=True, num_hidden=num_classes
    )
    return mx.sym.Group([mx.sym.BlockGrad(embedding), mx.sym.SoftmaxOutput(cosines, name="softmax")])


HEADS = {"no margin": no_margin, "trained": losses.training_symbol, "saved, one-hot": losses.checkpoint_symbol}


def bind(num_classes, batch, loss, emb_size):
    """An executor for each of HEADS, all on the same weights, embeddings and gradients."""
    context = mx.cpu()
    shapes = {"x": (batch, emb_size), "fc7_weight": (num_classes, emb_size)}
    arrays = {name: mx.nd.random.normal(shape=shape) for name, shape in shapes.items()}
    gradients = {name: mx.nd.empty(shape) for name, shape in shapes.items()}
    arrays["softmax_label"] = mx.nd.random.randint(0, num_classes, (batch,)).astype("float32")
    arrays[losses.BETA] = mx.nd.full((1,), loss.beta_min)
    symbols = {name: head(mx.sym.Variable("x"), num_classes, loss, emb_size) for name, head in HEADS.items()}
    return {name: symbol.bind(context, _used(symbol, arrays), gradients) for name, symbol in symbols.items()}


def _used(symbol, arrays):
    return {name: arrays[name] for name in symbol.list_arguments()}


def step_seconds(executors, steps):
    """Median seconds of a step of each executor."""
    seconds = {name: [] for name in executors}
    for _ in range(steps + 1):
        for name, executor in executors.items():
            start = time.perf_counter()
            executor.forward(is_train=True)
            executor.backward()
            mx.nd.waitall()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}  # the first one warms up


def main():
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
