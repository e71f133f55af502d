"""--ctx and --gpu: their defaults, and that they exclude each other."""

from __future__ import annotations

import argparse

import pytest

from insightface_mx.cli.device import add_device_options


def parse(*argv, gpu=None):
    parser = argparse.ArgumentParser()
    add_device_options(parser, gpu)
    return parser.parse_args(argv)


@pytest.mark.parametrize(
    "argv, ctx",
    [
        ([], ""),
        (["--ctx", "cpu:2"], "cpu:2"),
        (["--gpu", "1"], "gpu:1"),
        (["--gpu", "-1"], "cpu"),
    ],
)
def test_a_gpu_that_is_asked_for_must_exist(argv, ctx):
    assert vars(parse(*argv)) == {"ctx": ctx}


@pytest.mark.parametrize(
    "argv, ctx",
    [
        ([], "gpu-or-cpu:0"),
        (["--ctx", "cpu"], "cpu"),
        (["--gpu", "3"], "gpu-or-cpu:3"),
        (["--gpu", "-2"], "cpu"),
    ],
)
def test_a_default_gpu_falls_back_to_the_cpu(argv, ctx):
    assert vars(parse(*argv, gpu=0)) == {"ctx": ctx}


def test_a_default_of_minus_1_is_the_cpu():
    assert parse(gpu=-1).ctx == "cpu"


@pytest.mark.parametrize("gpu", [None, 0])
def test_ctx_and_gpu_exclude_each_other(gpu, capsys):
    with pytest.raises(SystemExit) as stop:
        parse("--ctx", "cpu", "--gpu", "0", gpu=gpu)
    assert stop.value.code == 2
    assert "not allowed with argument --ctx" in capsys.readouterr().err


def test_an_index_that_is_no_number(capsys):
    with pytest.raises(SystemExit):
        parse("--gpu", "first")
    assert "'first' is not the index of a GPU, or -1 for the CPU" in capsys.readouterr().err
