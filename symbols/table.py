"""Print the sizes of the networks as a Markdown table: parameters, operations, embedding and checkpoint."""

from __future__ import annotations

if __name__ == "__main__":  # first, so that a signal ends the imports below, too, without a traceback
    from insightface_mx.cli import start

    start.networks()

import argparse
import math
import re
from typing import Sequence

from insightface_mx.base.compat import Symbol
from insightface_mx.base.errors import UserError
from insightface_mx.cli.main import make_parser, run_command
from insightface_mx.cli.output import say

EXAMPLE = """\
insightface-networks                     # every network with embeddings of length 512, and y1-GDC-128
insightface-networks r50 y1-GDC-128"""
INPUT = (1, 3, 112, 112)
PAPERS_MOBILEFACENET = "y1-GDC-128"
NOTES = """\
* parameters: all numbers but batch norm's moving averages
* FLOPs: every multiplication and every addition, biases included, of the convolutions and dense layers on one image
  of 112x112 pixels: an output that sums n products costs 2n - 1, with a bias 2n; nothing else is counted (batch norm,
  activations, pooling, sums of branches)
* checkpoint: the .params file without class weights, 4 bytes a number, batch norm's moving averages included; 1 MB is
  1,000,000 bytes
"""
LINE = "| {:<11} | {:>14} | {:>9} | {:>9} | {:>15} |"


def build(row: str) -> Symbol:
    """Build the network of a row of the table.

    Args:
        row: NETWORK[-OUTPUT[-EMBEDDING]], for example y1-GDC-128: the network's name, its version_output (default E)
            and the length of its embedding (default 512).

    Raises:
        UserError: There is no such network.
    """
    from insightface_mx.symbols import get_symbol

    match = re.fullmatch(r"(\w+)(?:-([A-Z]+)(?:-([1-9]\d*))?)?", row)
    if match is None:
        raise UserError(f"{row!r} is no network: write NETWORK[-OUTPUT[-EMBEDDING]], for example r50 or y1-GDC-128")
    network, output, embedding = match.groups()
    try:
        return get_symbol(network, int(embedding or 512), version_output=output or "E")
    except ValueError as error:
        raise UserError(f"{row}: {error}") from error


def count_parameters(symbol: Symbol) -> int:
    """Count the values in a network's parameters, without moving averages."""
    arguments, _, _ = symbol.infer_shape(data=INPUT)
    return sum(map(math.prod, arguments)) - math.prod(INPUT)


def count_moving_averages(symbol: Symbol) -> int:
    """Count the values of batch norm's moving averages."""
    _, _, auxiliary = symbol.infer_shape(data=INPUT)
    return sum(map(math.prod, auxiliary))


def count_flops(symbol: Symbol) -> int:
    """Count a network's multiplications and additions on one 112x112 image, as NOTES define them."""
    from insightface_mx.engine.symbol_graph import SymbolGraph, infer_shapes

    graph = SymbolGraph(symbol)
    shapes = infer_shapes(graph, {"data": INPUT})
    total = 0
    for node in graph.nodes_of("Convolution", "FullyConnected"):
        _, weight, *bias = node.inputs
        products = math.prod(shapes[weight.name][1:])
        total += math.prod(shapes[node.output.name]) * (2 * products - 1 + len(bias))
    return total


def line(row: str) -> str:
    """Return the line of the table for a row as in `build`."""
    symbol = build(row)
    parameters = count_parameters(symbol)
    _, ((_, *embedding),), _ = symbol.infer_shape(data=INPUT)
    megabytes = 4 * (parameters + count_moving_averages(symbol)) / 1e6
    counts = f"{parameters / 1e6:.2f}", f"{count_flops(symbol) / 1e9:.2f}", math.prod(embedding), f"{megabytes:.1f}"
    return LINE.format(row, *counts)


def run(args: argparse.Namespace) -> None:
    """Print the notes and the table; nothing where a row is no network."""
    from insightface_mx.symbols import NAMES

    rows = args.networks or [*NAMES, PAPERS_MOBILEFACENET]
    titles = LINE.format("network", "parameters (M)", "FLOPs (G)", "embedding", "checkpoint (MB)")
    table = [titles, "|---|--:|--:|--:|--:|", *map(line, rows)]
    say("\n".join([NOTES, *table]))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command insightface-networks."""
    parser: argparse.ArgumentParser = make_parser(f"{__doc__}\n\n{NOTES}", EXAMPLE)
    parser.add_argument("networks", nargs="*", metavar="NETWORK[-OUTPUT[-EMBEDDING]]", help="default: all")
    run_command(run, parser, argv)
