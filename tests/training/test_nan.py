"""Check that NaN and infinity are found before they reach the parameters, and treated as --on-nan says."""

import re

import harness
import numpy as np
import pytest
from small_training import Recorder, SpoilOutputOnce, SpoilPixels, small_network

from insightface_mx import train_softmax, train_triplet
from insightface_mx.base.compat import mx
from insightface_mx.engine.module_state import executors, moving_averages
from insightface_mx.image_iter import FaceImageIter
from insightface_mx.training import nan_guard
from insightface_mx.training import state as training_state
from insightface_mx.training.batches import Observer

SMALL = "--emb-size 8 --image-size 32,32 --lr 0.02 --ckpt 2 --seed 1 --target none".split()
BAD = 7  # the step of a bad batch


def is_bad(step):
    return step == BAD


def arguments(data_dir, prefix, *argv, command=train_softmax):
    size = ["--per-batch-size", "6" if command is train_triplet else "5"]
    return [command, *SMALL, *size, "--data-dir", data_dir, "--prefix", prefix, *argv]


def run(*argv, observers=(), **named):
    harness.run(*arguments(*argv, **named), network=small_network, observers=observers)


def error_of(capsys, *argv, observers=()):
    return harness.error_of(capsys, *arguments(*argv), network=small_network, observers=observers)


def state(prefix):
    saved = training_state.newest(str(prefix))
    return saved.metadata, {name: array.asnumpy() for name, array in saved.arrays.items()}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def assert_same(one, two):
    assert one.keys() == two.keys()
    assert [name for name in one if not np.array_equal(one[name], two[name])] == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_stop_names_the_batch_and_keeps_the_last_good_state(data_dir, tmp_path, capsys, value):
    recorder = Recorder()
    message = error_of(
        capsys,
        data_dir,
        tmp_path / "m",
        *"--max-steps 9 --save-every 5 --ctx cpu:2".split(),
        observers=[SpoilPixels(is_bad, value), recorder],
    )
    assert f"batch {BAD} (records " in message
    assert "NaN or infinity in gradient of conv0_weight, " in message  # a relu takes NaN for 0
    assert "--resume goes on after batch 5" in message
    assert recorder.steps[-1] == BAD
    assert ", ".join(map(str, recorder.records[-1])) in (tmp_path / "m.log").read_text()
    metadata, arrays = state(tmp_path / "m")
    assert metadata["step"] == 5
    assert arrays
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_the_gradient_is_looked_at_as_well(data_dir, tmp_path, capsys):
    class SpoilGradient(Observer):
        def after_backward(self, step, batch, model):
            executors(model)[0].grad_dict["pre_fc1_bias"][2] = np.inf

    message = error_of(capsys, data_dir, tmp_path / "m", "--max-steps", "9", observers=[SpoilGradient()])
    assert "batch 1 " in message
    assert "NaN or infinity in gradient of pre_fc1_bias. " in message
    assert "nothing is saved yet" in message


@pytest.mark.parametrize("contexts", ["cpu", "cpu:2"])
def test_skip_leaves_no_trace_of_the_batch(data_dir, tmp_path, contexts):
    """The end is that of a run in which the batch's update and statistics are taken out by hand."""
    settings = ["--max-steps", "9", "--ctx", contexts, "--on-nan", "skip", "--mom", "0.9"]
    run(data_dir, tmp_path / "skipped", *settings, observers=[SpoilPixels(is_bad)])
    run(data_dir, tmp_path / "left_out", *settings, observers=[LeaveOut(BAD)])
    (metadata, skipped), (_, left_out) = state(tmp_path / "skipped"), state(tmp_path / "left_out")
    assert metadata["step"] == 9
    assert metadata["updates"] == 8
    assert all(np.isfinite(array).all() for array in skipped.values())
    assert_same(skipped, left_out)


class LeaveOut(Observer):
    """Sets the moving averages back to those before a good batch, and then spoils an output, so that it is skipped."""

    def __init__(self, step):
        self.step = step

    def before_batch(self, step, batch, model):
        averages = [array.asnumpy() for array in moving_averages(model)]
        if step == self.step + 1:
            assert averages
            assert all(np.array_equal(now, before) for now, before in zip(averages, self.averages))
        self.averages = averages

    def after_backward(self, step, batch, model):
        if step == self.step:
            for array, before in zip(moving_averages(model), self.averages):
                array[:] = before
            executors(model)[0].outputs[0][0] = np.nan


def test_a_resumed_run_skips_the_same(data_dir, tmp_path):
    settings = ["--on-nan", "skip", "--resume", "--lr-steps", "6,8"]
    run(data_dir, tmp_path / "whole", *settings, "--max-steps", "10", observers=[SpoilPixels(is_bad)])
    for steps in ("4", "7", "10"):
        run(data_dir, tmp_path / "parts", *settings, "--max-steps", steps, observers=[SpoilPixels(is_bad)])
    (_, whole), (_, parts) = state(tmp_path / "whole"), state(tmp_path / "parts")
    assert_same(whole, parts)


def test_skip_ends_where_it_does_not_help(data_dir, tmp_path, capsys):
    spoil = SpoilPixels(lambda step: step >= 3)
    message = error_of(capsys, data_dir, tmp_path / "m", "--on-nan", "skip", observers=[spoil])
    assert "batch 13 " in message
    assert "the 11th time without progress" in message


