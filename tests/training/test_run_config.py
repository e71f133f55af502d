"""PREFIX-config.json: a run writes the options that repeat it, with the seed that it really used."""

from __future__ import annotations

import json

import harness
import numpy as np
import pytest
from small_training import small_network

from insightface_mx import options, train_softmax, train_triplet
from insightface_mx.formats import checkpoint

SMALL = "--emb-size 8 --image-size 32,32 --per-batch-size 5 --target none --lr 0.02 --ckpt 2 --color 2".split()
TRIPLETS = "--emb-size 8 --image-size 32,32 --per-batch-size 6 --target none --triplet-bag-size 20".split()


def run(command, *argv):
    harness.run(command, *argv, network=small_network)


def arrays(prefix, epoch=1):
    _, arg_params, aux_params = checkpoint.load(str(prefix), epoch)
    return {name: array.asnumpy() for name, array in {**arg_params, **aux_params}.items()}


@pytest.mark.parametrize("command, argv", [(train_softmax, SMALL), (train_triplet, TRIPLETS)])
def test_the_written_file_repeats_the_run_bit_for_bit(command, argv, data_dir, tmp_path):
    run(command, *argv, "--max-steps", "3", "--data-dir", data_dir, "--prefix", tmp_path / "a")  # a random seed
    run(command, "--config", tmp_path / "a-config.json", "--prefix", tmp_path / "b")
    first, second = arrays(tmp_path / "a"), arrays(tmp_path / "b")
    assert first.keys() == second.keys()
    assert [name for name in first if not np.array_equal(first[name], second[name])] == []
    files = [json.loads((tmp_path / f"{name}-config.json").read_text()) for name in "ab"]
    assert files[1] == {**files[0], "prefix": str(tmp_path / "b")}


def test_every_option_is_in_the_file_but_those_of_one_start(data_dir, tmp_path):
    argv = [*SMALL, "--max-steps", "1", "--seed", "7", "--ctx", "cpu", "--resume", "--override"]
    run(train_softmax, *argv, "--data-dir", data_dir, "--prefix", tmp_path / "m")
    written = json.loads((tmp_path / "m-config.json").read_text())
    parser = options.parser(options.SoftmaxOptions, "", "")
    assert set(written) == {*vars(parser.parse_args([])), "ctx"} - {"config", "resume", "override", "dry_run"}
    assert written["seed"] == 7
    assert written["image_size"] == [32, 32]
    assert written["wd"] == 0.0005


def test_a_resumed_run_has_the_seed_of_the_saved_run(data_dir, tmp_path):
    common = [*SMALL, "--data-dir", data_dir, "--prefix", tmp_path / "m"]
    run(train_softmax, *common, "--max-steps", "2")
    seed = json.loads((tmp_path / "m-config.json").read_text())["seed"]
    run(train_softmax, *common, "--max-steps", "4", "--resume")
    written = json.loads((tmp_path / "m-config.json").read_text())
    assert (written["seed"], written["max_steps"]) == (seed, 4)


def test_a_run_that_may_not_resume_leaves_the_file(data_dir, tmp_path, capsys):
    common = [*SMALL, "--data-dir", data_dir, "--prefix", tmp_path / "m"]
    run(train_softmax, *common, "--max-steps", "2")
    before = (tmp_path / "m-config.json").read_text()
    argv = [*common, "--max-steps", "4", "--resume", "--wd", "0.1"]
    assert "--wd 0.0005 (now 0.1)" in harness.error_of(capsys, train_softmax, *argv, network=small_network)
    assert (tmp_path / "m-config.json").read_text() == before


def test_the_learning_rate_is_scaled_to_the_batch(data_dir, tmp_path, capsys):
    argv = [*SMALL, "--lr", "0.2", "--lr-batch", "50", "--ctx", "cpu:2", "--max-steps", "1"]
    run(train_softmax, *argv, "--data-dir", data_dir, "--prefix", tmp_path / "m")
    out = capsys.readouterr().out
    assert "batch 1: learning rate 0.04\n" in out
    assert "learning rate 0.04: --lr 0.2 x 10 images / --lr-batch 50\n" in out
