"""ONNX graphs in a form in which they can be compared, whoever wrote them and whatever their tensors are called.

Each step is an operator, what tells it from others of its kind (kernel, stride, weight's shape), and the steps it takes
its data from. Layers count together with the batch norms they could take in, so that a file with folded norms looks
like one without. A step's signature is a hash of all that, its sources' signatures included: two steps with the same
signature are the ends of two equal graphs.
"""

from typing import Dict, List, NamedTuple, Tuple, Union

import numpy as np

from insightface_mx.conversion.file import Graph, Node
from insightface_mx.conversion.fold_norms import LINEAR, NORM, Layer, factor_and_shift, find_layers

WINDOW = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "auto_pad": b"NOTSET"}
POOLING = {**WINDOW, "kernel_shape": (), "ceil_mode": 0}
ATTRIBUTES = {  # those that tell an operator from others of its kind, with the values they have where a file has none
    "AveragePool": {**POOLING, "count_include_pad": 0},
    "Concat": {"axis": 0},
    "Conv": {**WINDOW, "group": 1},
    "MaxPool": POOLING,
    "ReduceMean": {"axes": (), "keepdims": 1},
    "ReduceSum": {"axes": (), "keepdims": 1},
    "Transpose": {"perm": ()},
}
DENSE_CONVOLUTION = tuple(ATTRIBUTES["Conv"].values())
UNKNOWN = -1  # the signature of a node's second output, which no operator of the networks here has
COMMUTATIVE = ("Add", "Mul", "Sum")
TRAINED = (*LINEAR, "PRelu", NORM)  # operators whose constants are parameters, and so do not tell them apart


class Step(NamedTuple):
    """One operator: its key tells it from others of its kind, `source` is its Layer or Node."""

    key: Tuple
    inputs: Tuple[str, ...]
    output: str
    source: Union[Layer, Node]

    @property
    def node(self):
        return self.source if isinstance(self.source, Node) else self.source.node


class Form(NamedTuple):
    """A graph in the form in which graphs are compared.

    steps: in an order of computation. signatures: by tensor. end: the tensor that is the output. Images x enter the
    first layer as (x - mean) * scale, both float64 numbers or arrays (3, 1, 1).
    """

    graph: Graph
    steps: List[Step]
    signatures: Dict[str, int]
    end: str
    mean: np.ndarray
    scale: np.ndarray


def find_form(graph):
    """The Form of a graph."""
    data, mean, scale, scaling = _input_scaling(graph)
    layers = find_layers(graph)
    flattened = {node.inputs[0] for node in graph.nodes if node.op == "Flatten"}
    inside = {norm.output for layer in layers.values() for norm in (*layer.before, *layer.after)}
    signatures, same_as, steps = {data: 0}, {}, []
    for node in graph.nodes:
        if node.op == "Flatten":
            same_as[node.output] = same_as.get(node.inputs[0], node.inputs[0])
        elif node.output not in inside and node not in scaling:
            source = layers.get(node.output, node)
            inputs = (source.input,) if node.output in layers else _data_inputs(node, graph.constants)
            inputs = tuple(same_as.get(name, name) for name in inputs)
            output = source.output
            steps.append(Step(_key(node, graph.constants, output in flattened), inputs, output, source))
            signatures[output] = hash((steps[-1].key, *_in_order(steps[-1], signatures)))
    end = graph.outputs[0]
    return Form(graph, steps, signatures, same_as.get(end, end), mean, scale)


def _input_scaling(graph):
    """The tensor behind the arithmetic on the images, what that arithmetic is (mean, scale), and its nodes."""
    tensor, mean, scale, nodes = graph.input, np.zeros(()), np.ones(()), []
    while True:
        users = [node for node in graph.nodes if tensor in node.inputs]
        change = _factor_and_shift(users[0], graph.constants) if len(users) == 1 else None
        if change is None:
            return tensor, mean, scale, nodes
        factor, shift = (value.reshape(-1, 1, 1) if value.size > 1 else value.reshape(()) for value in change)
        mean, scale = mean - shift / (factor * scale), scale * factor
        nodes.append(users[0])
        tensor = users[0].output


def _factor_and_shift(node, constants):
    """What a node multiplies images by and adds then, each one number or three; None where it does anything else."""
    if node.op == NORM:
        return factor_and_shift(node, constants)
    if node.op not in ("Add", "Sub", "Mul", "Div") or node.inputs[1] not in constants:
        return None
    value = constants[node.inputs[1]].astype(np.float64)
    if value.size not in (1, 3):
        return None
    if node.op in ("Add", "Sub"):
        return np.ones(()), value if node.op == "Add" else -value
    if not value.all():  # a file of nothing
        return None
    return value if node.op == "Mul" else 1 / value, np.zeros(())


def _key(node, constants, is_flattened):
    """What tells a node from others, beside where its data come from."""
    attrs = tuple(node.attrs.get(key, value) for key, value in ATTRIBUTES.get(node.op, {}).items())
    if node.op not in TRAINED:
        return node.op, attrs, *(constants[name].astype(float).tobytes() for name in node.inputs if name in constants)
    if node.op not in LINEAR or node.inputs[1] not in constants:
        return node.op, attrs
    shape = constants[node.inputs[1]].shape
    # what becomes a vector has seen a map of its kernel's size, and is a dense layer then, if all sees all
    is_dense = node.op == "Gemm" or (is_flattened and attrs == DENSE_CONVOLUTION)
    return ("dense", shape[0], int(np.prod(shape[1:]))) if is_dense else (node.op, attrs, shape)


def _data_inputs(node, constants):
    return tuple(name for name in node.inputs if name and name not in constants)


def _in_order(step, signatures):
    """Signatures of a step's sources; sorted where their order means nothing."""
    sources = [signatures.get(name, UNKNOWN) for name in step.inputs]
    return sorted(sources) if step.node.op in COMMUTATIVE else sources


def describe(step):
    """What a step is, in words."""
    kind, *rest = step.key
    name = step.node.name or step.output
    if kind == "dense":
        outputs, inputs = rest
        return f"the dense layer {name} from {inputs} to {outputs} numbers"
    attrs = [
        f"{key} {found}" for (key, usual), found in zip(ATTRIBUTES.get(kind, {}).items(), rest[0]) if found != usual
    ]
    weight = [f"weight {rest[1]}"] if kind == "Conv" and len(rest) > 1 else []
    return " ".join([f"the {kind} {name}", *attrs, *weight])
