"""train_softmax.py as its users run it: what it prints, saves and refuses, and one step against the formulas."""

import os
import re
import shlex
import signal
import subprocess
import sys

import harness
import numpy as np
import pytest
from harness import error_of, photo
from small_training import scores

from insightface_mx import options, recipe, train_softmax
from insightface_mx.base.compat import mx
from insightface_mx.deploy import model_slim
from insightface_mx.engine import devices
from insightface_mx.engine import network as verify
from insightface_mx.engine.cpu_rewrite import OnceLog
from insightface_mx.eval import verification
from insightface_mx.formats import checkpoint
from insightface_mx.formats.training_set import write_training_set
from insightface_mx.training import state as training_state

SMALL = (
    "--network r18 --version-act relu --version-output GAP --emb-size 8 --image-size 32,32 --per-batch-size 6".split()
)
SCRIPT = train_softmax.__file__


def run(data_dir, prefix, *argv, **replacements):
    start = [*SMALL, "--data-dir", data_dir, "--prefix", prefix, "--target", "toy", "--seed", "1"]
    harness.run(train_softmax, *start, *argv, **replacements)


def params(prefix, epoch):
    _, arg_params, aux_params = checkpoint.load(str(prefix), epoch)
    return {name: array.asnumpy() for name, array in {**arg_params, **aux_params}.items()}


@pytest.mark.slow
def test_printed_lines_and_saves(data_dir, tmp_path, capsys):
    prefix = tmp_path / "model" / "toy"
    run(data_dir, prefix, "--max-steps", "5", "--verbose", "2", "--ckpt", "2")
    out = capsys.readouterr().out
    assert re.search(r"^\[toy\]\[2\]XNorm: \d+\.\d+$", out, re.M)
    assert re.search(r"^\[toy\]\[4\]Accuracy-Flip: \d\.\d{5}\+-\d\.\d{5}$", out, re.M)
    assert re.search(r"^\[4\]Accuracy-Highest: \d\.\d{5}$", out, re.M)
    assert sorted(os.listdir(prefix.parent)) == [
        "toy-0001.json",
        "toy-0001.params",
        "toy-0002.json",
        "toy-0002.params",
        "toy-0003.json",
        "toy-0003.params",  # the end of the run, by --max-steps
        "toy-config.json",
        "toy-report.html",
        "toy-report.json",
        "toy-state-1.json",
        "toy-state-1.params",
        "toy-symbol.json",
        "toy.log",
    ]
    assert "[4]Accuracy-Highest" in (prefix.parent / "toy.log").read_text()


@pytest.mark.slow
def test_verification_prints_the_figure_of_training(data_dir, tmp_path, capsys):
    prefix = tmp_path / "toy"
    run(
        data_dir, prefix, "--max-steps", "3", "--verbose", "3", "--ckpt", "2", "--ctx", "cpu:2", "--per-batch-size", "4"
    )
    trained = re.findall(r"\[toy\]\[3\](XNorm: .*|Accuracy-Flip: .*)", capsys.readouterr().out)
    assert len(trained) == 2
    model = f"{prefix},1"
    verification.main(["--data-dir", str(data_dir), "--model", model, "--target", "toy", "--image-size", "32,32"])
    assert re.findall(r"\[toy\](XNorm: .*|Accuracy-Flip: .*)", capsys.readouterr().out) == trained


@pytest.mark.slow
def test_a_checkpoint_is_a_plain_mxnet_one(data_dir, tmp_path):
    prefix = str(tmp_path / "toy")
    run(data_dir, prefix, "--max-steps", "1", "--loss-type", "4", "--ce-loss")
    symbol, arg_params, _ = mx.model.load_checkpoint(prefix, 1)
    assert arg_params["fc7_weight"].shape == (4, 8)
    names = symbol.get_internals().list_outputs()
    for name in ("fc1_output", "fc1n_output", "fc7_output", "softmax_output"):
        assert name in names
    assert "Custom" not in symbol.tojson()


