"""ONNX files from others: what face networks hold is read and run, anything else is refused before it is computed."""

from __future__ import annotations

import os
import re
import resource

import numpy as np
import onnx
import pytest
from harness import error_of
from onnx import TensorProto, helper, numpy_helper

from insightface_mx.base.errors import UserError
from insightface_mx.deploy import import_onnx
from insightface_mx.onnx_files import constants, file, runtime, sizes
from insightface_mx.onnx_files.graph import Node

SIDE, LENGTH = 8, 5
RANDOM = np.random.RandomState(4)
WEIGHTS = {
    "conv_weight": RANDOM.normal(size=(4, 3, 3, 3)).astype(np.float32),
    "fc_weight": RANDOM.normal(size=(LENGTH, 4 * 36)).astype(np.float32),
    "fc_bias": RANDOM.normal(size=LENGTH).astype(np.float32),
}
IMAGES = RANDOM.uniform(-1, 1, size=(11, 3, SIDE, SIDE)).astype(np.float32)
LAYERS = [
    helper.make_node("Conv", ["data", "conv_weight"], ["conv"], "conv"),
    helper.make_node("Flatten", ["conv"], ["flat"], "flat"),
    helper.make_node("Gemm", ["flat", "fc_weight", "fc_bias"], ["fc"], "fc", transB=1),
]


def model(*nodes, shape=("N", 3, SIDE, SIDE), output="fc", opset=13, layers=LAYERS, initializers=(), dtype=1):
    """A convolution and a dense layer, with `nodes` after them."""
    nodes = [*(helper.make_node("X", [], []).__class__.FromString(node.SerializeToString()) for node in layers), *nodes]
    tensors = [numpy_helper.from_array(array, name) for name, array in WEIGHTS.items()]
    images = helper.make_tensor_value_info("data", dtype, shape)
    result = helper.make_tensor_value_info(output, dtype, ["n", "d"])
    graph = helper.make_graph(nodes, "net", [images], [result], [*tensors, *initializers])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)


def save(folder, proto, name="net.onnx"):
    (folder / name).write_bytes(proto.SerializeToString())
    return str(folder / name)


def expected():
    padded = np.lib.stride_tricks.sliding_window_view(IMAGES.astype(float), (3, 3), axis=(2, 3))
    flat = np.einsum("ncyxij,ocij->noyx", padded, WEIGHTS["conv_weight"]).reshape(len(IMAGES), -1)
    return flat @ WEIGHTS["fc_weight"].T + WEIGHTS["fc_bias"]


def computed(path, images=IMAGES):
    return runtime.runner(runtime.open_model(path))(images)[0]


def test_a_network_runs_as_it_is(tmp_path):
    path = save(tmp_path, model())
    opened = runtime.open_model(path)
    assert opened == (path, path, "", "data", None, (SIDE, SIDE))
    np.testing.assert_allclose(computed(path), expected(), rtol=1e-4, atol=1e-4)
    graph, size = file.load(path)
    assert (size, [node.op for node in graph.nodes]) == ((SIDE, SIDE), ["Conv", "Flatten", "Gemm"])


@pytest.mark.parametrize("batch", [1, 8, 16])
def test_a_fixed_batch_is_filled(tmp_path, batch, monkeypatch):
    path = save(tmp_path, model(shape=(batch, 3, SIDE, SIDE)))
    assert runtime.open_model(path).batch == batch
    for count in (1, batch, 11):
        np.testing.assert_allclose(computed(path, IMAGES[:count]), expected()[:count], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [(TensorProto.FLOAT16, 2e-2), (TensorProto.DOUBLE, 1e-4)])
def test_other_floats_are_computed_in_float32(tmp_path, caplog, dtype, tolerance):
    numpy_type = helper.tensor_dtype_to_np_dtype(dtype)
    proto = model(helper.make_node("Cast", ["fc"], ["cast"], "cast", to=dtype), output="cast", dtype=dtype)
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(numpy_type), tensor.name))
    path = save(tmp_path, proto)
    found = computed(path)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(), rtol=tolerance, atol=tolerance)
    assert caplog.text.count("it is computed in float32") == 1
    graph, _ = file.load(path)
    assert {array.dtype for name, array in graph.constants.items() if name in WEIGHTS} == {np.dtype(np.float32)}