def test_single_bad_batches_may_be_many(data_dir, tmp_path):
    spoil = SpoilPixels(lambda step: step % 2 == 0 and step < 40)
    run(data_dir, tmp_path / "m", "--on-nan", "skip", "--max-steps", "40", observers=[spoil])
    assert state(tmp_path / "m")[0]["updates"] == 21


@pytest.mark.parametrize("settings", ["", "--save-every 4 --lr-steps 5 --ctx cpu:2"])
def test_rewind_goes_back_and_on_with_other_batches(data_dir, tmp_path, capsys, settings):
    recorder = Recorder()
    rewind = ["--on-nan", "rewind", "--max-steps", "9", *settings.split()]
    run(data_dir, tmp_path / "m", *rewind, observers=[recorder, SpoilOutputOnce(BAD)])
    back_to = 4 if settings else 0
    assert recorder.steps == [*range(1, BAD + 1), *range(back_to + 1, 10)]
    records = recorder.records
    assert records[back_to:BAD] != records[BAD : 2 * BAD - back_to]
    metadata, arrays = state(tmp_path / "m")
    assert (metadata["step"], metadata["updates"], metadata["rewinds"]) == (9, 9, 1)
    assert arrays
    assert all(np.isfinite(array).all() for array in arrays.values())
    rates = re.findall(r"^batch (\d): learning rate (\S+)$", capsys.readouterr().out, re.M)
    assert rates == ([("1", "0.02"), ("6", "0.002"), ("5", "0.02"), ("6", "0.002")] if settings else [("1", "0.02")])


def test_a_run_that_was_rewound_resumes_exactly(data_dir, tmp_path):
    settings = ["--on-nan", "rewind", "--resume", "--save-every", "4"]
    run(data_dir, tmp_path / "whole", *settings, "--max-steps", "14", observers=[SpoilOutputOnce(BAD)])
    spoil = SpoilOutputOnce(BAD)  # one for all parts: the first rewinds
    for steps in ("10", "13", "14"):
        run(data_dir, tmp_path / "parts", *settings, "--max-steps", steps, observers=[spoil])
    (metadata, whole), (_, parts) = state(tmp_path / "whole"), state(tmp_path / "parts")
    assert metadata["rewinds"] == 1
    assert_same(whole, parts)


def test_rewind_ends_where_it_does_not_help(data_dir, tmp_path, capsys):
    settings = ["--on-nan", "rewind", "--save-every", "5"]
    message = error_of(capsys, data_dir, tmp_path / "m", *settings, observers=[SpoilPixels(is_bad)])
    assert f"batch {BAD} " in message
    assert "the 11th time without progress" in message
    assert state(tmp_path / "m")[0]["step"] == 5


def test_triplets_rewind_to_another_bag(data_dir, tmp_path, capsys):
    settings = ["--triplet-bag-size", "20", "--max-steps", "3", "--on-nan", "rewind"]
    run(data_dir, tmp_path / "m", *settings, command=train_triplet, observers=[SpoilOutputOnce(2)])
    assert len(re.findall("bag of 20 images", capsys.readouterr().out)) == 2
    metadata, _ = state(tmp_path / "m")
    assert (metadata["step"], metadata["epoch"], metadata["batch"]) == (3, 1, 3)


def test_rewind_needs_what_ckpt_0_forbids(data_dir, tmp_path, capsys):
    message = error_of(capsys, data_dir, tmp_path / "m", "--on-nan", "rewind", "--ckpt", "0")
    assert "--on-nan rewind" in message
    assert "--ckpt 0" in message


@pytest.mark.parametrize("value, limit", [(0.5, 0.5), (1e-3, 1e-3)])
def test_clip_gradient(data_dir, tmp_path, value, limit):
    """With no momentum and decay no parameter moves more than lr times the limit, and the steepest moves just that."""
    settings = ["--mom", "0", "--wd", "0", "--max-steps", "1", "--save-every", "1"]
    moved = {}
    for name, more in {"start": ["--lr", "0"], "clipped": ["--lr", "1", "--clip-gradient", value]}.items():
        run(data_dir, tmp_path / name, *settings, *more)
        moved[name] = state(tmp_path / name)[1]["arg:fc7_weight"]
    step = np.abs(moved["clipped"] - moved["start"]).max()
    assert np.isclose(step, limit, rtol=1e-3)


@pytest.mark.parametrize("not_finite", [nan_guard.not_finite, nan_guard.not_finite_by_operator])
def test_what_is_not_finite(not_finite):
    """MXNet's operator, which tells it on GPUs, would crash on 250 arrays at once."""
    arrays = {f"a{number}": mx.nd.ones((3,)) for number in range(250)}
    assert not_finite(arrays) == []
    arrays["a7"][1] = np.nan
    arrays["a249"][2] = -np.inf
    assert not_finite(arrays) == ["a7", "a249"]
    assert not_finite({"big": mx.nd.full((3,), 3e38), "small": mx.nd.full((3,), 1e-40)}) == []


def test_a_shuffled_iterator_gives_record_numbers(data_dir):
    data = FaceImageIter(5, (3, 32, 32), str(data_dir / "train.rec"), shuffle=True, seed=1)
    assert len(set(data.next().index.tolist())) == 5
