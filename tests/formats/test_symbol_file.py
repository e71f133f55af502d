"""Graphs from strangers: what MXNet gets is what a network needs, and nothing else reaches it."""

import json
import os
import subprocess
import sys

import pytest
from harness import MODEL_ZOO, ZOO_ONLY

from insightface_mx import losses, symbols
from insightface_mx.base import limits
from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.formats import checkpoint
from insightface_mx.formats.symbol_file import OPERATORS, read_graph
from insightface_mx.options import LossOptions


def small_graph():
    """Return a convolution, its PReLU, a Concat and a dense layer as JSON, every node after its inputs."""
    data = mx.sym.Variable("data")
    body = mx.sym.Convolution(data, num_filter=2, kernel=(3, 3), name="conv")
    body = mx.sym.LeakyReLU(body, act_type="prelu", name="relu")
    body = mx.sym.Concat(body, body, name="both")
    return json.loads(mx.sym.FullyConnected(body, num_hidden=4, name="fc1").tojson())


def node(graph, name):
    return next(node for node in graph["nodes"] if node["name"] == name)


@pytest.fixture
def read(tmp_path):
    """Return a function that writes a graph, as an object or bytes, and loads it as a checkpoint's."""

    def load(content):
        path = tmp_path / "net-symbol.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return checkpoint.load_symbol(str(path))

    return load


def test_a_graph_reaches_mxnet_as_it_is(tmp_path):
    path = str(tmp_path / "net-symbol.json")
    symbol = symbols.get_symbol("m1", 32)
    symbol.save(path)
    assert mx.sym.load_json(read_graph(path)).tojson() == mx.sym.load(path).tojson() == symbol.tojson()


@pytest.mark.parametrize("loss_type", losses.LOSSES)
def test_the_head_of_every_loss_is_read(read, loss_type):
    symbol = losses.checkpoint_symbol(mx.sym.Variable("data"), 10, LossOptions(loss_type=loss_type), 8)
    assert read(symbol.tojson().encode()).list_outputs() == symbol.list_outputs()


def test_what_gluon_networks_of_others_use_is_read(read):
    data = mx.sym.Variable("data")
    body = mx.sym.transpose(mx.sym.slice(data, begin=(0, None), end=(None, 3)), axes=(1, 0))
    body = mx.sym.reshape(body, shape=(-1, 0)) - mx.sym.mean(body, axis=1, keepdims=True)
    body = mx.sym.broadcast_div(body, mx.sym.norm(body, axis=1, keepdims=True)) * mx.sym.sigmoid(body)
    body = mx.sym.Dropout(mx.sym.LayerNorm(mx.sym.swapaxes(body, dim1=0, dim2=1)), p=0.5)
    split = mx.sym.split(mx.sym.L2Normalization(mx.sym.softmax(body)), num_outputs=2, axis=1)
    symbol = mx.sym.Group([split[1], mx.sym.Cast(split[0], dtype="float16")])
    assert read(symbol.tojson().encode()).tojson() == symbol.tojson()


def test_the_form_of_mxnet_0_8(read):
    """Attributes are "param" there, references have two numbers, and the graph has no version."""
    graph = small_graph()
    for entry in graph["nodes"]:
        entry.update(param=entry.pop("attrs", {}), backward_source_id=-1, inputs=[i[:2] for i in entry["inputs"]])
    old = {"nodes": graph["nodes"], "arg_nodes": graph["arg_nodes"], "heads": [head[:2] for head in graph["heads"]]}
    node(old, "conv")["param"]["kernel"] = "(3L,3L)"  # as Python 2 wrote it
    shapes = read(old).infer_shape(data=(1, 3, 8, 8))
    assert shapes[1] == [(1, 4)]
    assert shapes[0][1] == (2, 3, 3, 3)


@ZOO_ONLY
@pytest.mark.parametrize("name", ["mtcnn-model/det1", "mtcnn-model/det4", "y1-test2/model", "gender-age/model"])
def test_checkpoints_of_2018(name):
    path = os.path.join(MODEL_ZOO, f"{name}-symbol.json")
    if not os.path.exists(path):
        pytest.skip(f"no {name}")
    assert checkpoint.load_symbol(path).tojson() == mx.sym.load(path).tojson()


