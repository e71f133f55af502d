"""SymbolGraph reads a symbol's nodes, and replaced nodes give the symbol that is written out by hand."""

import pytest

from insightface_mx.base.compat import mx
from insightface_mx.engine.symbol_graph import (
    VARIABLE,
    Node,
    Output,
    Replacement,
    SymbolGraph,
    infer_shapes,
    pair_variables,
)


def network():
    """A convolution whose output has two uses, a split in two, and two outputs of the symbol."""
    body = mx.sym.Convolution(mx.sym.Variable("data"), num_filter=4, kernel=(3, 3), no_bias=True, name="conv")
    norm = mx.sym.BatchNorm(body, fix_gamma=False, name="bn")
    body = mx.sym.elemwise_add(norm, body, name="sum")
    first, second = mx.sym.SliceChannel(body, num_outputs=2, name="split")
    return mx.sym.Group([mx.sym.tanh(second, name="t"), first])


def test_nodes_inputs_and_attributes():
    graph = SymbolGraph(network())
    conv, norm, tanh = graph.find("conv"), graph.find("bn"), graph.find("t")
    assert [source.name for source in conv.inputs] == ["data", "conv_weight"]
    assert conv.attrs == {"kernel": "(3, 3)", "no_bias": "True", "num_filter": "4"}
    assert [source.node.name for source in norm.inputs] == [
        "conv",
        "bn_gamma",
        "bn_beta",
        "bn_moving_mean",
        "bn_moving_var",
    ]
    assert norm.inputs[0] == Output(conv) == conv.output
    assert tanh.inputs == [Output(graph.find("split"), 1)]
    assert [head.name for head in graph.heads] == ["t_output", "split_output0"]
    assert graph.nodes_of("BatchNorm", "Convolution") == [conv, norm]
    assert [node.name for node in graph.nodes_of(VARIABLE)][:2] == ["data", "conv_weight"]


def test_a_name_that_is_missing():
    with pytest.raises(KeyError, match="relu"):
        SymbolGraph(network()).find("relu")


@pytest.mark.parametrize("build", [network, lambda: mx.sym.Variable("data")], ids=["network", "variable"])
def test_back_to_the_same_symbol(build):
    assert SymbolGraph(build()).to_symbol().tojson() == build().tojson()


def test_shapes_by_output_name():
    graph = SymbolGraph(network())
    shapes = infer_shapes(graph, {"data": (2, 3, 8, 8)})
    assert shapes["conv_weight"] == (4, 3, 3, 3)
    assert shapes["conv_output"] == (2, 4, 6, 6)
    assert shapes["split_output1"] == (2, 2, 6, 6)
    assert {output.name for node in graph.nodes for output in (node.output, *node.inputs)} <= set(shapes)
    assert infer_shapes(graph, {})["conv_output"] == ()


def test_operators_with_one_name_have_their_own_shapes():
    data = mx.sym.Variable("data")
    first = mx.sym.relu(data, name="same")
    second = mx.sym.FullyConnected(first, num_hidden=5, name="same_2")
    symbol = mx.sym.sum(mx.sym.relu(second, name="same"), name="same")
    graph = SymbolGraph(symbol)
    shapes = infer_shapes(graph, {"data": (3, 4)})
    operators = [node for node in graph.nodes if node.op != VARIABLE]
    assert [(node.name, shapes[node.output.name]) for node in operators] == [
        ("same", (3, 4)),
        ("same_2", (3, 5)),
        ("same_3", (3, 5)),
        ("same_4", (1,)),
    ]


class Doubled(Replacement):
    """2 x + tanh(x), for any x."""

    def build(self):
        x = self.node.inputs[0]
        double = self.node.part("_mul_scalar", f"{self.node.name}_double", [x], scalar="2")
        tanh = Node("tanh", f"{self.node.name}_tanh", [x])
        return [double, tanh, self.node.part("elemwise_add", self.node.name, [double.output, tanh.output])]


def test_replaced_nodes_are_as_written_by_hand():
    data = mx.sym.Variable("data")
    with mx.AttrScope(ctx_group="g"):
        relu = mx.sym.relu(data, name="r")
    graph = SymbolGraph(mx.sym.Group([mx.sym.sin(relu, name="s"), mx.sym.relu(relu, name="r2")]))
    for node in graph.nodes_of("relu"):
        Doubled(node).apply(graph)
    indices = {node: index for index, node in enumerate(graph.nodes)}
    assert len(indices) == 8
    assert all(indices[source.node] < index for node, index in indices.items() for source in node.inputs)
    with mx.AttrScope(ctx_group="g"):
        double = mx.sym._internal._mul_scalar(data, scalar=2, name="r_double")
    tanh = mx.sym.tanh(data, name="r_tanh")
    with mx.AttrScope(ctx_group="g"):
        total = mx.sym.elemwise_add(double, tanh, name="r")
    double2 = mx.sym._internal._mul_scalar(total, scalar=2, name="r2_double")
    total2 = mx.sym.elemwise_add(double2, mx.sym.tanh(total, name="r2_tanh"), name="r2")
    expected = mx.sym.Group([mx.sym.sin(total, name="s"), total2])
    assert graph.to_symbol().tojson() == expected.tojson()


def test_variables_at_the_same_places_are_paired():
    def dense(conv, weight, act=mx.sym.tanh):
        body = act(mx.sym.Convolution(mx.sym.Variable("data"), num_filter=4, kernel=(3, 3), no_bias=True, name=conv))
        return mx.sym.FullyConnected(body, mx.sym.Variable(weight), num_hidden=2, name="dense")

    same = {"w": "v", "dense_bias": "dense_bias"}
    assert pair_variables(dense("a", "w"), dense("b", "v")) == {**same, "a_weight": "b_weight", "data": "data"}
    assert pair_variables(dense("a", "w"), dense("b", "v", mx.sym.sigmoid)) == same