def test_bfloat16(tmp_path):
    proto = model()
    halves = WEIGHTS["fc_bias"].view(np.uint32) >> 16
    proto.graph.initializer[2].CopyFrom(
        TensorProto(
            name="fc_bias", dims=[LENGTH], data_type=TensorProto.BFLOAT16, raw_data=halves.astype("<u2").tobytes()
        )
    )
    np.testing.assert_allclose(computed(save(tmp_path, proto)), expected(), atol=0.02)


def external(folder, location="weights.bin", offset="0", length=None, content=None, **changes):
    """A file whose dense layer's weight lies elsewhere."""
    proto = model()
    tensor = proto.graph.initializer[1]
    raw = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": offset, "length": str(len(raw)) if length is None else length}
    for key, value in entries.items():
        if value != "":
            tensor.external_data.add(key=key, value=value)
    (folder / "weights.bin").write_bytes(content if content is not None else raw)
    return save(folder, proto)


@pytest.mark.parametrize("length", [None, ""])
def test_parameters_in_another_file(tmp_path, length, monkeypatch):
    path = external(tmp_path, length=length)
    np.testing.assert_allclose(computed(path), expected(), rtol=1e-4, atol=1e-4)
    monkeypatch.chdir(tmp_path)
    assert file.load("net.onnx")[0].constants["fc_weight"].shape == WEIGHTS["fc_weight"].shape
    os.mkdir("sub")
    os.rename("weights.bin", "sub/weights.bin")
    path = external(tmp_path, "sub/weights.bin")
    os.remove("weights.bin")
    assert computed(path).shape == (11, LENGTH)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"location": "../secret"}, "only files in the .onnx file's folder are read"),
        ({"location": "sub/../../secret"}, "only files in the .onnx file's folder are read"),
        ({"location": "{tmp}/net/weights.bin"}, "only files in the .onnx file's folder are read"),
        ({"location": "/etc/passwd"}, "only files in the .onnx file's folder are read"),
        ({"location": "link"}, "only files in the .onnx file's folder are read"),
        ({"location": "folder/secret"}, "only files in the .onnx file's folder are read"),
        ({"location": ""}, "only files in the .onnx file's folder are read"),
        ({"location": "."}, "it is a folder, not a file"),
        ({"location": "none.bin"}, "No such file"),
        ({"location": "weights\0.bin"}, "only files in the .onnx file's folder are read"),
        ({"location": "pipe"}, "it is a pipe, not a file"),
        ({"offset": "4"}, "a file is damaged"),
        ({"offset": "-4"}, "a file is damaged"),
        ({"offset": "many"}, "a file is damaged"),
        ({"offset": "9" * 30}, "a file is damaged"),
        ({"length": "four"}, "a file is damaged"),
        ({"length": "12"}, "a file is damaged"),
        ({"length": "²"}, "a file is damaged"),
        ({"content": b"short"}, "a file is damaged"),
    ],
)
def test_parameters_that_lie_elsewhere_or_nowhere(tmp_path, changes, message):
    folder = tmp_path / "net"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(WEIGHTS["fc_weight"].tobytes())
    os.symlink("../secret", folder / "link")
    os.symlink("..", folder / "folder")
    os.mkfifo(folder / "pipe")
    changes = {key: value.format(tmp=tmp_path) if isinstance(value, str) else value for key, value in changes.items()}
    check_refused(external(folder, **changes), message)


def check_refused(path, message):
    """Neither import nor inference takes the file."""
    for use in (runtime.open_model, file.load):
        with pytest.raises(UserError, match=re.escape(message)) as error:
            use(path)
        assert len(str(error.value).splitlines()) == 1


def node(op, *inputs, **attrs):
    return helper.make_node(op, inputs, ["out"], "odd", **attrs)


