"""PReLU in the forms that are fast on a CPU: y = x > 0 ? x : a x, a slope a channel (He et al., arXiv 1502.01852).

MXNet 1.9.1 computes LeakyReLU(act_type='prelu') in one thread, number by number: 49 % of an r50's training step and
90 % of a y1's. Two equal forms are faster; a step at batch 16 on two processors is so many times as fast:

    compiled   the operator of prelu_op.cc, which uses every processor                       y1 5.6   r50 1.87
    layers     y = a x + (1 - a) relu(x), both products depthwise 1x1 convolutions           y1 5.0   r50 1.90

The layers stay in the layout that oneDNN's convolutions work in, which also saves memory: r50 takes 0.8 of the plain
graph's. Beside depthwise convolutions, though, the operator is faster.

Both also give the slope's gradient where MXNet does not: where it lets the gradient of x overwrite that of y, which
depends on the nodes around, its own kernel reads the overwritten one, and da comes out multiplied by a.

For inference the layers' weights are made from the slopes beforehand, and where no slope is above 1 the second product
is relu((1 - a) x), which oneDNN joins into one layer.
"""

import functools
import logging

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.engine import prelu_library as native

FORMS = {"compiled": "the compiled operator", "layers": "layers of oneDNN"}


def trained(nodes, known, form):
    """Dict node number -> function(nodes, node) that puts a form with a gradient in the place of a PReLU.

    nodes: of a symbol's JSON. known: dict output name -> shape. form: one of FORMS, or None for the faster one.
    """
    prelus = _float32_prelus(nodes)
    return _trained(prelus, nodes, known, form, len(prelus))


def fixed(nodes, known, params, weights):
    """Dict node number -> function(nodes, node) that puts a form for inference in the place of a PReLU.

    params: dict name -> NDArray, with the slopes. weights: dict to which the layers' weights are added when they are
    put there, name -> numpy array.
    """
    prelus = _float32_prelus(nodes)
    layers = _fixed_layers(prelus, nodes, known, params, weights)
    rest = [number for number in prelus if number not in layers]
    return {**layers, **_trained(rest, nodes, known, None, len(prelus))}


def _trained(prelus, nodes, known, form, total):
    """What `trained` returns, for some of the network's PReLUs, of which there are `total`."""
    forms, because = _chosen_forms(prelus, nodes, known, form)
    replacements = {}
    for name, place in (("compiled", _compiled), ("layers", _trained_layers)):
        wanted = [number for number in prelus if forms[number] == name]
        found = place(wanted, nodes, known)
        if wanted:
            _log(found, total, name, because)
        replacements.update(found)
    return replacements


def _chosen_forms(prelus, nodes, known, form):
    """Dict node number -> name of the form, and for the log the reason if that is second best."""
    if form:
        forms = dict.fromkeys(prelus, form)
    else:
        possible = {number for number in prelus if _may_be_layers(number, nodes, known)}
        away = possible - _beside_depthwise(nodes)
        forms = {number: "layers" if number in away else "compiled" for number in prelus}
    problem = native.problem() if "compiled" in forms.values() else ""
    if not problem:
        return forms, ""
    if form:
        raise UserError(f"no compiled PReLU: {problem}; install g++, or choose the form 'layers'")
    return dict.fromkeys(prelus, "layers"), f" (no compiled operator: {problem})"


def _may_be_layers(number, nodes, known):
    """Whether a PReLU is on a map of known shape, and its slope a variable of known shape."""
    return len(_data_shape(number, nodes, known)) == 4 and bool(known.get(_slope_name(number, nodes)))


def _data_shape(number, nodes, known):
    return known[f"{nodes[number]['name']}_output"]


def _slope_name(number, nodes):
    return nodes[nodes[number]["inputs"][1][0]]["name"]


def _beside_depthwise(nodes):
    """Numbers of the nodes next to a depthwise convolution, or to the batch norm behind it."""
    depthwise = {
        number
        for number, node in enumerate(nodes)
        if node["op"] == "Convolution" and node["attrs"].get("num_group", "1") == node["attrs"]["num_filter"] != "1"
    }
    norms = {number for number, node in enumerate(nodes) if node["op"] == "BatchNorm" and _source(node) in depthwise}
    after = {number for number, node in enumerate(nodes) if node["inputs"] and _source(node) in depthwise | norms}
    return after | {_source(nodes[number]) for number in depthwise}


def _source(node):
    """Number of the node that gives another its first input."""
    return node["inputs"][0][0]


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


def _log(found, total, form, because=""):
    _log_once(f"CPU rewrite: {len(found)} of {total} PReLU as {FORMS[form]}{because}")


