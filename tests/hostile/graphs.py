"""PREFIX-symbol.json: graphs of operators and attributes that no network has."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Callable, Iterator

from hostile.mutations import LONG, file_cases, with_file
from hostile.rule import EITHER, ERROR, Case

SYMBOL = "net-symbol.json"


def symbol_cases(good: Path) -> Iterator[Case]:
    yield from file_cases(good, SYMBOL, flips=40, cuts=10, words=6)
    graph = json.loads((good / SYMBOL).read_text())

    def forged(name: str, change: Callable[[dict[str, Any]], Any], expect: str = EITHER) -> Case:
        other = copy.deepcopy(graph)
        result = change(other)
        content = json.dumps(other if result is None else result).encode()
        return Case(name, with_file(good, SYMBOL, content), expect)

    for op in ("_Native", "_NDArray"):
        for address in ("0x41414141", "94107395162112", "0", "-1", "None"):
            yield forged(
                f"h01 {op} at {address}", lambda g, op=op, address=address: _operator(g, op, {"info": address}), ERROR
            )
    for op in (
        "Custom",
        "_CachedOp",
        "_foreach",
        "_while_loop",
        "_cond",
        "_contrib_TensorRT",
        "_FusedOp",
        "_sg_mkldnn_conv",
        "_CustomFunction",
        "_cvimread",
        "_npi_cvimread",
        "_image_imread",
        "_subgraph_exec",
        "_random_uniform",
        "_zeros",
        "_arange",
        "_contrib_MultiBoxPrior",
        "Correlation",
        "RNN",
        "SVMOutput",
        "_npx_reshape",
        "no such",
        "",
        "null",
        "_insightface_prelu",
        "_rnn_param_concat",
        "_eye",
        "_full",
        "_linspace",
        "Crop",
        "_histogram",
    ):
        yield forged(
            f"operator {op}", lambda g, op=op: _operator(g, op, {"op_type": "x", "shape": "(1000000000,1000)"})
        )
    yield Case(
        "h31 not UTF-8", with_file(good, SYMBOL, (good / SYMBOL).read_bytes().replace(b"conv", b"con\xff")), ERROR
    )
    yield Case(
        "Latin-1 in a name", with_file(good, SYMBOL, (good / SYMBOL).read_bytes().replace(b'"data"', b'"dat\xe9"'))
    )
    yield forged("h31 a node that reads itself", lambda g: _inputs(g, lambda i: [[i, 0, 0]]), ERROR)
    yield forged("h31 a node that reads a later one", lambda g: _inputs(g, lambda i: [[i + 3, 0, 0]]), ERROR)
    yield forged("h31 a node that reads a missing output", lambda g: _inputs(g, lambda i: [[0, 7, 0]]), ERROR)
    for node in (-1, 10**6, 2**31, 2**63, 1.5, "0", None, [], True):
        yield forged(
            f"a node that reads node {node!r}", lambda g, node=node: _inputs(g, lambda i: [[node, 0, 0]]), ERROR
        )
    for output in (-1, 2**31, 2**63, 0.5, "0", None):
        yield forged(
            f"a node that reads output {output!r}",
            lambda g, output=output: _inputs(g, lambda i: [[0, output, 0]]),
            ERROR,
        )
    for inputs in ([], [[]], [[0]], [[0, 0, 0]] * 100, [[0, 0, 0, 0, 0]], {}, "abc", None, 3, [0, 0, 0]):
        yield forged(f"inputs {str(inputs)[:30]}", lambda g, inputs=inputs: _inputs(g, lambda i: inputs))
    yield forged("h31 two nodes of one name", _one_name)
    for key, values in {
        "num_group": ("h31 0", "-1", "2147483648", "7", "x", ""),
        "kernel": ("(0,0)", "(-3,-3)", "(1000000,1000000)", "(3,)", "(3,3,3,3)", "()", "3", "(2147483647,2147483647)"),
        "stride": ("(0,0)", "(-1,-1)", "(1000000000,1)", "(2,)"),
        "pad": (
            "h31 (1000000000,1000000000)",
            "h31 (2147483647,2147483647)",
            "(-5,-5)",
            "(60000,60000)",
            "(100000,100000)",
        ),
        "dilate": ("(0,0)", "(100000,100000)", "(-1,-1)"),
        "num_filter": ("0", "-1", "1000000000", "2147483648", "x"),
        "layout": ("NHWC", "x"),
        "workspace": ("18446744073709551615", "-1"),
        "unknown": ("1",),
    }.items():
        for value in values:
            known, value = ("h31 ", value[4:]) if value.startswith("h31 ") else ("", value)
            yield forged(
                f"{known}convolution {key} {value}",
                lambda g, key=key, value=value: _attribute(g, "Convolution", key, value),
            )
    for op, key, value in (
        ("BatchNorm", "axis", "100"),
        ("BatchNorm", "axis", "-100"),
        ("BatchNorm", "eps", "nan"),
        ("FullyConnected", "num_hidden", "1000000000"),
        ("FullyConnected", "num_hidden", "0"),
        ("Pooling", "kernel", "(0,0)"),
        ("Pooling", "stride", "(0,0)"),
        ("Pooling", "pool_type", "lp"),
        ("Pooling", "p_value", "0"),
        ("Dropout", "p", "nan"),
        ("Dropout", "p", "2"),
        ("Activation", "act_type", "x"),
        ("LeakyReLU", "act_type", "rrelu"),
    ):
        yield forged(f"{op} {key} {value}", lambda g, op=op, key=key, value=value: _attribute(g, op, key, value))
    for shape in ("(1000000,1000000,1000)", "(-1,-1)", "[0]", "(" * 5000, "x", "(0,)", f"({LONG},)", "(1,)*1000000000"):
        yield forged(f"a variable of shape {shape[:20]}", lambda g, shape=shape: _variable(g, "__shape__", shape))
    for key, value in (
        ("__init__", '["zeros", {}]'),
        ("__init__", "x"),
        ("__dtype__", "99"),
        ("__dtype__", "-7"),
        ("__lr_mult__", "nan"),
        ("__wd_mult__", "x"),
        ("__storage_type__", "2"),
        ("__storage_type__", "99"),
        ("__ctx_group__", "x"),
        ("__force_mirroring__", "True"),
        ("__profiler_scope__", "x"),
    ):
        yield forged(f"a variable with {key} {value}", lambda g, key=key, value=value: _variable(g, key, value))
    for depth in (60, 50_000):
        yield Case(f"h31 subgraphs nested {depth} deep", with_file(good, SYMBOL, nested(depth)), ERROR)
    yield forged("h31 a subgraph", lambda g: g["nodes"][5].update(subgraphs=[copy.deepcopy(g)]), ERROR)
    yield forged("a hundred thousand nodes", lambda g: _chain(g, 100_000))
    yield forged(
        "twenty thousand variables",
        lambda g: g["nodes"].extend({"op": "null", "name": f"v{i}", "inputs": []} for i in range(20_000)),
    )
    for key in graph:
        yield forged(f"no {key}", lambda g, key=key: g.pop(key) and None)
        for value in (None, 3, "x", [], {}, [[]], [None], [2**40], [[0, 0, 0]], [[2**40, 0, 0]]):
            yield forged(f"{key} is {str(value)[:20]}", lambda g, key=key, value=value: g.update({key: value}))
    for key in ("op", "name", "inputs"):
        yield forged(f"a node without {key}", lambda g, key=key: g["nodes"][3].pop(key) and None)
        for value in (None, 3, [], {}, "x" * (1 << 20), "\x1b[2J", "\0", True):
            yield forged(
                f"a node whose {key} is {str(value)[:10]!r}",
                lambda g, key=key, value=value: g["nodes"][3].update({key: value}),
            )
    for attrs in (
        None,
        3,
        [],
        "x",
        {"kernel": None},
        {"kernel": [3, 3]},
        {"kernel": {}},
        {"\x1b[2J": "\x1b[2J"},
        {"a" * 100_000: "b" * 100_000},
    ):
        yield forged(f"attributes {str(attrs)[:30]!r}", lambda g, attrs=attrs: g["nodes"][3].update(attrs=attrs))
    yield Case("NaN and Infinity", with_file(good, SYMBOL, b'{"nodes": [NaN, Infinity, -Infinity]}'), ERROR)
    yield Case("a number of 100,000 digits", with_file(good, SYMBOL, b'{"nodes": ' + b"9" * 100_000 + b"}"), ERROR)
    yield Case(
        "keys given twice",
        with_file(good, SYMBOL, (good / SYMBOL).read_bytes().replace(b'"op":', b'"op": "_Native", "op":')),
    )
    yield Case(
        "half a surrogate", with_file(good, SYMBOL, (good / SYMBOL).read_bytes().replace(b'"data"', b'"\\ud800"'))
    )
    yield Case("comments", with_file(good, SYMBOL, b"// a comment\n" + (good / SYMBOL).read_bytes()), EITHER)


def _first(graph: dict[str, Any], op: str) -> dict[str, Any]:
    return next((node for node in graph["nodes"] if node["op"] == op), graph["nodes"][-1])


def _operator(graph: dict[str, Any], op: str, attrs: dict[str, str]) -> None:
    node = _first(graph, "Activation")
    node = node if node["op"] == "Activation" else _first(graph, "LeakyReLU")
    node.update(op=op, attrs=attrs)


def _inputs(graph: dict[str, Any], inputs: Callable[[int], Any]) -> None:
    index = next(i for i, node in enumerate(graph["nodes"]) if node["op"] == "Convolution")
    graph["nodes"][index]["inputs"] = inputs(index)


def _one_name(graph: dict[str, Any]) -> None:
    for node in graph["nodes"][1:6]:
        node["name"] = "data"


def _attribute(graph: dict[str, Any], op: str, key: str, value: str) -> None:
    _first(graph, op).setdefault("attrs", {})[key] = value


def _variable(graph: dict[str, Any], key: str, value: str) -> None:
    graph["nodes"][1].setdefault("attrs", {})[key] = value


def _chain(graph: dict[str, Any], count: int) -> dict[str, Any]:
    nodes = [{"op": "null", "name": "data", "inputs": []}]
    for index in range(count):
        name = "fc1" if index == count - 1 else f"n{index}"
        nodes.append({"op": "Activation", "name": name, "attrs": {"act_type": "relu"}, "inputs": [[index, 0, 0]]})
    return {**graph, "nodes": nodes, "arg_nodes": [0], "node_row_ptr": list(range(count + 2)), "heads": [[count, 0, 0]]}


def nested(depth: int) -> bytes:
    """Return a graph whose node has a subgraph whose node has a subgraph ..."""
    head = b'{"nodes": [{"op": "_cond", "name": "c", "inputs": [], "subgraphs": ['
    tail = b']}], "arg_nodes": [], "node_row_ptr": [0, 1], "heads": [[0, 0, 0]]}'
    return head * depth + b'{"nodes": [], "arg_nodes": [], "node_row_ptr": [0], "heads": []}' + tail * depth
