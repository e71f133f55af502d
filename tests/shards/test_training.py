"""Training runs with class weights in shards: what they save, what they resume from, and what they refuse."""

from __future__ import annotations

import re

import harness
import numpy as np
import pytest
from small_training import SpoilPixels, score, small_network

from insightface_mx import train_softmax
from insightface_mx.base import limits
from insightface_mx.base.compat import mx
from insightface_mx.engine import face_network
from insightface_mx.formats import checkpoint
from insightface_mx.training import advice
from insightface_mx.training import state as training_state

SMALL = (
    "--emb-size 8 --image-size 32,32 --per-batch-size 6 --target toy --lr 0.001 --seed 1 --ckpt 2 --verbose 4".split()
)


def run(data_dir, prefix, *argv, **replacements):
    argv = [*SMALL, "--data-dir", data_dir, "--prefix", prefix, *argv]
    harness.run(train_softmax, *argv, network=small_network, **{"test": score, **replacements})


def error_of(capsys, data_dir, prefix, *argv, **replacements):
    argv = [*SMALL, "--data-dir", data_dir, "--prefix", prefix, *argv]
    return harness.error_of(capsys, train_softmax, *argv, network=small_network, test=score, **replacements)


def arrays(prefix):
    """The newest saved state's arrays, as numpy arrays by name."""
    return {name: array.asnumpy() for name, array in training_state.newest(str(prefix)).arrays.items()}


def assert_close(one, other, tolerance=1e-4):
    """Compare arrays by name; the biases in front of batch norms have no gradient but rounding errors."""
    assert list(one) == list(other)
    for name in one:
        if not name.endswith(("conv0_bias", "pre_fc1_bias")):
            assert np.abs(one[name] - other[name]).max() <= tolerance * np.abs(other[name]).max(), name


def assert_same(one, other):
    assert list(one) == list(other)
    assert [name for name in one if not np.array_equal(one[name], other[name])] == []


LOSSES = {
    "arcface": "",
    "softmax": "--loss-type 0 --mom 0",
    "sphereface": "--loss-type 1 --beta 10 --gamma 1",
    "two contexts, clipped": "--ctx cpu:2 --clip-gradient 0.01 --fc7-wd-mult 10",
    "frozen": "--ctx cpu:2 --freeze fc7*,bn0*",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_a_run_in_shards_saves_what_the_dense_head_saves(data_dir, tmp_path, name):
    settings = [*LOSSES[name].split(), "--max-steps", "4"]
    run(data_dir, tmp_path / "dense", *settings)
    for shards in ("1", "3"):
        prefix = tmp_path / f"shards{shards}"
        run(data_dir, prefix, *settings, "--fc7-shards", shards)
        assert_close(arrays(prefix), arrays(tmp_path / "dense"))
        graphs = [mx.sym.load(str(tmp_path / f"{run}-symbol.json")) for run in ("dense", f"shards{shards}")]
        assert graphs[0].list_arguments() == graphs[1].list_arguments()
        saved = mx.nd.load(f"{prefix}-0001.params")
        assert list(saved) == list(mx.nd.load(str(tmp_path / "dense-0001.params")))
        assert saved["arg:fc7_weight"].shape == (harness.IDENTITIES, 8)


@pytest.mark.slow
@pytest.mark.parametrize("settings", ["", "--loss-type 0", "--sample-ratio 0.5 --ctx cpu:2"])
def test_a_run_resumes_with_other_shards(data_dir, tmp_path, settings):
    def go(name, shards, steps):
        argv = ["--fc7-shards", shards, "--max-steps", steps, "--resume"]
        run(data_dir, tmp_path / name, *settings.split(), *argv)

    go("whole", "4", "9")
    for steps in ("2", "5", "9"):
        go("same", "4", steps)
    assert_same(arrays(tmp_path / "same"), arrays(tmp_path / "whole"))
    last = "1" if "ratio" in settings else "0"
    for shards, steps in (("4", "3"), ("2", "6"), (last, "9")):
        go("other", shards, steps)
    assert_close(arrays(tmp_path / "other"), arrays(tmp_path / "whole"))


@pytest.mark.slow
def test_a_dense_run_goes_on_in_shards(data_dir, tmp_path):
    run(data_dir, tmp_path / "whole", "--max-steps", "6")
    for shards, steps in (("0", "3"), ("3", "6")):
        run(data_dir, tmp_path / "parts", "--fc7-shards", shards, "--max-steps", steps, "--resume")
    assert_close(arrays(tmp_path / "parts"), arrays(tmp_path / "whole"))


@pytest.mark.slow
def test_the_log_is_that_of_the_dense_head(data_dir, tmp_path, capsys):
    def metrics(*argv):
        run(data_dir, tmp_path / "m", "--ce-loss", "--max-steps", "4", *argv)
        found = re.findall(r"Train-(\w+)(?:=|: )(\S+)", capsys.readouterr().out)
        return {name: float(value) for name, value in found}

    dense = metrics()
    assert list(dense) == ["acc", "loss", "lossvalue", "XNorm", "Angle"]
    assert metrics("--fc7-shards", "2") == pytest.approx(dense, rel=1e-6)


@pytest.mark.parametrize("policy", ["stop", "skip", "rewind"])
def test_a_bad_batch_changes_no_class_weights(data_dir, tmp_path, capsys, policy):
    argv = ["--fc7-shards", "2", "--on-nan", policy, "--save-every", "1", "--max-steps", "3"]
    bad = [SpoilPixels(lambda step: step == 3)]
    if policy == "skip":
        run(data_dir, tmp_path / "m", *argv, observers=bad)
        assert "batch 3 is skipped" in capsys.readouterr().out
        run(data_dir, tmp_path / "two", *argv[:-1], "2")
        for kind in ("arg", "momentum"):
            name = f"{kind}:fc7_weight"
            assert np.array_equal(arrays(tmp_path / "m")[name], arrays(tmp_path / "two")[name])
    else:
        error = error_of(capsys, data_dir, tmp_path / "m", *argv, observers=bad)
        assert "batch 3" in error
        assert training_state.newest(str(tmp_path / "m")).metadata["step"] == 2
        assert np.isfinite(arrays(tmp_path / "m")["arg:fc7_weight"]).all()


def test_infinite_class_weights_are_found_though_the_network_is_frozen(data_dir, tmp_path, capsys):
    class Spoil(SpoilPixels):
        def before_batch(self, step, batch, model):
            model.head._blocks[1].arrays["fc7_weight"][:] = np.nan

    argv = ["--fc7-shards", "2", "--freeze", "conv0*,bn0*,pre_fc1*,fc1*", "--max-steps", "2"]
    error = error_of(capsys, data_dir, tmp_path / "m", *argv, observers=[Spoil(None)])
    assert "NaN or infinity in the cross-entropy" in error


def test_what_is_refused(data_dir, tmp_path, capsys):
    assert "--sample-ratio 0.5 needs --fc7-shards" in error_of(
        capsys, data_dir, tmp_path / "m", "--sample-ratio", "0.5"
    )
    error = error_of(capsys, data_dir, tmp_path / "m", "--fc7-shards", "5")
    assert "--fc7-shards 5: 4 classes can be cut into 4 shards at most" in error
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".log"] == []
    for ratio in ("0", "1.1", "nan"):
        assert "--sample-ratio" in error_of(
            capsys, data_dir, tmp_path / "m", "--fc7-shards", "1", "--sample-ratio", ratio
        )
    error = error_of(capsys, data_dir, tmp_path / "m", "--fc7-shards", "2", "--freeze", "fc7_bias")
    assert "--freeze fc7_bias: no parameter has such a name" in error