@pytest.mark.slow
def test_a_seed_makes_a_run_repeatable_bit_for_bit(data_dir, tmp_path):
    runs = {}
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        run(data_dir, tmp_path / name, "--max-steps", "3", "--seed", str(seed), "--color", "2", "--version-output", "E")
        runs[name] = params(tmp_path / name, 1)
    assert [name for name in runs["a"] if not np.array_equal(runs["a"][name], runs["b"][name])] == []
    assert not np.array_equal(runs["a"]["conv0_weight"], runs["c"]["conv0_weight"])


@pytest.mark.slow
@pytest.mark.parametrize("policy, saved", [("0", []), ("1", [1, 2, 4]), ("2", [1, 2, 3]), ("3", [1, 2])])
def test_ckpt(data_dir, tmp_path, policy, saved):
    argv = ["--max-steps", "3", "--verbose", "1", "--ckpt", policy]
    run(data_dir, tmp_path / "m", *argv, test=scores(0.5, 0.9, 0.7))
    assert checkpoint.epochs(str(tmp_path / "m")) == saved


@pytest.mark.slow
def test_ckpt_3_keeps_the_best_under_1(data_dir, tmp_path):
    score, seen = scores(0.5, 0.9, 0.7), []

    def test(step, arg_params, aux_params):
        seen.append(arg_params["conv0_weight"].asnumpy())
        return score(step, arg_params, aux_params)

    run(data_dir, tmp_path / "m", "--max-steps", "3", "--verbose", "1", "--ckpt", "3", test=test)
    assert np.array_equal(params(tmp_path / "m", 1)["conv0_weight"], seen[1])
    assert np.array_equal(params(tmp_path / "m", 2)["conv0_weight"], seen[2])


def original_head(o, embedding):
    """The original's graph, written out from the formulas in ordinary operators."""
    label, weight = mx.sym.Variable("softmax_label"), mx.sym.Variable("fc7_weight", shape=(4, 8))
    s, m = o.margin_s, o.margin_m
    if o.loss_type == 0:
        bias = {"no_bias": True} if o.fc7_no_bias else {"bias": mx.sym.Variable("fc7_bias")}
        fc7 = mx.sym.FullyConnected(embedding, weight, num_hidden=4, **bias)
        return mx.sym.SoftmaxOutput(fc7, label, normalization="valid")
    weight = mx.sym.L2Normalization(weight, mode="instance")
    fc7 = mx.sym.FullyConnected(
        mx.sym.L2Normalization(embedding, mode="instance") * s, weight, no_bias=True, num_hidden=4
    )
    cos = mx.sym.pick(fc7, label, axis=1) / s
    if o.loss_type == 2:
        new = cos - m
    elif o.loss_type == 4:
        shifted = cos * np.cos(m) - mx.sym.sqrt(1 - cos * cos) * np.sin(m)
        floor, kept = (0.0, cos) if o.easy_margin else (np.cos(np.pi - m), cos - m * np.sin(np.pi - m))
        new = mx.sym.where(mx.sym.relu(cos - floor), shifted, kept)
    else:
        new = mx.sym.cos(o.margin_a * mx.sym.arccos(cos) + m) - o.margin_b
    one_hot = mx.sym.one_hot(label, depth=4)
    fc7 = fc7 + mx.sym.broadcast_mul(one_hot, mx.sym.expand_dims(s * (new - cos), 1))
    return mx.sym.SoftmaxOutput(fc7, label, normalization="valid")


