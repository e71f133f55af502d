"""Compute the nodes of an ONNX graph that depend on constants alone: a short list of operators, with numpy.

Exporters leave such nodes where they look up the size of a batch or turn a weight. No other operator is computed here,
and no result is larger than the limit.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from insightface_mx.base.errors import UserError, shorten
from insightface_mx.base.limits import MAX_CONSTANT
from insightface_mx.onnx_files.graph import Node

Arrays = Sequence[Any]  # the inputs of a node, arrays; None for one that is left out
_TYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64, 9: np.bool_}  # by TensorProto.DataType


def fold(node: Node, known: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Return the output of a node; None where it depends on more than constants, or is none of FOLDED.

    Args:
        node: Of opset 7 or later.
        known: The constants, name -> array.

    Raises:
        UserError: The operator cannot take these constants, or makes more than MAX_CONSTANT numbers of them.
    """
    if node.op not in FOLDED or not all(name in known for name in node.inputs if name):
        return None
    inputs = [known[name] if name else None for name in node.inputs]
    try:
        with np.errstate(all="ignore"):
            return np.asarray(FOLDED[node.op](node, inputs))
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        problem = f"node {shorten(node.name or node.output)} ({node.op}) does not fit its constants"
        raise UserError(f"{problem}: {shorten(error)}") from error


def _limited(*sides: int) -> None:
    """Raise ValueError where an array with these sides is too large."""
    if math.prod(sides) > MAX_CONSTANT:
        raise ValueError(f"it makes more than {MAX_CONSTANT} numbers")


def _constant(node: Node, _: Arrays) -> np.ndarray:
    ((key, value),) = node.attrs.items()
    types = {"value": None, "value_int": np.int64, "value_ints": np.int64, "value_float": np.float32}
    return np.asarray(value, types[key] if key != "value_floats" else np.float32)


def _constant_of_shape(node: Node, inputs: Arrays) -> np.ndarray:
    sides = inputs[0].tolist()
    _limited(*sides)
    return np.full(sides, node.attrs.get("value", np.zeros(1, np.float32)))


def _elementwise(function: Callable[[Any, Any], Any]) -> Callable[[Node, Arrays], np.ndarray]:
    def compute(_: Node, inputs: Arrays) -> np.ndarray:
        one, other = inputs
        _limited(*np.broadcast_shapes(one.shape, other.shape))
        return function(one, other).astype(one.dtype)

    return compute


def _divide(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return one / other if one.dtype.kind == "f" else np.trunc(one / other)


def _cast(node: Node, inputs: Arrays) -> np.ndarray:
    return inputs[0].astype(_TYPES[node.attrs["to"]])


def _concat(node: Node, inputs: Arrays) -> np.ndarray:
    _limited(sum(array.size for array in inputs))
    return np.concatenate(inputs, node.attrs["axis"])


def _expand(_: Node, inputs: Arrays) -> np.ndarray:
    array, sides = inputs
    _limited(array.size, *(abs(side) for side in sides.tolist()))
    return array * np.ones(sides.tolist(), array.dtype)


def _gather(node: Node, inputs: Arrays) -> np.ndarray:
    array, indexes = inputs
    _limited(array.size, max(indexes.size, 1))
    return np.take(array, indexes, node.attrs.get("axis", 0))


def _reshape(node: Node, inputs: Arrays) -> np.ndarray:
    array, sides = inputs
    keep = not node.attrs.get("allowzero", 0)
    return array.reshape([array.shape[i] if keep and side == 0 else side for i, side in enumerate(sides.tolist())])


def _shape(node: Node, inputs: Arrays) -> np.ndarray:
    return np.asarray(inputs[0].shape[slice(node.attrs.get("start", 0), node.attrs.get("end"))], np.int64)


def _slice(node: Node, inputs: Arrays) -> np.ndarray:
    array, *given = inputs
    if given:  # from opset 10
        lists: list[Any] = [value if value is None else value.tolist() for value in given]
    else:
        lists = [node.attrs.get(key) for key in ("starts", "ends", "axes")]
    starts, ends, axes, steps = (*lists, None, None)[:4]
    parts = [slice(None)] * array.ndim
    for i, (start, end) in enumerate(zip(starts, ends)):
        axis, step = axes[i] if axes else i, steps[i] if steps else 1
        includes_first = step < 0 and end < -array.shape[axis]
        parts[axis] = slice(start, None if includes_first else end, step)
    return array[tuple(parts)]


def _axes(node: Node, inputs: Arrays) -> tuple[int, ...] | None:
    """Return the axes that a node has as an attribute, or from opset 13 as its second input."""
    given = inputs[1].tolist() if len(inputs) > 1 and inputs[1] is not None else node.attrs.get("axes")
    return None if given is None else tuple(given)


def _unsqueeze(node: Node, inputs: Arrays) -> np.ndarray:
    return np.expand_dims(inputs[0], _axes(node, inputs) or ())


FOLDED: dict[str, Callable[[Node, Arrays], np.ndarray]] = {
    "Add": _elementwise(np.add),
    "Cast": _cast,
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Div": _elementwise(_divide),
    "Expand": _expand,
    "Gather": _gather,
    "Identity": lambda _, inputs: inputs[0],
    "Mul": _elementwise(np.multiply),
    "Neg": lambda _, inputs: -inputs[0],
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Sqrt": lambda _, inputs: np.sqrt(inputs[0]),
    "Squeeze": lambda node, inputs: np.squeeze(inputs[0], _axes(node, inputs)),
    "Sub": _elementwise(np.subtract),
    "Transpose": lambda node, inputs: np.transpose(inputs[0], node.attrs.get("perm")),
    "Unsqueeze": _unsqueeze,
}
