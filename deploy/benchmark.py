"""Compare the back ends next to each other, and print a table in Markdown.

A row is a network and what runs it: `mxnet, plain` is the checkpoint's original graph in MXNet, `mxnet` the same graph
with this project's fast PReLU, `int8` the file that quantize.py makes of it. Each row runs in a process of its own:
images in a second, median latency and 95th percentile of a pass in ms at every batch size, the process's peak memory in
MB (1 MB is 1,000,000 bytes; MXNet's library, which every process loads, is part of it), and the largest difference from
`mxnet, plain` in an embedding, as a fraction of the largest value. Networks have random parameters, as speed does not
depend on them; quantize.py measures how much accuracy int8 loses on real faces.
"""

from __future__ import annotations

if __name__ == "__main__":  # first, so that a signal ends the imports below, too, without a traceback
    from insightface_mx.cli import start

    start.benchmark()

import argparse
import os
import platform
import tempfile
import time
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Sequence

from insightface_mx.base.errors import UserError
from insightface_mx.base.machine import cpu_count
from insightface_mx.cli import types
from insightface_mx.cli.fields import refuse_idle
from insightface_mx.cli.main import make_parser, run_command
from insightface_mx.cli.output import say

if TYPE_CHECKING:
    import numpy as np

    from insightface_mx.cli.types import Size

EXAMPLE = """
insightface-benchmark --networks y1,r50,r100
insightface-benchmark --model model/r50,1
"""
NETWORKS = "y1,r50,r100"
PLAIN = "plain"  # MXNet with the original graph


class Row(NamedTuple):
    """A row of the table for a network: its name, and what runs the network; is_int8: in the int8 file."""

    name: str
    backend: str
    is_int8: bool


ROWS = (
    Row("mxnet, plain", PLAIN, False),
    Row("mxnet", "mxnet", False),
    Row("onnxruntime", "onnxruntime", False),
    Row("onnxruntime, int8", "onnxruntime", True),
    Row("openvino", "openvino", False),
    Row("openvino, int8", "openvino", True),
)
VERSIONS: dict[str, dict[str, Any]] = {
    "y": {"version_output": "GDC"}
}  # first letter of a network -> options that it is published with
WARM_UP, LEAST = 2, 5  # passes that are not counted, and the least number of those that are


class Models(NamedTuple):
    """A network as a checkpoint 'PREFIX,EPOCH', as an ONNX file, and as an int8 file, which may be missing."""

    checkpoint: str
    single: str
    int8: str


class Measurement(NamedTuple):
    """How a network ran.

    Attributes:
        seconds: Batch size -> seconds of every pass.
        peak_bytes: Memory of the process.
        embeddings: Of the synthetic images, (n, d).
    """

    seconds: dict[int, list[float]]
    peak_bytes: int
    embeddings: np.ndarray


def run(args: argparse.Namespace) -> None:
    """Measure every row and print the table as it grows."""
    from tqdm import tqdm

    from insightface_mx.embedding.backends import image_size_of
    from insightface_mx.photos import workers

    if args.model and args.networks != NETWORKS:
        refuse_idle(["--networks"], "with --model: leave one of them out")
    say(f"{platform.processor() or platform.machine()}, {cpu_count()} CPUs; {args.seconds:g} s a value")
    for line in table_head(args.batch):
        say(line)
    networks = [args.model] if args.model else args.networks.split(",")
    image_size = args.image_size or (image_size_of(args.model) if args.model else types.USUAL_SIZE)
    with tqdm(total=len(networks) * len(ROWS), unit="row", disable=None) as progress:
        for network in networks:
            with tempfile.TemporaryDirectory() as folder:
                prefix = os.path.join(folder, "network")
                checkpoint = args.model or make_checkpoint(network, prefix, image_size)
                models = export_models(checkpoint, folder, image_size)
                reference = None
                for row in ROWS:
                    progress.update()
                    if not is_installed(row):
                        say(f"| {network} | {row.name} | not installed |")
                        continue
                    model = model_of(row, models)
                    measured = workers.apart(measure, row.backend, model, image_size, args.batch, args.seconds)
                    reference = measured.embeddings if reference is None else reference
                    say(table_row(network, row.name, measured, reference))


def make_checkpoint(network: str, prefix: str, image_size: Size) -> str:
    """Write a checkpoint of a network with random parameters, the same every time, and return 'PREFIX,0'.

    Raises:
        UserError: There is no such network, or it takes no such images.
    """
    from insightface_mx import symbols
    from insightface_mx.base.compat import mx
    from insightface_mx.base.quiet import quiet_mxnet
    from insightface_mx.formats import checkpoint

    if network not in symbols.NAMES:
        raise UserError(f"--networks: {network} is not known; insightface-networks lists all")
    try:
        embedding = symbols.get_symbol(network, 512, image_size=image_size, **VERSIONS.get(network[0], {}))
    except ValueError as error:
        raise UserError(f"--networks: {error}") from error
    mx.random.seed(1)
    module = mx.mod.Module(embedding, label_names=None)
    with quiet_mxnet():
        module.bind([("data", (1, 3, *image_size))], for_training=False)
    module.init_params(symbols.get_initializer(network))
    checkpoint.save(prefix, 0, embedding, *module.get_params())
    return f"{prefix},0"


