"""An MXNet symbol as an ONNX graph: every operator is looked up in OPERATORS."""

import ast
import json

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.conversion.file import Graph, Node

DATA = "data"
ACTIVATIONS = {
    "prelu": "PRelu",
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "softrelu": "Softplus",
    "softsign": "Softsign",
    "tanh": "Tanh",
}
TO_THE_END = np.iinfo(np.int64).max
L2_SMALL = 1e-10  # what L2Normalization adds to a squared length


def from_symbol(symbol, params, data_shape):
    """The graph of `symbol`, whose only input that params lacks is `data`, with tensors named as MXNet's nodes are.

    params: dict name -> numpy array, arguments and auxiliary states. data_shape: N x 3 x height x width. UserError: an
    operator, or a use of one, that has no ONNX form here.
    """
    nodes = json.loads(symbol.tojson())
    writer = _Writer(params, _shapes(symbol, data_shape))
    for node in nodes["nodes"]:
        sources = [writer.tensors[source] for source, *_ in node["inputs"]]
        writer.tensors.append(writer.write(node, sources))
    outputs = [writer.tensors[source] for source, *_ in nodes["heads"]]
    return Graph(DATA, outputs, writer.nodes, writer.constants)


def _shapes(symbol, data_shape):
    internals = symbol.get_internals()
    _, shapes, _ = internals.infer_shape(data=data_shape)
    return dict(zip(internals.list_outputs(), shapes))


class _Writer:
    """The ONNX nodes and constants so far; `tensors` has the name of every MXNet node's output, by its number."""

    def __init__(self, params, shapes):
        self.params, self.shapes = params, shapes
        self.nodes, self.constants, self.tensors = [], {}, []

    def write(self, node, sources):
        """Write one node of a symbol's JSON; returns the name of its output."""
        op, name = node["op"], node["name"]
        if op == "null":
            return name
        if op not in OPERATORS:
            raise UserError(
                f"operator {op} (node {name}) has no ONNX form here; those that have: {', '.join(OPERATORS)}"
            )
        return OPERATORS[op](self, name, sources, _Attrs(name, node.get("attrs", {})))

    def add(self, op, name, inputs, **attrs):
        """Add a node whose output has its name, and the parameters among its inputs."""
        for source in inputs:
            if source in self.params and source not in self.constants:
                self.constants[source] = self.params[source]
        self.nodes.append(Node(op, name, tuple(inputs), name, attrs))
        return name

    def constant(self, name, value, dtype=np.float32):
        """Add a constant; returns its name."""
        self.constants[name] = np.asarray(value, dtype)
        return name

    def rank(self, tensor):
        """Number of dimensions of a tensor: a variable, or a node's output."""
        return len(self.shapes.get(f"{tensor}_output", self.shapes.get(tensor, ())))


class _Attrs:
    """A node's attributes as values; `only` refuses the values for which there is no ONNX form."""

    def __init__(self, name, attrs):
        self.name, self.attrs = name, attrs

    def get(self, key, default=None):
        return ast.literal_eval(self.attrs[key]) if key in self.attrs else default

    def text(self, key, default=""):
        return self.attrs.get(key, default)

    def only(self, key, value, allowed):
        if value not in allowed:
            raise UserError(f"node {self.name} has {key} {value}, which has no ONNX form here")
        return value


def _same(writer, name, sources, attrs):
    """What does nothing in inference."""
    return sources[0]


def _renamed(op):
    """An operator that is the same in ONNX, without attributes."""
    return lambda writer, name, sources, attrs: writer.add(op, name, sources)


def _sum(writer, name, sources, attrs):
    return writer.add("Add" if len(sources) == 2 else "Sum", name, sources)


def _with_scalar(op):
    def write(writer, name, sources, attrs):
        return writer.add(op, name, [sources[0], writer.constant(f"{name}_scalar", attrs.get("scalar"))])

    return write


def _activation(writer, name, sources, attrs):
    return writer.add(ACTIVATIONS[attrs.only("act_type", attrs.text("act_type"), ACTIVATIONS)], name, sources)


def _leaky_relu(writer, name, sources, attrs):
    attrs.only("act_type", attrs.text("act_type"), ["prelu"])
    data, slope = sources
    # a slope [C] would line up with the map's columns
    shape = (-1, *[1] * (writer.rank(data) - 2))
    return writer.add("PRelu", name, [data, writer.constant(slope, writer.params[slope].reshape(shape))])


def _batch_norm(writer, name, sources, attrs):
    attrs.only("axis", attrs.get("axis", 1), [1])
    data, gamma, beta, mean, variance = sources
    eps = attrs.get("eps", 1e-3)
    fixed = attrs.get("fix_gamma", True)
    if fixed and data == DATA:
        return _input_norm(writer, name, data, [writer.params[key] for key in (beta, mean, variance)], eps)
    if fixed:  # the stored gamma drifts: it decays though nothing reads it
        writer.constant(gamma, np.ones(writer.params[gamma].shape))
    return writer.add("BatchNormalization", name, [data, gamma, beta, mean, variance], epsilon=eps)


def _input_norm(writer, name, data, values, eps):
    """A norm of the images, its gamma fixed, as the subtraction and multiplication that insightface's readers look for.

    They take a file whose first nodes bear names in Sub and Mul for one that wants pixels of 0..255.
    """
    beta, mean, variance = (value.astype(np.float64).reshape(-1, 1, 1) for value in values)
    deviation = np.sqrt(variance + eps)
    shifted = writer.add("Sub", f"Sub_{name}", [data, writer.constant(f"{name}_mean", mean - beta * deviation)])
    return writer.add("Mul", f"Mul_{name}", [shifted, writer.constant(f"{name}_scale", 1 / deviation)])


