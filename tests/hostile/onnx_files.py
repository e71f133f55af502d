"""ONNX files of others: what they compute, claim and name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

import numpy as np
import onnx
import small_network
from hostile.mutations import changed, file_cases, with_file
from hostile.rule import EITHER, ERROR, Case, Group
from onnx import TensorProto, helper, numpy_helper

from insightface_mx.conversion import export, importer, proof
from insightface_mx.embedding import backends
from insightface_mx.onnx_files import file

NAME = "net.onnx"
BIG = 1 << 40


def prepare(folder: Path) -> None:
    """Export a small network."""
    model = small_network.save(folder / "net")
    network = export.load_network(model)
    export.export(network, str(folder / NAME), proof.make_images(network.image_size))
    for path in folder.glob("net-*"):
        path.unlink()


def cases(good: Path) -> Iterator[Case]:
    yield from file_cases(good, NAME, flips=60, cuts=15, words=30)
    content = (good / NAME).read_bytes()
    for name, change in forged().items():
        proto = onnx.load_from_string(content)
        result = change(proto)
        spoiled = result if isinstance(result, bytes) else proto.SerializeToString()
        yield Case(name, with_file(good, NAME, spoiled), EITHER)
    for name, model, expect in graphs():
        yield Case(name, with_file(good, NAME, model), expect)
    yield Case("h32 names that are not UTF-8", with_file(good, NAME, content.replace(b"fc1", b"f\xff1")))
    for name, entries in external().items():
        yield Case(
            name, changed(good, lambda folder, e=entries: (folder / NAME).write_bytes(with_external(content, e))), ERROR
        )
    yield Case("groups nested a thousand deep", with_file(good, NAME, b"\x3b" * 100_000))
    yield Case("messages nested deep", with_file(good, NAME, nested(2000)))
    yield Case("a length of 2^63", with_file(good, NAME, b"\x3a" + b"\xff" * 8 + b"\x7f"), ERROR)
    yield Case("a varint without end", with_file(good, NAME, b"\x08" + b"\xff" * 10_000), ERROR)


def forged() -> dict[str, Callable[[onnx.ModelProto], Any]]:
    """Return changes to a good model: of a tensor, an attribute, the input, the version."""

    def tensor(**fields: Any) -> Callable[[onnx.ModelProto], None]:
        def change(model: onnx.ModelProto) -> None:
            first = model.graph.initializer[0]
            for key, value in fields.items():
                if isinstance(value, list):
                    del getattr(first, key)[:]
                    getattr(first, key).extend(value)
                else:
                    setattr(first, key, value)

        return change

    def attribute(op: str, key: str, value: Any) -> Callable[[onnx.ModelProto], None]:
        def change(model: onnx.ModelProto) -> None:
            node = next((node for node in model.graph.node if node.op_type == op), model.graph.node[0])
            kept = [other for other in node.attribute if other.name != key]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute(key, value)])

        return change

    def size(*dimensions: Any) -> Callable[[onnx.ModelProto], None]:
        def change(model: onnx.ModelProto) -> None:
            model.graph.input[0].CopyFrom(helper.make_tensor_value_info(model.graph.input[0].name, 1, dimensions))

        return change

    def field(key: str, value: Any) -> Callable[[onnx.ModelProto], None]:
        return lambda model: setattr(model, key, value)

    result: dict[str, Callable[[onnx.ModelProto], Any]] = {
        "h32 raw data too long": lambda model: model.graph.initializer[0].__setattr__("raw_data", bytes(100_000)),
        "h32 raw data of an odd length": lambda model: model.graph.initializer[0].__setattr__("raw_data", bytes(7)),
        "raw data missing": lambda model: model.graph.initializer[0].ClearField("raw_data"),
        "no initializers": lambda model: model.graph.ClearField("initializer"),
        "no nodes": lambda model: model.graph.ClearField("node"),
        "no graph": lambda model: model.ClearField("graph"),
        "no input": lambda model: model.graph.ClearField("input"),
        "no output": lambda model: model.graph.ClearField("output"),
        "no opset": lambda model: model.ClearField("opset_import"),
        "an output that nothing makes": lambda model: setattr(model.graph.output[0], "name", "nothing"),
        "initializers twice": lambda model: model.graph.initializer.extend(list(model.graph.initializer)),
        "nodes twice": lambda model: model.graph.node.extend(list(model.graph.node)),
        "nodes backwards": lambda model: _reverse(model),
        "a node that reads itself": lambda model: model.graph.node[3].input.__setitem__(
            0, model.graph.node[3].output[0]
        ),
        "a node without outputs": lambda model: model.graph.node[3].ClearField("output"),
        "a node without inputs": lambda model: model.graph.node[3].ClearField("input"),
        "an unknown operator": lambda model: setattr(model.graph.node[3], "op_type", "NoSuch"),
        "an unknown domain": lambda model: setattr(model.graph.node[3], "domain", "evil.example"),
        "an operator named by escape sequences": lambda model: setattr(
            model.graph.node[3], "op_type", "\x1b[2J\x1b[31m"
        ),
        "h34 an operator of a megabyte": lambda model: setattr(model.graph.node[3], "op_type", "N" * (1 << 20)),
        "a node's name of a megabyte": lambda model: setattr(model.graph.node[3], "name", "N" * (1 << 20)),
        "an input's name of a megabyte": lambda model: setattr(model.graph.input[0], "name", "N" * (1 << 20)),
        "a hundred thousand nodes": _many_nodes,
        "IR version 99": field("ir_version", 99),
        "IR version -1": field("ir_version", -1),
        "IR version 0": field("ir_version", 0),
        "opset 10000": lambda model: setattr(model.opset_import[0], "version", 10_000),
        "opset -1": lambda model: setattr(model.opset_import[0], "version", -1),
        "another producer": field("producer_name", "someone else"),
        "a producer of a megabyte": field("producer_name", "p" * (1 << 20)),
        "h14 images of 50000x50000": size("N", 3, 50_000, 50_000),
        "images of open size": size("N", 3, "h", "w"),
        "images of 0x0": size("N", 3, 0, 0),
        "images of -1x-1": size("N", 3, -1, -1),
        "images of 1x2^40": size("N", 3, 1, BIG),
        "images in three dimensions": size(3, 112, 112),
        "images in no dimension": size(),
        "images in a million dimensions": size(*[1] * 100_000),
        "images of one channel": size("N", 1, 112, 112),
        "a batch of 10^12": size(10**12, 3, 112, 112),
    }
    for dims in (
        [2**62],
        [2**62, 4],
        [BIG, BIG],
        [-1],
        [-5, 3],
        [0],
        [],
        [10**10],
        [2**31, 2**31, 2**31],
        [1] * 10_000,
    ):
        result[f"h32 dims {str(dims)[:40]}"] = tensor(dims=dims)
    for kind in (
        99,
        -1,
        0,
        TensorProto.DOUBLE,
        TensorProto.FLOAT16,
        TensorProto.STRING,
        TensorProto.BOOL,
        TensorProto.COMPLEX64,
        TensorProto.BFLOAT16,
        TensorProto.INT64,
        TensorProto.UINT4,
        TensorProto.FLOAT8E4M3FN,
    ):
        result[f"h32 type {kind}"] = tensor(data_type=kind)
    for key, values in {
        "group": (0, -1, 2**31, 7),
        "kernel_shape": ([0, 0], [-3, -3], [10**6, 10**6], [3], [2**62, 2**62]),
        "strides": ([0, 0], [-1, -1], [2**40, 1]),
        "pads": ([10**9] * 4, [2**62] * 4, [-5] * 4, [1]),
        "dilations": ([0, 0], [2**31, 2**31]),
    }.items():
        for value in values:
            result[f"Conv {key} {value}"] = attribute("Conv", key, value)
    for op, key, value in (
        ("BatchNormalization", "epsilon", float("nan")),
        ("Flatten", "axis", 100),
        ("Gemm", "transB", 7),
        ("PRelu", "x", "y"),
        ("Conv", "auto_pad", "\x1b[2J"),
        ("Conv", "kernel_shape", "text"),
        ("Conv", "group", 1.5),
    ):
        result[f"{op} {key} {value!r}"] = attribute(op, key, value)
    return result


def _reverse(model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _many_nodes(model: onnx.ModelProto) -> None:
    last = model.graph.output[0].name
    nodes = [helper.make_node("Relu", [last if i == 0 else f"x{i}"], [f"x{i + 1}"]) for i in range(100_000)]
    model.graph.node.extend(nodes)
    model.graph.output[0].name = "x100000"


def graphs() -> Iterator[tuple[str, bytes, str]]:
    """Yield models whose constants are a computation."""
    yield "h14 a loop without end", endless_loop(), ERROR
    yield (
        "h14 a constant of 6 GB",
        _computed([_node("ConstantOfShape", ["shape"])], {"shape": np.array([6 << 28])}),
        ERROR,
    )
    yield (
        "h14 a constant of 2^60 bytes",
        _computed([_node("ConstantOfShape", ["shape"])], {"shape": np.array([1 << 58])}),
        ERROR,
    )
    expand = [_node("Expand", ["one", "shape"])]
    yield (
        "h14 an expanded constant",
        _computed(expand, {"one": np.ones(1, np.float32), "shape": np.array([6 << 28])}),
        ERROR,
    )
    tile = [_node("Tile", ["one", "times"])]
    yield "h14 a tiled constant", _computed(tile, {"one": np.ones(1, np.float32), "times": np.array([6 << 28])}), ERROR
    limits = {"a": np.array(0), "b": np.array(1 << 40), "c": np.array(1)}
    yield "h14 a range without end", _computed([_node("Range", ["a", "b", "c"])], limits), ERROR
    doubling = [helper.make_node("Concat", [_x(i), _x(i)], [_x(i + 1)], axis=0) for i in range(40)]
    yield "h14 a constant doubled forty times", _computed(doubling, {"x0": np.ones(1, np.float32)}, "x40"), ERROR
    product = [_node("MatMul", ["a", "b"])]
    row, column = np.ones((40_000, 1), np.float32), np.ones((1, 40_000), np.float32)
    yield "h14 a product of 6 GB", _computed(product, {"a": row, "b": column}), ERROR
    one = np.ones((1, 1, 1, 1), np.float32)
    yield (
        "h14 a padded constant",
        _computed([_node("Pad", ["a", "p"])], {"a": one, "p": np.array([0, 0, 0, 0, 0, 0, 1 << 20, 1 << 12])}),
        ERROR,
    )
    yield (
        "h14 a resized constant",
        _computed(
            [_node("Resize", ["a", "r", "s"])],
            {"a": one, "r": np.ones(8, np.float32), "s": np.array([1, 1, 1e5, 1e5], np.float32)},
        ),
        ERROR,
    )
    yield (
        "one-hot of 6 GB",
        _computed(
            [_node("OneHot", ["i", "d", "v"])],
            {"i": np.zeros(2, np.int64), "d": np.array(3 << 28), "v": np.array([0, 1], np.float32)},
        ),
        EITHER,
    )
    yield "random numbers", _computed([helper.make_node("RandomNormal", [], ["x"], shape=[6 << 28])], {}), EITHER
    yield "a constant of text", _computed([helper.make_node("Constant", [], ["x"], value_string="a")], {}), EITHER
    yield "a constant without a value", _computed([helper.make_node("Constant", [], ["x"])], {}), EITHER
    yield "division by 0", _computed([_node("Div", ["a", "b"])], {"a": np.array([1]), "b": np.array([0])}), EITHER
    yield "a power of powers", _computed([_node("Pow", ["a", "a"])], {"a": np.array([2.0e30], np.float32)}), EITHER
    yield "an if in an if", _computed([_if(5)], {"t": np.array(True)}), EITHER
    yield "h31 subgraphs nested deep", _computed([_if(22)], {"t": np.array(True)}), EITHER
    yield "two inputs", _model([helper.make_node("Add", ["a", "b"], ["y"])], {}, ["a", "b"]), EITHER
    yield "text as input", _model([helper.make_node("Identity", ["a"], ["y"])], {}, ["a"], TensorProto.STRING), EITHER
    yield "identity", _model([helper.make_node("Identity", ["a"], ["y"])], {}, ["a"]), EITHER
    function = _model([helper.make_node("F", ["a"], ["y"], domain="f")], {}, ["a"], functions=True)
    yield "a function that calls itself", function, EITHER


def _node(op: str, inputs: Sequence[str]) -> onnx.NodeProto:
    return helper.make_node(op, inputs, ["x"])


def _x(index: int) -> str:
    return f"x{index}"


def _if(depth: int) -> onnx.NodeProto:
    output = [helper.make_tensor_value_info("x", 1, [])]
    inner = helper.make_node("Constant", [], ["x"], value_float=1.0) if not depth else _if(depth - 1)
    branch = helper.make_graph([inner], "b", [], output)
    return helper.make_node(
        "If",
        ["t"],
        ["x"],
        then_branch=branch,
        else_branch=branch
        if depth < 3
        else helper.make_graph([helper.make_node("Constant", [], ["x"], value_float=1.0)], "e", [], output),
    )


def endless_loop() -> bytes:
    """Return a model with a constant that a loop without end computes."""
    state = helper.make_tensor_value_info("s", 1, [1])
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    count = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Identity", ["s"], ["s2"])],
        "body",
        [count, condition, state],
        [helper.make_tensor_value_info("c2", TensorProto.BOOL, []), helper.make_tensor_value_info("s2", 1, [1])],
    )
    loop = helper.make_node("Loop", ["n", "t", "one"], ["x"], body=body)
    values = {"n": np.array(2**62), "t": np.array(True), "one": np.ones(1, np.float32)}
    return _computed([loop], values)


def _computed(nodes: list[onnx.NodeProto], values: dict[str, np.ndarray], result: str = "x") -> bytes:
    """Return a model that adds a computed constant to its input."""
    return _model([*nodes, helper.make_node("Add", ["a_in", result], ["y"])], values, ["a_in"])


def _model(
    nodes: list[onnx.NodeProto],
    values: dict[str, np.ndarray],
    inputs: list[str],
    kind: int = 1,
    functions: bool = False,
) -> bytes:
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    data = [helper.make_tensor_value_info(name, kind, ["N", 3, 112, 112]) for name in inputs]
    graph = helper.make_graph(
        nodes, "g", data, [helper.make_tensor_value_info("y", kind, ["N", 3, 112, 112])], constants
    )
    opsets = [helper.make_opsetid("", 13), *([helper.make_opsetid("f", 1)] if functions else [])]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="insightface-mx")
    if functions:
        call = helper.make_node("F", ["p"], ["q"], domain="f")
        model.functions.append(helper.make_function("f", "F", ["p"], ["q"], [call], opsets))
    return model.SerializeToString()


def external() -> dict[str, dict[str, str]]:
    """Return entries of external data: outside the folder, missing, or of impossible lengths."""
    return {
        "external data of another folder": {"location": "../../../../../../etc/passwd"},
        "external data by an absolute path": {"location": "/etc/passwd"},
        "external data of /dev/zero": {"location": "/dev/zero"},
        "external data that is missing": {"location": "nothing.bin"},
        "external data in the model itself": {"location": NAME, "length": "1000000000000"},
        "h32 external length of text": {"location": NAME, "length": "abc"},
        "h32 external length negative": {"location": NAME, "length": "-5"},
        "h32 external length of 5000 digits": {"location": NAME, "length": "9" * 5000},
        "external offset of 2^63": {"location": NAME, "offset": str(2**63)},
        "external offset of text": {"location": NAME, "offset": "²"},
        "external location empty": {"location": ""},
        "external location of a folder": {"location": "."},
        "external without a location": {"length": "3"},
        "external location with escape sequences": {"location": "\x1b[2J" * 1000},
    }


def with_external(content: bytes, entries: dict[str, str]) -> bytes:
    """Return a model whose first tensor is in another file."""
    model = onnx.load_from_string(content)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return model.SerializeToString()


def nested(depth: int) -> bytes:
    """Return a model whose graph is in an attribute of a node of a graph ..."""
    content = b""
    for _ in range(depth):
        attribute = b"\x32" + _length(content) + content  # AttributeProto.g
        node = b"\x2a" + _length(attribute) + attribute  # NodeProto.attribute
        content = b"\x0a" + _length(node) + node  # GraphProto.node
    return b"\x08\x08\x3a" + _length(content) + content


def _length(content: bytes) -> bytes:
    value, result = len(content), bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*result, value])


def fewer_cases(good: Path) -> Iterator[Case]:
    """Yield the cases that are made by hand, and every fourth of the others, for readers that take longer."""
    by_hand = {*forged(), *external(), *(name for name, *_ in graphs())}
    for index, case in enumerate(cases(good)):
        if index % 4 == 0 or case.name in by_hand:
            yield case


def read(folder: Path) -> None:
    """Read the file as import-onnx does before it compares."""
    graph, image_size = file.load(str(folder / NAME))
    assert image_size is None or all(side > 0 for side in image_size)
    importer.find_scaling(graph)


def embed(folder: Path) -> None:
    """Load the file as embed does."""
    backends.load(str(folder / NAME), name="onnxruntime")


def import_network(folder: Path) -> None:
    """Import the file."""
    importer.import_onnx(str(folder / NAME))


GROUPS = [
    Group("onnx", prepare, cases, read),
    Group("onnx models", prepare, fewer_cases, embed),
    Group("imported onnx", prepare, fewer_cases, import_network),
]
