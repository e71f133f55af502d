"""Compare inference on a CPU with the rewritten graph, as verification binds it, and with the original graph.

python benchmarks/inference.py --networks y1 r50 --batch 1 32
"""

from __future__ import annotations

import argparse
import functools

import numpy as np
from interleaved import Subjects, measure, print_headings, print_machine, print_rows
from modules import SIZE, images, plain_inference, prepare

from insightface_mx import symbols
from insightface_mx.base.compat import Module, mx
from insightface_mx.engine.network import InferenceModule, bind


def subjects(network: str, batch: int) -> Subjects:
    """Return functions that compute the embeddings of a batch; raise ValueError if these differ."""
    symbol = symbols.get_symbol(network, 512)
    plain = plain_inference(network, symbol, batch)
    fast = bind(symbol, [mx.cpu()], batch, SIZE)
    fast.set_params(*plain.get_params())
    data = mx.io.DataBatch([mx.nd.array(images(batch))])
    expected, embeddings = _embed(plain, data), _embed(fast, data)
    if not np.allclose(embeddings, expected, rtol=0, atol=1e-4 * np.abs(expected).max()):
        raise ValueError(f"{network}: the graphs' embeddings differ")
    return {
        "plain graph": functools.partial(_embed, plain, data),
        "fast graph": functools.partial(_embed, fast, data),
    }


def _embed(module: InferenceModule | Module, data: mx.io.DataBatch) -> np.ndarray:
    module.forward(data, is_train=False)
    return module.get_outputs()[0].asnumpy()


def main() -> None:
    """Run the benchmark."""
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
