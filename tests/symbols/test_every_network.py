"""One network of every family, the smallest, goes the whole way: a training step, a checkpoint, verification.

Verification is compared with MXNet operator by operator, because oneDNN fuses the operators of some graphs wrongly.

The other networks of a family are the same code with other table rows; test_symbols.py has their graphs.
"""

import re

import numpy as np
import pytest
import small_network

from insightface_mx import symbols, train_softmax
from insightface_mx.base.compat import mx
from insightface_mx.engine import network as embedding
from insightface_mx.eval import verification
from insightface_mx.formats import checkpoint

SLOW = ("n", "i2", "p68")
SMALLEST = [f"{key}{min(family.depths)}" if family.depths else key for key, family in symbols.NETWORKS.items()]


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in [*SMALLEST, "y2", "y3"]],
)
def test_trains_a_step_and_is_verified(network, data_dir, tmp_path, capsys, monkeypatch):
    prefix = str(tmp_path / network)
    small = f"--network {network} --emb-size 8 --image-size 32,32 --per-batch-size 4 --target toy --lr 0.001 --seed 1"
    run = f"--data-dir {data_dir} --prefix {prefix} --max-steps 1 --verbose 1 --ckpt 2"
    train_softmax.main(f"{small} {run}".split())
    assert checkpoint.epochs(prefix) == [1]
    metrics = re.findall(r"^\[toy\]\[1\](XNorm: .*|Accuracy-Flip: .*)", capsys.readouterr().out, re.M)
    assert len(metrics) == 2
    verification.main(f"--data-dir {data_dir} --model {prefix},1 --target toy --image-size 32,32".split())
    assert re.findall(r"^\[toy\](XNorm: .*|Accuracy-Flip: .*)", capsys.readouterr().out, re.M) == metrics
    images = np.random.RandomState(0).randint(0, 256, (3, 3, 32, 32)).astype(np.float32)
    embeddings = embedding.embed(images, embedding.load_model(prefix, 1, [mx.cpu()], 3, (32, 32)), 3)
    monkeypatch.setenv("MXNET_SUBGRAPH_BACKEND", "NONE")
    expected = small_network.plain_mxnet(f"{prefix},1", images)
    assert np.abs(embeddings - expected).max() <= 2e-5 * np.abs(expected).max()
