"""ONNX files as graphs of plain nodes and arrays, and back.

Opset 11 is old enough for every runtime and new enough for every operator of the networks here.
"""

import contextlib
from typing import Dict, List, NamedTuple, Tuple

import numpy as np

from insightface_mx.base.errors import UserError, exit_on_user_error, require

with exit_on_user_error():
    require("onnx", "onnx", "onnxruntime")
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

OPSET = 11
IR_VERSION = 6  # the file format of that opset's time
_QUIET = 3  # errors only


class Node(NamedTuple):
    """One operator; tensors go by name, and each node has one output that matters."""

    op: str
    name: str
    inputs: Tuple[str, ...]
    output: str
    attrs: Dict


class Graph(NamedTuple):
    """Nodes in an order in which they can be computed, and the constants (name -> array) that they use."""

    input: str
    outputs: List[str]
    nodes: List[Node]
    constants: Dict[str, np.ndarray]


def save(graph, path, image_size, output_shapes):
    """Write a graph of opset 11 to `path`, for images 3 x image_size (height, width) in batches of any size.

    output_shapes: the shape of each output behind the batch dimension.
    """
    nodes = [helper.make_node(node.op, node.inputs, [node.output], node.name, **node.attrs) for node in graph.nodes]
    data = helper.make_tensor_value_info(graph.input, TensorProto.FLOAT, ["N", 3, *image_size])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])
        for name, shape in zip(graph.outputs, output_shapes)
    ]
    constants = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in graph.constants.items()]
    proto = helper.make_graph(nodes, "insightface_mx", [data], outputs, constants)
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(proto, opset_imports=opset, ir_version=IR_VERSION, producer_name="insightface-mx")
    onnx.checker.check_model(model)
    onnx.save(model, path)


def load(path):
    """Read a file: its graph, without what does nothing in inference, and the images' height and width (or None).

    Nodes that depend on no image become constants, MatMul becomes Gemm, and every Gemm has its weight as outputs x
    inputs. UserError: no ONNX file, a damaged one, or one without a single input and output.
    """
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}") from error
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise UserError(f"{path} is no ONNX file, or damaged: {str(error).splitlines()[0]}") from error
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise UserError(f"{path} has {len(inputs)} inputs and {len(model.graph.output)} outputs; wanted is one of each")
    nodes = _without_constant_nodes(path, model, constants)
    graph = Graph(inputs[0].name, [model.graph.output[0].name], nodes, constants)
    return _without_dead_ends(_in_normal_form(graph)), _image_size(inputs[0])


def session(model, name):
    """An ONNX Runtime session on the CPU.

    Its option to take denormal numbers for zero is left alone: it would change the calling thread, numpy included.
    model: the path of a file, or its content. name: what UserError calls it where the runtime cannot run it.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    with _saying_what_failed(name):
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(session, inputs, name, outputs=None):
    """The outputs (default: all) of a session for inputs, dict name -> array; name as in `session`."""
    with _saying_what_failed(name):
        return session.run(outputs, inputs)


@contextlib.contextmanager
def _saying_what_failed(name):
    try:
        yield
    except _RUNTIME_ERRORS as error:
        raise UserError(f"ONNX Runtime cannot run {name}: {str(error).splitlines()[0]}") from error


_RUNTIME_ERRORS = tuple(
    getattr(onnxruntime.capi.onnxruntime_pybind11_state, name)
    for name in ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented")
)


def _image_size(value):
    sizes = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
    return tuple(sizes[2:]) if len(sizes) == 4 and all(sizes[2:]) else None


def _without_constant_nodes(path, model, constants):
    """The nodes that depend on an input; the results of the others go into `constants`."""
    known, constant, others = set(constants), [], []
    for node in model.graph.node:
        computable = all(name in known for name in node.input if name)
        (constant if computable else others).append(node)
        known.update(node.output if computable else ())
    if constant:
        names = [node.output[0] for node in constant]
        proto = helper.make_graph(
            constant, "constants", [], [onnx.ValueInfoProto(name=name) for name in names], model.graph.initializer
        )
        part = helper.make_model(proto, opset_imports=model.opset_import, ir_version=model.ir_version)
        name = f"the constants of {path}"
        constants.update(zip(names, run(session(part.SerializeToString(), name), {}, name, names)))
    return [_node(node) for node in others]


def _node(proto):
    attrs = {attribute.name: helper.get_attribute_value(attribute) for attribute in proto.attribute}
    attrs = {key: tuple(value) if isinstance(value, list) else value for key, value in attrs.items()}
    return Node(proto.op_type, proto.name, tuple(proto.input), proto.output[0], attrs)


def _in_normal_form(graph):
    """One way of writing what can be written in several."""
    nodes, alias, constants = [], {}, dict(graph.constants)
    producers = {}
    for node in graph.nodes:
        node = node._replace(inputs=tuple(alias.get(name, name) for name in node.inputs))
        before = producers.get(node.inputs[0])
        if node.op in ("Identity", "Dropout"):
            alias[node.output] = node.inputs[0]
            continue
        if node.op in ("Reshape", "Squeeze", "Flatten"):
            node = node._replace(op="Flatten", inputs=node.inputs[:1], attrs={"axis": 1})
        elif node.op == "MatMul" and node.inputs[1] in constants:
            node = node._replace(op="Gemm", attrs={})
        elif node.op == "Sum" and len(node.inputs) == 2:
            node = node._replace(op="Add")
        elif node.op == "Add" and before and _lacks_bias(before) and node.inputs[1] in constants:
            nodes.remove(before)
            node = before._replace(inputs=(*before.inputs, node.inputs[1]), output=node.output)
        if node.op == "Gemm" and node.inputs[1] in constants:
            node = _outputs_first(node, constants)
        nodes.append(node)
        producers[node.output] = node
    return Graph(graph.input, [alias.get(name, name) for name in graph.outputs], nodes, constants)


def _lacks_bias(node):
    return node.op == "Gemm" and len(node.inputs) == 2


def _outputs_first(node, constants):
    """A Gemm whose weight is outputs x inputs and has the factor alpha in it."""
    weight = constants[node.inputs[1]] * np.float32(node.attrs.get("alpha", 1))
    name = f"{node.output}_weight"
    constants[name] = weight if node.attrs.get("transB") else weight.T
    return node._replace(inputs=(node.inputs[0], name, *node.inputs[2:]), attrs={"transB": 1})


def _without_dead_ends(graph):
    needed, nodes = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if node.output in needed:
            nodes.append(node)
            needed.update(node.inputs)
    return graph._replace(nodes=nodes[::-1])
