"""A faster graph of the same network, for CPUs: made when a symbol is bound, never written to disk.

MXNet 1.9.1 computes LeakyReLU(act_type='prelu') in one thread, number by number: 49 % of an r50's training step and
90 % of a y1's. Two equal forms are faster; a step at batch 16 on two processors is so many times as fast:

    compiled   the operator of prelu_op.cc, which uses every processor          y1 6.1   r50 1.7
    symbols    needs no compiler, but a fifth more memory                       y1 3.6   r50 1.6

`symbols` is y = relu(x) + a (x - relu(x)), the product being a depthwise 1x1 layer whose weight is the slope.

Both also give the slope's gradient where MXNet does not: where it lets the gradient of x overwrite that of y, which
depends on the nodes around, its own kernel reads the overwritten one, and da comes out multiplied by a.

For inference there is a third: y = a x + relu((1 - a) x), or a x + (1 - a) relu(x) where a slope is above 1, the
products being depthwise 1x1 convolutions with weights made from the slopes. All of it stays in the layout that oneDNN's
convolutions work in, and oneDNN joins what it can.

Some Concats cannot be trained on a CPU: where the channels come in blocks of 16 or 8 only after joining, oneDNN fails,
at worst by a division by zero, to take the gradient, laid out in such blocks, apart. Those are computed on maps with a
fifth axis, which MXNet joins without oneDNN.
"""

import functools
import json
import logging
import math

import numpy as np

from insightface_mx import native
from insightface_mx.compat import mx
from insightface_mx.errors import UserError

FORMS = {"compiled": "the compiled operator", "symbols": "plain symbols"}
BLOCK = 16  # channels that oneDNN keeps together, where there are as many: else 8, else 1


def rewrite(symbol, contexts=None, shapes=None, form=None):
    """Return `symbol` with every PReLU in a fast form and every Concat in one that trains; for a GPU, `symbol` itself.

    contexts: list of MXNet contexts (None: the CPU). shapes: what the symbol will be bound with, dict input name ->
    shape; the form `symbols` and a Concat need them, to know the number of channels. form: one of FORMS; None takes
    the compiled operator, or plain symbols where that cannot be had. A log line says which, and why. UserError:
    `compiled` is asked for and cannot be had.

    The names, order and shapes of arguments, auxiliary states and outputs stay; so do the outputs of inner nodes and
    the attributes that initialisers and optimisers read. A PReLU that is not float32, or whose channels are not known,
    stays as it is. The result is for binding: save the symbol as it was.
    """

    def replacements(nodes, known):
        return {**_concats(nodes, known), **_prelus(_float32_prelus(nodes), nodes, known, form)}

    return _rewritten(symbol, contexts, shapes, replacements)


def rewrite_for_inference(symbol, params, contexts, shapes):
    """Return a symbol with every PReLU in the form that infers fastest on a CPU, and its parameters: (symbol, params).

    params: dict name -> NDArray, with which alone the symbol is to run. contexts, shapes: as in `rewrite`. For a GPU
    both are returned as they are.
    """
    weights = {}

    def replacements(nodes, known):
        prelus = _float32_prelus(nodes)
        layers = _layer_prelus(prelus, nodes, known, params, weights)
        rest = [number for number in prelus if number not in layers]
        return {**layers, **_prelus(rest, nodes, known, None)}

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


def _prelus(prelus, nodes, known, form):
    """Dict node number -> function that puts the fast form of a PReLU there."""
    if not prelus:
        return {}
    form, because = _available_form(form)
    replacements = dict.fromkeys(prelus, _compiled_prelu)
    if form == "symbols":
        replacements = _symbol_prelus(prelus, nodes, known)
    _log_once(f"CPU rewrite: {len(replacements)} of {len(prelus)} PReLU as {FORMS[form]}{because}")
    return replacements


def _available_form(wanted):
    """The form to use, and for the log the reason if it is second best."""
    problem = "" if wanted == "symbols" else native.problem()
    if not problem:
        return wanted or "compiled", ""
    if wanted:
        raise UserError(f"no compiled PReLU: {problem}; install g++, or choose the form 'symbols'")
    return "symbols", f" (no compiled operator: {problem})"


def _float32_prelus(nodes):
    """Numbers of the PReLU nodes, without those that the graph makes of another type."""
    types = []
    for node in nodes:
        inherited = types[node["inputs"][0][0]] if node["inputs"] else "float32"
        types.append(node["attrs"].get("dtype", node["attrs"].get("__dtype__", inherited)))
    return [
        number
        for number, (node, dtype) in enumerate(zip(nodes, types))
        if node["op"] == "LeakyReLU" and node["attrs"].get("act_type") == "prelu" and dtype in ("float32", "0", "None")
    ]


