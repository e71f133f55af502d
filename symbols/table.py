"""Print the sizes of the networks as a Markdown table.

python table.py                       every network with an embedding of 512 numbers, and y1-GDC-128
python table.py r50 y1-GDC-128        these only, each written NETWORK[-HEAD[-EMBEDDING]]
"""

import argparse
import math
import re
import sys

from insightface_mx.base.errors import UserError, exit_on_user_error
from insightface_mx.engine.symbol_graph import SymbolGraph, infer_shapes
from insightface_mx.symbols import NAMES, get_symbol

INPUT = (1, 3, 112, 112)
DEFAULT_ROWS = (*NAMES, "y1-GDC-128")  # the last as in the paper of MobileFaceNet
NOTES = """\
* parameters: all numbers but batch norm's moving averages
* FLOPs: every multiplication and every addition, biases included, of the convolutions and dense layers on one image
  of 112x112 pixels: an output that sums n products costs 2n - 1, with a bias 2n; nothing else is counted (batch norm,
  activations, pooling, sums of branches)
* checkpoint: the .params file without class weights, 4 bytes a number, batch norm's moving averages included; 1 MB is
  1,000,000 bytes
"""
LINE = "| {:<10} | {:>14} | {:>9} | {:>9} | {:>15} |"


def build(row):
    """Build the network of a row, NETWORK[-HEAD[-EMBEDDING]]; UserError where there is none."""
    match = re.fullmatch(r"(\w+)(?:-([A-Z]+)(?:-([1-9]\d*))?)?", row)
    if match is None:
        raise UserError(f"{row!r} is no network: write NETWORK[-HEAD[-EMBEDDING]], for example r50 or y1-GDC-128")
    network, head, embedding = match.groups()
    try:
        return get_symbol(network, int(embedding or 512), version_output=head or "E")
    except ValueError as error:
        raise UserError(f"{row}: {error}") from error


def count_parameters(symbol):
    """Count the numbers in a network's parameters, moving averages not among them."""
    arguments, _, _ = symbol.infer_shape(data=INPUT)
    return sum(map(math.prod, arguments)) - math.prod(INPUT)


def count_moving_averages(symbol):
    """Count the numbers that batch norm keeps of the past batches."""
    _, _, auxiliary = symbol.infer_shape(data=INPUT)
    return sum(map(math.prod, auxiliary))


def count_flops(symbol):
    """Count a network's multiplications and additions on one 112x112 image, as the command's help defines them."""
    shapes = infer_shapes(symbol, {"data": INPUT})
    total = 0
    for node in SymbolGraph(symbol).nodes_of("Convolution", "FullyConnected"):
        _, weight, *bias = node.inputs
        products = math.prod(shapes[weight.name][1:])
        total += math.prod(shapes[node.output.name]) * (2 * products - 1 + len(bias))
    return total


def line(row):
    """Format a row, NETWORK[-HEAD[-EMBEDDING]], of the table."""
    symbol = build(row)
    parameters = count_parameters(symbol)
    _, ((_, *embedding),), _ = symbol.infer_shape(data=INPUT)
    megabytes = 4 * (parameters + count_moving_averages(symbol)) / 1e6
    counts = f"{parameters / 1e6:.2f}", f"{count_flops(symbol) / 1e9:.2f}", math.prod(embedding), f"{megabytes:.1f}"
    return LINE.format(row, *counts)


def main(argv=None):
    """The command."""
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\n{NOTES}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", metavar="NETWORK[-HEAD[-EMBEDDING]]", help="default: all")
    networks = parser.parse_args(argv).networks or DEFAULT_ROWS
    titles = LINE.format("network", "parameters (M)", "FLOPs (G)", "embedding", "checkpoint (MB)")
    with exit_on_user_error():
        table = [titles, "|---|--:|--:|--:|--:|", *map(line, networks)]
    sys.stdout.write("\n".join([NOTES, *table, ""]))


if __name__ == "__main__":
    main()
