"""ONNX files: write a graph, read one in its normal form, and run a file in ONNX Runtime.

Opset 11 is old enough for every runtime and new enough for every operator of the networks here. The packages onnx and
onnxruntime are an extra: they are imported where they are used.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Iterator, Mapping, Sequence

import numpy as np

from insightface_mx.base.errors import UserError, require
from insightface_mx.cli.types import Size
from insightface_mx.conversion.graph import Constants, Graph, Node
from insightface_mx.conversion.normal_form import normalise
from insightface_mx.formats.wrong_file import refuse_wrong_file

if TYPE_CHECKING:
    import onnx
    import onnxruntime

OPSET = 11
IR_VERSION = 6  # the file format of that opset's time
PRODUCER, INT8_PRODUCER = "insightface-mx", "insightface-mx int8"  # the origin of a file written here
_ERRORS_ONLY = 3  # severity of ONNX Runtime's log


def require_onnx() -> None:
    """Raise UserError with the pip command where onnx or onnxruntime is missing."""
    require("onnx", "onnx", "onnxruntime")


def save(
    graph: Graph,
    path: str,
    image_size: Size,
    output_shapes: Sequence[tuple[int, ...]],
    built_in: Mapping[str, Any] | None = None,
) -> None:
    """Write a graph of opset 11.

    Args:
        graph: Nodes of that opset.
        path: The file.
        image_size: Height and width; images are 3 x height x width, in batches of any size.
        output_shapes: The shape of each output without the batch dimension.
        built_in: What the graph does to images before the network, in JSON's types; the file's metadata says it.

    Raises:
        UserError: onnx or onnxruntime is not installed.
    """
    require_onnx()
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = [helper.make_node(node.op, node.inputs, [node.output], node.name, **node.attrs) for node in graph.nodes]
    data = helper.make_tensor_value_info(graph.input, TensorProto.FLOAT, ["N", 3, *image_size])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])
        for name, shape in zip(graph.outputs, output_shapes)
    ]
    constants = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in graph.constants.items()]
    proto = helper.make_graph(nodes, "insightface_mx", [data], outputs, constants)
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(proto, opset_imports=opset, ir_version=IR_VERSION, producer_name=PRODUCER)
    if built_in:
        helper.set_model_props(model, {"built_in": json.dumps(built_in)})
    onnx.checker.check_model(model)
    onnx.save(model, path)


def load(path: str) -> tuple[Graph, Size | None]:
    """Read a file.

    Nodes that depend on no image become constants, as ONNX Runtime computes them.

    Args:
        path: A file with one input and one output.

    Returns:
        Its graph in the normal form (see normal_form), and the images' height and width; None where they are open.

    Raises:
        UserError: No ONNX file, a damaged one, or one without a single input and output; onnx or onnxruntime is not
            installed.
    """
    require_onnx()
    from onnx import numpy_helper

    model = _read(path)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    outputs = [value.name for value in model.graph.output]
    if len(inputs) != 1 or len(outputs) != 1:
        raise UserError(f"{path} has {len(inputs)} inputs and {len(outputs)} outputs: it must have one of each")
    computable, others = _split(model.graph.node, constants)
    constants = {**constants, **_compute(computable, model, f"the constants of {path}")}
    graph = Graph(inputs[0].name, outputs, [_node(proto) for proto in others], constants)
    return normalise(graph), _image_size(inputs[0])


def _read(path: str) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}") from error
    except (DecodeError, onnx.checker.ValidationError) as error:
        refuse_wrong_file(path)
        raise UserError(f"{path} is no ONNX file, or damaged: {str(error).splitlines()[0]}") from error
    return model


def _split(nodes: Sequence[onnx.NodeProto], constants: Constants) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
    """Return the nodes that depend on constants alone, and the others."""
    known, computable, others = set(constants), [], []
    for node in nodes:
        if all(name in known for name in node.input if name):
            computable.append(node)
            known.update(node.output)
        else:
            others.append(node)
    return computable, others


def _compute(nodes: list[onnx.NodeProto], model: onnx.ModelProto, name: str) -> Constants:
    """Return the outputs of nodes that depend on the model's constants alone."""
    import onnx
    from onnx import helper

    if not nodes:
        return {}
    outputs = [node.output[0] for node in nodes]
    values = [onnx.ValueInfoProto(name=output) for output in outputs]
    proto = helper.make_graph(nodes, "constants", [], values, model.graph.initializer)
    part = helper.make_model(proto, opset_imports=model.opset_import, ir_version=model.ir_version)
    return dict(zip(outputs, run(session(part.SerializeToString(), name), {}, name, outputs)))


def _node(proto: onnx.NodeProto) -> Node:
    from onnx import helper

    attrs = {attribute.name: helper.get_attribute_value(attribute) for attribute in proto.attribute}
    attrs = {key: tuple(value) if isinstance(value, list) else value for key, value in attrs.items()}
    return Node(proto.op_type, proto.name, tuple(proto.input), proto.output[0], attrs)


def _image_size(value: onnx.ValueInfoProto) -> Size | None:
    sizes = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
    return (sizes[2], sizes[3]) if len(sizes) == 4 and all(sizes[2:]) else None


def session(model: str | bytes, name: str) -> onnxruntime.InferenceSession:
    """Open an ONNX Runtime session on the CPU.

    Its option to flush denormal numbers stays off: it would change the calling thread, numpy included.

    Args:
        model: The path of a file, or its content.
        name: What UserError calls it.

    Raises:
        UserError: ONNX Runtime cannot run it, or is not installed.
    """
    require_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    with _runtime_errors(name):
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(
    session: onnxruntime.InferenceSession,
    inputs: Mapping[str, np.ndarray],
    name: str,
    outputs: Sequence[str] | None = None,
) -> list[Any]:
    """Return the outputs of a session.

    Args:
        session: What `session` returned.
        inputs: Name -> array.
        name: What UserError calls the file.
        outputs: Names; None: all outputs.

    Raises:
        UserError: ONNX Runtime fails.
    """
    with _runtime_errors(name):
        return session.run(outputs, inputs)


@contextlib.contextmanager
def _runtime_errors(name: str) -> Iterator[None]:
    """Turn ONNX Runtime's errors into UserErrors."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    known = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NoSuchFile)
    try:
        yield
    except (*known, state.NotImplemented) as error:
        refuse_wrong_file(name)
        raise UserError(f"ONNX Runtime cannot run {name}: {str(error).splitlines()[0]}") from error
