"""Read .onnx files from others: what they hold is checked before any of it is computed.

An allow-list has the operators of face networks: no loops, no branches, no functions, no operators of other domains.
Tensors have the size that their dimensions say. Parameters outside the file lie in its folder. Numbers of 16 or 64
bits become float32. How much a network computes is a matter of module `sizes`.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Iterable, NamedTuple

from insightface_mx.base.errors import UserError, shorten
from insightface_mx.base.limits import (
    MAX_DIMENSIONS,
    MAX_ENTRIES,
    MAX_NETWORK_BATCH,
    MAX_NETWORK_PIXELS,
    MAX_ONNX_ATTRIBUTE,
    MAX_ONNX_BYTES,
    MAX_ONNX_NODES,
    MAX_TENSORS,
)
from insightface_mx.cli.types import Size
from insightface_mx.files.regular_file import open_regular
from insightface_mx.files.wrong_file import refuse_wrong_file
from insightface_mx.onnx_files.graph import Node
from insightface_mx.onnx_files.onnx_tensors import FLOAT, Refused, check_tensor, take_in, tensors, to_float32
from insightface_mx.onnx_files.wire_format import has_too_many_entries

if TYPE_CHECKING:
    import onnx

OPERATORS = frozenset(
    "Abs Add And ArgMax AveragePool BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape Conv "
    "DepthToSpace DequantizeLinear Div Dropout DynamicQuantizeLinear Elu Equal Erf Exp Expand Flatten Floor Gather "
    "Gelu  Gemm GlobalAveragePool GlobalMaxPool Greater HardSigmoid HardSwish Identity InstanceNormalization LRN "
    "LayerNormalization LeakyRelu Less Log LogSoftmax LpNormalization LpPool MatMul Max MaxPool Mean Min Mish Mul "
    "Neg  Not Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear Range Reciprocal ReduceL1 ReduceL2 "
    "ReduceMax  ReduceMean ReduceMin ReduceSum ReduceSumSquare Relu Reshape Resize Round Selu Shape Sigmoid Sign "
    "Slice Softmax  Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh ThresholdedRelu Tile Transpose "
    "Unsqueeze  Where".split()
)
DOMAINS = ("", "ai.onnx")
CHANNELS = 3
# attributes that a runtime divides by or multiplies sizes with
_POSITIVE = ("strides", "dilations", "kernel_shape", "group", "blocksize", "size", "num_outputs", "p")
_PADS = ("pads", "output_padding")
_AXES = ("axis", "axes", "perm", "batch_dims")
_SMALL = 256  # numbers of a tensor that is no parameter, but a shape, a scale or the like


class Read(NamedTuple):
    """A model with all parameters inside and all floats in 32 bits.

    is_changed: the file does not say just that. has_other_floats: it has floats of 16 or 64 bits.
    """

    proto: onnx.ModelProto
    is_changed: bool
    has_other_floats: bool


class Input(NamedTuple):
    """The tensor of a model's images, the batch and the height and width; None for what is open."""

    name: str
    batch: int | None
    size: Size | None


