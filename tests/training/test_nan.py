"""NaN and infinity: seen before they reach the parameters, named, and dealt with as --on-nan says."""

import re

import kill_harness
import numpy as np
import pytest

from insightface_mx import train_softmax, train_triplet
from insightface_mx.base.compat import mx
from insightface_mx.image_iter import FaceImageIter
from insightface_mx.training import nan_guard
from insightface_mx.training import state as training_state

SMALL = "--emb-size 8 --image-size 32,32 --lr 0.02 --ckpt 2 --seed 1 --target none".split()
BAD = 7  # the call of next() that returns a bad batch


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    for command in (train_softmax, train_triplet):
        monkeypatch.setattr(command, "build_network", kill_harness.network)


@pytest.fixture
def bad_batches(monkeypatch):
    """Put NaN in a pixel of some batches: those whose step `is_bad` tells, a function that the test sets."""
    bad = {"step": {BAD}, "seen": [], "value": np.nan}
    original = nan_guard.NanGuard.forward_backward

    def forward_backward(guard, batch):
        bad["seen"].append((guard._run.step, batch.index.tolist()))
        if guard._run.step in bad["step"]:
            data = batch.data[0].asnumpy()
            data[1, 0, 3:9, 3:9] = bad["value"]
            batch.data[0] = mx.nd.array(data)
        original(guard, batch)

    monkeypatch.setattr(nan_guard.NanGuard, "forward_backward", forward_backward)
    return bad


def run(data_dir, prefix, *argv, command=train_softmax):
    size = ["--per-batch-size", "6" if command is train_triplet else "5"]
    argv = [*SMALL, *size, "--data-dir", data_dir, "--prefix", prefix, *argv]
    command.main([str(word) for word in argv])


def error_of(capsys, *argv, **named):
    with pytest.raises(SystemExit) as stop:
        run(*argv, **named)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) <= 2
    return error


def state(prefix):
    saved = training_state.newest(str(prefix))
    return saved.facts, {name: array.asnumpy() for name, array in saved.arrays.items()}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_stop_names_the_batch_and_keeps_the_last_good_state(data_dir, tmp_path, capsys, bad_batches, value):
    bad_batches["value"] = value
    message = error_of(capsys, data_dir, tmp_path / "m", "--max-steps", "9", "--save-every", "5", "--ctx", "cpu:2")
    assert f"batch {BAD} (records " in message
    assert "NaN or infinity in gradient of conv0_weight, " in message  # a relu takes NaN for 0
    assert "--resume goes on after batch 5" in message
    step, records = bad_batches["seen"][-1]
    assert step == BAD
    assert ", ".join(map(str, records)) in (tmp_path / "m.log").read_text()
    facts, arrays = state(tmp_path / "m")
    assert facts["step"] == 5
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_the_gradient_is_looked_at_as_well(data_dir, tmp_path, capsys, monkeypatch):
    backward = mx.mod.Module.backward

    def spoilt(module, *args):
        backward(module, *args)
        module._exec_group.execs[0].grad_dict["pre_fc1_bias"][2] = np.inf

    monkeypatch.setattr(mx.mod.Module, "backward", spoilt)
    message = error_of(capsys, data_dir, tmp_path / "m", "--max-steps", "9")
    assert "batch 1 " in message
    assert "NaN or infinity in gradient of pre_fc1_bias. " in message
    assert "nothing is saved yet" in message


@pytest.mark.parametrize("contexts", ["cpu", "cpu:2"])
def test_skip_leaves_no_trace_of_the_batch(data_dir, tmp_path, monkeypatch, bad_batches, contexts):
    """The end is that of a run in which the batch's update and statistics are taken out by hand."""
    settings = ["--max-steps", "9", "--ctx", contexts, "--on-nan", "skip", "--mom", "0.9"]
    run(data_dir, tmp_path / "skipped", *settings)
    bad_batches["step"] = set()
    rejects = nan_guard.NanGuard.rejects

    def without_one(guard, batch):
        if guard._run.step == BAD:
            guard._restore_averages()
            return True
        return rejects(guard, batch)

    monkeypatch.setattr(nan_guard.NanGuard, "rejects", without_one)
    run(data_dir, tmp_path / "left_out", *settings)
    (facts, skipped), (_, left_out) = state(tmp_path / "skipped"), state(tmp_path / "left_out")
    assert facts["step"] == 9
    assert facts["updates"] == 8
    assert all(np.isfinite(array).all() for array in skipped.values())
    assert all(np.array_equal(skipped[name], left_out[name]) for name in left_out)


