"""MXNet symbols as ONNX graphs: the table OPERATORS says how each operator is written."""

from __future__ import annotations

import ast
import re
from typing import Any, Callable, Container, Mapping, NamedTuple, Sequence

import numpy as np

from insightface_mx.base.compat import L2_EPSILON, Symbol
from insightface_mx.base.errors import UserError, shorten
from insightface_mx.engine.symbol_graph import VARIABLE, Shape, Shapes, SymbolGraph, infer_shapes
from insightface_mx.engine.symbol_graph import Node as SymbolNode
from insightface_mx.onnx_files.graph import DATA, Constants, Graph, Node

ACTIVATIONS = {
    "prelu": "PRelu",
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "softrelu": "Softplus",
    "softsign": "Softsign",
    "tanh": "Tanh",
}
TO_THE_END = np.iinfo(np.int64).max


def from_symbol(symbol: Symbol, params: Mapping[str, np.ndarray], data_shape: Shape) -> Graph:
    """Return the graph of a symbol, with tensors named as MXNet's nodes are.

    Args:
        symbol: Its only input without a value in params is `data`.
        params: Name -> array, arguments and auxiliary states.
        data_shape: N x 3 x height x width.

    Raises:
        UserError: An operator, or a use of one, that has no ONNX form here.
    """
    source = SymbolGraph(symbol)
    writer = _Writer(params, infer_shapes(source, {DATA: data_shape}))
    tensors: dict[SymbolNode, str] = {}  # the output of each node
    for node in source.nodes:
        operator = Operator(node.name, [tensors[output.node] for output in node.inputs], node.attrs)
        tensors[node] = node.name if node.op == VARIABLE else writer.write(node.op, operator)
    return Graph(DATA, [tensors[head.node] for head in source.heads], writer.nodes, writer.constants)


class Operator(NamedTuple):
    """An operator of a symbol: its name, the tensors that it reads, and its attributes as MXNet writes them."""

    name: str
    sources: list[str]
    attrs: dict[str, str]

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of an attribute that is a number, a tuple, a boolean or None."""
        if key not in self.attrs:
            return default
        text = re.sub(r"(?<=[0-9])L\b", "", self.attrs[key])  # Python 2 wrote (3L, 3L)
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError) as error:
            raise UserError(f"node {self.name} has {key} {shorten(text)}, which has no ONNX form here") from error

    def text(self, key: str, default: str = "") -> str:
        """Return an attribute that is a word."""
        return self.attrs.get(key, default)

    def check(self, key: str, value: Any, allowed: Container[Any]) -> None:
        """Raise UserError where the value of an attribute has no ONNX form."""
        if value not in allowed:
            raise UserError(f"node {self.name} has {key} {value}, which has no ONNX form here")


class _Writer:
    """Collects ONNX nodes and constants; shapes: of every variable and every output inside the symbol."""

    def __init__(self, params: Mapping[str, np.ndarray], shapes: Shapes) -> None:
        self.params, self.shapes = params, shapes
        self.nodes: list[Node] = []
        self.constants: Constants = {}

    def write(self, op: str, node: Operator) -> str:
        """Write an operator of a symbol and return the name of its output."""
        if op not in OPERATORS:
            raise UserError(
                f"operator {op} (node {node.name}) has no ONNX form here; those that have: {', '.join(OPERATORS)}"
            )
        return OPERATORS[op](self, node)

    def add(self, op: str, name: str, inputs: Sequence[str], **attrs: Any) -> str:
        """Add an ONNX node whose output has its name, and the parameters among its inputs."""
        for source in inputs:
            if source in self.params and source not in self.constants:
                self.constants[source] = self.params[source]
        self.nodes.append(Node(op, name, tuple(inputs), name, attrs))
        return name

    def constant(self, name: str, value: Any, dtype: type = np.float32) -> str:
        """Add a constant and return its name."""
        self.constants[name] = np.asarray(value, dtype)
        return name

    def rank(self, tensor: str) -> int:
        """Return the number of dimensions of a tensor: a variable, or a node's output."""
        return len(self.shapes.get(f"{tensor}_output", self.shapes.get(tensor, ())))


WriteOperator = Callable[[_Writer, Operator], str]


def _skip(_: _Writer, node: Operator) -> str:
    """Write nothing: in inference the operator returns its input."""
    return node.sources[0]


