"""Interrupted runs: what is saved, what a resumed run makes of it, and what it refuses."""

import errno
import json
import os
import re
import subprocess
import sys
import threading

import harness
import kill_harness
import numpy as np
import pytest
from small_training import Recorder, scores, small_network

from insightface_mx import train_softmax, train_triplet
from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.engine import module_state
from insightface_mx.files import manifest
from insightface_mx.formats import checkpoint
from insightface_mx.formats.recordio import RecordFile
from insightface_mx.options import NetworkOptions, SoftmaxOptions
from insightface_mx.training import resume_check
from insightface_mx.training import state as training_state

SMALL = "--emb-size 8 --image-size 32,32 --per-batch-size 5 --target toy --lr 0.02 --ckpt 2".split()
TRIPLETS = "--emb-size 8 --image-size 32,32 --per-batch-size 6 --lr 0.02 --triplet-bag-size 20".split()


def arguments(data_dir, prefix, *argv, command=train_softmax, seed="1"):
    options = TRIPLETS if command is train_triplet else SMALL
    seeded = ["--seed", seed] if seed else []
    return [command, *options, "--data-dir", data_dir, "--prefix", prefix, *seeded, *argv]


def run(*argv, command=train_softmax, seed="1", **replacements):
    harness.run(*arguments(*argv, command=command, seed=seed), network=small_network, **replacements)


def error_of(capsys, *argv, seed="1"):
    return harness.error_of(capsys, *arguments(*argv, seed=seed), network=small_network)


def metadata(prefix):
    return training_state.newest(str(prefix)).metadata


def arrays(prefix):
    """The newest saved state's arrays, as numpy arrays by name."""
    return {name: array.asnumpy() for name, array in training_state.newest(str(prefix)).arrays.items()}


def assert_same(one, two):
    assert one.keys() == two.keys()
    assert [name for name in one if not np.array_equal(one[name], two[name])] == []


def files(folder, pattern="-state-"):
    return {path.name: path.read_bytes() for path in folder.iterdir() if pattern in path.name}


def saves(folder):
    """The checkpoints and states of a run, without its log, its options and its report."""
    others = ("m-config.json", "m-report.html", "m-report.json")
    return {name: content for name, content in files(folder, "m-").items() if name not in others}


