"""ONNX files: write a graph, and read one in its normal form. Module `runtime` runs them.

Opset 11 is old enough for every runtime and new enough for every operator of the networks here. The packages onnx and
onnxruntime are an extra: they are imported where they are used.
"""

from __future__ import annotations

import json
from typing import Any, Mapping, Sequence

import numpy as np

from insightface_mx.base.errors import UserError, require
from insightface_mx.base.limits import MAX_CONSTANT
from insightface_mx.cli.types import Size
from insightface_mx.onnx_files.constants import fold
from insightface_mx.onnx_files.graph import Graph
from insightface_mx.onnx_files.normal_form import normalise
from insightface_mx.onnx_files.safe_onnx import to_node
from insightface_mx.onnx_files.sizes import read_checked

OPSET = 11
IR_VERSION = 6  # the file format of that opset's time
PRODUCER, INT8_PRODUCER = "insightface-mx", "insightface-mx int8"  # the origin of a file written here
OPENVINO_ADVICE = (
    "On some CPUs OpenVINO computes in bfloat16 unless it is told not to, which changes embeddings: "
    "compile_model(FILE, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})"
)
DESCRIPTION = (
    "A face recognition network: RGB images of 0..255, batch x 3 x height x width, to embeddings that are not scaled "
    f"to unit length. {OPENVINO_ADVICE}"
)


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
    names = {"producer_name": PRODUCER, "doc_string": DESCRIPTION}
    model = helper.make_model(proto, opset_imports=opset, ir_version=IR_VERSION, **names)
    if built_in:
        helper.set_model_props(model, {"built_in": json.dumps(built_in)})
    onnx.checker.check_model(model)
    onnx.save(model, path)


def load(path: str) -> tuple[Graph, Size | None]:
    """Read a file.

    Nodes that depend on no image become constants where they are operators of `constants`.

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

    read, images = read_checked(path)
    model = read.proto
    if len(model.graph.output) != 1:
        raise UserError(f"{path} has {len(model.graph.output)} outputs: it must have one")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes, made = [], 0
    for node in map(to_node, model.graph.node):
        value = fold(node, constants)
        if value is None:
            nodes.append(node)
            continue
        constants[node.output] = value
        made += value.size
        if made > MAX_CONSTANT:
            raise UserError(f"{path} makes more than {MAX_CONSTANT} numbers of its constants: it is no face network")
    return normalise(Graph(images.name, [model.graph.output[0].name], nodes, constants)), images.size
