"""The pieces that the networks share; names and attributes are part of every checkpoint, so each is said once."""

from insightface_mx.base.compat import mx
from insightface_mx.symbols.variants import pick

ACTIVATIONS = {
    "prelu": mx.sym.LeakyReLU,  # one slope a channel, starting at 0.25
    **dict.fromkeys(("relu", "sigmoid", "softrelu", "softsign", "tanh"), mx.sym.Activation),
}


def scale_pixels(data):
    """Map pixels of 0..255 to about -1..1."""
    return (data - 127.5) * 0.0078125


def activation(data, act_type, name):
    """Apply one of ACTIVATIONS; others raise ValueError."""
    return pick("version_act", act_type, ACTIVATIONS)(data, act_type=act_type, name=name)


def batch_norm(data, name, momentum, fix_gamma=False):
    """Batch norm with the eps of 2e-5 that most of the networks use."""
    return mx.sym.BatchNorm(data, fix_gamma=fix_gamma, eps=2e-5, momentum=momentum, name=name)


def global_average(data, name=None):
    """Average over the map, N x C x H x W to N x C x 1 x 1."""
    # MXNet asks for a kernel even where global_pool makes it meaningless
    return mx.sym.Pooling(data, global_pool=True, kernel=(7, 7), pool_type="avg", name=name)


def squeeze_excite(data, num_filter, act_type, name, workspace):
    """Weigh the num_filter channels by what their averages say (Hu et al., arXiv 1709.01507, reduction 16)."""
    attrs = {"kernel": (1, 1), "stride": (1, 1), "pad": (0, 0), "workspace": workspace}
    body = global_average(data, f"{name}_se_pool1")
    body = mx.sym.Convolution(body, num_filter=num_filter // 16, name=f"{name}_se_conv1", **attrs)
    body = activation(body, act_type, f"{name}_se_relu1")
    body = mx.sym.Convolution(body, num_filter=num_filter, name=f"{name}_se_conv2", **attrs)
    return mx.sym.broadcast_mul(data, activation(body, "sigmoid", f"{name}_se_sigmoid"))


def linear(data, name, num_filter, norm, kernel=(1, 1), stride=(1, 1), pad=(0, 0), num_group=1):
    """Convolution and batch norm; `norm` holds the batch norm's attributes, its eps stays at MXNet's 1e-3."""
    attrs = {"kernel": kernel, "stride": stride, "pad": pad, "num_group": num_group, "no_bias": True}
    conv = mx.sym.Convolution(data, num_filter=num_filter, name=f"{name}_conv2d", **attrs)
    return mx.sym.BatchNorm(conv, name=f"{name}_batchnorm", **norm)


def conv_bn_act(data, name, num_filter, norm, **attrs):
    """A `linear` of the same arguments with a PReLU after it."""
    return activation(linear(data, name, num_filter, norm, **attrs), "prelu", f"{name}_relu")