@pytest.mark.parametrize("op", ["_Native", "_NDArray", "Custom", "_cvimread", "_CachedOp", "scatter_nd", "gather_nd"])
def test_other_operators_never_reach_mxnet(read, op, monkeypatch):
    graph = small_graph()
    node(graph, "relu").update(op=op, attrs={"info": "140000000000000"})
    monkeypatch.setattr(mx.sym, "load_json", lambda _: pytest.fail("MXNet read it"))
    with pytest.raises(UserError, match=rf"net-symbol\.json .*node relu is the operator {op}, which no .*nothing was"):
        read(graph)


def test_the_operators_exist():
    assert set(OPERATORS) - {"null"} <= {*mx.operator.get_all_registered_operators(), "elemwise_sum"}


def changed(at, **entries):
    return lambda graph: node(graph, at).update(entries)


def attribute(name, key, value):
    return lambda graph: node(graph, name)["attrs"].update({key: value})


BAD_GRAPHS = {
    "group 0": (attribute("conv", "num_group", "0"), r"conv: num_group is 0, not 1 to"),
    "negative group": (attribute("conv", "num_group", "-1"), r"num_group is -1"),
    "stride 0": (attribute("conv", "stride", "(1, 0)"), r"stride is \(1, 0\), not 1 to"),
    "huge kernel": (attribute("conv", "kernel", "(100000, 3)"), r"kernel is \(100000, 3\), not 1 to 4096"),
    "huge pad": (attribute("conv", "pad", "(1000000000, 0)"), r"pad is .*, not 0 to 4096"),
    "negative pad": (attribute("conv", "pad", "(-1, 0)"), r"pad is .*, not 0 to 4096"),
    "huge dilate": (attribute("conv", "dilate", "(99999, 1)"), r"dilate is .*, not 1 to 4096"),
    "num_filter": (attribute("conv", "num_filter", "4000000000"), r"num_filter is 4000000000, not 1 to"),
    "no number": (attribute("conv", "num_filter", "many"), r"num_filter is many, not whole numbers"),
    "long number": (attribute("conv", "num_filter", "9" * 5000), r"num_filter is 999"),
    "axis": (attribute("both", "dim", "1000"), r"dim is 1000, not -8 to 8"),
    "other number": (attribute("relu", "anything", "[99999999999]"), r"anything is \[99999999999\]"),
    "num_args": (attribute("both", "num_args", "3"), r"both \(Concat\) has 2 inputs, not num_args 3"),
    "attribute of a wrong type": (attribute("conv", "num_filter", 2), r"conv: num_filter is no text"),
    "long attribute": (attribute("conv", "x", "x" * 100000), r"conv: x is no text of at most"),
    "sparse": (changed("fc1_weight", attrs={"__storage_type__": "1"}), "sparse arrays are not read"),
    "attributes as list": (changed("conv", attrs=[1]), "'attrs' of node conv is no dictionary"),
    "type of a variable": (changed("fc1_weight", attrs={"__dtype__": "()"}), r"__dtype__ is \(\), not whole numbers"),
    "unknown type": (changed("fc1_weight", attrs={"__dtype__": "99"}), r"__dtype__ is 99, not -1 to 12"),
    "shape of a variable": (changed("fc1_weight", attrs={"__shape__": "x"}), "__shape__ is x, not whole numbers"),
    "subgraph": (changed("conv", subgraphs=[{"nodes": []}]), "node conv holds graphs inside"),
    "control": (changed("conv", control_deps=[0]), "node conv holds graphs inside or depends"),
    "unknown entry": (changed("conv", other=1), "node conv has an entry other"),
    "itself": (changed("relu", inputs=[[5, 0, 0], [4, 0, 0]]), "node relu refers to output 0 of node 5"),
    "later": (changed("conv", inputs=[[0, 0, 0], [1, 0, 0], [7, 0, 0]]), "node conv refers to output 0 of node 7"),
    "missing": (changed("conv", inputs=[[0, 0, 0], [1, 0, 0], [999, 0, 0]]), "refers to output 0 of node 999"),
    "other output": (changed("conv", inputs=[[0, 1, 0], [1, 0, 0], [2, 0, 0]]), "refers to output 1 of node 0"),
    "negative": (changed("conv", inputs=[[-1, 0, 0], [1, 0, 0], [2, 0, 0]]), r"refers to \[-1, 0, 0\], not"),
    "a boolean": (changed("conv", inputs=[[True, 0, 0], [1, 0, 0], [2, 0, 0]]), "refers to"),
    "inputs": (changed("conv", inputs=[[0, 0, 0]]), r"node conv \(Convolution\) has not the inputs"),
    "no inputs": (changed("conv", inputs=None), r"has not the inputs"),
    "twice": (changed("conv_weight", name="data"), "two variables are named data"),
    "name": (changed("conv", name="a\x1b[31m"), r"node a\\x1b\[31m: a name of 6 characters, or with control"),
    "half a character": (changed("conv", name="\ud800"), "surrogates not allowed"),
    "long name": (changed("conv", name="x" * 100000), "a name of 100000 characters"),
    "name of a wrong type": (changed("conv", name=3), "node 3 has no operator and name"),
    "nodes": (lambda graph: graph.update(nodes={}), "it has no list of nodes"),
    "no nodes": (lambda graph: graph.update(nodes=[]), "it has 0 nodes"),
    "heads": (lambda graph: graph.update(heads=[]), "it has no outputs"),
    "head": (lambda graph: graph.update(heads=[[99, 0, 0]]), "refers to output 0 of node 99"),
    "arg_nodes": (lambda graph: graph.update(arg_nodes=[3]), "'arg_nodes' names 3, which is no variable"),
    "arg_nodes of a wrong type": (lambda graph: graph.update(arg_nodes=["0"]), "'arg_nodes' is no list"),
    "attributes of the graph": (lambda graph: graph.update(attrs={"mxnet_version": 1}), "'attrs' of the graph"),
}