LOSSES = {
    "softmax": "--loss-type 0",
    "softmax-no-bias": "--loss-type 0 --fc7-no-bias",
    "cosface": "--loss-type 2 --margin-m 0.35",
    "arcface": "--loss-type 4",
    "arcface-easy": "--loss-type 4 --easy-margin 1",
    "combined": "--loss-type 5 --margin-a 0.9 --margin-m 0.4 --margin-b 0.15",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("devices", [1, 2])
def test_a_step_from_a_checkpoint_is_the_formulas_step(data_dir, tmp_path, name, devices):
    """After one batch the weight is weight - lr (mean over the devices of their gradients + wd weight)."""
    settings = [*LOSSES[name].split(), *"--lr 0.02 --wd 0.01 --ckpt 2 --max-steps".split()]
    start, step = str(tmp_path / "start"), str(tmp_path / "step")
    run(data_dir, start, *settings, "2")
    once = ["1", "--pretrained", f"{start},1", "--ctx", f"cpu:{devices}", "--seed", "7", "--data-dir", str(data_dir)]
    run(data_dir, step, *settings, *once)
    before, after = params(start, 1), params(step, 1)

    given = parse(*SMALL, *settings, *once)
    batch = recipe.open_images(given.data, 6 * devices, given.run.seed, 4).next()
    symbol = original_head(given.loss, recipe.build_network(given.network, given.data.image_size))
    executor = symbol.simple_bind(mx.cpu(), data=(6, 3, 32, 32), softmax_label=(6,))
    gradients = [gradients_of(executor, before, batch, slice(6 * i, 6 * i + 6)) for i in range(devices)]
    for parameter in ("fc7_weight", "conv0_weight", "stage2_unit1_conv1_weight", "bn1_beta", "fc1_beta"):
        gradient = sum(of[parameter] for of in gradients) / devices
        update = -0.02 * (gradient + 0.01 * before[parameter])
        tolerance = 1e-4 if parameter == "fc7_weight" else 1e-3
        error = np.abs(after[parameter] - before[parameter] - update).max() / np.abs(update).max()
        assert error < tolerance, parameter


def gradients_of(executor, values, batch, part):
    """The gradients of part of a batch, numpy arrays by name, from parameters `values`."""
    for arrays in (executor.arg_dict, executor.aux_dict):
        for parameter, array in arrays.items():
            if parameter in values:
                array[:] = values[parameter]
    executor.forward(is_train=True, data=batch.data[0][part], softmax_label=batch.label[0][part])
    executor.backward()
    return {parameter: array.asnumpy() for parameter, array in executor.grad_dict.items()}


def parse(*argv):
    parser = options.parser(options.SoftmaxOptions, "", "")
    return options.read(parser.parse_args(argv), options.SoftmaxOptions)


@pytest.mark.slow
def test_momentum_decay_and_lr_steps(data_dir, tmp_path):
    """SGD on the gamma of fc1: it has no gradient, and every forward pass sets it back to 1; v = mom v - lr wd."""
    prefix = str(tmp_path / "m")
    settings = "--lr 0.5 --wd 0.02 --mom 0.9 --lr-steps 2 --ckpt 2 --verbose 1 --max-steps 3".split()
    run(data_dir, prefix, *settings)
    velocity = 0.0
    for epoch, lr in ((1, 0.5), (2, 0.5), (3, 0.05)):
        velocity = 0.9 * velocity - lr * 0.02
        assert np.allclose(params(prefix, epoch)["fc1_gamma"], 1 + velocity, rtol=1e-6)


@pytest.mark.slow
def test_multipliers_of_the_class_weights_act(data_dir, tmp_path):
    def update(*argv):
        run(data_dir, tmp_path / "m", "--max-steps", "1", "--wd", "0", *argv)
        return params(tmp_path / "m", 1)

    plain, slow = update("--lr", "0.01"), update("--lr", "0.01", "--fc7-lr-mult", "0")
    start = update("--lr", "0")
    assert np.array_equal(slow["fc7_weight"], start["fc7_weight"])
    assert not np.array_equal(plain["fc7_weight"], start["fc7_weight"])
    assert np.array_equal(slow["conv0_weight"], plain["conv0_weight"])
    decay = "--lr 0.01 --wd 0.1".split()
    difference = update(*decay)["fc7_weight"] - update(*decay, "--fc7-wd-mult", "3")["fc7_weight"]
    assert np.allclose(difference, 0.01 * 0.1 * 2 * start["fc7_weight"], rtol=1e-2, atol=1e-6)


@pytest.mark.slow
def test_pretrained_with_other_classes_keeps_the_network(data_dir, tmp_path, capsys):
    run(data_dir, tmp_path / "m", "--max-steps", "1")
    symbol, arg_params, aux_params = checkpoint.load(str(tmp_path / "m"), 1)
    arg_params["fc7_weight"] = mx.nd.ones((9, 8))
    checkpoint.save(str(tmp_path / "nine"), 1, symbol, arg_params, aux_params)
    run(data_dir, tmp_path / "n", "--max-steps", "1", "--lr", "0", "--pretrained", f"{tmp_path}/nine,1")
    assert "(9, 8), expected (4, 8)" in capsys.readouterr().out
    assert np.array_equal(params(tmp_path / "n", 1)["conv0_weight"], params(tmp_path / "m", 1)["conv0_weight"])
    del arg_params["fc7_weight"]
    checkpoint.save(str(tmp_path / "slim"), 1, symbol, arg_params, aux_params)
    run(data_dir, tmp_path / "n", "--max-steps", "1", "--lr", "0", "--pretrained", f"{tmp_path}/slim,1")
    assert params(tmp_path / "n", 1)["fc7_weight"].shape == (4, 8)


@pytest.mark.slow
def test_a_run_leaves_the_graph_of_a_checkpoint_from_elsewhere(data_dir, tmp_path, capsys):
    """As of an imported one that it starts from; another run under the prefix may be replaced."""
    run(data_dir, tmp_path / "m", "--max-steps", "1", "--ckpt", "2")
    prefix = model_slim.slim(str(tmp_path / "m"), 1)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("ms-*")}
    words = [*SMALL, "--data-dir", data_dir, "--pretrained", f"{prefix},0", "--prefix", prefix, "--max-steps", "1"]
    error = error_of(capsys, train_softmax, *words, "--target", "toy")
    assert f"{prefix}-symbol.json is the graph of {prefix}-0000.params, which no run here has saved: choose" in error
    after = {path.name: path.read_bytes() for path in tmp_path.glob("ms-*")}
    assert {name: after[name] for name in before} == before
    assert "ms-config.json" not in after
    run(data_dir, prefix, "--max-steps", "1", "--ckpt", "0")
    run(data_dir, tmp_path / "m", "--max-steps", "1", "--loss-type", "2", "--ckpt", "2")


