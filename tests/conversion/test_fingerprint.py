"""Fingerprints: the example of the module's docstring, and signatures that are the same in every process."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from insightface_mx.conversion import fingerprint
from insightface_mx.conversion.fingerprint import describe, take_fingerprint
from insightface_mx.onnx_files.graph import Graph, Node


def example():
    """The graph of the module's docstring."""
    shapes = {"conv_weight": (4, 3, 3, 3), "act_gamma": (4, 1, 1), "fc1_weight": (5, 144), "fc1_bias": (5,)}
    shapes.update({f"bn_{key}": (4,) for key in ("gamma", "beta", "mean", "var")})
    constants = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    nodes = [
        Node("Sub", "Sub_data", ("data", "mean"), "centred", {}),
        Node("Conv", "conv", ("centred", "conv_weight"), "conv", {}),
        Node("BatchNormalization", "bn", ("conv", "bn_gamma", "bn_beta", "bn_mean", "bn_var"), "bn", {}),
        Node("PRelu", "act", ("bn", "act_gamma"), "act", {}),
        Node("Flatten", "fc1_flatten", ("act",), "vector", {"axis": 1}),
        Node("Gemm", "fc1", ("vector", "fc1_weight", "fc1_bias"), "fc1", {"transB": 1}),
    ]
    return Graph("data", ["fc1"], nodes, {**constants, "mean": np.array(127.5, np.float32)})


def test_the_example_of_the_docstring():
    found = take_fingerprint(example())
    table = re.findall(r"^ {4}\d +(\w+) +(\w+) +(\(.*\)) +(\w{16})$", fingerprint.__doc__, re.MULTILINE)
    steps = [(step.inputs[0], step.output, repr(step.key), found.signatures[step.output]) for step in found.steps]
    assert len(steps) == 3
    assert table == steps
    assert (found.signature, found.mean, found.scale) == (steps[-1][-1], 127.5, 1)
    assert found.steps[0].norm_counts() == (0, 1)


def change(graph, output, **attrs):
    nodes = [node._replace(attrs=attrs) if node.output == output else node for node in graph.nodes]
    return graph._replace(nodes=nodes)


def with_constant(graph, name, value):
    return graph._replace(constants={**graph.constants, name: np.asarray(value, np.float32)})


@pytest.mark.parametrize(
    ("changed", "is_equal"),
    [
        (lambda graph: with_constant(graph, "conv_weight", np.ones((4, 3, 3, 3))), True),
        (lambda graph: with_constant(graph, "conv_weight", np.ones((4, 3, 1, 1))), False),
        (lambda graph: with_constant(graph, "mean", 0), True),  # the mean is compared apart
        (lambda graph: change(graph, "conv", strides=(2, 2)), False),
        (lambda graph: change(graph, "conv", strides=(1, 1), kernel_shape=(3, 3)), True),
        (lambda graph: with_constant(graph, "fc1_weight", np.ones((6, 144))), False),
    ],
)
def test_what_the_signature_depends_on(changed, is_equal):
    assert (take_fingerprint(changed(example())).signature == take_fingerprint(example()).signature) == is_equal


def test_names_of_tensors_do_not_matter():
    names = {name: f"x{name}" for node in example().nodes for name in (node.output, *node.inputs)}
    nodes = [node.renamed(names)._replace(output=names[node.output]) for node in example().nodes]
    constants = {names[name]: array for name, array in example().constants.items()}
    renamed = take_fingerprint(Graph("xdata", ["xfc1"], nodes, constants))
    assert renamed.signature == take_fingerprint(example()).signature
    assert [describe(step) for step in renamed.steps] == [
        "the Conv conv weight (4, 3, 3, 3)",
        "the PRelu act",
        "the dense layer fc1 from 144 to 5 features",
    ]


@pytest.mark.slow
def test_signatures_are_the_same_in_every_process():
    code = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
    code += "import test_fingerprint as test; print(test.take_fingerprint(test.example()).signature)"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert found == {take_fingerprint(example()).signature}
