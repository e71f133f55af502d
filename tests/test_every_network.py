"""One network of every family, the smallest, goes the whole way: a training step, a checkpoint, verification.

The others of a family are the same code with other numbers; tests/test_symbols.py has their graphs.
"""

import re

import pytest

from insightface_mx import checkpoint, symbols, train_softmax
from insightface_mx.eval import verification

SMALLEST = [f"{key}{min(family.depths)}" if family.depths else key for key, family in symbols.NETWORKS.items()]


@pytest.mark.parametrize("network", [*SMALLEST, "y2"])
def test_trains_a_step_and_is_verified(network, data_dir, tmp_path, capsys):
    prefix = str(tmp_path / network)
    small = f"--network {network} --emb-size 8 --image-size 32,32 --per-batch-size 4 --target toy --lr 0.001 --seed 1"
    run = f"--data-dir {data_dir} --prefix {prefix} --max-steps 1 --verbose 1 --ckpt 2"
    train_softmax.main(f"{small} {run}".split())
    assert checkpoint.epochs(prefix) == [1]
    figures = re.findall(r"^\[toy\]\[1\](XNorm: .*|Accuracy-Flip: .*)", capsys.readouterr().out, re.M)
    verification.main(f"--data-dir {data_dir} --model {prefix},1 --target toy --image-size 32,32".split())
    assert re.findall(r"^\[toy\](XNorm: .*|Accuracy-Flip: .*)", capsys.readouterr().out, re.M) == figures