@pytest.mark.slow
def test_pretrained_fc7_strict(data_dir, tmp_path, capsys):
    run(data_dir, tmp_path / "m", "--max-steps", "1")
    symbol, arg_params, aux_params = checkpoint.load(str(tmp_path / "m"), 1)
    arg_params["fc7_weight"] = mx.nd.ones((9, 8))
    checkpoint.save(str(tmp_path / "nine"), 1, symbol, arg_params, aux_params)
    strict = ["--pretrained", f"{tmp_path}/nine,1", "--pretrained-fc7", "strict", "--max-steps", "1"]
    common = [*SMALL, "--data-dir", data_dir, "--prefix", tmp_path / "n"]
    assert "found fc7_weight (9, 8), expected (4, 8)" in error_of(capsys, train_softmax, *common, *strict)


@pytest.mark.slow
def test_freeze_trains_only_the_rest(data_dir, tmp_path, capsys):
    run(data_dir, tmp_path / "a", "--max-steps", "2")
    again = ["--max-steps", "2", "--pretrained", f"{tmp_path}/a,1"]
    run(data_dir, tmp_path / "b", *again, "--freeze", "conv0*,bn0*,stage[12]_*")
    before, after = params(tmp_path / "a", 1), params(tmp_path / "b", 1)
    frozen = {name for name in before if re.match(r"conv0|bn0|stage[12]_", name)}
    assert {name for name in before if np.array_equal(before[name], after[name])} - {"fc1_gamma"} == frozen
    assert "bn0_moving_mean" in frozen
    common = [*SMALL, "--data-dir", data_dir, "--prefix", tmp_path / "n"]
    assert "--freeze layer9*: no parameter" in error_of(capsys, train_softmax, *common, "--freeze", "layer9*")


@pytest.mark.slow
def test_r50_trains(data_dir, tmp_path, capsys):
    """Four batches are an epoch, whose end prints the loss."""
    run(data_dir, tmp_path / "r50", *"--network r50 --version-act prelu --version-output E --max-steps 4".split())
    (loss,) = re.findall(r"Train-loss=(\S+)", capsys.readouterr().out)
    assert 0 < float(loss) < 100
    assert checkpoint.epochs(str(tmp_path / "r50")) == [1]
    assert len([n for n in params(tmp_path / "r50", 1) if re.search(r"conv\w*_weight$", n)]) == 53