def _symbol_prelus(prelus, nodes, known):
    """Dict node number -> function that puts the form `symbols` there, for what has known shapes."""
    replacements = {}
    for number in prelus:
        data = known[f"{nodes[number]['name']}_output"]
        slope = known.get(nodes[nodes[number]["inputs"][1][0]]["name"])
        if len(data) > 1 and slope:
            replacements[number] = functools.partial(_symbol_prelu, data=data, slope=slope)
    return replacements


def _layer_prelus(prelus, nodes, known, params, weights):
    """Dict node number -> function that puts the form for inference there, and its weights into the dict `weights`."""
    replacements = {}
    for number in prelus:
        data = known[f"{nodes[number]['name']}_output"]
        slope = nodes[nodes[number]["inputs"][1][0]]["name"]
        if len(data) == 4 and slope in params:
            slopes = np.resize(params[slope].asnumpy(), data[1])
            replacements[number] = functools.partial(_layers, slopes=slopes, weights=weights)
    if replacements:
        _log_once(f"CPU rewrite: {len(replacements)} of {len(prelus)} PReLU as layers of oneDNN")
    return replacements


@functools.lru_cache(maxsize=None)
def _log_once(line):
    """Log a line, unless this process has logged it before: networks are bound over and over."""
    logging.info(line)


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


def _compiled_prelu(nodes, node):
    # An external operator is not told whether its gradient is to be written or added: copies see to that. They cost
    # nothing, having the memory of what they copy. The attribute keeps MXNet from making one copy of several.
    copies = [
        nodes.add("_copy", f"{node['name']}_cpu_{what}", [source], node, __copied_for__=node["name"])
        for what, source in zip(("data", "slope"), node["inputs"])
    ]
    nodes.add("_insightface_prelu", node["name"], copies, node)


def _layers(nodes, node, slopes, weights):
    """a x + relu((1 - a) x), or a x + (1 - a) relu(x) if some of the slopes, one a channel, are above 1; x is a map."""
    channels = str(len(slopes))

    def product(what, x, factors):
        weight = f"{node['name']}_cpu_{what}_weight"
        weights[weight] = factors.reshape(-1, 1, 1, 1)
        layer = {"kernel": "(1, 1)", "num_filter": channels, "num_group": channels, "no_bias": "True"}
        inputs = [x, nodes.add("null", weight, [], node)]
        return nodes.add("Convolution", f"{node['name']}_cpu_{what}", inputs, node, **layer)

    def positive(x):
        return nodes.add("Activation", f"{node['name']}_cpu_positive", [x], node, act_type="relu")

    x = node["inputs"][0]
    # relu last is faster, as oneDNN joins it to the convolution
    rest = product("rest", positive(x), 1 - slopes) if slopes.max() > 1 else positive(product("rest", x, 1 - slopes))
    nodes.add("elemwise_add", node["name"], [product("whole", x, slopes), rest], node)


def _five_axes_concat(nodes, node):
    maps = [
        nodes.add("expand_dims", f"{node['name']}_cpu_map{i}", [source], node, axis="4")
        for i, source in enumerate(node["inputs"])
    ]
    joined = nodes.add("Concat", f"{node['name']}_cpu_joined", maps, node, dim="1", num_args=str(len(maps)))
    nodes.add("squeeze", node["name"], [joined], node, axis="4")


def _symbol_prelu(nodes, node, data, slope):
    """relu(x) + a (x - relu(x)), on a map N x C x H x W that x is made if it is none; data and slope are the shapes."""
    (x, a), channels, is_map = node["inputs"], str(data[1]), len(data) == 4
    nodes[a[0]]["attrs"]["__shape__"] = str(slope)  # MXNet cannot infer it through the Reshape

    def add(op, what, inputs, **attrs):
        return nodes.add(op, f"{node['name']}_cpu_{what}", inputs, node, **attrs)

    if not is_map:
        x = add("Reshape", "map", [x], shape="(0, 0, -1, 1)")
    positive = add("Activation", "positive", [x], act_type="relu")
    negative = add("elemwise_sub", "negative", [x, positive])
    weight = add("Reshape", "weight", [a], shape="(-1, 1, 1, 1)")
    if slope != (data[1],):
        weight = add("broadcast_axis", "weights", [weight], axis="0", size=channels)
    # not a convolution: bound for inference, oneDNN would keep the first weight it is given, this being no variable
    layer = {"kernel": "(1, 1)", "num_filter": channels, "num_group": channels, "no_bias": "True"}
    product = add("Deconvolution", "product", [negative, weight], **layer)
    total = nodes.add("elemwise_add", node["name"] if is_map else f"{node['name']}_cpu_sum", [positive, product], node)
    if not is_map:
        nodes.add("reshape_like", node["name"], [total, node["inputs"][0]], node)
