"""The learning rate by batch number, against its formulas; what is logged of a rate or an angle that looks wrong."""

import math
import re

import numpy as np
import pytest
from small_training import small_network

from insightface_mx import options, train_softmax
from insightface_mx.base.errors import UserError
from insightface_mx.engine.module_state import executors
from insightface_mx.formats import checkpoint
from insightface_mx.training import schedule
from insightface_mx.training import state as training_state
from insightface_mx.training.batches import Observer


def parse(text):
    parser = options.parser(options.SoftmaxOptions, "", "")
    return options.read(parser.parse_args(text.split()), options.SoftmaxOptions)


def rates(text, batches):
    given = parse(text).optimiser
    steps = schedule.lr_steps(given.lr_steps, 512, schedule.MARGIN_STEPS)
    scheduler = schedule.scheduler(given, given.lr, steps)
    return [scheduler(n) for n in batches]


def test_steps_are_the_originals():
    assert schedule.lr_steps("", 512, schedule.default_steps(4)) == [100000, 140000, 160000]
    assert schedule.lr_steps("", 128, schedule.default_steps(0)) == [160000, 240000, 320000]
    assert schedule.lr_steps("3,5", 128, schedule.default_steps(4)) == [3, 5]
    assert np.allclose(rates("--lr-steps 3,5", range(1, 8)), [0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


@pytest.mark.parametrize("warmup", [0, 4])
def test_poly_and_cosine(warmup):
    text = f"--lr 0.2 --lr-steps 5,20 --warmup {warmup} --lr-schedule"
    for n, poly, cosine in zip(range(1, 21), *(rates(f"{text} {name}", range(1, 21)) for name in ("poly", "cosine"))):
        t = (n - warmup) / (20 - warmup)
        expected = [0.2 * n / warmup] * 2 if n < warmup else [0.2 * (1 - t) ** 2, 0.1 * (1 + math.cos(math.pi * t))]
        assert np.allclose([poly, cosine], expected)


def test_warmup_of_steps():
    values = rates("--lr-steps 8 --warmup 5", range(1, 10))
    assert np.allclose(values, [0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.1, 0.1, 0.01])


def test_a_warmup_beyond_the_schedule():
    with pytest.raises(UserError, match=r"--warmup 20: it must be less than the last of --lr-steps, 20"):
        rates("--warmup 20 --lr-steps 5,20", [1])


@pytest.mark.parametrize("text", ["3,x", "0,5", "5,5", "9,5"])
def test_steps_that_do_not_rise(text):
    with pytest.raises(UserError, match=f"--lr-steps {text}: "):
        schedule.lr_steps(text, 512, schedule.MARGIN_STEPS)


@pytest.mark.parametrize(
    "text, end",
    [
        ("", None),
        ("--max-steps 7", 7),
        ("--lr-schedule poly --lr-steps 5,9", 9),
        ("--lr-schedule cosine --max-steps 7 --lr-steps 9", 7),
    ],
)
def test_where_a_run_ends(text, end):
    given = parse(text)
    steps = schedule.lr_steps(given.optimiser.lr_steps, 512, schedule.MARGIN_STEPS)
    assert schedule.last_batch(given.optimiser, given.run.max_steps, steps) == end


@pytest.mark.parametrize("text", ["--warmup -1", "--clip-gradient -0.1", "--clip-gradient nan", "--keep -1"])
def test_negative_numbers(text, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(text)
    assert stop.value.code == 2
    assert "is not 0 or more" in capsys.readouterr().err


def test_a_run_follows_its_schedule_and_reports_length_and_angle(data_dir, tmp_path, capsys):
    """The statistics of one batch are those of the embeddings and class weights before its update."""
    argv = "--emb-size 8 --image-size 32,32 --per-batch-size 5 --seed 1 --ckpt 2 --target none --verbose 1".split()
    argv += "--lr 0.02 --lr-schedule cosine --lr-steps 3 --warmup 2".split()
    argv += ["--data-dir", str(data_dir), "--prefix", str(tmp_path / "m")]
    seen = []

    class RecordEmbeddings(Observer):
        def after_backward(self, step, batch, model):
            weight = executors(model)[0].arg_dict["fc7_weight"].asnumpy()
            seen.append((model.get_outputs()[0].asnumpy(), weight[batch.label[0].asnumpy().astype(int)]))

    train_softmax.main(argv, network=small_network, observers=[RecordEmbeddings()])
    out = capsys.readouterr().out
    assert [float(rate) for rate in re.findall(r"learning rate (\S+)", out)] == [0.01, 0.02, 0.0]
    assert checkpoint.epochs(str(tmp_path / "m")) == [1, 2, 3]
    assert training_state.newest(str(tmp_path / "m")).metadata["step"] == 3
    for step, (embedding, own) in enumerate(seen, 1):
        lengths = np.linalg.norm(embedding, axis=1)
        cos = (embedding * own).sum(axis=1) / lengths / np.linalg.norm(own, axis=1)
        for name, value in {"XNorm": lengths.mean(), "Angle": np.degrees(np.arccos(cos)).mean()}.items():
            (logged,) = re.findall(rf"^\[{step}\]Train-{name}: (\S+)$", out, re.M)
            assert np.isclose(float(logged), value, rtol=1e-4)


def test_softmax_has_no_angle(data_dir, tmp_path, capsys):
    argv = "--loss-type 0 --emb-size 8 --image-size 32,32 --per-batch-size 5 --verbose 2 --max-steps 4".split()
    argv += ["--target", "none", "--data-dir", str(data_dir), "--prefix", str(tmp_path / "m")]
    train_softmax.main(argv, network=small_network)
    out = capsys.readouterr().out
    assert len(re.findall(r"^\[\d\]Train-XNorm: ", out, re.M)) == 2
    assert "Train-Angle" not in out