@pytest.mark.slow
def test_tensorboard(data_dir, tmp_path):
    run(data_dir, tmp_path / "m", "--max-steps", "20", "--verbose", "10", "--tensorboard", str(tmp_path / "board"))
    (events,) = os.listdir(tmp_path / "board")
    content = (tmp_path / "board" / events).read_bytes()
    for name in (b"loss", b"acc", b"lr", b"accuracy/toy"):
        assert name in content


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_where(data_dir, tmp_path, number):
    argv = [*SMALL, "--data-dir", str(data_dir), "--prefix", str(tmp_path / "m"), "--target", "toy"]
    process = subprocess.Popen([sys.executable, SCRIPT, *argv], stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if "Train-loss" in line:  # the first epoch is done
            process.send_signal(number)
            break
    out = process.stdout.read()
    process.stdout.close()
    assert process.wait() == 128 + number
    name = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}[number]
    command = shlex.join([sys.executable, os.path.abspath(SCRIPT), *argv, "--resume"])
    assert out.endswith(f"\nstopped by {name}; to go on: {command}\n")
    step = re.search(r"saved .*m-0001\.params after batch (\d+)", out).group(1)
    assert params(tmp_path / "m", 1)["fc7_weight"].shape == (4, 8)
    assert training_state.newest(str(tmp_path / "m")).metadata["step"] == int(step)


def test_help_names_every_option_with_its_default(capsys):
    with pytest.raises(SystemExit) as stop:
        train_softmax.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for option in ("--data-dir", "--loss-type", "--margin-m", "--fc7-wd-mult", "--beta-freeze", "--images-filter"):
        assert option in text
    assert "(default: 0.0005)" in text


