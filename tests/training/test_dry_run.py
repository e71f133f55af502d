"""--dry-run says what a run would do, and writes nothing."""

import os
import re

import pytest
from harness import run
from small_training import small_network

from insightface_mx import train_softmax, train_triplet
from insightface_mx.training import dry_run

OPTIONS = "--emb-size 8 --image-size 32,32 --per-batch-size 6 --target toy,lfw --seed 1 --ctx cpu".split()


def said(capsys, command, data_dir, prefix, *argv):
    """The lines of a dry run, by their first word."""
    before = sorted(os.listdir(os.path.dirname(prefix)))
    run(command, *OPTIONS, "--data-dir", data_dir, "--prefix", prefix, "--dry-run", *argv, network=small_network)
    assert sorted(os.listdir(os.path.dirname(prefix))) == before
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert lines[-1] == "this was --dry-run: nothing was written"
    return {line.split()[0]: " ".join(line.split()[1:]) for line in lines if re.match(r"[a-z]+ ", line)}, lines


def test_a_run_that_ends_by_its_epochs(data_dir, tmp_path, capsys):
    found, _ = said(capsys, train_softmax, data_dir, f"{tmp_path}/m", "--end-epoch", "2", "--loss-type", "4")
    batches = int(re.search(r"(\d+) batches an epoch", found["batches"]).group(1))
    weights = 4 * 3 * 9 + 4 + 2 * 4 + 4 * 8 * 8 * 8 + 8 + 2 * 8
    classes = int(re.search(r"(\d+) classes", found["images"]).group(1))
    assert found["network"] == f"r50: {weights:,} parameters, embeddings of 8 numbers, {classes * 8} class weights"
    assert found["images"].startswith(f"{data_dir}/train.rec: {classes} classes, ")
    assert found["batches"].startswith("6 images a batch, ")
    assert found["tests"] == f"{data_dir}/toy.bin, every 2000 batches; no such file: {data_dir}/lfw.bin"
    measured = min(dry_run.BATCHES, 2 * batches - 1)
    assert re.match(rf"[\d.e-]+ s a batch \({measured} measured\), [\d.]+ s an epoch, without tests$", found["time"])
    assert re.match(r"\d+ MiB taken by this process after these batches$", found["memory"])
    assert re.match(rf"after batch {2 * batches}, in about [\d.]+ s$", found["end"])
    assert found["rate"] == f"over batches 1 to {2 * batches}:"


def test_a_run_that_nothing_ends(data_dir, tmp_path, capsys):
    found, lines = said(capsys, train_softmax, data_dir, f"{tmp_path}/m", "--lr-steps", "10,20", "--on-nan", "rewind")
    assert found["end"] == "nothing ends the run: give --end-epoch or --max-steps, or stop it with Ctrl-C"
    assert found["rate"] == "over batches 1 to 24:"
    drawn = [line for line in lines if re.match(r" *[\d.e-]+ \|", line)]
    assert len(drawn) == dry_run.ROWS
    assert drawn[0] == "      0.1 | " + "*" * 10
    assert drawn[-1] == "    0.001 | " + " " * 20 + "*" * 4


def test_a_prefix_in_a_folder_that_does_not_exist(data_dir, tmp_path):
    argv = ["--data-dir", data_dir, "--prefix", f"{tmp_path}/new/m", "--dry-run", "--max-steps", "2"]
    run(train_softmax, *OPTIONS, *argv, network=small_network)
    assert os.listdir(tmp_path) == []


def test_triplets(data_dir, tmp_path, capsys):
    bag = ["--triplet-bag-size", "12", "--images-per-identity", "3", "--max-steps", "3", "--lr", "0.01"]
    found, _ = said(capsys, train_triplet, data_dir, f"{tmp_path}/m", *bag)
    assert re.match(r"after batch 3, in about [\d.]+ s$", found["end"])
    assert "classes" not in found["images"]
    assert "(2 measured)" in found["time"]


def test_a_dry_run_beside_a_real_one_leaves_it_alone(data_dir, tmp_path, capsys):
    real = ["--data-dir", data_dir, "--prefix", f"{tmp_path}/m", "--max-steps", "3", "--save-every", "3"]
    run(train_softmax, *OPTIONS, *real, network=small_network)
    capsys.readouterr()
    content = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    found, _ = said(capsys, train_softmax, data_dir, f"{tmp_path}/m", "--resume", "--max-steps", "6")
    assert found["rate"] == "over batches 4 to 6:"
    assert found["end"].startswith("after batch 6, in about ")
    assert content == {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}


@pytest.mark.parametrize(
    ("rates", "rows"),
    [
        ([0.5], ["      0.5 | *"]),
        ([0.5, 0.5, 0.5], ["      0.5 | ***"]),
        ([0.0, 0.0], ["        0 | **"]),
        ([1.0, 0.1, 0.0], ["        1 | *", "    0.001 |   *"]),
    ],
)
def test_the_plot(rates, rows):
    drawn = dry_run.plot(lambda batch: rates[batch - 1], 1, len(rates))
    assert sum(row.count("*") for row in drawn) == len(rates)
    assert (drawn[0], drawn[-1]) == (rows[0], rows[-1])
    assert len(drawn) == (1 if len(rows) == 1 else dry_run.ROWS)