def subgraph():
    body = [helper.make_node("Identity", ["go"], ["on"])]
    one = helper.make_tensor_value_info("go", TensorProto.BOOL, [])
    count = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    return helper.make_graph(body, "body", [count, one], [helper.make_tensor_value_info("on", TensorProto.BOOL, [])])


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (node("Loop", "", "", body=subgraph()), "operator Loop (node odd) is none that face networks need"),
        (node("If", "fc", then_branch=subgraph(), else_branch=subgraph()), "operator If (node odd) is none that"),
        (node("Scan", "fc", body=subgraph(), num_scan_inputs=1), "operator Scan (node odd) is none that"),
        (node("Einsum", "fc", equation="ij->ij"), "operator Einsum (node odd) is none that"),
        (node("RandomNormal", shape=[99999, 99999]), "operator RandomNormal (node odd) is none that"),
        (node("Relu", "fc", body=subgraph()), "node odd has the attribute body, a graph or the like"),
        (node("FusedConv", "fc", domain="com.microsoft"), "operator com.microsoft.FusedConv (node odd) is none that"),
        (node("Relu", "fc", domain="a" * 5000), "(node odd) is none that"),
        (node("\x1b[2JOp", "fc"), r"operator \x1b[2JOp (node odd) is none that"),
        (node("Conv", "data", "conv_weight", strides=[0, 0]), "node odd has strides [0, 0], which cannot be"),
        (node("Conv", "data", "conv_weight", group=0), "node odd has group [0], which cannot be"),
        (node("Conv", "data", "conv_weight", dilations=[-1, 1]), "node odd has dilations [-1, 1], which cannot be"),
        (node("Conv", "data", "conv_weight", pads=[2**62] * 4), "node odd has pads [4611686018427387904"),
        (node("Conv", "data", "conv_weight", pads=[-1] * 4), "node odd has pads [-1, -1, -1, -1], which cannot be"),
        (node("MaxPool", "conv", kernel_shape=[0, 0]), "node odd has kernel_shape [0, 0], which cannot be"),
        (node("DepthToSpace", "conv", blocksize=0), "node odd has blocksize [0], which cannot be"),
        (node("Concat", "fc", "fc", axis=2**40), "node odd has axis [1099511627776], which cannot be"),
        (node("Relu", "fc", alpha=1.0), "is no ONNX file, or damaged: Unrecognized attribute: alpha"),
    ],
)
def test_operators_that_no_face_network_has(tmp_path, odd, message):
    check_refused(save(tmp_path, model(odd)), message)


def change_tensor(**changes):
    def change(proto):
        for key, value in changes.items():
            if key == "dims":
                proto.graph.initializer[1].dims[:] = value
            else:
                setattr(proto.graph.initializer[1], key, value)

    return change


def clear_opset(proto):
    del proto.opset_import[:]


def other_opset(proto):
    proto.opset_import.add(domain="com.microsoft", version=1)


def add_function(proto):
    proto.functions.add(name="f", domain="own")


def add_sparse(proto):
    proto.graph.sparse_initializer.add()


def make_twice(proto):
    proto.graph.node.add().CopyFrom(LAYERS[0])


def too_many_nodes(proto):
    proto.graph.node.extend([LAYERS[0]] * 20_001)


RAW = WEIGHTS["fc_weight"].tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_tensor(raw_data=RAW + b"\0"), "tensor fc_weight has 2881 bytes, its dimensions [5, 144] say 2880"),
        (change_tensor(raw_data=RAW + b"\0" * 4), "tensor fc_weight has 2884 bytes"),
        (change_tensor(raw_data=b""), "tensor fc_weight has 0 bytes"),
        (change_tensor(dims=[2**62, 2]), "its dimensions [4611686018427387904, 2] say"),
        (change_tensor(dims=[-5, -144]), "has the dimensions [-5, -144]: it is damaged"),
        (change_tensor(dims=[1] * 9), "has the dimensions [1, 1, 1, 1, 1, 1, 1, 1, 1]: it is damaged"),
        (change_tensor(data_type=99), "tensor fc_weight is of type 99, which no face network needs"),
        (change_tensor(data_type=8), "tensor fc_weight is of type 8, which no face network needs"),
        (change_tensor(data_type=11), "tensor fc_weight has 2880 bytes, its dimensions [5, 144] say 5760"),
        (change_tensor(data_type=10), "tensor fc_weight has 2880 bytes, its dimensions [5, 144] say 1440"),
        (clear_opset, "it does not say which version of ONNX's operators it needs"),
        (other_opset, "it needs operators of com.microsoft: only those of ONNX itself are run"),
        (add_function, "it has functions, training steps or sparse parameters"),
        (add_sparse, "it has functions, training steps or sparse parameters"),
        (make_twice, "tensor conv is made twice"),
        (too_many_nodes, "it has 20004 nodes and 3 parameters, which is too many"),
    ],
)
def test_files_that_no_program_writes(tmp_path, change, message):
    proto = model()
    change(proto)
    check_refused(save(tmp_path, proto), message)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        (
            ("N", SIDE, SIDE, 3),
            1,
            "takes images as batch x height x width x 3: convert it to batch x 3 x height x width",
        ),
        ((1, 1, SIDE, SIDE), 1, "takes images of 1 channels: it must take RGB"),
        ((1, 3, 50000, 50000), 1, "takes 1 images of 50000x50000 pixels, more than a face network does"),
        ((1, 3, -4, 8), 1, "takes 1 images of -4x8 pixels"),
        ((-3, 3, 8, 8), 1, "takes -3 images of 8x8 pixels"),
        ((2**40, 3, SIDE, SIDE), 1, "takes 1099511627776 images of 8x8 pixels"),
        ((1, 3 * SIDE * SIDE), 1, "takes an input of 2 dimensions and type 1"),
        (("N", 3, SIDE, SIDE), TensorProto.UINT8, "takes an input of 4 dimensions and type 2"),
    ],
)
def test_inputs_that_are_no_images(tmp_path, shape, dtype, message):
    check_refused(save(tmp_path, model(shape=shape, dtype=dtype)), message)