def _convolution(writer, name, sources, attrs):
    kernel = attrs.get("kernel")
    window = {"kernel_shape": kernel, "strides": attrs.get("stride", (1, 1)), "pads": attrs.get("pad", (0, 0)) * 2}
    return writer.add(
        "Conv", name, sources, dilations=attrs.get("dilate", (1, 1)), group=attrs.get("num_group", 1), **window
    )


def _dense(writer, name, sources, attrs):
    data, *parameters = sources
    if writer.rank(data) != 2:
        attrs.only("flatten", attrs.get("flatten", True), [True])
        data = writer.add("Flatten", f"{name}_flatten", [data], axis=1)
    return writer.add("Gemm", name, [data, *parameters], transB=1)


def _pooling(writer, name, sources, attrs):
    kind = attrs.only("pool_type", attrs.text("pool_type", "max"), ["avg", "max"])
    if attrs.get("global_pool", False):
        return writer.add({"avg": "GlobalAveragePool", "max": "GlobalMaxPool"}[kind], name, sources)
    attrs.only("pooling_convention", attrs.text("pooling_convention", "valid"), ["valid"])
    window = {
        "kernel_shape": attrs.get("kernel"),
        "strides": attrs.get("stride", (1, 1)),
        "pads": attrs.get("pad", (0, 0)) * 2,
    }
    if kind == "max":
        return writer.add("MaxPool", name, sources, **window)
    return writer.add(
        "AveragePool", name, sources, count_include_pad=int(attrs.get("count_include_pad", True)), **window
    )


def _concat(writer, name, sources, attrs):
    return writer.add("Concat", name, sources, axis=attrs.get("dim", 1))


def _flatten(writer, name, sources, attrs):
    return writer.add("Flatten", name, sources, axis=1)


def _transpose(writer, name, sources, attrs):
    return writer.add("Transpose", name, sources, perm=attrs.get("axes"))


def _reduce(op):
    def write(writer, name, sources, attrs):
        axis = attrs.get("axis")
        axes = {} if axis is None else {"axes": axis if isinstance(axis, tuple) else (axis,)}
        return writer.add(op, name, sources, keepdims=int(attrs.get("keepdims", False)), **axes)

    return write


def _tile(writer, name, sources, attrs):
    return writer.add("Tile", name, [*sources, writer.constant(f"{name}_reps", attrs.get("reps"), np.int64)])


def _pad(writer, name, sources, attrs):
    attrs.only("mode", attrs.text("mode"), ["constant"])
    width = attrs.get("pad_width")  # before and after, axis by axis; ONNX has all before, then all after
    pads = writer.constant(f"{name}_pads", width[::2] + width[1::2], np.int64)
    value = writer.constant(f"{name}_value", attrs.get("constant_value", 0))
    return writer.add("Pad", name, [*sources, pads, value], mode="constant")


def _slice(writer, name, sources, attrs):
    return _cut(writer, name, sources, attrs.get("begin"), attrs.get("end"), range(len(attrs.get("begin"))))


def _slice_axis(writer, name, sources, attrs):
    return _cut(writer, name, sources, [attrs.get("begin")], [attrs.get("end")], [attrs.get("axis")])


def _cut(writer, name, sources, begin, end, axes):
    kept = [
        (axis, start or 0, TO_THE_END if stop is None else stop)
        for axis, start, stop in zip(axes, begin, end)
        if (start, stop) != (None, None)
    ]
    columns = dict(zip(("axes", "starts", "ends"), zip(*kept)))
    starts, ends, axes = (
        writer.constant(f"{name}_{key}", columns[key], np.int64) for key in ("starts", "ends", "axes")
    )
    return writer.add("Slice", name, [*sources, starts, ends, axes])


def _l2_normalization(writer, name, sources, attrs):
    attrs.only("mode", attrs.text("mode", "instance"), ["instance"])
    axes = range(1, writer.rank(sources[0]))
    squares = writer.add("ReduceSumSquare", f"{name}_squares", sources, axes=list(axes), keepdims=1)
    squares = writer.add("Add", f"{name}_plus", [squares, writer.constant(f"{name}_small", attrs.get("eps", L2_SMALL))])
    return writer.add("Div", name, [sources[0], writer.add("Sqrt", f"{name}_length", [squares])])


OPERATORS = {  # MXNet's name: function(writer, name, sources, attrs) that writes it and returns its output's name
    "Activation": _activation,
    "BatchNorm": _batch_norm,
    "BlockGrad": _same,
    "Concat": _concat,
    "Convolution": _convolution,
    "Dropout": _same,
    "Flatten": _flatten,
    "FullyConnected": _dense,
    "L2Normalization": _l2_normalization,
    "LeakyReLU": _leaky_relu,
    "Pad": _pad,
    "Pooling": _pooling,
    "_copy": _same,
    "_minus_scalar": _with_scalar("Sub"),
    "_mul_scalar": _with_scalar("Mul"),
    "add_n": _sum,
    "broadcast_div": _renamed("Div"),
    "broadcast_mul": _renamed("Mul"),
    "elemwise_add": _renamed("Add"),
    "elemwise_mul": _renamed("Mul"),
    "mean": _reduce("ReduceMean"),
    "slice": _slice,
    "slice_axis": _slice_axis,
    "sqrt": _renamed("Sqrt"),
    "sum": _reduce("ReduceSum"),
    "tile": _tile,
    "transpose": _transpose,
}
