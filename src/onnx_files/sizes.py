"""Say how much an ONNX graph computes before it runs, and refuse what takes more memory or time than a face network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Mapping, Sequence

import numpy as np

from insightface_mx.base.errors import UserError, shorten
from insightface_mx.base.limits import MAX_MULTIPLICATIONS, MAX_NUMBERS_AT_ONCE
from insightface_mx.cli.types import USUAL_SIZE, Size
from insightface_mx.engine import BATCH_SIZE
from insightface_mx.onnx_files.constants import fold
from insightface_mx.onnx_files.graph import Node
from insightface_mx.onnx_files.safe_onnx import CHANNELS, DOMAINS, Input, Read, describe_input, read_model, to_node

if TYPE_CHECKING:
    import onnx

_SMALL = 4096  # numbers of a constant that may be the shape of something
_INTEGERS = (6, 7)  # TensorProto.DataType
_WEIGHT = {"Conv": 1, "QLinearConv": 3}  # the input that is the weight
_WINDOWS = ("AveragePool", "Conv", "LpPool", "MaxPool", "QLinearConv")
_WINDOW_LENGTHS = {"kernel_shape": 2, "strides": 2, "dilations": 2, "pads": 4}
_SUMS = ("Gemm", "MatMul", "QLinearMatMul")  # of as many products as one side of the first input is long


def read_checked(path: str, image_size: Size | None = None) -> tuple[Read, Input]:
    """Read a file of unknown origin, and check that it may run.

    Args:
        path: A file with one input.
        image_size: Of the images, where the file leaves it open; None: USUAL_SIZE.

    Raises:
        UserError: No ONNX file or a damaged one, no face network, or one that takes too much memory or time.
    """
    model = read_model(path)
    images = describe_input(model.proto, path)
    shape = (images.batch or 1, CHANNELS, *(images.size or image_size or USUAL_SIZE))
    check_sizes(model.proto, path, images.name, shape, max(BATCH_SIZE, images.batch or 1))
    return model, images


def check_sizes(model: onnx.ModelProto, path: str, input_name: str, input_shape: Sequence[int], batch: int) -> None:
    """Check that a network takes no more memory and time than a face network.

    Args:
        model: What `safe_onnx.read_model` returned.
        path: What UserError calls it.
        input_name: The tensor of the images.
        input_shape: Its shape, with as many images as the graph takes at least.
        batch: Images that are run at a time.

    Raises:
        UserError: It takes more, cannot be run, or the size of a tensor cannot be told before it is computed.
    """
    tensors = _Tensors(model, path, input_name, input_shape)
    times = max(1, batch // input_shape[0])
    last_use = {name: i for i, node in enumerate(model.graph.node) for name in node.input}
    last_use.update((output.name, len(model.graph.node)) for output in model.graph.output)
    constant = alive = multiplications = 0
    dying: dict[int, int] = {}  # node -> numbers that nobody needs after it
    for i, node in enumerate(model.graph.node):
        made = tensors.add(node)
        for name, numbers in made.items():
            if name in tensors.constant:  # it stays, and is the same for any number of images
                constant += numbers
            else:
                alive += numbers
                end = last_use.get(name, i)
                dying[end] = dying.get(end, 0) + numbers
        multiplications += tensors.multiplications(node)
        at_once = constant + alive * times
        if at_once > MAX_NUMBERS_AT_ONCE or multiplications > MAX_MULTIPLICATIONS * input_shape[0]:
            what = "memory" if at_once > MAX_NUMBERS_AT_ONCE else "time"
            raise UserError(
                f"{path} needs more {what} than a face network: at node {shorten(node.name or node.op_type)} "
                f"{at_once} numbers and {multiplications} multiplications; it is not run"
            )
        alive -= dying.pop(i, 0)


class _Tensors:
    """The types of a graph's tensors and, where they are small integers, their values."""

    def __init__(self, model: onnx.ModelProto, path: str, input_name: str, input_shape: Sequence[int]) -> None:
        from onnx import TensorProto, helper, numpy_helper

        self._path, self._ir_version = path, model.ir_version
        self._opsets = list(model.opset_import)
        self._version = next((opset.version for opset in self._opsets if opset.domain in DOMAINS), 1)
        self._values: dict[str, np.ndarray] = {}
        self._types = {input_name: helper.make_tensor_type_proto(TensorProto.FLOAT, list(input_shape))}
        for tensor in model.graph.initializer:
            self._types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
            if tensor.data_type in _INTEGERS and math.prod(tensor.dims) <= _SMALL:
                self._values[tensor.name] = numpy_helper.to_array(tensor)
        self.constant = set(self._types) - {input_name}

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor. UserError: it depends on more than sizes and constants."""
        value = self._types[name].tensor_type if name in self._types else None
        sides = [side.dim_value if side.HasField("dim_value") else -1 for side in value.shape.dim] if value else []
        if not value or not value.HasField("shape") or min(sides, default=0) < 0:
            raise UserError(
                f"{self._path}: the size of tensor {shorten(name)} cannot be told before it is computed: simplify the "
                "file, for example with onnxsim"
            )
        return tuple(sides)

    def add(self, proto: onnx.NodeProto) -> dict[str, int]:
        """Infer the outputs of a node, and return how many numbers each holds."""
        inputs = [name for name in proto.input if name]
        missing = [name for name in inputs if name not in self._types]
        if missing:
            raise UserError(f"{self._path}: nothing makes tensor {shorten(missing[0])} before it is read")
        self._infer(proto, inputs)
        outputs = [name for name in proto.output if name]
        if self.constant.issuperset(inputs):
            self.constant.update(outputs)
        made = {name: math.prod(self.shape(name)) for name in outputs}
        if max(made.values(), default=0) <= _SMALL:
            self._fold(to_node(proto))
        return made

    def _infer(self, proto: onnx.NodeProto, inputs: list[str]) -> None:
        import onnx
        from onnx import numpy_helper, shape_inference

        if proto.op_type in _WINDOWS:
            self._check_window(proto)
        values = {name: numpy_helper.from_array(self._values[name]) for name in inputs if name in self._values}
        types = {name: self._types[name] for name in inputs}
        failures = (onnx.defs.SchemaError, shape_inference.InferenceError, onnx.checker.ValidationError)
        try:
            schema = onnx.defs.get_schema(proto.op_type, self._version, "")
            found = shape_inference.infer_node_outputs(
                schema, proto, types, values, opset_imports=self._opsets, ir_version=self._ir_version
            )
        except (*failures, RuntimeError) as error:
            name, reason = shorten(proto.name or proto.op_type), shorten(str(error).strip().split("\n")[0], 200)
            raise UserError(f"{self._path}: node {name} cannot be run: {reason}") from error
        self._types.update(found)

    def _check_window(self, proto: onnx.NodeProto) -> None:
        """Check what onnx does not check before it reads: a map and a weight of four sides, a window of two."""
        weight = _WEIGHT.get(proto.op_type)
        maps = [proto.input[i] for i in (0, weight) if i is not None and i < len(proto.input)]
        lengths = {key: len(attribute.ints) for attribute in proto.attribute for key in [attribute.name]}
        usual = all(lengths.get(key, length) == length for key, length in _WINDOW_LENGTHS.items())
        if not usual or any(len(self.shape(name)) != 4 for name in maps):
            name = shorten(proto.name or proto.op_type)
            raise UserError(
                f"{self._path}: node {name} cannot be run: {proto.op_type} needs maps, and windows of two sides"
            )

    def _fold(self, node: Node) -> None:
        """Note the value of a small constant, or of a shape."""
        known: Mapping[str, np.ndarray] = self._values
        if node.op == "Shape":
            known = {node.inputs[0]: np.broadcast_to(np.zeros(()), self.shape(node.inputs[0]))}
        value = fold(node, known)
        if value is not None and value.dtype.kind == "i":
            self._values[node.output] = value

    def multiplications(self, proto: onnx.NodeProto) -> int:
        """Return about how many numbers a node multiplies, or reads."""
        inputs = [self.shape(name) for name in proto.input if name]
        made = sum(math.prod(self.shape(name)) for name in proto.output if name)
        work = made + sum(math.prod(shape) for shape in inputs)
        if proto.op_type in _WEIGHT:
            return work + made * math.prod(self.shape(proto.input[_WEIGHT[proto.op_type]])[1:])
        if proto.op_type in _SUMS:
            return work + made * max(inputs[0], default=1)
        kernel = next((attribute.ints for attribute in proto.attribute if attribute.name == "kernel_shape"), ())
        return work + made * math.prod(kernel)
