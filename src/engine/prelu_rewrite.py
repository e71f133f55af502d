r"""Replace PReLU by operators that are fast on a CPU: y = x if x > 0 else a x, one slope a for each channel.

PReLU is He et al., arXiv 1502.01852, equation 1. MXNet 1.9.1 computes it in one thread, element by element, which can
take most of a training step. It also has a bug, which both replacements fix: if MXNet reuses the memory of dy for dx,
its PReLU computes da from the overwritten values, which multiplies da by a.

    The original graph        Training form "compiled": the operator of prelu_op.cc, which uses every CPU

       x       a                 x           a
        \     /                  |           |
       LeakyReLU              Reshape      _copy
           |                      \         /
           y                   _insightface_prelu
                                       |
                                       y

    Training form "layers": y = a x + (1 - a) relu(x), the products as depthwise 1x1 convolutions by oneDNN

       x              a                x             a
       |              |                |             |
       |           Reshape            relu        Reshape (the same node)
       |              |                |             |
       |              |                |           1 - .
        \            /                  \           /
         Convolution                     Convolution
                   \                     /
                         elemwise_add
                              |
                              y

    Inference form: the same from two constants, which are computed beforehand from the slopes. If no slope is above
    1, then (1 - a) relu(x) = relu((1 - a) x), and oneDNN fuses this relu with the convolution before it.

       x        a                     x        1 - a
        \      /                       \       /
       Convolution                    Convolution
                 \                        |
                  \                     relu
                   \                     /
                         elemwise_add
                              |
                              y

The layers stay in the memory layout of oneDNN's convolutions, which also saves memory. Next to depthwise convolutions
the compiled operator is faster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import numpy as np

from insightface_mx.base.compat import Params
from insightface_mx.base.errors import UserError
from insightface_mx.engine import prelu_library
from insightface_mx.engine.symbol_graph import VARIABLE, Node, Output, Replacement, Shape, Shapes, SymbolGraph

COMPILED, LAYERS = "compiled", "layers"
PRELU_KINDS = {COMPILED: "the compiled operator", LAYERS: "layers of oneDNN"}


class PreluReplacement(Replacement):
    """Nodes that compute a PReLU."""

    def weights(self) -> dict[str, np.ndarray]:
        """Return the new parameters that the nodes need, by name."""
        return {}

    def _part(self, op: str, what: str, inputs: list[Output], **attrs: str) -> Node:
        return self.node.part(op, f"{self.node.name}_cpu_{what}", inputs, **attrs)

    def _relu(self, x: Output) -> Node:
        return self._part("Activation", "positive", [x], act_type="relu")

    def _product(self, what: str, x: Output, weight: Output, channels: int) -> Node:
        """Return a depthwise 1x1 convolution: every channel times its own weight."""
        attrs = {"kernel": "(1, 1)", "num_filter": str(channels), "num_group": str(channels), "no_bias": "True"}
        return self._part("Convolution", what, [x, weight], **attrs)


class CompiledPrelu(PreluReplacement):
    """The operator of prelu_op.cc."""

    def build(self) -> list[Node]:
        """Return the operator, with a Reshape and a _copy before it.

        MXNet does not tell external operators whether to write or add gradients; the nodes before it do that.
        `__copied_for__` stops MXNet from merging equal _copy nodes. The Reshape, to the same shape, also leaves
        oneDNN's memory layout once for both passes.
        """
        data, slope = self.node.inputs
        own = {"__copied_for__": self.node.name}
        same_data = self._part("Reshape", "data", [data], shape="(-2,)", **own)
        same_slope = self._part("_copy", "slope", [slope], **own)
        inputs = [same_data.output, same_slope.output]
        return [same_data, same_slope, self.node.part("_insightface_prelu", self.node.name, inputs)]


@dataclass(eq=False)
class TrainingLayers(PreluReplacement):
    """a x + (1 - a) relu(x), with a gradient for a; data of another rank than 4 is reshaped to a map and back."""

    data_shape: Shape
    slope_shape: Shape

    def apply(self, graph: SymbolGraph) -> None:
        """Replace the node, and give the variable of its slope the shape that MXNet cannot infer through a Reshape."""
        self.node.inputs[1].node.attrs["__shape__"] = str(self.slope_shape)
        super().apply(graph)

    def build(self) -> list[Node]:
        """Return the two products and their sum."""
        (data, slope), channels = self.node.inputs, self.data_shape[1]
        nodes = []
        is_map = len(self.data_shape) == 4
        if not is_map:
            nodes.append(self._part("Reshape", "map", [data], shape="(0, 0, -1, 1)"))
        x = data if is_map else nodes[-1].output
        nodes.append(self._part("Reshape", "whole_weight", [slope], shape="(-1, 1, 1, 1)"))
        if self.slope_shape != (channels,):
            one = nodes[-1].output
            nodes.append(self._part("broadcast_axis", "whole_weights", [one], axis="0", size=str(channels)))
        whole_weight = nodes[-1].output
        rest_weight = self._part("_rminus_scalar", "rest_weight", [whole_weight], scalar="1")
        whole = self._product("whole", x, whole_weight, channels)
        positive = self._relu(x)
        rest = self._product("rest", positive.output, rest_weight.output, channels)
        nodes += [rest_weight, whole, positive, rest]
        total_name = self.node.name if is_map else f"{self.node.name}_cpu_sum"
        nodes.append(self.node.part("elemwise_add", total_name, [whole.output, rest.output]))
        if not is_map:
            nodes.append(self.node.part("reshape_like", self.node.name, [nodes[-1].output, data]))
        return nodes


@dataclass(eq=False)
class InferenceLayers(PreluReplacement):
    """a x + relu((1 - a) x), or a x + (1 - a) relu(x) if a slope is above 1, with constants in place of the slopes."""

    slopes: np.ndarray  # one for each channel

    def weights(self) -> dict[str, np.ndarray]:
        """Return a and 1 - a as the weights of depthwise 1x1 convolutions."""
        values = {"rest": 1 - self.slopes, "whole": self.slopes}
        return {f"{self.node.name}_cpu_{what}_weight": value.reshape(-1, 1, 1, 1) for what, value in values.items()}

    def build(self) -> list[Node]:
        """Return the two products and their sum."""
        x, channels = self.node.inputs[0], len(self.slopes)
        rest_weight = self._part(VARIABLE, "rest_weight", [])
        whole_weight = self._part(VARIABLE, "whole_weight", [])
        if self.slopes.max() > 1:
            first = self._relu(x)
            second = self._product("rest", first.output, rest_weight.output, channels)
        else:
            first = self._product("rest", x, rest_weight.output, channels)
            second = self._relu(first.output)
        whole = self._product("whole", x, whole_weight.output, channels)
        total = self.node.part("elemwise_add", self.node.name, [whole.output, second.output])
        return [rest_weight, first, second, whole_weight, whole, total]


def plan_for_training(
    graph: SymbolGraph, shapes: Shapes, kind: str | None, log: Callable[[str], None]
) -> list[PreluReplacement]:
    """Return replacements with gradients for the float32 PReLUs of a graph; one of unknown shape may stay.

    Args:
        graph: The graph as it is.
        shapes: Its shapes, as `infer_shapes` returns them.
        kind: One of PRELU_KINDS, or None for the faster one for each PReLU.
        log: Takes a line for each kind.

    Raises:
        UserError: `kind` is 'compiled', and the compiled operator cannot be loaded.
    """
    prelus = _float32_prelus(graph)
    return _plan_with_gradients(prelus, graph, shapes, kind, log, len(prelus))


def plan_for_inference(
    graph: SymbolGraph, shapes: Shapes, params: Params, log: Callable[[str], None]
) -> list[PreluReplacement]:
    """Return replacements for inference for the float32 PReLUs of a graph.

    A PReLU that is not on a map (4 axes), or whose slopes are not a parameter, gets a replacement with gradients.

    Args:
        graph: The graph as it is.
        shapes: Its shapes, as `infer_shapes` returns them.
        params: The parameters, with the slopes.
        log: Takes a line for each kind.
    """
    prelus = _float32_prelus(graph)
    layers: list[PreluReplacement] = []
    others = []
    for node in prelus:
        shape, slope = shapes[node.output.name], node.inputs[1].node.name
        if len(shape) == 4 and slope in params:
            layers.append(InferenceLayers(node, np.resize(params[slope].asnumpy(), shape[1])))
        else:
            others.append(node)
    if layers:
        log(_line(len(layers), len(prelus), LAYERS))
    return layers + _plan_with_gradients(others, graph, shapes, None, log, len(prelus))


def _plan_with_gradients(
    prelus: list[Node], graph: SymbolGraph, shapes: Shapes, kind: str | None, log: Callable[[str], None], total: int
) -> list[PreluReplacement]:
    """Plan for `prelus`, some of the network's `total`."""
    kinds, reason = _choose_kinds(prelus, graph, shapes, kind)
    compiled: list[PreluReplacement] = [CompiledPrelu(node) for node in prelus if kinds[node] == COMPILED]
    wanted = [node for node in prelus if kinds[node] == LAYERS]
    layers: list[PreluReplacement] = []
    for node in wanted:
        data, slope = shapes[node.output.name], _slope_shape(node, shapes)
        if len(data) > 1 and slope:
            layers.append(TrainingLayers(node, data, slope))
    if compiled:
        log(_line(len(compiled), total, COMPILED, reason))
    if wanted:
        log(_line(len(layers), total, LAYERS, reason))
    return compiled + layers


