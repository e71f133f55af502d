"""The normal form of ONNX graphs."""

import numpy as np
import pytest
from iresnet_files import state_dict, write_iresnet

from insightface_mx.onnx_files import file
from insightface_mx.onnx_files.graph import Graph, Node
from insightface_mx.onnx_files.normal_form import normalise


@pytest.mark.slow
def test_a_graph_is_read_without_what_does_nothing(tmp_path):
    path = str(tmp_path / "backbone.onnx")
    write_iresnet(state_dict(emb_size=32), path)
    graph, image_size = file.load(path)
    operators = [node.op for node in graph.nodes]
    assert image_size == (112, 112)
    assert sorted(set(operators)) == ["Add", "BatchNormalization", "Conv", "Flatten", "Gemm", "PRelu"]
    assert operators.count("Conv") == 21
    gemm = graph.nodes[operators.index("Gemm")]
    assert graph.constants[gemm.inputs[1]].shape == (32, 512 * 49)
    assert len(gemm.inputs) == 3


def graph_of(*nodes, output):
    constants = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.ones(3, np.float32)}
    return normalise(Graph("data", [output], [Node(*node) for node in nodes], constants))


def test_a_product_and_a_sum_become_one_dense_layer():
    product = ("MatMul", "product", ("data", "weight"), "product", {})
    identity = ("Identity", "same", ("product",), "same", {})
    graph = graph_of(product, identity, ("Add", "sum", ("same", "bias"), "sum", {}), output="sum")
    (dense,) = graph.nodes
    assert (dense.op, dense.output, dense.attrs) == ("Gemm", "sum", {"transB": 1})
    assert (dense.inputs[0], dense.inputs[2]) == ("data", "bias")
    assert graph.constants[dense.inputs[1]].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_product_that_is_used_twice_keeps_its_sum():
    product = ("Gemm", "product", ("data", "weight"), "product", {"alpha": 0.5})
    added = ("Add", "sum", ("product", "bias"), "sum", {})
    graph = graph_of(product, added, ("Mul", "end", ("product", "sum"), "end", {}), output="end")
    assert [node.op for node in graph.nodes] == ["Gemm", "Add", "Mul"]
    assert graph.constants[graph.nodes[0].inputs[1]].tolist() == [[0, 1.5], [0.5, 2], [1, 2.5]]


def test_what_leads_to_no_output_is_gone():
    used, unused = ("Relu", "used", ("data",), "used", {}), ("Tanh", "unused", ("data",), "unused", {})
    dropped = ("Dropout", "dropped", ("used",), "dropped", {})
    graph = graph_of(used, unused, dropped, output="dropped")
    assert [node.op for node in graph.nodes] == ["Relu"]
    assert graph.outputs == ["used"]