@pytest.mark.slow
def test_too_many_classes_for_one_array_are_saved_in_the_state_only(data_dir, tmp_path, capsys, monkeypatch):
    run(data_dir, tmp_path / "whole", "--fc7-shards", "2", "--max-steps", "2", "--ckpt", "0")
    monkeypatch.setattr(limits, "MAX_ARRAY", 31)  # four classes x 8 have 32 numbers
    monkeypatch.setattr(advice, "MAX_ARRAY", 31)
    assert (
        "4 classes x 8 (--emb-size) are more than one array of MXNet holds: at most 3 classes. Give --fc7-shards"
        in (error_of(capsys, data_dir, tmp_path / "m"))
    )
    for steps in ("4", "8"):
        run(data_dir, tmp_path / "m", "--fc7-shards", "2", "--max-steps", steps, "--resume")
    assert "checkpoints come without class weights; the training state has them" in capsys.readouterr().out
    assert "arg:fc7_weight" not in mx.nd.load(str(tmp_path / "m-0002.params"))
    assert mx.sym.load(str(tmp_path / "m-symbol.json")).list_outputs() == ["fc1_output"]
    assert arrays(tmp_path / "m")["arg:fc7_weight"].shape == (4, 8)
    assert set(face_network.load(str(tmp_path / "m"), 2, (32, 32)).arg_params) >= {"conv0_weight", "pre_fc1_weight"}


@pytest.mark.slow
def test_class_weights_of_a_checkpoint_are_taken(data_dir, tmp_path):
    run(data_dir, tmp_path / "first", "--max-steps", "2")
    start = ["--pretrained", f"{tmp_path / 'first'},1", "--max-steps", "1", "--lr", "0", "--lr-steps", "9"]
    run(data_dir, tmp_path / "then", *start, "--fc7-shards", "2")
    _, expected, _ = checkpoint.load(str(tmp_path / "first"), 1)
    assert np.array_equal(arrays(tmp_path / "then")["arg:fc7_weight"], expected["fc7_weight"].asnumpy())


def test_a_dry_run_counts_the_class_weights(data_dir, tmp_path, capsys):
    run(data_dir, tmp_path / "m", "--fc7-shards", "2", "--sample-ratio", "0.5", "--dry-run")
    assert "embeddings of 8 numbers, 32 class weights" in capsys.readouterr().out
