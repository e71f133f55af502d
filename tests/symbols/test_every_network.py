"""One network of every family, the smallest, goes the whole way: two training steps, a checkpoint, verification.

Verification is compared with MXNet operator by operator, because oneDNN fuses the operators of some graphs wrongly.

The other networks of a family are the same code with other table rows; test_symbols.py has their graphs.
"""

import re

import numpy as np
import pytest
import small_network

from insightface_mx import symbols, train_softmax
from insightface_mx.base.compat import mx
from insightface_mx.deploy import export_onnx
from insightface_mx.engine import network as embedding
from insightface_mx.eval import verification
from insightface_mx.formats import checkpoint

SLOW = ("n", "i2", "p68")
SIZES = {"vargfacenet": 112}  # side of the images: its last map is convolved with a kernel of 7x7
SMALLEST = [f"{key}{min(family.depths)}" if family.depths else key for key, family in symbols.NETWORKS.items()]


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [
        *(pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in [*SMALLEST, "y2", "y3"]),
        "d121 --version-family 2021 --densenet-dropout 0.1",
        "mnas --version-multiplier 0.25 --version-output GAP",
        "r18 --version-output SFC",
        "r101 --version-family 2021",
        "vargfacenet --version-multiplier 1.25 --version-output J --version-se 1",
        "y1 --version-family 2021 --version-act relu --version-blocks 1,2,3,1",
    ],
)
def test_trains_two_steps_and_is_verified(network, data_dir, tmp_path, capsys, monkeypatch):
    prefix = str(tmp_path / "net")
    side = SIZES.get(network.split()[0], 32)
    size = f"{side},{side}"
    small = f"--network {network} --emb-size 8 --image-size {size} --per-batch-size 4 --target toy --lr 0.001 --seed 1"
    run = f"--data-dir {data_dir} --prefix {prefix} --max-steps 2 --verbose 2 --ckpt 2"
    train_softmax.main(f"{small} {run}".split())
    assert checkpoint.epochs(prefix) == [1]
    metrics = re.findall(r"^\[toy\]\[2\](XNorm: .*|Accuracy-Flip: .*)", capsys.readouterr().out, re.M)
    assert len(metrics) == 2
    verification.main(f"--data-dir {data_dir} --model {prefix},1 --target toy --image-size {size}".split())
    assert re.findall(r"^\[toy\](XNorm: .*|Accuracy-Flip: .*)", capsys.readouterr().out, re.M) == metrics
    images = np.random.RandomState(0).randint(0, 256, (3, 3, side, side)).astype(np.float32)
    embeddings = embedding.embed(images, embedding.load_model(prefix, 1, [mx.cpu()], 3, (side, side)), 3)
    monkeypatch.setenv("MXNET_SUBGRAPH_BACKEND", "NONE")
    expected = small_network.plain_mxnet(f"{prefix},1", images)
    assert np.abs(embeddings - expected).max() <= 2e-5 * np.abs(expected).max()
    export_onnx.main(f"--model {prefix},1 --output {prefix}.onnx".split())  # with proof: 1e-4
