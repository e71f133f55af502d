"""Build the layers that several networks share; their names and attributes are part of every checkpoint."""

from __future__ import annotations

from typing import Any, Tuple

from insightface_mx.base.compat import Symbol, mx
from insightface_mx.symbols.parts.variants import choose

Pair = Tuple[int, int]  # vertical and horizontal, in pixels of a map
Pixels = Any  # a Symbol or an array

ACTIVATIONS = {
    "prelu": mx.sym.LeakyReLU,  # one slope a channel, starting at 0.25
    **dict.fromkeys(("relu", "sigmoid", "softrelu", "softsign", "tanh"), mx.sym.Activation),
}


def scale_pixels(data: Pixels) -> Pixels:
    """Map pixels of 0..255 to about -1..1."""
    return (data - 127.5) * 0.0078125


def activation(data: Symbol, act_type: str, name: str) -> Symbol:
    """Apply one of ACTIVATIONS; raise ValueError for another act_type."""
    operator = choose("version_act", act_type, ACTIVATIONS)
    return operator(data, act_type=act_type, name=name)


def batch_norm(data: Symbol, name: str, momentum: float, fix_gamma: bool = False) -> Symbol:
    """Apply batch norm with the eps of 2e-5 that most of the networks use."""
    return mx.sym.BatchNorm(data, fix_gamma=fix_gamma, eps=2e-5, momentum=momentum, name=name)


def global_average(data: Symbol, name: str | None = None) -> Symbol:
    """Average over the map: N x C x H x W to N x C x 1 x 1."""
    # MXNet requires a kernel, although global_pool ignores it
    return mx.sym.Pooling(data, global_pool=True, kernel=(7, 7), pool_type="avg", name=name)


def squeeze_excite(data: Symbol, num_filter: int, act_type: str, name: str, workspace: int) -> Symbol:
    """Multiply each channel by a weight computed from all channels' averages (Hu et al., arXiv 1709.01507).

    Args:
        data: N x num_filter x H x W.
        num_filter: Number of channels; a sixteenth of it between the two convolutions.
        act_type: The activation between the two, one of ACTIVATIONS.
        name: Prefix of the operators' names.
        workspace: MB for a convolution.
    """
    attrs = {"kernel": (1, 1), "stride": (1, 1), "pad": (0, 0), "workspace": workspace}
    body = global_average(data, f"{name}_se_pool1")
    body = mx.sym.Convolution(body, num_filter=num_filter // 16, name=f"{name}_se_conv1", **attrs)
    body = activation(body, act_type, f"{name}_se_relu1")
    body = mx.sym.Convolution(body, num_filter=num_filter, name=f"{name}_se_conv2", **attrs)
    return mx.sym.broadcast_mul(data, activation(body, "sigmoid", f"{name}_se_sigmoid"))


def linear(
    data: Symbol,
    name: str,
    num_filter: int,
    norm: dict[str, Any],
    kernel: Pair = (1, 1),
    stride: Pair = (1, 1),
    pad: Pair = (0, 0),
    num_group: int = 1,
) -> Symbol:
    """Apply a convolution and batch norm; `norm` holds the batch norm's attributes, its eps stays at MXNet's 1e-3."""
    attrs = {"kernel": kernel, "stride": stride, "pad": pad, "num_group": num_group, "no_bias": True}
    conv = mx.sym.Convolution(data, num_filter=num_filter, name=f"{name}_conv2d", **attrs)
    return mx.sym.BatchNorm(conv, name=f"{name}_batchnorm", **norm)


def conv_bn_act(
    data: Symbol, name: str, num_filter: int, norm: dict[str, Any], act_type: str = "prelu", **attrs: Any
) -> Symbol:
    """Apply `linear` with the same arguments, then one of ACTIVATIONS."""
    return activation(linear(data, name, num_filter, norm, **attrs), act_type, f"{name}_relu")
