"""What version_input means outside `fresnet`, and the first layers that DenseNet and DPN share."""

from insightface_mx.base.compat import mx
from insightface_mx.symbols import fresnet, layers
from insightface_mx.symbols.variants import pick

MOST_FILTERS = 64  # on a map as large as the image


def for_imagenet(version_input):
    """Tell whether the first layers are to shrink the map as for large images: 0 yes, 1 no, 2 (`fresnet`'s) as 1.

    Another version_input raises ValueError.
    """
    return pick("version_input", version_input, {0: True, 1: False, 2: False})


def get_head(version_input, num_filter, bn_mom):
    """Take images `data`, N x 3 x H x W, RGB of 0..255, to a feature map.

    version_input, of for_imagenet: 0 for a 7x7/2 convolution of num_filter and a pooling, to a quarter of the image's
    size; 1 or 2 for a 3x3 convolution and an IR unit of at most MOST_FILTERS, to half of it.
    """
    if for_imagenet(version_input):
        body = _conv_bn_act(num_filter, kernel=(7, 7), stride=(2, 2), pad=(3, 3), bn_mom=bn_mom)
        return mx.sym.Pooling(body, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max")
    num_filter = min(num_filter, MOST_FILTERS)
    body = _conv_bn_act(num_filter, kernel=(3, 3), stride=(1, 1), pad=(1, 1), bn_mom=bn_mom)
    return fresnet.residual_unit_v3(body, num_filter, (2, 2), False, "head", False, bn_mom=bn_mom)


def _conv_bn_act(num_filter, *, bn_mom, **attrs):
    data = layers.scale_pixels(mx.sym.Variable("data"))
    body = mx.sym.Convolution(data, num_filter=num_filter, no_bias=True, workspace=256, name="conv0", **attrs)
    return layers.activation(layers.batch_norm(body, "bn0", bn_mom), "prelu", "relu0")