def read_model(path: str) -> Read:
    """Read a file and check it.

    Raises:
        UserError: It cannot be opened, is no ONNX file, is damaged, or holds what no face network has.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > MAX_ONNX_BYTES:
                raise Refused(f"it has more than {MAX_ONNX_BYTES} bytes")
            content = file.read()
        if has_too_many_entries(content):
            raise Refused(f"it has more than {MAX_ENTRIES} nodes, names and the like")
        model = onnx.ModelProto.FromString(content)
        _check_model(model)
        is_changed = take_in(model, os.path.dirname(os.path.abspath(path)))
        for tensor in tensors(model.graph):
            check_tensor(tensor)
        has_other_floats = to_float32(model)
        is_changed |= has_other_floats | _open_sides(model.graph)
        onnx.checker.check_model(_without_parameters(model))
    except OSError as error:
        raise UserError(f"cannot open {error.filename or path}: {error.strerror}") from error
    except Refused as error:
        refuse_wrong_file(path)
        raise UserError(f"{path}: {error}") from error
    except (DecodeError, UnicodeDecodeError, onnx.checker.ValidationError) as error:
        refuse_wrong_file(path)
        reason = shorten(str(error).strip().split("\n")[0], 200)
        raise UserError(f"{path} is no ONNX file, or damaged: {reason}") from error
    return Read(model, is_changed, has_other_floats)


def describe_input(model: onnx.ModelProto, path: str) -> Input:
    """Return what a model says of its images; path: what UserError calls it.

    Raises:
        UserError: It has more than one input, or one of another layout or size.
    """
    parameters = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in parameters]
    if len(inputs) != 1:
        raise UserError(f"{path} has {len(inputs)} inputs: it must have one, for images")
    tensor = inputs[0].type.tensor_type
    sides = [side.dim_value for side in tensor.shape.dim]
    if tensor.elem_type != FLOAT or len(sides) != 4:
        raise UserError(
            f"{path} takes an input of {len(sides)} dimensions and type {tensor.elem_type}: it must take "
            "float images, batch x 3 x height x width"
        )
    batch, channels, height, width = sides
    if width == CHANNELS and channels != CHANNELS:
        raise UserError(f"{path} takes images as batch x height x width x 3: convert it to batch x 3 x height x width")
    if channels not in (0, CHANNELS):
        raise UserError(f"{path} takes images of {channels} channels: it must take RGB, batch x 3 x height x width")
    if not (0 <= batch <= MAX_NETWORK_BATCH and min(height, width) >= 0 and height * width <= MAX_NETWORK_PIXELS):
        raise UserError(f"{path} takes {batch} images of {height}x{width} pixels, more than a face network does")
    return Input(inputs[0].name, batch or None, (height, width) if height and width else None)


def _open_sides(graph: onnx.GraphProto) -> bool:
    """Open the sides of the input that some programs write as 0 or -1, and remove hints; return whether it had any."""
    dimensions = [side for value in graph.input for side in value.type.tensor_type.shape.dim]
    wrong = [side for side in dimensions if side.HasField("dim_value") and side.dim_value in (0, -1)]
    for side in wrong:
        side.ClearField("dim_value")
    has_hints = bool(graph.value_info)
    del graph.value_info[:]  # sizes of tensors, which may be wrong
    return has_hints or bool(wrong)


def _check_model(model: onnx.ModelProto) -> None:
    """Check everything but the tensors."""
    graph = model.graph
    if model.functions or model.training_info or graph.sparse_initializer:
        raise Refused("it has functions, training steps or sparse parameters, as no face network has")
    domains = {shorten(opset.domain) for opset in model.opset_import if opset.domain not in DOMAINS}
    if domains:
        raise Refused(f"it needs operators of {', '.join(sorted(domains))}: only those of ONNX itself are run")
    if not any(1 <= opset.version <= MAX_ONNX_ATTRIBUTE for opset in model.opset_import):
        raise Refused("it does not say which version of ONNX's operators it needs: it is no ONNX file, or damaged")
    if len(graph.node) > MAX_ONNX_NODES or len(graph.initializer) > MAX_TENSORS:
        raise Refused(f"it has {len(graph.node)} nodes and {len(graph.initializer)} parameters, which is too many")
    names = [value.name for value in (*graph.input, *graph.output)]
    made = {value.name for value in (*graph.input, *graph.initializer)}
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
        if not all(isinstance(name, str) for name in names):
            raise Refused("it has names that are not UTF-8: it is damaged")
        names.clear()
        _check_node(node)
        for output in filter(None, node.output):
            if output in made:
                raise Refused(f"tensor {shorten(output)} is made twice")
            made.add(output)


def _check_node(node: onnx.NodeProto) -> None:
    name = shorten(node.name or next(iter(node.output), ""))
    if node.domain not in DOMAINS or node.op_type not in OPERATORS:
        operator = shorten(".".join(filter(None, (node.domain, node.op_type))))
        raise Refused(f"operator {operator} (node {name}) is none that face networks need: it is not run")
    for attribute in node.attribute:
        kinds = attribute.AttributeType
        allowed = (kinds.FLOAT, kinds.INT, kinds.STRING, kinds.TENSOR, kinds.FLOATS, kinds.INTS)
        if attribute.type not in allowed or attribute.HasField("g") or attribute.graphs or attribute.ref_attr_name:
            raise Refused(
                f"node {name} has the attribute {shorten(attribute.name)}, a graph or the like: it is not run"
            )
        values = attribute.ints if attribute.type == kinds.INTS else [attribute.i]
        if not _is_usual(node.op_type, attribute.name, values):
            raise Refused(f"node {name} has {shorten(attribute.name)} {shorten(list(values))}, which cannot be")


def _is_usual(operator: str, attribute: str, values: Iterable[int]) -> bool:
    """Return whether the integers of an attribute can be those of a network."""
    if attribute in _POSITIVE:
        return all(1 <= value <= MAX_ONNX_ATTRIBUTE for value in values)
    if attribute in _PADS:
        return all(-MAX_ONNX_ATTRIBUTE * (operator == "Pad") <= value <= MAX_ONNX_ATTRIBUTE for value in values)
    return attribute not in _AXES or all(-MAX_DIMENSIONS <= value < MAX_DIMENSIONS for value in values)


def _without_parameters(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with large parameters as inputs, so that a check need not copy them."""
    import onnx
    from onnx import helper

    result = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = model.graph
    result.graph.MergeFrom(onnx.GraphProto(name=graph.name, node=graph.node, input=graph.input, output=graph.output))
    inputs = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if math.prod(tensor.dims) <= _SMALL:
            result.graph.initializer.append(tensor)
        elif tensor.name not in inputs:
            value = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            result.graph.input.append(value)
    return result


def to_node(proto: onnx.NodeProto) -> Node:
    """Return a node with its attributes as numbers, tuples, bytes and arrays."""
    import onnx
    from onnx import helper, numpy_helper

    attrs = {attribute.name: helper.get_attribute_value(attribute) for attribute in proto.attribute}
    for key, value in attrs.items():
        if isinstance(value, onnx.TensorProto):
            attrs[key] = numpy_helper.to_array(value)
        elif not isinstance(value, (int, float, bytes)):
            attrs[key] = tuple(value)
    return Node(proto.op_type, proto.name, tuple(proto.input), next(iter(proto.output), ""), attrs)
