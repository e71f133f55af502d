"""Print the fraction of the time that every operator takes, in a training step or in inference on a CPU.

    python benchmarks/profile_step.py --networks y1 r50 --batch 16

MXNet's profiler measures the operators; the rest of the step is the time of MXNet's engine and of Python. With
--inference the batch goes through the network that verification binds.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from typing import Callable, NamedTuple

from interleaved import print_headings, print_machine
from modules import SIZE, images, plain_inference, prepare, step_of, training_module

from insightface_mx import symbols
from insightface_mx.base.compat import mx
from insightface_mx.engine.network import bind


class OperatorTime(NamedTuple):
    """How often an operator is called, and how long it takes in all."""

    calls: float
    milliseconds: float


def inference_pass(network: str, batch: int) -> Callable[[], None]:
    """Return a function that runs a network with random weights on a batch, and waits for the embeddings."""
    symbol = symbols.get_symbol(network, 512)
    module = bind(symbol, [mx.cpu()], batch, SIZE)
    module.set_params(*plain_inference(network, symbol, batch).get_params())
    data = mx.io.DataBatch([mx.nd.array(images(batch))])

    def run() -> None:
        module.forward(data, is_train=False)
        mx.nd.waitall()

    return run


def profile(run: Callable[[], None], steps: int) -> tuple[float, dict[str, OperatorTime]]:
    """Return the milliseconds of a step, and for each operator its calls and milliseconds in one step."""
    run()
    with tempfile.TemporaryDirectory() as folder:  # for a file that MXNet writes in any case
        options = {"profile_imperative": True, "profile_symbolic": True, "aggregate_stats": True}
        mx.profiler.set_config(filename=os.path.join(folder, "profile.json"), **options)
        mx.profiler.set_state("run")
        start = time.perf_counter()
        for _ in range(steps):
            run()
        elapsed = 1000 * (time.perf_counter() - start)
        mx.profiler.set_state("stop")
        operators = json.loads(mx.profiler.dumps(reset=True, format="json"))["Time"]["operator"]
    times = {name: OperatorTime(of["Count"] / steps, of["Total"] / steps) for name, of in operators.items()}
    return elapsed / steps, times


def print_profile(network: str, elapsed: float, operators: dict[str, OperatorTime]) -> None:
    """Print a row for each operator, the slowest first, and one row for all that takes under half a percent each."""
    shown = {name: of for name, of in operators.items() if of.milliseconds > 0.005 * elapsed}
    for name, of in sorted(shown.items(), key=lambda item: -item[1].milliseconds):
        print(f"| {network} | {name} | {of.calls:.0f} | {of.milliseconds:.1f} | {of.milliseconds / elapsed:.1%} |")
    rest = elapsed - sum(of.milliseconds for of in shown.values())
    print(f"| {network} | all else | | {rest:.1f} | {rest / elapsed:.1%} |", flush=True)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["y1", "r50"], help="letter and depth (default: y1 r50)")
    parser.add_argument("--batch", type=int, default=16, help="images a step (default: %(default)s)")
    parser.add_argument("--classes", type=int, default=1000, help="number of classes (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="steps to take the mean of (default: %(default)s)")
    parser.add_argument("--inference", action="store_true", help="inference in place of a training step")
    parser.add_argument("--plain", action="store_true", help="train the original graph, not the rewritten one")
    args = parser.parse_args()
    # MXNet reads these when a graph is bound; otherwise it runs, and measures, several operators as one
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