@pytest.mark.slow
def test_sigkill_loses_nothing():
    """At every call that changes a file, and at random moments: each resumed run ends like an undisturbed one."""
    command = [sys.executable, kill_harness.__file__, "--kills", "115"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    result = json.loads(done.stdout)
    assert done.returncode == 0
    assert result["kills"] >= 115
    assert result["boundary"] + result["half"] >= result["places"] > 50
    assert result["lost"] == 0
    assert result["differing"] == []


LOSSES = {
    "arcface": "",
    "sphereface": "--loss-type 1 --beta 10 --gamma 1",
    "no-momentum": "--mom 0 --loss-type 0",
    "clipped-poly": "--clip-gradient 0.01 --lr-schedule poly --warmup 2 --lr-steps 9",
    "two-contexts": "--ctx cpu:2 --lr-steps 3,5",
    "three-contexts": "--ctx cpu:3 --freeze conv0*",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(data_dir, tmp_path, name):
    settings = [*LOSSES[name].split(), "--verbose", "3", "--color", "2"]
    run(data_dir, tmp_path / "whole", *settings, "--max-steps", "8")
    for steps in ("3", "4", "8"):  # 4 batches are an epoch of the one-context runs
        run(data_dir, tmp_path / "parts", *settings, "--max-steps", steps, "--resume", "--workers", "2")
    assert_same(arrays(tmp_path / "whole"), arrays(tmp_path / "parts"))
    ends = metadata(tmp_path / "whole"), metadata(tmp_path / "parts")
    for key in ("step", "epoch", "batch", "updates", "learning_rate", "tests"):
        assert ends[0][key] == ends[1][key]
    assert ends[0]["tests"]["count"] == 2


def test_dropout_and_random_numbers_differ_from_batch_to_batch(data_dir, tmp_path, monkeypatch):
    seen = []
    seed = mx.random.seed
    monkeypatch.setattr(mx.random, "seed", lambda number: seen.append(number) or seed(number))
    run(data_dir, tmp_path / "m", "--max-steps", "6")
    run(data_dir, tmp_path / "n", "--max-steps", "6", seed="2")
    assert len(seen) == 14  # one for the initial parameters, one a batch
    assert len(set(seen)) == 14


@pytest.mark.slow
def test_triplets_go_on_in_the_middle_of_a_bag(data_dir, tmp_path):
    run(data_dir, tmp_path / "whole", "--max-steps", "28", command=train_triplet)
    for steps in ("4", "17", "28"):
        run(data_dir, tmp_path / "parts", "--max-steps", steps, "--resume", "auto", command=train_triplet)
    assert_same(arrays(tmp_path / "whole"), arrays(tmp_path / "parts"))
    end = metadata(tmp_path / "parts")
    assert end["epoch"] > 0
    assert end["batch"] < len(arrays(tmp_path / "parts")["triplets"]) // 2


@pytest.mark.slow
@pytest.mark.parametrize("command", [train_softmax, train_triplet])
def test_other_contexts_get_the_same_batches(data_dir, tmp_path, capsys, command):
    def batches(size, context, *argv):
        recorder = Recorder()
        settings = ["--per-batch-size", size, "--ctx", context, *argv]
        run(data_dir, tmp_path / "m", *settings, command=command, observers=[recorder])
        return np.array(recorder.records)

    whole = batches("6", "cpu:2", "--max-steps", "4")
    first = batches("6", "cpu:2", "--max-steps", "2", "--resume", "--override")
    assert len(first) == 0  # done already
    batches("6", "cpu:2", "--max-steps", "2")
    rest = batches("12", "cpu", "--max-steps", "4", "--resume")
    assert "saved on 2 contexts, going on with 1: the same batches in the same order" in capsys.readouterr().out
    assert (np.sort(rest) == np.sort(whole[2:])).all()
    if command is train_softmax:
        assert (rest == whole[2:]).all()
    else:  # the thirds of one device are those of two, put together
        assert (rest.reshape(2, 3, 2, 2).transpose(0, 2, 1, 3) == whole[2:].reshape(2, 2, 3, 2)).all()


def test_the_mean_of_moving_averages_goes_to_other_contexts(data_dir, tmp_path):
    run(data_dir, tmp_path / "m", "--ctx", "cpu:2", "--max-steps", "2")
    saved = arrays(tmp_path / "m")
    one, two = saved["aux:0:bn0_moving_mean"], saved["aux:1:bn0_moving_mean"]
    assert not np.array_equal(one, two)
    _, means = module_state.params_of(training_state.newest(str(tmp_path / "m")).arrays)
    assert np.allclose(means["bn0_moving_mean"].asnumpy(), (one + two) / 2)


def test_nothing_saved_yet_starts_from_scratch(data_dir, tmp_path, capsys):
    run(data_dir, tmp_path / "m", "--resume", "--max-steps", "2")
    assert "no training state under" in capsys.readouterr().out
    run(data_dir, tmp_path / "n", "--max-steps", "2")
    assert_same(arrays(tmp_path / "m"), arrays(tmp_path / "n"))
    run(data_dir, tmp_path / "m", "--max-steps", "1")
    assert "states of an earlier run" in capsys.readouterr().out
    assert metadata(tmp_path / "m")["step"] == 1


def test_the_seed_is_taken_over(data_dir, tmp_path, capsys):
    run(data_dir, tmp_path / "m", "--max-steps", "1", seed=None)
    run(data_dir, tmp_path / "m", "--max-steps", "2", "--resume", seed=None)
    first, second = re.findall(r"^seed (\d+)$", capsys.readouterr().out, re.M)
    assert first == second


def test_ckpt_0_saves_nothing(data_dir, tmp_path):
    run(data_dir, tmp_path / "m", "--ckpt", "0", "--save-every", "1", "--verbose", "1", "--max-steps", "2")
    assert os.listdir(tmp_path) == ["m.log"]


def test_states_are_saved_when_they_are_due(data_dir, tmp_path, monkeypatch):
    seen = []
    save = training_state.save
    monkeypatch.setattr(training_state, "save", lambda *args: seen.append(args[1]["step"]) or save(*args))
    run(data_dir, tmp_path / "m", "--save-every", "2", "--max-steps", "5")
    run(data_dir, tmp_path / "n", "--save-every", "0", "--max-steps", "5")
    assert seen == [2, 4, 5, 5]
    assert sorted(files(tmp_path, "m-state")) == [f"m-state-{n}.{kind}" for n in (2, 3) for kind in ("json", "params")]


def test_contradicting_options_are_all_named(data_dir, tmp_path, capsys):
    run(data_dir, tmp_path / "m", "--max-steps", "1")
    before = files(tmp_path)
    new = "--resume --max-steps 2 --loss-type 2 --margin-m 0.3 --per-batch-size 4 --lr 0.05 --mom 0.5".split()
    message = error_of(capsys, data_dir, tmp_path / "m", *new, seed="7")
    for text in (
        "--loss-type 4 (now 2)",
        "--margin-m 0.5 (now 0.3)",
        "a total batch of 5 (now 4)",
        "--lr 0.02 (now 0.05)",
        "--mom 0.9 (now 0.5)",
        "--seed 1 (now 7)",
        "--override",
    ):
        assert text in message
    assert "--max-steps" not in message
    assert files(tmp_path) == before
    run(data_dir, tmp_path / "m", *new, "--override", seed="7")
    assert metadata(tmp_path / "m")["step"] == 2
    assert metadata(tmp_path / "m")["options"]["lr"] == 0.05
    assert "--override: the saved run had --lr 0.02 (now 0.05)" in capsys.readouterr().out


def test_an_option_that_the_saved_run_did_not_know_counts_as_its_default(data_dir, tmp_path, capsys):
    run(data_dir, tmp_path / "m", "--max-steps", "1")
    saved = metadata(tmp_path / "m")
    given = {**saved, "options": dict(saved["options"])}
    del saved["options"]["warmup"]
    defaults = resume_check.fixed_options(SoftmaxOptions())
    resume_check.check_resume(saved, given, defaults, override=False)
    given["options"]["warmup"] = 3
    with pytest.raises(UserError, match=r"the saved run had --warmup 0 \(now 3\)\. Give its values"):
        resume_check.check_resume(saved, given, defaults, override=False)


def test_the_options_that_must_not_change():
    """As every saved state has them, but for those that came later."""
    later = {"lr_batch", "sample_ratio", "version_blocks", "version_family", "densenet_dropout"}
    known = (
        "image_size rand_mirror cutoff color images_filter network emb_size version_se version_input version_output "
        "version_unit version_act version_multiplier use_deformable bn_mom lr lr_steps lr_schedule warmup "
        "clip_gradient wd mom pretrained freeze no_cpu_rewrite loss_type margin_m margin_s margin_a margin_b "
        "easy_margin margin beta beta_min beta_freeze gamma power scale fc7_wd_mult fc7_lr_mult fc7_no_bias ce_loss "
        "pretrained_fc7"
    )
    found = resume_check.fixed_options(SoftmaxOptions())
    assert set(found) == {*known.split(), *later}
    assert found["image_size"] == "112,112"


def test_another_network_is_refused_in_spite_of_override(data_dir, tmp_path, capsys):
    run(data_dir, tmp_path / "m", "--max-steps", "1")
    message = error_of(capsys, data_dir, tmp_path / "m", "--resume", "--override", "--emb-size", "4")
    assert "the saved state is another network" in message
    assert "found pre_fc1_weight (8, " in message


def test_other_data_is_refused(data_dir, tmp_path, capsys):
    run(data_dir, tmp_path / "m", "--max-steps", "1")
    for name in ("train.rec", "train.idx"):
        (tmp_path / name).write_bytes((data_dir / name).read_bytes() + b"\0" * (name == "train.rec"))
    (tmp_path / "property").write_text("5,32,32")
    message = error_of(capsys, tmp_path, tmp_path / "m", "--max-steps", "2", "--resume")
    size = (data_dir / "train.rec").stat().st_size
    assert f"bytes in train.rec: {size} (now {size + 1})" in message
    assert "classes in property: 4 (now 5)" in message


def test_options_that_may_differ(data_dir, tmp_path):
    run(data_dir, tmp_path / "m", "--max-steps", "1")
    run(
        data_dir,
        tmp_path / "m",
        *"--resume --max-steps 2 --end-epoch 9 --verbose 1 --workers 3 --ckpt 1 --keep 2 --save-every 5".split(),
        *"--on-nan skip --target none".split(),
    )
    assert metadata(tmp_path / "m")["step"] == 2


def two_states(data_dir, folder):
    run(data_dir, folder / "m", "--max-steps", "4", "--save-every", "2")
    return [folder / f"m-state-{n}.{kind}" for n in (1, 2) for kind in ("json", "params")]


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-10])


