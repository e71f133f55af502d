"""The published recipes: each is a valid command line of train_softmax with the values of its paper."""

from __future__ import annotations

import pytest

from insightface_mx import losses, options, symbols
from insightface_mx.presets import PRESETS
from insightface_mx.symbols.parts.variants import DEFAULTS
from insightface_mx.training import schedule


def read(*argv):
    parser = options.parser(options.SoftmaxOptions, "", "")
    return options.read(parser.parse_args(argv), options.SoftmaxOptions)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_names_options_of_the_command(name):
    found = read("--config", name)
    losses.check_options(found.loss)
    values = {**vars(found.network), **vars(found.loss), **vars(found.optimiser)}
    assert PRESETS[name].values.items() <= values.items()
    assert {key: type(value) for key, value in PRESETS[name].values.items()} == {
        key: type(values[key]) for key in PRESETS[name].values
    }


@pytest.mark.parametrize(
    "name, loss",
    [
        ("arcface-r100", "--network r100 --loss-type 4 --margin-m 0.5"),
        ("arcface-r50", "--network r50 --loss-type 4 --margin-m 0.5"),
        ("cosface-r50", "--network r50 --loss-type 2 --margin-m 0.35"),
        ("combined-r100", "--network r100 --loss-type 5 --margin-a 1 --margin-m 0.3 --margin-b 0.2"),
        (
            "mobilefacenet-softmax",
            "--network y1 --version-output GDC --emb-size 128 --loss-type 0 --wd 0.00004 --fc7-wd-mult 10",
        ),
        (
            "mobilefacenet-arcface",
            "--network y1 --version-output GDC --emb-size 128 --loss-type 4 --wd 0.00004 --fc7-wd-mult 10",
        ),
    ],
)
def test_presets_are_the_published_commands(name, loss):
    assert read("--config", name) == read(*loss.split(), *"--lr 0.1 --lr-batch 512 --margin-s 64 --mom 0.9".split())


def test_the_rate_and_the_steps_follow_the_batch():
    given = read("--config", "arcface-r100").optimiser
    assert schedule.learning_rate(given, 512) == 0.1
    assert schedule.learning_rate(given, 128) == 0.025
    assert schedule.lr_steps(given.lr_steps, 128, schedule.default_steps(4)) == [400000, 560000, 640000]
    assert schedule.learning_rate(read("--lr", "0.3").optimiser, 128) == 0.3


def test_the_networks_exist_and_have_the_published_embedding():
    for preset in PRESETS.values():
        network = {**vars(read().network), **preset.values}
        variants = {name: network[name] for name in DEFAULTS}
        symbol = symbols.get_symbol(network["network"], network["emb_size"], image_size=(112, 112), **variants)
        assert symbol.infer_shape(data=(1, 3, 112, 112))[1] == [(1, preset.values.get("emb_size", 512))]


def test_a_triplet_run_has_no_presets(capsys):
    from insightface_mx import train_triplet

    with pytest.raises(SystemExit) as stop:
        train_triplet.main(["--config", "arcface-r100"])
    assert stop.value.code == 2
    assert "error: --config arcface-r100: there is no such file; presets: none" in capsys.readouterr().err
