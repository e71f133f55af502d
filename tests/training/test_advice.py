"""What a run says, before its first batch, of settings that would waste a day."""

import dataclasses
import logging

import pytest
from harness import error_of, run
from small_training import score, small_network

from insightface_mx import train_softmax
from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.training import advice
from insightface_mx.training.options import RunOptions


@pytest.mark.parametrize(
    "lr, batch, fine_tuning, warns",
    [
        (0.1, 512, False, False),
        (0.1, 64, False, False),
        (0.1, 50, False, True),
        (0.009, 512, False, True),
        (0.009, 512, True, False),
        (1.1, 512, True, True),
    ],
)
def test_an_unusual_rate_is_warned_of(lr, batch, fine_tuning, warns, caplog):
    advice.warn_of_unusual_rate(lr, batch, fine_tuning)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * warns
    assert all(f"{0.1 * batch / 512:.2g}" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    "given, last_batch, said",
    [({}, None, True), ({"end_epoch": 99999}, None, False), ({"end_epoch": 200000}, None, True), ({}, 7, False)],
)
def test_a_run_without_an_end_is_told_how_to_bound_it(given, last_batch, said, caplog):
    caplog.set_level(logging.INFO)
    options = dataclasses.replace(RunOptions(), **given)
    advice.say_that_nothing_ends_it(options, last_batch)
    assert advice.unbounded(options, last_batch) == said
    assert ["--end-epoch, --max-steps" in record.getMessage() for record in caplog.records] == [True] * said


def test_one_class_is_warned_of(caplog):
    advice.warn_of_one_class(2, "train.rec")
    assert not caplog.records
    advice.warn_of_one_class(1, "train.rec")
    assert "train.rec holds one class: the loss is 0" in caplog.text


def test_batch_norm_on_one_image_is_warned_of(caplog):
    dense = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=4)
    advice.warn_of_one_image(mx.sym.BatchNorm(dense), 2)
    advice.warn_of_one_image(dense, 1)
    assert not caplog.records
    advice.warn_of_one_image(mx.sym.BatchNorm(dense), 1)
    assert "--per-batch-size 1: batch norm" in caplog.text


def test_the_largest_class_count_of_one_array():
    advice.check_class_count(4194303, 512)
    with pytest.raises(UserError, match=r"4194304 classes x 512 .* at most 4194303 classes"):
        advice.check_class_count(4194304, 512)


COMMON = ("--emb-size", 8, "--image-size", "32,32", "--target", "none", "--seed", 1, "--per-batch-size")


def test_the_command_says_it_once(data_dir, tmp_path, capsys):
    argv = ("--data-dir", data_dir, "--prefix", tmp_path / "m", *COMMON, 1)
    run(train_softmax, *argv, "--max-steps", 1, network=small_network, test=score)
    said = capsys.readouterr().out
    assert said.count("batch norm cannot work on one image") == 1
    assert "no option ends this run" not in said


def test_options_that_act_on_nothing_are_named(data_dir, tmp_path, capsys):
    argv = ("--data-dir", data_dir, "--prefix", tmp_path / "m", *COMMON, 2, "--max-steps", 1)
    idle = ("--margin-m", 0.3, "--easy-margin", 1, "--beta", 7, "--ckpt", 0, "--keep", 3, "--pretrained-fc7", "strict")
    idle += ("--scale", 0.5)
    run(train_softmax, *argv, "--loss-type", 0, *idle, "--override", network=small_network, test=score)
    said = capsys.readouterr().out
    assert "--margin-m, --easy-margin, --beta: no effect with --loss-type 0\n" in said
    assert "--scale: no effect as in the original\n" in said
    assert "--keep: no effect with --ckpt 0\n" in said
    assert "--pretrained-fc7: no effect without --pretrained\n" in said
    assert "--override: no effect without --resume\n" in said
    run(train_softmax, *argv, "--loss-type", 5, "--margin-a", 0.9, "--margin-b", 0.1, network=small_network, test=score)
    assert "no effect" not in capsys.readouterr().out


def test_the_command_refuses_too_many_classes(data_dir, tmp_path, capsys):
    (tmp_path / "property").write_text("16000000,32,32")
    for name in ("train.rec", "train.idx"):
        (tmp_path / name).symlink_to(f"{data_dir}/{name}")
    error = error_of(
        capsys, train_softmax, "--data-dir", tmp_path, "--prefix", tmp_path / "m", *COMMON, 5, "--emb-size", 200
    )
    assert "16000000 classes x 200" in error
    assert "at most 10737418 classes" in error