def test_a_resumed_run_skips_the_same(data_dir, tmp_path, bad_batches):
    settings = ["--on-nan", "skip", "--resume", "--lr-steps", "6,8"]
    run(data_dir, tmp_path / "whole", *settings, "--max-steps", "10")
    for steps in ("4", "7", "10"):
        run(data_dir, tmp_path / "parts", *settings, "--max-steps", steps)
    (_, whole), (_, parts) = state(tmp_path / "whole"), state(tmp_path / "parts")
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)


def test_skip_ends_where_it_does_not_help(data_dir, tmp_path, capsys, bad_batches):
    bad_batches["step"] = set(range(3, 1000))
    message = error_of(capsys, data_dir, tmp_path / "m", "--on-nan", "skip")
    assert "batch 13 " in message
    assert "the 11th time without progress" in message


def test_single_bad_batches_may_be_many(data_dir, tmp_path, bad_batches):
    bad_batches["step"] = set(range(2, 40, 2))
    run(data_dir, tmp_path / "m", "--on-nan", "skip", "--max-steps", "40")
    assert state(tmp_path / "m")[0]["updates"] == 21


@pytest.mark.parametrize("settings", ["", "--save-every 4 --lr-steps 5 --ctx cpu:2"])
def test_rewind_goes_back_and_on_with_other_batches(data_dir, tmp_path, bad_batches, monkeypatch, capsys, settings):
    first = []

    def once(guard, batch):
        if guard._run.step == BAD and not first:
            first.append(BAD)
            guard._module._exec_group.execs[0].outputs[0][0] = np.nan
        return rejects(guard, batch)

    bad_batches["step"] = set()
    rejects = nan_guard.NanGuard.rejects
    monkeypatch.setattr(nan_guard.NanGuard, "rejects", once)
    bad_batches["seen"].clear()
    run(data_dir, tmp_path / "m", "--on-nan", "rewind", "--max-steps", "9", *settings.split())
    back_to = 4 if settings else 0
    steps = [step for step, _ in bad_batches["seen"]]
    assert steps == [*range(1, BAD + 1), *range(back_to + 1, 10)]
    records = [records for _, records in bad_batches["seen"]]
    assert records[back_to:BAD] != records[BAD : 2 * BAD - back_to]
    facts, arrays = state(tmp_path / "m")
    assert (facts["step"], facts["updates"], facts["rewinds"]) == (9, 9, 1)
    assert all(np.isfinite(array).all() for array in arrays.values())
    rates = re.findall(r"^batch (\d): learning rate (\S+)$", capsys.readouterr().out, re.M)
    assert rates == ([("1", "0.02"), ("6", "0.002"), ("5", "0.02"), ("6", "0.002")] if settings else [("1", "0.02")])


def test_a_run_that_was_rewound_resumes_exactly(data_dir, tmp_path, bad_batches, monkeypatch):
    def spoil(guard, batch):
        if guard._run.step == BAD and not guard._run._rewinds:
            guard._module._exec_group.execs[0].outputs[0][0] = np.nan
        return rejects(guard, batch)

    bad_batches["step"] = set()
    rejects = nan_guard.NanGuard.rejects
    monkeypatch.setattr(nan_guard.NanGuard, "rejects", spoil)
    settings = ["--on-nan", "rewind", "--resume", "--save-every", "4"]
    run(data_dir, tmp_path / "whole", *settings, "--max-steps", "14")
    for steps in ("10", "13", "14"):
        run(data_dir, tmp_path / "parts", *settings, "--max-steps", steps)
    (facts, whole), (_, parts) = state(tmp_path / "whole"), state(tmp_path / "parts")
    assert facts["rewinds"] == 1
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)


def test_rewind_ends_where_it_does_not_help(data_dir, tmp_path, capsys, bad_batches):
    message = error_of(capsys, data_dir, tmp_path / "m", "--on-nan", "rewind", "--save-every", "5")
    assert f"batch {BAD} " in message
    assert "the 11th time without progress" in message
    assert state(tmp_path / "m")[0]["step"] == 5


def test_triplets_rewind_to_another_bag(data_dir, tmp_path, monkeypatch, capsys):
    first = []

    def once(guard, batch):
        if guard._run.step == 2 and not first:
            first.append(2)
            guard._module._exec_group.execs[0].outputs[0][0] = np.nan
        return rejects(guard, batch)

    rejects = nan_guard.NanGuard.rejects
    monkeypatch.setattr(nan_guard.NanGuard, "rejects", once)
    settings = ["--triplet-bag-size", "20", "--max-steps", "3"]
    run(data_dir, tmp_path / "m", *settings, "--on-nan", "rewind", command=train_triplet)
    assert len(re.findall("bag of 20 images", capsys.readouterr().out)) == 2
    facts, _ = state(tmp_path / "m")
    assert (facts["step"], facts["epoch"], facts["batch"]) == (3, 1, 3)


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


@pytest.mark.parametrize("not_finite", [nan_guard._not_finite, nan_guard._by_operator])
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