DAMAGE = {"flipped": flip, "cut": cut, "empty": lambda path: path.write_bytes(b""), "removed": os.remove}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", ["json", "params"])
def test_a_damaged_state_is_skipped(data_dir, tmp_path, capsys, damage, kind):
    two_states(data_dir, tmp_path)
    whole = arrays(tmp_path / "m")
    capsys.readouterr()
    DAMAGE[damage](tmp_path / f"m-state-2.{kind}")
    run(data_dir, tmp_path / "m", "--max-steps", "4", "--resume")
    out = capsys.readouterr().out
    if (damage, kind) != ("removed", "json"):  # then it was never finished
        assert f"skipped a damaged training state: {tmp_path}/m-state-2.{kind}: " in out
    assert "going on after batch 2," in out
    assert_same(arrays(tmp_path / "m"), whole)


def test_swapped_states_are_refused(data_dir, tmp_path, capsys):
    _, one, _, two = two_states(data_dir, tmp_path)
    contents = one.read_bytes(), two.read_bytes()
    two.write_bytes(contents[0])
    one.write_bytes(contents[1])
    before = files(tmp_path)
    message = error_of(capsys, data_dir, tmp_path / "m", "--resume", "--max-steps", "5")
    assert "m-state-1.params: not what was saved" in message
    assert "m-state-2.params: not what was saved" in message
    assert "--pretrained" in message
    assert files(tmp_path) == before