@pytest.mark.parametrize("name", BAD_GRAPHS)
def test_bad_graphs(read, name):
    change, message = BAD_GRAPHS[name]
    graph = small_graph()
    assert read(graph).list_outputs() == ["fc1_output"]
    change(graph)
    with pytest.raises(UserError, match=message):
        read(graph)


def test_too_many_nodes(read, monkeypatch):
    graph = small_graph()
    monkeypatch.setattr(limits, "MAX_GRAPH_NODES", len(graph["nodes"]) - 1)
    with pytest.raises(UserError, match=r"it has 10 nodes, not 1 to 9"):
        read(graph)


def test_too_large(read, monkeypatch):
    monkeypatch.setattr(limits, "MAX_GRAPH_BYTES", 100)
    with pytest.raises(UserError, match="it has more than the 100 bytes that are read"):
        read(small_graph())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100000, "nested too deeply"),
        (b'{"nodes": ' * 100000, "nested too deeply"),
        (b'{"nodes": "\xff"}', "no text in UTF-8"),
        (b'{"nodes": [' + b"9" * 5000 + b"]}", "a number of 5000 digits"),
        (b"[]", "it has no list of nodes"),
        (b'{"nodes": [', "damaged or no graph"),
    ],
    ids=["lists", "dictionaries", "not UTF-8", "digits", "a list", "cut"],
)
def test_no_json(read, content, message):
    with pytest.raises(UserError, match=message):
        read(content)


def test_an_entry_given_twice_is_what_was_checked(read):
    """MXNet gets the entry that was checked, whichever of two it would have taken."""
    text = json.dumps(small_graph()).replace('"op": "Concat"', '"op": "_Native", "op": "Concat"')
    assert '"_Native"' in text
    assert "_Native" not in read(text.encode()).tojson()


def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "net-symbol.json")
    with pytest.raises(UserError, match=r"net-symbol\.json: it is a pipe"):
        checkpoint.load_symbol(str(tmp_path / "net-symbol.json"))


@pytest.mark.slow
def test_a_long_chain_of_nodes(tmp_path):
    """In a process of its own: MXNet would have followed it by recursion."""
    nodes = [{"op": "null", "name": "data", "inputs": []}]
    nodes += [{"op": "relu", "name": f"r{i}", "inputs": [[i, 0, 0]]} for i in range(limits.MAX_GRAPH_NODES - 1)]
    graph = {"nodes": nodes, "arg_nodes": [0], "heads": [[len(nodes) - 1, 0, 0]]}
    (tmp_path / "net-symbol.json").write_text(json.dumps(graph))
    code = (
        "import sys; from insightface_mx.formats import checkpoint; symbol = checkpoint.load_symbol(sys.argv[1]); "
        "print(symbol.infer_shape(data=(1, 3, 8, 8))[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "net-symbol.json")], capture_output=True, text=True
    )
    assert done.stdout.strip() == "[(1, 3, 8, 8)]", done.stderr
