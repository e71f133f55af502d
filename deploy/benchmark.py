"""Compare the backends side by side, and print a table in Markdown.

python benchmark.py --networks y1,r50,r100
python benchmark.py --model ../model/r50,1

A row is a network and what runs it: `mxnet, plain` is the checkpoint's graph as MXNet has it, `mxnet` the same graph
with this project's fast PReLU, `int8` what quantize.py makes of it. Each row runs in a process of its own: images in a
second, median latency and 95th percentile of a pass in ms at every batch size, the process's peak memory in MB (1 MB is
1,000,000 bytes; MXNet's library, which every process loads, is part of it), and the largest difference from `mxnet,
plain` in an embedding, as a share of the largest number. Networks get weights by chance, as speed does not depend on
them; what int8 loses on real faces is what quantize.py says.
"""

import argparse
import multiprocessing
import os
import platform
import sys
import tempfile
import time

import numpy as np
from tqdm import tqdm

from insightface_mx import symbols
from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError, exit_on_user_error
from insightface_mx.base.machine import cpu_count, peak_bytes
from insightface_mx.cli import types
from insightface_mx.conversion import export, quantize
from insightface_mx.conversion import proof as onnx_check
from insightface_mx.embedding import backends
from insightface_mx.formats import checkpoint

ROWS = {  # name: backend, and whether it runs the int8 file
    "mxnet, plain": ("plain", False),
    "mxnet": ("mxnet", False),
    "onnxruntime": ("onnxruntime", False),
    "onnxruntime, int8": ("onnxruntime", True),
    "openvino": ("openvino", False),
    "openvino, int8": ("openvino", True),
}
VERSIONS = {"y": {"version_output": "GDC"}}  # what the first letter of a network is published with
WARM_UP, LEAST = 2, 5  # passes that are not counted, and that are


def make_checkpoint(network, prefix, image_size):
    """Write checkpoint PREFIX,0 of a network with weights by chance, the same every time."""
    embedding = symbols.get_symbol(network, 512, image_size=image_size, **VERSIONS.get(network[0], {}))
    mx.random.seed(1)
    module = mx.mod.Module(embedding, label_names=None)
    module.bind([("data", (1, 3, *image_size))], for_training=False)
    module.init_params(symbols.get_initializer(network))
    checkpoint.save(prefix, 0, embedding, *module.get_params())


def measure(backend, model, image_size, batches, seconds):
    """Run a network: dict batch -> seconds of every pass, peak memory in bytes, embeddings of made images."""
    images = onnx_check.make_images(image_size)
    run = _runner(backend, model, image_size)
    embeddings = run(images)
    times = {batch: _times(run, np.resize(images, (batch, *images.shape[1:])), seconds) for batch in batches}
    return times, peak_bytes(), embeddings


def _runner(backend, model, image_size):
    if backend == "mxnet":
        return backends.load(model, image_size, backend).run
    if backend != "plain":
        return backends.onnx_backend(backend, model, image_size).run
    network, bound = export.load_network(model, image_size), {}

    def run(images):
        if images.shape not in bound:
            bound[images.shape] = onnx_check.mxnet_runner(network.symbol, network.params, images.shape)
        return bound[images.shape](images)[0]

    return run


def _times(run, images, seconds):
    for _ in range(WARM_UP):
        run(images)
    times, end = [], time.perf_counter() + seconds
    while len(times) < LEAST or time.perf_counter() < end:
        start = time.perf_counter()
        run(images)
        times.append(time.perf_counter() - start)
    return times


def table_head(batches):
    """The two first lines of the table."""
    columns = [f"batch {batch}: images/s | median ms | 95 % ms" for batch in batches]
    head = " | ".join(["network", "backend", *columns, "memory MB", "difference"])
    return [f"| {head} |", f"|---|---|{'--:|' * (3 * len(batches) + 2)}"]


def table_row(network, name, measured, reference):
    """A line of the table; reference: embeddings of the plain network."""
    times, memory, embeddings = measured
    cells = [network, name]
    for batch, passes in times.items():
        middle, late = 1e3 * np.percentile(passes, (50, 95))
        cells += [f"{1e3 * batch / middle:.1f}", f"{middle:.1f}", f"{late:.1f}"]
    difference = np.abs(embeddings - reference).max() / np.abs(reference).max()
    return f"| {' | '.join([*cells, f'{memory / 1e6:.0f}', f'{difference:.1g}'])} |"


def run(args):
    """Measure every row and print the table as it grows."""
    image_size, batches = args.image_size, args.batch
    say(f"{platform.processor() or platform.machine()}, {cpu_count()} processors; {args.seconds:g} s a figure")
    for line in table_head(batches):
        say(line)
    networks = [args.model] if args.model else args.networks.split(",")
    with tqdm(total=len(networks) * len(ROWS), unit="row", disable=None) as progress:
        for network in networks:
            with tempfile.TemporaryDirectory() as folder:
                models = _models(network, folder, image_size, bool(args.model))
                _print_rows(network, models, (image_size, batches, args.seconds), progress)


def _models(network, folder, image_size, is_checkpoint):
    """The checkpoint, and the ONNX files by whether they are int8."""
    prefix = os.path.join(folder, "network")
    if not is_checkpoint:
        if network not in symbols.NAMES:
            raise UserError(f"--networks: {network} is not known; insightface-networks lists all")
        make_checkpoint(network, prefix, image_size)
    model = network if is_checkpoint else f"{prefix},0"
    files = {int8: os.path.join(folder, f"{int8}.onnx") for int8 in (False, True)}
    images = onnx_check.make_images(image_size)
    export.export(export.load_network(model, image_size), files[False], images, fold_norms=True)
    if quantize.is_installed():
        quantize.quantize(files[False], files[True], images)
    return model, files


def _print_rows(network, models, settings, progress):
    checkpoint_name, files = models
    reference = None
    for name, (backend, int8) in ROWS.items():
        progress.update()
        missing = backend in backends.PACKAGES and not backends.installed(backend)
        if missing or (int8 and not quantize.is_installed()):
            say(f"| {network} | {name} | not installed |")
            continue
        model = checkpoint_name if backend in ("plain", "mxnet") else files[int8]
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            measured = pool.apply(measure, (backend, model, *settings))
        reference = measured[2] if reference is None else reference
        say(table_row(network, name, measured, reference))


def say(line):
    """Print a result, without tearing the progress bar."""
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()


def parser():
    """The command's options."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = result.add_argument
    add("--networks", default="y1,r50,r100", metavar="NAMES", help="letter and depth each (default: %(default)s)")
    add("--model", metavar="PREFIX,EPOCH", help="a checkpoint, in place of --networks")
    add("--batch", type=whole_numbers, default="1,32", metavar="N,N", help="images in a pass (default: %(default)s)")
    add("--seconds", type=float, default=5, help="of measuring for every figure (default: %(default)s)")
    add(
        "--image-size",
        type=types.image_size,
        default="112,112",
        metavar="H,W",
        help="the network's input, pixels (default: %(default)s)",
    )
    return result


def whole_numbers(text):
    """The numbers above 0 of a comma-separated list."""
    if not all(part.isdigit() and int(part) for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of whole numbers above 0")
    return [int(part) for part in text.split(",")]


def main(argv=None):
    """Run the command; exit status 2 with a message for what the user can mend."""
    args = parser().parse_args(argv)
    with exit_on_user_error():
        run(args)


if __name__ == "__main__":
    main()
