"""Fingerprints of ONNX graphs: equal graphs have equal fingerprints, whoever wrote them and however tensors are named.

A fingerprint lists the steps of a graph. A step is an operator with a key, which distinguishes it from others of its
kind (kernel, stride, shape of the weight), and the tensors that it reads. The signature of a tensor is a hash of the
key of its step and of the signatures of the tensors that this step reads, so it stands for everything that leads to the
tensor: two graphs with the same signature at the end are equal, but for the values of their parameters. Signatures are
the same in every process.

Some differences between exporters do not show:
* a layer is one step together with the batch norms that can be folded into it (see fold_norms);
* arithmetic on the images before the first layer is no step, but the mean and scale of the fingerprint;
* Flatten is no step: the tensor behind it has the signature of the tensor before it;
* a convolution over the complete map counts as a dense layer.

For example, a convolution with a norm, an activation and a dense layer, for images of 8x8 pixels:

    operator            reads                                output    step
    Sub                 data, mean                           centred   none: the fingerprint's mean is 127.5
    Conv                centred, conv_weight                 conv      1, with the norm behind it
    BatchNormalization  conv, bn_gamma, bn_beta, ...         bn        1
    PRelu               bn, act_gamma                        act       2
    Flatten             act                                  vector    none: vector is act
    Gemm                vector, fc1_weight, fc1_bias         fc1       3

    step  reads    output  key                                                                       signature
    1     centred  bn      ('Conv', ((1, 1), (0, 0, 0, 0), (1, 1), b'NOTSET', 1), (4, 3, 3, 3))  b6c4c6c292777f0d
    2     bn       act     ('PRelu', ())                                                             3b54c46223cac55b
    3     act      fc1     ('dense', 5, 144)                                                         d269a7ca2b9a99be
"""

from __future__ import annotations

import hashlib
from typing import Any, Mapping, NamedTuple

import numpy as np

from insightface_mx.conversion.fold_norms import LINEAR, NORM, Layer, factor_and_shift, find_layers
from insightface_mx.onnx_files.graph import Constants, Graph, Node

WINDOW: dict[str, Any] = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "auto_pad": b"NOTSET"}
POOLING = {**WINDOW, "kernel_shape": (), "ceil_mode": 0}
ATTRIBUTES: dict[str, dict[str, Any]] = {  # operator -> the attributes that count, with ONNX's defaults
    "AveragePool": {**POOLING, "count_include_pad": 0},
    "Concat": {"axis": 0},
    "Conv": {**WINDOW, "group": 1},
    "MaxPool": POOLING,
    "ReduceMean": {"axes": (), "keepdims": 1},
    "ReduceSum": {"axes": (), "keepdims": 1},
    "Transpose": {"perm": ()},
}
DENSE_CONVOLUTION = tuple(ATTRIBUTES["Conv"].values())
COMMUTATIVE = ("Add", "Mul", "Sum")
TRAINED = (*LINEAR, "PRelu", NORM)  # operators whose constants are parameters: their values do not count
IMAGES, UNKNOWN = "images", "unknown"  # signatures: of the input, and of a second output, which no operator here has


class Step(NamedTuple):
    """One operator of a fingerprint.

    key: distinguishes it from others of its kind. inputs, output: names of tensors. source: its Layer, or its Node.
    """

    key: tuple[Any, ...]
    inputs: tuple[str, ...]
    output: str
    source: Layer | Node

    @property
    def node(self) -> Node:
        """The node of the graph; that of the convolution or dense layer where the source is a Layer."""
        return self.source if isinstance(self.source, Node) else self.source.node

    def norm_counts(self) -> tuple[int, int]:
        """Return the number of norms before and after a layer; (0, 0) for other steps."""
        return (0, 0) if isinstance(self.source, Node) else (len(self.source.before), len(self.source.after))


class Fingerprint(NamedTuple):
    """A graph in the form in which graphs are compared.

    steps: in an order of computation. signatures: by tensor. end: the output's tensor. Images x enter the first layer
    as (x - mean) * scale; both are float64, one number or (3, 1, 1).
    """

    graph: Graph
    steps: list[Step]
    signatures: dict[str, str]
    end: str
    mean: np.ndarray
    scale: np.ndarray

    @property
    def signature(self) -> str:
        """The signature of the complete graph."""
        return self.signatures[self.end]

    def ordered_inputs(self, step: Step) -> list[str]:
        """Return the tensors that a step reads, in the same order for equal steps of two graphs."""
        if step.node.op in COMMUTATIVE:
            return sorted(step.inputs, key=lambda name: self.signatures.get(name, UNKNOWN))
        return list(step.inputs)