def export_models(checkpoint: str, folder: str, image_size: Size) -> Models:
    """Write a checkpoint into a folder as an ONNX file and, where nncf is installed, as an int8 file."""
    from insightface_mx.conversion import export, quantize
    from insightface_mx.conversion.proof import make_images

    models = Models(checkpoint, os.path.join(folder, "single.onnx"), os.path.join(folder, "int8.onnx"))
    images = make_images(image_size)
    export.export(export.load_network(checkpoint, image_size), models.single, images, fold_norms=True)
    if quantize.is_installed():
        quantize.quantize(models.single, models.int8, images)
    return models


def is_installed(row: Row) -> bool:
    """Return whether the packages are there that a row needs."""
    from insightface_mx.conversion import quantize
    from insightface_mx.embedding import backends

    if row.is_int8 and not quantize.is_installed():
        return False
    return row.backend == PLAIN or backends.installed(row.backend)


def model_of(row: Row, models: Models) -> str:
    """Return the model that a row runs."""
    if row.backend in (PLAIN, "mxnet"):
        return models.checkpoint
    return models.int8 if row.is_int8 else models.single


def measure(backend: str, model: str, image_size: Size, batches: Sequence[int], seconds: float) -> Measurement:
    """Run a network on synthetic images, at least `seconds` at each batch size."""
    import numpy as np

    from insightface_mx.base.machine import peak_bytes
    from insightface_mx.conversion.proof import make_images

    images = make_images(image_size)
    runner = make_runner(backend, model, image_size)
    embeddings = runner(images)
    times = {batch: time_passes(runner, np.resize(images, (batch, *images.shape[1:])), seconds) for batch in batches}
    return Measurement(times, peak_bytes(), embeddings)


def make_runner(backend: str, model: str, image_size: Size) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from one batch of images to embeddings."""
    from insightface_mx.conversion import export, proof
    from insightface_mx.embedding import backends

    if backend == "mxnet":
        return backends.load(model, image_size, backend).run
    if backend != PLAIN:
        return backends.onnx_backend(backend, model, image_size).run
    network = export.load_network(model, image_size)
    bound: dict[tuple[int, ...], proof.Run] = {}

    def run_plain(images: np.ndarray) -> np.ndarray:
        if images.shape not in bound:
            bound[images.shape] = proof.mxnet_runner(network.symbol, network.params, images.shape)
        return bound[images.shape](images)[0]

    return run_plain


def time_passes(runner: Callable[[np.ndarray], object], images: np.ndarray, seconds: float) -> list[float]:
    """Return the seconds of every pass over a batch, for `seconds` in all and LEAST passes at least."""
    for _ in range(WARM_UP):
        runner(images)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < LEAST or time.perf_counter() < end:
        start = time.perf_counter()
        runner(images)
        times.append(time.perf_counter() - start)
    return times


def table_head(batches: Sequence[int]) -> list[str]:
    """Return the first two lines of the table."""
    columns = [f"batch {batch}: images/s | median ms | 95 % ms" for batch in batches]
    head = " | ".join(["network", "backend", *columns, "memory MB", "difference"])
    return [f"| {head} |", f"|---|---|{'--:|' * (3 * len(batches) + 2)}"]


def table_row(network: str, name: str, measured: Measurement, reference: np.ndarray) -> str:
    """Return a line of the table; reference: embeddings of the original graph."""
    import numpy as np

    cells = [network, name]
    for batch, passes in measured.seconds.items():
        middle, late = 1e3 * np.percentile(passes, (50, 95))
        cells += [f"{1e3 * batch / middle:.1f}", f"{middle:.1f}", f"{late:.1f}"]
    difference = np.abs(measured.embeddings - reference).max() / np.abs(reference).max()
    return f"| {' | '.join([*cells, f'{measured.peak_bytes / 1e6:.0f}', f'{difference:.1g}'])} |"


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    result = make_parser(__doc__, EXAMPLE)
    add = result.add_argument
    add("--networks", default=NETWORKS, metavar="NAMES", help="letter and depth each")
    add("--model", metavar="PREFIX,EPOCH", help="a checkpoint, in place of --networks")
    add("--batch", type=types.positive_list, default="1,32", metavar="N,N", help="images in a pass")
    add("--seconds", type=float, default=5, help="of measuring for every value")
    add(
        "--image-size",
        type=types.image_size,
        metavar="H,W",
        help="the network's input, pixels (default: from the checkpoint, otherwise 112,112)",
    )
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; argv: words of the command line, None for those of the process."""
    run_command(run, parser(), argv)
