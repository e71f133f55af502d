"""Inference through Module on a CPU: the fast graph, as verification binds it, against the plain one.

python benchmarks/inference.py --networks y1 r50 --batch 1 32
"""

import argparse
import functools

import numpy as np
from interleaved import measure, print_headings, print_machine, print_rows
from modules import SIZE, images, plain_inference, prepare

from insightface_mx import symbols
from insightface_mx.base.compat import mx
from insightface_mx.engine import network as embedding


def subjects(network, batch):
    """Dict name -> function that takes a batch of images to its embeddings; ValueError where these differ."""
    symbol = symbols.get_symbol(network, 512)
    plain = plain_inference(network, symbol, batch)
    fast = embedding.bind(symbol, [mx.cpu()], batch, SIZE)
    fast.set_params(*plain.get_params())
    data = mx.io.DataBatch([mx.nd.array(images(batch))])
    found = {name: functools.partial(_embed, of, data) for name, of in (("plain graph", plain), ("fast graph", fast))}
    expected, embeddings = (run() for run in found.values())
    if not np.allclose(embeddings, expected, rtol=0, atol=1e-4 * np.abs(expected).max()):
        raise ValueError(f"{network}: the graphs' embeddings differ")
    return found


def _embed(module, data):
    module.forward(data, is_train=False)
    return module.get_outputs()[0].asnumpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["y1", "r18", "r50", "r100"], help="letter and depth")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32], help="images a pass (default: 1 and 32)")
    parser.add_argument("--repeats", type=int, default=7, help="rounds, after two to warm up (default: %(default)s)")
    args = parser.parse_args()
    prepare()
    print_headings("network", "batch", "graph")
    for network in args.networks:
        for batch in args.batch:
            print_rows((network, str(batch)), measure(subjects(network, batch), args.repeats), batch)
    print_machine()


if __name__ == "__main__":
    main()