def take_fingerprint(graph: Graph) -> Fingerprint:
    """Return the fingerprint of a graph in its normal form."""
    scaling = _find_scaling(graph)
    layers = find_layers(graph)
    flattened = {node.inputs[0] for node in graph.nodes if node.op == "Flatten"}
    hidden = {norm.output for layer in layers.values() for norm in layer.norms} | scaling.outputs
    result = Fingerprint(graph, [], {scaling.tensor: IMAGES}, graph.outputs[0], scaling.mean, scaling.scale)
    same_as: dict[str, str] = {}
    for node in graph.nodes:
        if node.op == "Flatten":
            same_as[node.output] = same_as.get(node.inputs[0], node.inputs[0])
        elif node.output not in hidden:
            layer = layers.get(node.output)
            inputs = [layer.input] if layer else [name for name in node.inputs if name and name not in graph.constants]
            output = layer.output if layer else node.output
            key = _key(node, graph.constants, output in flattened)
            step = Step(key, tuple(same_as.get(name, name) for name in inputs), output, layer or node)
            result.steps.append(step)
            result.signatures[output] = _signature(step, result)
    return result._replace(end=same_as.get(result.end, result.end))


def _signature(step: Step, fingerprint: Fingerprint) -> str:
    sources = [fingerprint.signatures.get(name, UNKNOWN) for name in fingerprint.ordered_inputs(step)]
    return hashlib.blake2b(repr((step.key, sources)).encode(), digest_size=8).hexdigest()


def _key(node: Node, constants: Constants, is_flattened: bool) -> tuple[Any, ...]:
    """Return what distinguishes a node from others, apart from the tensors that it reads."""
    attrs = tuple(node.attrs.get(key, default) for key, default in ATTRIBUTES.get(node.op, {}).items())
    if node.op not in TRAINED:
        return node.op, attrs, *(constants[name].astype(float).tobytes() for name in node.inputs if name in constants)
    if node.op not in LINEAR or node.inputs[1] not in constants:
        return node.op, attrs
    shape = constants[node.inputs[1]].shape
    # a convolution whose output is flattened covers the complete map, so it equals a dense layer, unless it has groups,
    # strides or pads
    if node.op == "Gemm" or (is_flattened and attrs == DENSE_CONVOLUTION):
        return "dense", shape[0], int(np.prod(shape[1:]))
    return node.op, attrs, shape


class _Scaling(NamedTuple):
    """Arithmetic on the images: `tensor` leaves it as (images - mean) * scale; outputs: of its nodes."""

    tensor: str
    mean: np.ndarray
    scale: np.ndarray
    outputs: set[str]


def _find_scaling(graph: Graph) -> _Scaling:
    """Follow the images through all nodes that multiply or shift them."""
    tensor, mean, scale = graph.input, np.zeros(()), np.ones(())
    outputs: set[str] = set()
    while True:
        users = [node for node in graph.nodes if tensor in node.inputs]
        change = _factor_and_shift(users[0], graph.constants) if len(users) == 1 else None
        if change is None:
            return _Scaling(tensor, mean, scale, outputs)
        factor, shift = (value.reshape(-1, 1, 1) if value.size > 1 else value.reshape(()) for value in change)
        mean, scale = mean - shift / (factor * scale), scale * factor
        tensor = users[0].output
        outputs.add(tensor)


def _factor_and_shift(node: Node, constants: Constants) -> tuple[np.ndarray, np.ndarray] | None:
    """Return factor and shift, one number or three, of a node that computes x * factor + shift; None: of no other."""
    if node.op == NORM:
        return factor_and_shift(node, constants)
    if node.op not in ("Add", "Sub", "Mul", "Div") or node.inputs[1] not in constants:
        return None
    value = constants[node.inputs[1]].astype(np.float64)
    if value.size not in (1, 3):
        return None
    if node.op == "Add":
        return np.ones(()), value
    if node.op == "Sub":
        return np.ones(()), -value
    if not value.all():  # multiplication by 0
        return None
    return value if node.op == "Mul" else 1 / value, np.zeros(())


def describe(step: Step) -> str:
    """Return a step in words, for messages."""
    kind, *rest = step.key
    name = step.node.name or step.output
    if kind == "dense":
        outputs, inputs = rest
        return f"the dense layer {name} from {inputs} to {outputs} features"
    defaults: Mapping[str, Any] = ATTRIBUTES.get(kind, {})
    attrs = [f"{key} {value}" for (key, default), value in zip(defaults.items(), rest[0]) if value != default]
    weight = [f"weight {rest[1]}"] if kind == "Conv" and len(rest) > 1 else []
    return " ".join([f"the {kind} {name}", *attrs, *weight])
