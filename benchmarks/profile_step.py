"""Where the time of a training step, or of a pass of inference, goes on a CPU: the share of every operator.

    python benchmarks/profile_step.py --networks y1 r50 --batch 16

MXNet's profiler counts the time of operators; what the step takes beyond their sum is the engine and Python's. With
--inference the batch goes through the Module that verification binds.
"""

import argparse
import json
import os
import tempfile
import time

from interleaved import print_headings, print_machine
from modules import SIZE, images, plain_inference, prepare, step_of, training_module

from insightface_mx import symbols
from insightface_mx.base.compat import mx
from insightface_mx.engine import network as embedding


def inference_pass(network, batch):
    """A function that takes a batch through a network with random weights, and awaits the embeddings."""
    symbol = symbols.get_symbol(network, 512)
    module = embedding.bind(symbol, [mx.cpu()], batch, SIZE)
    module.set_params(*plain_inference(network, symbol, batch).get_params())
    data = mx.io.DataBatch([mx.nd.array(images(batch))])

    def run():
        module.forward(data, is_train=False)
        mx.nd.waitall()

    return run


def profile(run, steps):
    """Milliseconds of a step by the clock, and a dict operator -> (calls, milliseconds) of one step."""
    run()
    with tempfile.TemporaryDirectory() as folder:  # for a file that MXNet writes, whether it is wanted or not
        options = {"profile_imperative": True, "profile_symbolic": True, "aggregate_stats": True}
        mx.profiler.set_config(filename=os.path.join(folder, "profile.json"), **options)
        mx.profiler.set_state("run")
        start = time.perf_counter()
        for _ in range(steps):
            run()
        elapsed = 1000 * (time.perf_counter() - start)
        mx.profiler.set_state("stop")
        operators = json.loads(mx.profiler.dumps(reset=True, format="json"))["Time"]["operator"]
    return elapsed / steps, {name: (of["Count"] / steps, of["Total"] / steps) for name, of in operators.items()}


def print_profile(network, elapsed, operators):
    """Rows of the table: operators from the slowest on, those under half a percent and all else as one."""
    shown = {name: of for name, of in operators.items() if of[1] > 0.005 * elapsed}
    for name, (calls, milliseconds) in sorted(shown.items(), key=lambda item: -item[1][1]):
        print(f"| {network} | {name} | {calls:.0f} | {milliseconds:.1f} | {milliseconds / elapsed:.1%} |")
    rest = elapsed - sum(milliseconds for _, milliseconds in shown.values())
    print(f"| {network} | all else | | {rest:.1f} | {rest / elapsed:.1%} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["y1", "r50"], help="letter and depth (default: y1 r50)")
    parser.add_argument("--batch", type=int, default=16, help="images a step (default: %(default)s)")
    parser.add_argument("--classes", type=int, default=1000, help="number of classes (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="steps to take the mean of (default: %(default)s)")
    parser.add_argument("--inference", action="store_true", help="a pass of inference in place of a training step")
    parser.add_argument("--plain", action="store_true", help="the plain graph in place of the fast one, in training")
    args = parser.parse_args()
    # read when a graph is bound: else operators are run, and timed, in bunches
    os.environ.update(MXNET_EXEC_BULK_EXEC_TRAIN="0", MXNET_EXEC_BULK_EXEC_INFERENCE="0")
    prepare()
    print_headings("network", "operator", headings=("calls", "ms", "of the time"))
    for network in args.networks:
        if args.inference:
            run = inference_pass(network, args.batch)
        else:
            run = step_of(*training_module(network, args.batch, args.classes, fast=not args.plain))
        print_profile(network, *profile(run, args.steps))
    print_machine()


if __name__ == "__main__":
    main()