def field(number, content):
    """A message in protobuf's form."""
    length = len(content)
    digits = bytearray([number << 3 | 2])
    while length > 127:
        digits.append(length & 127 | 128)
        length >>= 7
    return bytes([*digits, length]) + content


@pytest.mark.slow
@pytest.mark.parametrize(
    "graph",
    [
        b"\x0a\x00" * 2_000_000,  # nodes
        b"\x2a\x00" * 2_000_000,  # parameters
        b"\x5a\x00" * 2_000_000,  # inputs
        b"\x6a\x00" * 2_000_000,  # hints
        field(1, b"\x22\x04Relu" + b"\x2a\x00" * 2_000_000),  # attributes of a node
        field(1, b"\x22\x04Relu" + b"\x0a\x00" * 2_000_000),  # inputs of a node
        field(1, field(5, b"\x4a\x00" * 2_000_000)),  # strings of an attribute
        field(1, field(5, field(6, b"\x0a\x00" * 2_000_000))),  # nodes of a graph in a node
    ],
)
def test_entries_that_take_more_memory_than_bytes(tmp_path, graph):
    (tmp_path / "net.onnx").write_bytes(b"\x08\x07" + field(7, graph) + field(8, b"\x10\x0d"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check_refused(str(tmp_path / "net.onnx"), "it has more than 300000 nodes, names and the like")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_bytes_that_are_no_utf8(tmp_path):
    path = save(tmp_path, model())
    content = (tmp_path / "net.onnx").read_bytes()
    (tmp_path / "net.onnx").write_bytes(content.replace(b"fc_weight", b"fc\xff\xfeeight"))
    check_refused(path, "it has names that are not UTF-8")


DEEP = numpy_helper.from_array(np.ones((1, 3, 3, 3, 4), np.float32), "deep")  # onnx reads beyond its end


def sized(*sides):
    return numpy_helper.from_array(np.array(sides, np.int64), "sides")


@pytest.mark.parametrize(
    ("nodes", "tensors", "message"),
    [
        (
            [node("ConstantOfShape", "sides")],
            [sized(40_000, 40_000)],
            "needs more memory than a face network: at node odd",
        ),
        ([node("Expand", "fc_bias", "sides")], [sized(400_000_000, 5)], "needs more memory than a face network"),
        ([node("Tile", "fc", "sides")], [sized(100_000, 100_000)], "needs more memory than a face network"),
        ([node("Pad", "fc", "sides")], [sized(0, 0, 30_000, 30_000)], "needs more memory than a face network"),
        (
            [node("Resize", "conv", "", "scales")],
            [numpy_helper.from_array(np.array([1, 1, 2000, 2000], np.float32), "scales")],
            "the size of tensor out cannot be told before it is computed",
        ),
        ([node("Resize", "conv", "", "", "sides")], [sized(1, 4, 9999, 9999)], "needs more memory than a face network"),
        (
            [node("Range", "a", "b", "c")],
            [numpy_helper.from_array(np.array(n, np.int64), k) for k, n in (("a", 0), ("b", 2**40), ("c", 1))],
            "needs more memory than a face network",
        ),
        ([node("Conv", "data", "deep")], [DEEP], "node odd cannot be run: Conv needs maps, and windows of two sides"),
        ([node("Conv", "data", "conv_weight", pads=[1])], [], "node odd cannot be run: Conv needs maps, and windows"),
        ([node("AveragePool", "fc", kernel_shape=[2])], [], "node odd cannot be run: AveragePool needs maps"),
        ([node("Relu", "sides")], [sized(1)], "node odd cannot be run: "),
        ([node("Expand", "fc", "conv_shape")], [], "Nodes in a graph must be topologically sorted"),
        (
            [helper.make_node("ArgMax", ["fc"], ["most"], axis=1), node("Expand", "fc", "most")],
            [],
            "cannot be run",
        ),
    ],
)
def test_networks_that_take_too_much(tmp_path, nodes, tensors, message):
    check_refused(save(tmp_path, model(*nodes, initializers=tensors)), message)


def test_networks_that_take_too_long(tmp_path):
    weight = numpy_helper.from_array(np.zeros((512, 512, 3, 3), np.float32), "weight")
    first = numpy_helper.from_array(np.zeros((512, 3, 1, 1), np.float32), "first")
    names = ["first_map", *(f"n{i}" for i in range(400))]
    nodes = [helper.make_node("Conv", ["data", "first"], ["first_map"])]
    nodes += [helper.make_node("Conv", [a, "weight"], [b], pads=[1] * 4) for a, b in zip(names, names[1:])]
    path = save(tmp_path, model(*nodes, shape=(1, 3, 112, 112), initializers=[weight, first], layers=[], output="n399"))
    with pytest.raises(UserError, match="needs more time than a face network: at node Conv"):
        runtime.open_model(path)


def test_sizes_follow_the_shape_of_the_batch(tmp_path):
    """As PyTorch writes x.view(x.size(0), -1)."""
    nodes = [
        helper.make_node("Shape", ["conv"], ["shape"]),
        helper.make_node("Constant", [], ["zero"], value_int=0),
        helper.make_node("Gather", ["shape", "zero"], ["count"], axis=0),
        helper.make_node("Unsqueeze", ["count", "first"], ["counts"]),
        helper.make_node("Concat", ["counts", "rest"], ["sides"], axis=0),
        helper.make_node("Reshape", ["conv", "sides"], ["rows"]),
    ]
    tensors = [numpy_helper.from_array(np.array([v], np.int64), k) for k, v in (("first", 0), ("rest", -1))]
    path = save(tmp_path, model(*nodes, initializers=tensors, layers=LAYERS[:1], output="rows"))
    assert computed(path).shape == (11, 4 * 36)
    proto = onnx.load(path)
    checked = sizes.check_sizes(proto, path, "data", (3, 3, SIDE, SIDE), 32)
    assert checked is None


def test_an_output_that_is_not_one_for_each_image(tmp_path):
    path = save(tmp_path, model(node("ReduceMean", "fc", keepdims=0), output="out"))
    with pytest.raises(UserError, match=r"gives \(\) for 11 images: it must give a vector for each"):
        computed(path)


@pytest.mark.parametrize("batch", [0, -1])
def test_an_open_batch_of_other_programs(tmp_path, batch):
    path = save(tmp_path, model(shape=(batch, 3, SIDE, SIDE)))
    np.testing.assert_allclose(computed(path), expected(), rtol=1e-4, atol=1e-4)


def test_an_open_size_is_that_of_the_images(tmp_path):
    path = save(tmp_path, model(layers=LAYERS[:1], shape=("N", 3, "H", "W"), output="conv"))
    assert runtime.open_model(path).image_size is None
    assert runtime.open_model(path, (SIDE, SIDE)).image_size is None
    assert runtime.image_size_of(path) is None
    assert computed(path).shape == (11, 4, 6, 6)


def test_the_command_refuses_a_loop(tmp_path, capsys):
    path = save(tmp_path, model(node("Loop", "", "", body=subgraph())))
    error = error_of(capsys, import_onnx, path, "--output", tmp_path / "a")
    assert f"error: {path}: operator Loop (node odd) is none that face networks need: it is not run" in error
    assert os.listdir(tmp_path) == ["net.onnx"]


def folded(op, *inputs, **attrs):
    known = {f"i{k}": np.asarray(value) for k, value in enumerate(inputs) if value is not None}
    names = tuple("" if value is None else f"i{k}" for k, value in enumerate(inputs))
    result = constants.fold(Node(op, "n", names, "o", attrs), known)
    return result if result is None else result.tolist()


GRID = np.arange(12).reshape(3, 4)


@pytest.mark.parametrize(
    ("found", "value"),
    [
        (lambda: folded("Constant", value=GRID), GRID.tolist()),
        (lambda: folded("Constant", value_ints=(3, 4)), [3, 4]),
        (lambda: folded("Constant", value_floats=(0.5,)), [0.5]),
        (lambda: folded("ConstantOfShape", [2, 1]), [[0.0], [0.0]]),
        (lambda: folded("ConstantOfShape", [2], value=np.array([7])), [7, 7]),
        (lambda: folded("Cast", [1.9, -1.9], to=7), [1, -1]),
        (lambda: folded("Concat", [1], [2, 3], axis=0), [1, 2, 3]),
        (lambda: folded("Div", [7, -7], [2, 2]), [3, -3]),
        (lambda: folded("Div", [7.0], [2.0]), [3.5]),
        (lambda: folded("Add", [[1], [2]], [10, 20]), [[11, 21], [12, 22]]),
        (lambda: folded("Sub", 5, 3), 2),
        (lambda: folded("Expand", [[1], [2]], [2, 2]), [[1, 1], [2, 2]]),
        (lambda: folded("Gather", GRID, 1, axis=1), [1, 5, 9]),
        (lambda: folded("Reshape", GRID, [0, 2, -1]), GRID.reshape(3, 2, 2).tolist()),
        (lambda: folded("Shape", GRID), [3, 4]),
        (lambda: folded("Shape", GRID, start=1), [4]),
        (lambda: folded("Slice", GRID, starts=(1,), ends=(2**62,), axes=(1,)), GRID[:, 1:].tolist()),
        (lambda: folded("Slice", GRID, [3, 0], [-99, 2], [1, 0], [-2, 1]), GRID[:2, ::-2].tolist()),
        (lambda: folded("Squeeze", [[[1]]], [0]), [[1]]),
        (lambda: folded("Squeeze", [[[1, 2]]], axes=(0, 1)), [1, 2]),
        (lambda: folded("Unsqueeze", [1, 2], axes=(0, 2)), [[[1], [2]]]),
        (lambda: folded("Unsqueeze", [1, 2], [-1]), [[1], [2]]),
        (lambda: folded("Transpose", GRID), GRID.T.tolist()),
        (lambda: folded("Sqrt", [4.0]), [2.0]),
        (lambda: folded("Tile", [1], [2]), None),
        (lambda: folded("Loop", [1]), None),
    ],
)
def test_constants_as_onnx_computes_them(found, value):
    assert found() == value


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        (lambda: folded("ConstantOfShape", [2**20, 2**20]), "it makes more than 33554432 numbers"),
        (lambda: folded("Expand", [1], [2**40]), "it makes more than 33554432 numbers"),
        (lambda: folded("Add", np.zeros((2**15, 1)), np.zeros((1, 2**15))), "it makes more than 33554432 numbers"),
        (lambda: folded("Gather", np.zeros((2, 2**15)), np.zeros(2**15, int)), "it makes more than 33554432 numbers"),
        (lambda: folded("Reshape", GRID, [5]), "cannot reshape"),
        (lambda: folded("Gather", GRID, 99), "out of bounds"),
        (lambda: folded("Cast", [1], to=8), "8"),
        (lambda: folded("Slice", GRID, [0], [1], [0], [0]), "slice step cannot be zero"),
        (lambda: folded("Concat", [1], [[2]], axis=0), "dimensions"),
        (lambda: folded("Constant"), "not enough values"),
        (lambda: folded("Concat", None, [1], axis=0), "NoneType"),
        (lambda: folded("Add", [1]), "not enough values"),
    ],
)
def test_constants_that_do_not_fit(compute, message):
    with pytest.raises(UserError, match=rf"node n \(\w+\) does not fit its constants: .*{message}"):
        compute()
