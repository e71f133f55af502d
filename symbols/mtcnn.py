"""Build the networks of MTCNN (Zhang et al., arXiv 1604.02878): P proposes, R refines, O gives face and landmarks.

L, which the paper does not have, looks at the patch around each landmark and corrects the landmark. Names are those of
the checkpoints det1 to det4. The input is N x 3 x H x W, BGR, mapped to -1..1. The last output of P, R and O is the
softmax of (no face, face). A box's regression holds four fractions of its width and height: left, top, right, bottom.
"""

from __future__ import annotations

from insightface_mx.base.compat import Symbol, mx
from insightface_mx.symbols.parts import layers

LANDMARKS = 5


def p_net() -> Symbol:
    """Build P: boxes of 12x12 every 2 pixels of an image; outputs regression N x 4 x h x w, softmax N x 2 x h x w."""
    body = _conv(mx.sym.Variable("data"), "1", 10, 3)
    body = _pool(body, "1", 2)
    body = _conv(body, "2", 16, 3)
    body = _conv(body, "3", 32, 3)
    regression = mx.sym.Convolution(body, num_filter=4, kernel=(1, 1), name="conv4_2")
    face = mx.sym.Convolution(body, num_filter=2, kernel=(1, 1), name="conv4_1")
    return mx.sym.Group([regression, mx.sym.softmax(face, axis=1, name="prob1")])


def r_net() -> Symbol:
    """Build R: crops of 24x24; outputs regression N x 4, softmax N x 2."""
    body = _dense(_trunk24(mx.sym.Variable("data"), ""), "conv4", "prelu4", 128)
    regression = mx.sym.FullyConnected(body, num_hidden=4, name="conv5_2")
    face = mx.sym.FullyConnected(body, num_hidden=2, name="conv5_1")
    return mx.sym.Group([regression, mx.sym.softmax(face, axis=1, name="prob1")])


def o_net() -> Symbol:
    """Build O: crops of 48x48; outputs landmarks N x 10, regression N x 4, softmax N x 2.

    The landmarks are x1..x5 and y1..y5, in fractions of the box.
    """
    body = mx.sym.Variable("data")
    for suffix, num_filter, pool in (("1", 32, 3), ("2", 64, 3), ("3", 64, 2)):
        body = _pool(_conv(body, suffix, num_filter, 3), suffix, pool)
    body = _dense(_conv(body, "4", 128, 2), "conv5", "prelu5", 256)
    landmarks = mx.sym.FullyConnected(body, num_hidden=2 * LANDMARKS, name="conv6_3")
    regression = mx.sym.FullyConnected(body, num_hidden=4, name="conv6_2")
    face = mx.sym.FullyConnected(body, num_hidden=2, name="conv6_1")
    return mx.sym.Group([landmarks, regression, mx.sym.softmax(face, axis=1, name="prob1")])


def l_net() -> Symbol:
    """Build L: patches of 24x24 around five landmarks, N x 15 x 24 x 24; outputs five times N x 2, x and y in one."""
    patches = mx.sym.SliceChannel(mx.sym.Variable("data"), num_outputs=LANDMARKS, axis=1, name="slice")
    trunks = [_trunk24(patches[i], f"_{i + 1}") for i in range(LANDMARKS)]
    body = _dense(mx.sym.Concat(*trunks, dim=1, name="concat"), "fc4", "prelu4", 256)
    return mx.sym.Group([_place(body, f"_{i + 1}") for i in range(LANDMARKS)])


def _trunk24(data: Symbol, suffix: str) -> Symbol:
    """Build the convolutions of R, which L has once for each landmark."""
    body = _pool(_conv(data, f"1{suffix}", 28, 3), f"1{suffix}", 3)
    body = _pool(_conv(body, f"2{suffix}", 48, 3), f"2{suffix}", 3)
    return _conv(body, f"3{suffix}", 64, 2)


def _place(body: Symbol, suffix: str) -> Symbol:
    hidden = _dense(body, f"fc4{suffix}", f"prelu4{suffix}", 64)
    return mx.sym.FullyConnected(hidden, num_hidden=2, name=f"fc5{suffix}")


def _conv(data: Symbol, suffix: str, num_filter: int, side: int) -> Symbol:
    conv = mx.sym.Convolution(data, num_filter=num_filter, kernel=(side, side), name=f"conv{suffix}")
    return layers.activation(conv, "prelu", f"prelu{suffix}")


def _dense(data: Symbol, name: str, act_name: str, num_hidden: int) -> Symbol:
    return layers.activation(mx.sym.FullyConnected(data, num_hidden=num_hidden, name=name), "prelu", act_name)


def _pool(data: Symbol, suffix: str, side: int) -> Symbol:
    """Take the maximum of side x side pixels every 2 pixels; 'full' includes incomplete windows at the edge."""
    attrs = {"kernel": (side, side), "stride": (2, 2), "pool_type": "max", "pooling_convention": "full"}
    return mx.sym.Pooling(data, name=f"pool{suffix}", **attrs)