def test_a_full_disk(data_dir, tmp_path, capsys):
    run(data_dir, tmp_path / "m", "--max-steps", "2", "--verbose", "2")
    before = saves(tmp_path)
    largest = len(before["m-state-1.params"])
    for size in (largest // 2, largest - 3):
        with harness.no_file_over(size):
            message = error_of(capsys, data_dir, tmp_path / "m", "--max-steps", "4", "--save-every", "1", "--resume")
        assert f"cannot save {tmp_path}/m-state-2.params: " in message
        assert saves(tmp_path) == before


@pytest.mark.parametrize("refused", ["0001.params", "config.json"])
def test_a_folder_that_cannot_be_written(data_dir, tmp_path, capsys, monkeypatch, refused):
    run(data_dir, tmp_path / "m", "--max-steps", "2")
    before, replace = saves(tmp_path), os.replace

    def refuse(source, target):
        if refused == "config.json" or not target.endswith("config.json"):
            raise OSError(errno.EROFS, "Read-only file system")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    message = error_of(capsys, data_dir, tmp_path / "m", "--max-steps", "3", "--verbose", "3", "--resume")
    assert f"cannot save {tmp_path}/m-{refused}: Read-only file system" in message
    assert saves(tmp_path) == before


def test_images_that_can_no_longer_be_read(data_dir, tmp_path, capsys, monkeypatch):
    run(data_dir, tmp_path / "whole", "--max-steps", "12")
    read, calls = RecordFile.read, []

    def vanishing(records, number):
        calls.append(number)
        if len(calls) > 45:
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(records, number)

    monkeypatch.setattr(RecordFile, "read", vanishing)
    message = error_of(capsys, data_dir, tmp_path / "m", "--max-steps", "12")
    step = metadata(tmp_path / "m")["step"]
    assert "Stale file handle" in message
    assert f"--resume goes on after batch {step}" in message
    assert 3 <= step < 12
    monkeypatch.setattr(RecordFile, "read", read)
    run(data_dir, tmp_path / "m", "--max-steps", "12", "--resume")
    assert_same(arrays(tmp_path / "m"), arrays(tmp_path / "whole"))


def test_a_data_file_that_is_gone(data_dir, tmp_path, capsys):
    for name in ("train.rec", "train.idx", "property"):
        (tmp_path / name).write_bytes((data_dir / name).read_bytes())
    run(tmp_path, tmp_path / "m", "--max-steps", "2")
    before = files(tmp_path)
    os.remove(tmp_path / "train.rec")
    assert "train.rec" in error_of(capsys, tmp_path, tmp_path / "m", "--max-steps", "3", "--resume")
    assert files(tmp_path) == before


def test_leftovers_of_a_killed_run_are_removed(data_dir, tmp_path):
    names = [
        "m-0001.params.tmp12",
        "m-config.json.tmp12",
        "m-state-3.json.tmp12",
        "m-symbol.json.tmp12",
        "m-state-3.params.tmp9",
    ]
    others = ["mm-0001.params.tmp12", "m-0001.params.tmp", "m-x-0001.params.tmp3"]
    for name in names + others:
        (tmp_path / name).write_text("")
    run(data_dir, tmp_path / "m", "--max-steps", "1")
    assert sorted(name for name in os.listdir(tmp_path) if ".tmp" in name) == sorted(others)


def test_keep(data_dir, tmp_path):
    settings = "--verbose 1 --save-every 1 --max-steps".split()
    run(data_dir, tmp_path / "m", *settings, "5", "--keep", "2", test=scores(0.5, 0.9, 0.7, 0.6, 0.8))
    assert checkpoint.epochs(str(tmp_path / "m")) == [2, 4, 5]
    assert [name for name in sorted(os.listdir(tmp_path)) if name.endswith("1.json")] == []
    (tmp_path / "m-0001.params").write_text("another run's")
    run(data_dir, tmp_path / "m", *settings, "7", "--keep", "1", "--resume", test=scores(0.5, 0.6))
    assert checkpoint.epochs(str(tmp_path / "m")) == [1, 2, 7]


def test_the_best_score_survives(data_dir, tmp_path):
    test = scores(0.9, 0.8, 0.95)
    for steps in ("1", "2", "3"):
        run(data_dir, tmp_path / "m", *"--verbose 1 --ckpt 1 --resume --max-steps".split(), steps, test=test)
    tests = metadata(tmp_path / "m")["tests"]
    assert tests["best"] == [0.95, 0.95]
    assert tests["best_number"] == 3
    assert tests["count"] == 3


def test_a_checkpoint_has_a_manifest(data_dir, tmp_path):
    run(data_dir, tmp_path / "m", "--verbose", "3", "--max-steps", "3")
    content = manifest.read(str(tmp_path / "m-0001.json"))
    assert (content["step"], content["epoch"]) == (3, 0)
    assert content["options"]["margin_m"] == 0.5
    assert content["versions"]["mxnet"] == "1.9.1"
    assert 0 <= content["accuracies"]["toy"] <= 1
    assert sorted(content["files"]) == ["m-0001.params", "m-symbol.json"]
    mx.model.load_checkpoint(str(tmp_path / "m"), 1)
    flip(tmp_path / "m-0001.params")
    with pytest.raises(manifest.Damaged, match=r"m-0001\.params: not what was saved"):
        manifest.read(str(tmp_path / "m-0001.json"))


def test_nothing_that_is_read_back_is_a_pickle(data_dir, tmp_path):
    run(data_dir, tmp_path / "m", "--max-steps", "2")
    names = {name.partition(":")[0] for name in mx.nd.load(str(tmp_path / "m-state-1.params"))}
    assert names == {"arg", "aux", "momentum"}
    json.loads((tmp_path / "m-state-1.json").read_text())


@pytest.mark.slow
def test_a_reader_never_sees_half_a_checkpoint(tmp_path):
    """What verification.py and deploy load while training saves is one of the saves, whole."""
    symbol, prefix = small_network(NetworkOptions(emb_size=64), (32, 32)), str(tmp_path / "m")
    shapes = dict(zip(symbol.list_arguments(), symbol.infer_shape(data=(1, 3, 32, 32))[0]))
    aux = dict(zip(symbol.list_auxiliary_states(), symbol.infer_shape(data=(1, 3, 32, 32))[2]))

    def save(value):
        params = [
            {name: mx.nd.full(shape, value) for name, shape in of.items() if name != "data"} for of in (shapes, aux)
        ]
        checkpoint.save(prefix, 1, symbol, *params)

    save(0)
    done = threading.Event()
    writer = threading.Thread(target=lambda: ([save(value) for value in range(1, 60)], done.set()))
    writer.start()
    seen = set()
    while not done.is_set():
        _, arg_params, aux_params = checkpoint.load(prefix, 1)
        whole = {**arg_params, **aux_params}
        values = np.concatenate([whole[name].asnumpy().ravel() for name in whole if not name.endswith("gamma")])
        assert (values == values[0]).all()
        seen.add(values[0])
    writer.join()
    assert len(seen) > 3