def _as(op: str) -> WriteOperator:
    """Return the writer of an operator that is the same in ONNX, without attributes."""
    return lambda writer, node: writer.add(op, node.name, node.sources)


def _with_scalar(op: str) -> WriteOperator:
    def write(writer: _Writer, node: Operator) -> str:
        scalar = writer.constant(f"{node.name}_scalar", node.get("scalar"))
        return writer.add(op, node.name, [node.sources[0], scalar])

    return write


def _sum(writer: _Writer, node: Operator) -> str:
    return writer.add("Add" if len(node.sources) == 2 else "Sum", node.name, node.sources)


def _activation(writer: _Writer, node: Operator) -> str:
    kind = node.text("act_type")
    node.check("act_type", kind, ACTIVATIONS)
    return writer.add(ACTIVATIONS[kind], node.name, node.sources)


def _leaky_relu(writer: _Writer, node: Operator) -> str:
    node.check("act_type", node.text("act_type"), ["prelu"])
    data, slope = node.sources
    # ONNX would align a slope of shape [C] with the columns of the map
    shape = (-1, *[1] * (writer.rank(data) - 2))
    return writer.add("PRelu", node.name, [data, writer.constant(slope, writer.params[slope].reshape(shape))])


def _batch_norm(writer: _Writer, node: Operator) -> str:
    node.check("axis", node.get("axis", 1), [1])
    data, gamma, beta, mean, variance = node.sources
    epsilon = node.get("eps", 1e-3)
    fixed = node.get("fix_gamma", True)
    if fixed and data == DATA:
        return _input_norm(writer, node, epsilon)
    if fixed:  # the stored gamma drifts: weight decay shrinks it, though nothing reads it
        writer.constant(gamma, np.ones(writer.params[gamma].shape))
    return writer.add("BatchNormalization", node.name, [data, gamma, beta, mean, variance], epsilon=epsilon)


def _input_norm(writer: _Writer, node: Operator, epsilon: float) -> str:
    """Write a norm of the images with fixed gamma as a subtraction and a multiplication.

    insightface's readers look for Sub and Mul in the names of the first nodes, and give such a file pixels of 0..255.
    """
    data, _, *names = node.sources
    beta, mean, variance = (writer.params[name].astype(np.float64).reshape(-1, 1, 1) for name in names)
    deviation = np.sqrt(variance + epsilon)
    shift = writer.constant(f"{node.name}_mean", mean - beta * deviation)
    shifted = writer.add("Sub", f"Sub_{node.name}", [data, shift])
    return writer.add("Mul", f"Mul_{node.name}", [shifted, writer.constant(f"{node.name}_scale", 1 / deviation)])


def _window(node: Operator) -> dict[str, tuple[int, ...]]:
    """Return the attributes that convolution and pooling share; pads: all sides' starts, then all sides' ends."""
    return {
        "kernel_shape": node.get("kernel"),
        "strides": node.get("stride", (1, 1)),
        "pads": node.get("pad", (0, 0)) * 2,
    }


def _convolution(writer: _Writer, node: Operator) -> str:
    dilations, group = node.get("dilate", (1, 1)), node.get("num_group", 1)
    return writer.add("Conv", node.name, node.sources, dilations=dilations, group=group, **_window(node))


def _dense(writer: _Writer, node: Operator) -> str:
    data, *parameters = node.sources
    if writer.rank(data) != 2:
        node.check("flatten", node.get("flatten", True), [True])
        data = writer.add("Flatten", f"{node.name}_flatten", [data], axis=1)
    return writer.add("Gemm", node.name, [data, *parameters], transB=1)


def _pooling(writer: _Writer, node: Operator) -> str:
    kind = node.text("pool_type", "max")
    node.check("pool_type", kind, ["avg", "max"])
    if node.get("global_pool", False):
        return writer.add("GlobalAveragePool" if kind == "avg" else "GlobalMaxPool", node.name, node.sources)
    node.check("pooling_convention", node.text("pooling_convention", "valid"), ["valid"])
    if kind == "max":
        return writer.add("MaxPool", node.name, node.sources, **_window(node))
    counted = int(node.get("count_include_pad", True))
    return writer.add("AveragePool", node.name, node.sources, count_include_pad=counted, **_window(node))


