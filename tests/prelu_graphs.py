"""Parts of networks with PReLU, as the networks have it and by its formula, for the tests of the rewritten graphs."""

import json

from insightface_mx.base.compat import mx

SLOPES = (-0.5, 0.25, 1.0, 1.75, 0.0)


def prelu(data, name, slope=None):
    return mx.sym.LeakyReLU(data, **({} if slope is None else {"gamma": slope}), act_type="prelu", name=name)


def formula(dims):
    """PReLU of data with `dims` axes, by operators that MXNet computes correctly, in place or not."""

    def build(data, name, slope=None):
        slope = mx.sym.Variable(f"{name}_gamma") if slope is None else slope
        slope = mx.sym.reshape(slope, shape=(1, -1, *[1] * (dims - 2)))
        return mx.sym.where(data > 0, data, mx.sym.broadcast_mul(data, slope))

    return build


def convolution(data, name, channels, **options):
    # no bias: before a batch norm its gradient is zero except for rounding
    return mx.sym.Convolution(data, num_filter=channels, kernel=(3, 3), pad=(1, 1), no_bias=True, name=name, **options)


def network_with_a_global_convolution(groups):
    """A network that ends as MobileFaceNet does, with a fully connected layer on a 1x1 map."""
    body = prelu(mx.sym.BatchNorm(convolution(mx.sym.Variable("data"), "c0", 16), name="bn0"), "p0")
    body = mx.sym.Convolution(body, num_filter=16, kernel=(7, 7), num_group=groups, no_bias=True, name="c1")
    body = mx.sym.BatchNorm(body, fix_gamma=False, name="bn1")
    return mx.sym.FullyConnected(body, num_hidden=128, name="fc")


def operators(symbol):
    return [node["op"] for node in json.loads(symbol.tojson())["nodes"]]
