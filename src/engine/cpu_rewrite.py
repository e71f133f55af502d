"""A faster graph of the same network, for CPUs: made when a symbol is bound, never written to disk.

PReLU takes one of the forms of fast_prelu.py.

Some Concats cannot be trained on a CPU: where the channels come in blocks of 16 or 8 only after joining, oneDNN fails,
at worst by a division by zero, to take the gradient, laid out in such blocks, apart. Those are computed on maps with a
fifth axis, which MXNet joins without oneDNN.
"""

import json
import math

from insightface_mx.base.compat import mx
from insightface_mx.engine import fast_prelu

BLOCK = 16  # channels that oneDNN keeps together, where there are as many: else 8, else 1


def rewrite(symbol, contexts=None, shapes=None, form=None):
    """Return `symbol` with every PReLU in a fast form and every Concat in one that trains; for a GPU, `symbol` itself.

    contexts: list of MXNet contexts (None: the CPU). shapes: what the symbol will be bound with, dict input name ->
    shape; the form `layers` and a Concat need them, to know the number of channels. form: one of fast_prelu.FORMS for
    every PReLU; None takes the faster one for each, or the layers where the compiled operator cannot be had. A log line
    says which, and why. UserError: `compiled` is asked for and cannot be had.

    The names, order and shapes of arguments, auxiliary states and outputs stay; so do the outputs of inner nodes and
    the attributes that initialisers and optimisers read. A PReLU that is not float32, or whose channels are not known,
    stays as it is. The result is for binding: save the symbol as it was. It is to be bound for training, or with
    parameters that do not change: what oneDNN joins for inference keeps the weights that the layers had first.
    """

    def replacements(nodes, known):
        return {**_concats(nodes, known), **fast_prelu.trained(nodes, known, form)}

    return _rewritten(symbol, contexts, shapes, replacements)


def rewrite_for_inference(symbol, params, contexts, shapes):
    """Return a symbol with every PReLU in the form that infers fastest on a CPU, and its parameters: (symbol, params).

    params: dict name -> NDArray, with which alone the symbol is to run. contexts, shapes: as in `rewrite`. For a GPU
    both are returned as they are.
    """
    weights = {}

    def replacements(nodes, known):
        return fast_prelu.fixed(nodes, known, params, weights)

    symbol = _rewritten(symbol, contexts, shapes, replacements)
    return symbol, {**params, **{name: mx.nd.array(weight) for name, weight in weights.items()}}


def _rewritten(symbol, contexts, shapes, replacements):
    """The symbol with what replacements(nodes, known shapes) names replaced, unless a context is a GPU's."""
    if any(context.device_type != "cpu" for context in contexts or ()):
        return symbol
    graph = json.loads(symbol.tojson())
    for node in graph["nodes"]:
        node.setdefault("attrs", {})
    found = replacements(graph["nodes"], _known_shapes(symbol, shapes or {}))
    return _replace(graph, found) if found else symbol


def _known_shapes(symbol, shapes):
    """Dict output name -> shape, or () where it does not follow from `shapes`."""
    outputs = symbol.get_internals()
    return dict(zip(outputs.list_outputs(), outputs.infer_shape_partial(**shapes)[1]))


def _concats(nodes, known):
    """Dict node number -> function that puts a Concat without oneDNN there, where oneDNN's cannot be trained."""
    replacements = {}
    for number, node in enumerate(nodes):
        if node["op"] == "Concat" and node["attrs"].get("dim", "1") == "1":
            maps = [known[_output_name(nodes[source], output)] for source, output, *_ in node["inputs"]]
            if all(len(shape) == 4 for shape in maps) and _in_blocks_only_joined([shape[1] for shape in maps]):
                replacements[number] = _five_axes_concat
    return replacements


def _in_blocks_only_joined(channels):
    return any(count % math.gcd(sum(channels), BLOCK) for count in channels)


def _output_name(node, output):
    """What MXNet calls this output of a node, known by its number; a variable has its own name."""
    if node["op"] == "null":
        return node["name"]
    parts = int(node["attrs"].get("num_outputs", 1))
    return f"{node['name']}_output{output if parts > 1 else ''}"


class _Nodes(list):
    """The nodes of a graph, as in a symbol's JSON: inputs are [node number, output number, version]."""

    def add(self, op, name, inputs, origin, **attrs):
        """Append a node that takes the place of `origin`, or of a part of it; returns its output."""
        # names between underscores are MXNet's own: the group of devices, for one
        kept = {key: value for key, value in origin["attrs"].items() if key.startswith("__")}
        self.append({"op": op, "name": name, "attrs": {**kept, **attrs}, "inputs": inputs})
        return [len(self) - 1, 0, 0]


def _replace(graph, replacements):
    """A symbol of `graph` in which replacements, node number -> function(nodes, node), have added nodes instead."""
    nodes, moved = _Nodes(), []
    for number, node in enumerate(graph["nodes"]):
        node["inputs"] = [[moved[source], *rest] for source, *rest in node["inputs"]]
        replacements.get(number, _Nodes.append)(nodes, node)
        moved.append(len(nodes) - 1)
    rewritten = {
        "nodes": nodes,
        "arg_nodes": [number for number, node in enumerate(nodes) if node["op"] == "null"],
        "heads": [[moved[source], *rest] for source, *rest in graph["heads"]],
        "attrs": graph["attrs"],
    }
    return mx.sym.load_json(json.dumps(rewritten))


def _five_axes_concat(nodes, node):
    maps = [
        nodes.add("expand_dims", f"{node['name']}_cpu_map{i}", [source], node, axis="4")
        for i, source in enumerate(node["inputs"])
    ]
    joined = nodes.add("Concat", f"{node['name']}_cpu_joined", maps, node, dim="1", num_args=str(len(maps)))
    nodes.add("squeeze", node["name"], [joined], node, axis="4")