@functools.lru_cache(maxsize=None)
def _log_once(line):
    """Log a line, unless this process has logged it before: networks are bound over and over."""
    logging.info(line)


def _compiled(prelus, nodes, known):
    return dict.fromkeys(prelus, _put_compiled)


def _trained_layers(prelus, nodes, known):
    """Dict node number -> function that puts the form `layers` there, for what has known shapes."""
    replacements = {}
    for number in prelus:
        data = _data_shape(number, nodes, known)
        slope = known.get(_slope_name(number, nodes))
        if len(data) > 1 and slope:
            replacements[number] = functools.partial(_put_trained_layers, data=data, slope=slope)
    return replacements


def _fixed_layers(prelus, nodes, known, params, weights):
    """Dict node number -> function that puts the form for inference there, and its weights into the dict `weights`."""
    replacements = {}
    for number in prelus:
        data = _data_shape(number, nodes, known)
        slope = _slope_name(number, nodes)
        if len(data) == 4 and slope in params:
            slopes = np.resize(params[slope].asnumpy(), data[1])
            replacements[number] = functools.partial(_put_fixed_layers, slopes=slopes, weights=weights)
    if replacements:
        _log(replacements, len(prelus), "layers")
    return replacements


def _put_compiled(nodes, node):
    # An external operator is not told whether its gradient is to be written or added: what is put before it sees to
    # that. The attribute keeps MXNet from making one of several. The Reshape, to the same shape, takes the data out of
    # oneDNN's layout besides, once for forward and backward pass.
    data, slope = node["inputs"]
    apart = {"__copied_for__": node["name"]}
    inputs = [
        nodes.add("Reshape", f"{node['name']}_cpu_data", [data], node, shape="(-2,)", **apart),
        nodes.add("_copy", f"{node['name']}_cpu_slope", [slope], node, **apart),
    ]
    nodes.add("_insightface_prelu", node["name"], inputs, node)


class _Layers:
    """The nodes of the form `layers`, added under the name of the PReLU `node` whose work they do together."""

    def __init__(self, nodes, node, channels):
        self._nodes, self._node, self._channels = nodes, node, str(channels)

    def add(self, op, what, inputs, **attrs):
        return self._nodes.add(op, f"{self._node['name']}_cpu_{what}", inputs, self._node, **attrs)

    def product(self, what, x, weight):
        layer = {"kernel": "(1, 1)", "num_filter": self._channels, "num_group": self._channels, "no_bias": "True"}
        return self.add("Convolution", what, [x, weight], **layer)

    def positive(self, x):
        return self.add("Activation", "positive", [x], act_type="relu")


def _put_trained_layers(nodes, node, data, slope):
    """a x + (1 - a) relu(x), on a map N x C x H x W that x is made if it is none; data and slope are the shapes."""
    (x, a), is_map, layers = node["inputs"], len(data) == 4, _Layers(nodes, node, data[1])
    nodes[a[0]]["attrs"]["__shape__"] = str(slope)  # MXNet cannot infer it through the Reshape
    if not is_map:
        x = layers.add("Reshape", "map", [x], shape="(0, 0, -1, 1)")
    whole = layers.add("Reshape", "whole_weight", [a], shape="(-1, 1, 1, 1)")
    if slope != (data[1],):
        whole = layers.add("broadcast_axis", "whole_weights", [whole], axis="0", size=str(data[1]))
    rest = layers.add("_rminus_scalar", "rest_weight", [whole], scalar="1")
    terms = [layers.product("whole", x, whole), layers.product("rest", layers.positive(x), rest)]
    total = nodes.add("elemwise_add", node["name"] if is_map else f"{node['name']}_cpu_sum", terms, node)
    if not is_map:
        nodes.add("reshape_like", node["name"], [total, node["inputs"][0]], node)


def _put_fixed_layers(nodes, node, slopes, weights):
    """The same on a map, with weights that are made from the slopes, one a channel, and put into the dict `weights`."""
    x, layers = node["inputs"][0], _Layers(nodes, node, len(slopes))

    def weight(what, values):
        weights[f"{node['name']}_cpu_{what}_weight"] = values.reshape(-1, 1, 1, 1)
        return layers.add("null", f"{what}_weight", [])

    rest = weight("rest", 1 - slopes)
    if slopes.max() > 1:
        positive = layers.product("rest", layers.positive(x), rest)
    else:
        positive = layers.positive(layers.product("rest", x, rest))
    nodes.add("elemwise_add", node["name"], [layers.product("whole", x, weight("whole", slopes)), positive], node)