def _line(count: int, total: int, kind: str, reason: str = "") -> str:
    return f"CPU rewrite: {count} of {total} PReLU as {PRELU_KINDS[kind]}{reason}"


def _choose_kinds(
    prelus: list[Node], graph: SymbolGraph, shapes: Shapes, kind: str | None
) -> tuple[dict[Node, str], str]:
    """Return the kind of each PReLU and, where that is only the second best, the reason for the log."""
    if kind:
        kinds = dict.fromkeys(prelus, kind)
    else:
        next_to_depthwise = _next_to_depthwise(graph)
        kinds = {}
        for node in prelus:
            may_be_layers = len(shapes[node.output.name]) == 4 and bool(_slope_shape(node, shapes))
            kinds[node] = LAYERS if may_be_layers and node not in next_to_depthwise else COMPILED
    error = prelu_library.load_error() if COMPILED in kinds.values() else ""
    if not error:
        return kinds, ""
    if kind:
        raise UserError(f"no compiled PReLU: {error}; install g++, or leave the kind out")
    return dict.fromkeys(prelus, LAYERS), f" (no compiled operator: {error})"


def _slope_shape(node: Node, shapes: Shapes) -> Shape:
    """Return the shape of a PReLU's slope if that is a variable of known shape, otherwise ()."""
    return shapes.get(node.inputs[1].node.name) or ()


def _next_to_depthwise(graph: SymbolGraph) -> set[Node]:
    """Return the nodes before or after a depthwise convolution, or after the batch norm after it."""
    depthwise = {
        node
        for node in graph.nodes_of("Convolution")
        if node.attrs.get("num_group", "1") == node.attrs["num_filter"] != "1"
    }
    ends = depthwise | {norm for norm in graph.nodes_of("BatchNorm") if norm.inputs[0].node in depthwise}
    after = {node for node in graph.nodes if node.inputs and node.inputs[0].node in ends}
    return after | {node.inputs[0].node for node in depthwise}


def _float32_prelus(graph: SymbolGraph) -> list[Node]:
    """Return the PReLUs, without those that the graph computes in another type than float32."""
    types: dict[Node, str] = {}
    for node in graph.nodes:
        inherited = types[node.inputs[0].node] if node.inputs else "float32"
        types[node] = node.attrs.get("dtype", node.attrs.get("__dtype__", inherited))
    prelus = [node for node in graph.nodes_of("LeakyReLU") if node.attrs.get("act_type") == "prelu"]
    return [node for node in prelus if types[node] in ("float32", "0", "None")]