def _concat(writer: _Writer, node: Operator) -> str:
    return writer.add("Concat", node.name, node.sources, axis=node.get("dim", 1))


def _flatten(writer: _Writer, node: Operator) -> str:
    return writer.add("Flatten", node.name, node.sources, axis=1)


def _transpose(writer: _Writer, node: Operator) -> str:
    return writer.add("Transpose", node.name, node.sources, perm=node.get("axes"))


def _reduce(op: str) -> WriteOperator:
    def write(writer: _Writer, node: Operator) -> str:
        axis = node.get("axis")
        axes = {} if axis is None else {"axes": axis if isinstance(axis, tuple) else (axis,)}
        return writer.add(op, node.name, node.sources, keepdims=int(node.get("keepdims", False)), **axes)

    return write


def _tile(writer: _Writer, node: Operator) -> str:
    repeats = writer.constant(f"{node.name}_reps", node.get("reps"), np.int64)
    return writer.add("Tile", node.name, [*node.sources, repeats])


def _pad(writer: _Writer, node: Operator) -> str:
    node.check("mode", node.text("mode"), ["constant"])
    width = node.get("pad_width")  # (before, after) for each axis; ONNX wants all before, then all after
    pads = writer.constant(f"{node.name}_pads", width[::2] + width[1::2], np.int64)
    value = writer.constant(f"{node.name}_value", node.get("constant_value", 0))
    return writer.add("Pad", node.name, [*node.sources, pads, value], mode="constant")


def _slice(writer: _Writer, node: Operator) -> str:
    begin, end = node.get("begin"), node.get("end")
    return _cut(writer, node, begin, end, range(len(begin)))


def _slice_axis(writer: _Writer, node: Operator) -> str:
    return _cut(writer, node, [node.get("begin")], [node.get("end")], [node.get("axis")])


def _cut(
    writer: _Writer,
    node: Operator,
    begin: Sequence[int | None],
    end: Sequence[int | None],
    axes: Sequence[int],
) -> str:
    """Write a Slice of the axes that have a begin or an end; None: the first or last index."""
    cuts = [
        (start or 0, TO_THE_END if stop is None else stop, axis)
        for axis, start, stop in zip(axes, begin, end)
        if (start, stop) != (None, None)
    ]
    inputs = [
        writer.constant(f"{node.name}_{key}", values, np.int64)
        for key, values in zip(("starts", "ends", "axes"), zip(*cuts))
    ]
    return writer.add("Slice", node.name, [*node.sources, *inputs])


def _l2_normalization(writer: _Writer, node: Operator) -> str:
    node.check("mode", node.text("mode", "instance"), ["instance"])
    name, axes = node.name, list(range(1, writer.rank(node.sources[0])))
    squares = writer.add("ReduceSumSquare", f"{name}_squares", node.sources, axes=axes, keepdims=1)
    small = writer.constant(f"{name}_small", node.get("eps", L2_EPSILON))
    length = writer.add("Sqrt", f"{name}_length", [writer.add("Add", f"{name}_plus", [squares, small])])
    return writer.add("Div", name, [node.sources[0], length])


OPERATORS: dict[str, WriteOperator] = {  # MXNet's operator: function that writes it and returns its output's name
    "Activation": _activation,
    "BatchNorm": _batch_norm,
    "BlockGrad": _skip,
    "Concat": _concat,
    "Convolution": _convolution,
    "Dropout": _skip,
    "Flatten": _flatten,
    "FullyConnected": _dense,
    "L2Normalization": _l2_normalization,
    "LeakyReLU": _leaky_relu,
    "Pad": _pad,
    "Pooling": _pooling,
    "_copy": _skip,
    "_minus_scalar": _with_scalar("Sub"),
    "_mul_scalar": _with_scalar("Mul"),
    "_plus_scalar": _with_scalar("Add"),
    "add_n": _sum,
    "broadcast_div": _as("Div"),
    "broadcast_mul": _as("Mul"),
    "elemwise_add": _as("Add"),
    "elemwise_mul": _as("Mul"),
    "floor": _as("Floor"),
    "mean": _reduce("ReduceMean"),
    "slice": _slice,
    "slice_axis": _slice_axis,
    "sqrt": _as("Sqrt"),
    "sum": _reduce("ReduceSum"),
    "tile": _tile,
    "transpose": _transpose,
}