def test_defaults_are_the_originals():
    found = {name: value for group in vars(parse()).values() for name, value in vars(group).items()}
    expected = {
        "prefix": "../model/model", "ckpt": 1, "loss_type": 4, "verbose": 2000, "max_steps": 0, "end_epoch": 100000,
        "network": "r50", "image_size": (112, 112), "version_se": 0, "version_input": 1, "version_output": "E",
        "version_unit": 3, "version_act": "prelu", "version_multiplier": 1.0, "use_deformable": 0, "lr": 0.1,
        "lr_steps": "", "wd": 0.0005, "mom": 0.9, "fc7_wd_mult": 1.0, "fc7_lr_mult": 1.0, "fc7_no_bias": False,
        "bn_mom": 0.9, "emb_size": 512, "per_batch_size": 128, "margin_m": 0.5, "margin_s": 64.0, "margin_a": 1.0,
        "margin_b": 0.0, "easy_margin": 0, "margin": 4, "beta": 1000.0, "beta_min": 5.0, "beta_freeze": 0,
        "gamma": 0.12, "power": 1.0, "scale": 0.9993, "rand_mirror": 1, "cutoff": 0, "color": 0, "images_filter": 0,
        "target": "lfw,cfp_fp,agedb_30", "ce_loss": False, "pretrained": "", "data_dir": "",
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected


BAD_INPUT = {
    "--network q50": "r50",
    "--network r51": "r50",
    "--version-output Q": "GDC",
    "--version-output GDC": "7x7",
    "--loss-type 3": "ArcFace",
    "--loss-type 12": "train_triplet.py",
    "--margin-m 2": "--margin-m 2.0",
    "--data-dir {tmp_path}/none": "does not exist",
    "--per-batch-size 25": "fewer than one batch of 25",
    "--lr-steps 5,3": "--lr-steps 5,3",
    "--ctx gpu:0": "device gpu:0: MXNet sees 0 GPUs",
    "--gpu 0": "device gpu:0: MXNet sees 0 GPUs",
    "--ctx tpu": "device tpu is not known",
    "--pretrained {tmp_path}/none,1": "none-symbol.json does not exist",
    "--pretrained model": "PREFIX,EPOCH",
    "--prefix {data_dir}/property/m": "--prefix",
}


@pytest.mark.parametrize("argv", BAD_INPUT)
def test_bad_input(data_dir, tmp_path, capsys, argv):
    common = [*SMALL, "--data-dir", data_dir, "--prefix", tmp_path / "m", "--max-steps", "1", "--target", "toy"]
    words = argv.format(data_dir=data_dir, tmp_path=tmp_path).split()
    assert BAD_INPUT[argv] in error_of(capsys, train_softmax, *common, *words)


@pytest.mark.slow
def test_another_network_is_named(data_dir, tmp_path, capsys):
    common = [*SMALL, "--data-dir", data_dir, "--prefix", tmp_path / "m", "--max-steps", "1", "--target", "toy"]
    run(data_dir, tmp_path / "small", "--max-steps", "1")
    message = error_of(capsys, train_softmax, *common, "--emb-size", "16", "--pretrained", f"{tmp_path}/small,1")
    assert "is another network" in message
    assert "pre_fc1_weight" in message or "fc1" in message


@pytest.mark.slow
def test_images_need_not_be_square(data_dir, tmp_path):
    """A checkpoint of a 32x48 network tests as it did in training, and is fitted to this size."""
    settings = ["--image-size", "32, 48", "--version-output", "E", "--max-steps", "2", "--verbose", "2", "--target", ""]
    run(data_dir, tmp_path / "m", *settings)
    assert params(tmp_path / "m", 1)["pre_fc1_weight"].shape == (8, 512 * 2 * 3)
    model = verify.load_model(str(tmp_path / "m"), 1, [mx.cpu()], 2, (32, 48))
    assert verify.embed(np.zeros((2, 3, 32, 48)), model, 2).shape == (2, 8)
    assert training_state.newest(str(tmp_path / "m")).metadata["options"]["image_size"] == "32,48"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, content",
    {"property": b"3,32,32\n", "toy.bin": b"not a pickle", "train.idx": b"0\t0\n1\t7\n", "train.rec": None}.items(),
)
def test_damaged_data(data_dir, tmp_path, capsys, name, content):
    for file in ("train.rec", "train.idx", "property", "toy.bin"):
        (tmp_path / file).write_bytes((data_dir / file).read_bytes())
    common = [*SMALL, "--data-dir", tmp_path, "--prefix", tmp_path / "m", "--max-steps", "4", "--target", "toy"]
    (tmp_path / name).write_bytes(content or (data_dir / name).read_bytes()[:-1000])
    assert name in error_of(capsys, train_softmax, *common)


@pytest.mark.slow
@pytest.mark.parametrize("value", ["", "-1"])
def test_no_visible_devices(monkeypatch, capsys, data_dir, tmp_path, value):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    monkeypatch.setattr(devices, "once_log", OnceLog())  # another test may have said it in this process
    run(data_dir, tmp_path / "m", "--max-steps", "1")
    assert capsys.readouterr().out.count("no GPU asked for: on the CPU") == 1


def test_a_visible_device_that_is_not_there(monkeypatch, capsys, data_dir, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert "CUDA_VISIBLE_DEVICES=7" in error_of(
        capsys, train_softmax, *SMALL, "--data-dir", data_dir, "--prefix", tmp_path / "m"
    )


@pytest.mark.slow
def test_one_percent_of_damaged_records(tmp_path, capsys):
    photos = [[photo(person, number) for number in range(25)] for person in range(4)]
    photos[1][3] = b"no image"
    write_training_set(str(tmp_path), photos, (32, 32))
    run(tmp_path, tmp_path / "m", "--end-epoch", "1", "--per-batch-size", "20", "--ckpt", "2")
    assert checkpoint.epochs(str(tmp_path / "m")) == [1]
    assert "record 29" in (tmp_path / "m.log").read_text()
    stop = ["--on-bad-record", "stop", "--end-epoch", "1", "--per-batch-size", "20"]
    error = error_of(capsys, train_softmax, *SMALL, "--data-dir", tmp_path, "--prefix", tmp_path / "n", *stop)
    assert "record 29 " in error
