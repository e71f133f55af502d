"""NASNet-A large (Zoph et al., arXiv 1707.07012): n.

Its layers come from Gluon, which numbers them by kind as they are made (conv17, batchnorm9): the order of the calls
below is part of every checkpoint.
"""

from insightface_mx.base.compat import mx
from insightface_mx.symbols import layers
from insightface_mx.symbols.symbol_utils import get_fc1
from insightface_mx.symbols.variants import family

nn = mx.gluon.nn
STEM_FILTERS = 96
STAGES = (168, 336, 672)  # filters of each branch of the cells
NORMAL_CELLS = 5  # in a stage, after its first cell
ZEROS = {"mode": "constant", "constant_value": 0}
WITHOUT_FIRST = {"begin": (None, None, 1, 1), "end": (None, None, None, None)}  # row and column


@family
def get_symbol(num_classes, *, version_output="E"):
    """Build NASNet-A large whose embedding has num_classes numbers.

    Input N x 3 x H x W, RGB of 0..255. version_output: a head of symbol_utils.HEADS.
    """
    with mx.name.NameManager() as names:  # the layers' numbers start anew, whatever was built before
        body = _cells(layers.scale_pixels(mx.sym.Variable("data")), names)
        names.get(None, "dropout")  # number 0 was a dropout that led nowhere
        return get_fc1(body, num_classes, version_output)


def _cells(data, names):
    """All the cells; each looks at the one before it and at the one before that."""
    stem = _bn(nn.Conv2D(STEM_FILTERS, 3, use_bias=False)(data))
    cell, filters = mx.name.Prefix("cellstem00_"), STAGES[0] // 4
    before = _reduction(_projected(stem, filters), stem, filters, cell, other_filters=STEM_FILTERS)
    cell, filters = mx.name.Prefix("cellstem10_"), STAGES[0] // 2
    last = _projected(before, filters)
    last = _reduction(last, _halved(stem, filters, cell), filters, cell)
    for stage, filters in enumerate(STAGES):
        if stage:
            cell = mx.name.Prefix(f"reductioncell{stage - 1}0_")
            other, main = _projected(before, filters), _projected(last, filters)
            last = _reduction(main, other, filters, cell, pad_names=names if stage == 1 else None)
        cell = mx.name.Prefix(f"firstcell{stage}_")
        main, other = _projected(last, filters), _halved(before, filters, cell)
        before, last = last, _normal(main, other, filters, cell)
        for i in range(NORMAL_CELLS):
            cell = mx.name.Prefix(f"normalcell{NORMAL_CELLS * stage + i}_")
            other, main = _projected(before, filters), _projected(last, filters)
            before, last = last, _normal(main, other, filters, cell)
    return last


def _normal(main, other, filters, cell):
    """The normal cell of the paper's figure 4: `main` comes from the last cell, `other` from the one before it."""
    sums = [
        _sum(cell, _separable(main, filters, 5), _separable(other, filters, 3)),
        _sum(cell, _separable(other, filters, 5), _separable(other, filters, 3)),
        _sum(cell, _average(main), other),
        _sum(cell, _average(other), _average(other)),
        _sum(cell, _separable(main, filters, 3), main),
    ]
    return mx.sym.Concat(other, *sums, dim=1, name=cell.get(None, "concat"))


def _reduction(main, other, filters, cell, pad_names=None, other_filters=None):
    """The reduction cell of the paper's figure 4, which halves the map.

    pad_names: names the paddings where the layers work on maps with a row and a column of zeros before the first.
    other_filters: channels of `other`, where they are not `filters`.
    """
    halving = {"stride": 2, "pad_names": pad_names, "inner": other_filters or filters}
    sum0 = _sum(cell, _separable(main, filters, 5, 2, pad_names), _separable(other, filters, 7, **halving))
    sum1 = _sum(cell, _max(main, pad_names), _separable(other, filters, 7, **halving))
    sum2 = _sum(cell, _average(main, 2, pad_names), _separable(other, filters, 5, **halving))
    sum3 = _sum(cell, _average(sum0), sum1)
    sum4 = _sum(cell, _separable(sum0, filters, 3, 1, pad_names), _max(main, pad_names))
    return mx.sym.Concat(sum1, sum2, sum3, sum4, dim=1, name=cell.get(None, "concat"))


def _projected(data, filters):
    return _bn(_conv(filters, 1)(_relu(data)))


def _halved(data, filters, cell):
    """Halve the map: half of the filters see every second pixel, the others the pixels in between."""
    data = _relu(data)
    between = mx.sym.Pad(data, pad_width=(0, 0, 0, 0, 0, 1, 0, 1), name=cell.get(None, "pad"), **ZEROS)
    between = mx.sym.slice(between, name=cell.get(None, "slice"), **WITHOUT_FIRST)
    halves = [_conv(filters // 2, 1)(nn.AvgPool2D(1, 2)(pixels)) for pixels in (data, between)]
    return _bn(mx.sym.Concat(*halves, dim=1, name=cell.get(None, "concat")))


def _separable(data, filters, kernel, stride=1, pad_names=None, inner=None):
    """Twice ReLU, depthwise convolution, 1x1 convolution, batch norm; `inner`: channels of data, default `filters`."""
    inner = inner or filters
    entry = [_conv(inner, kernel, stride, groups=inner), _conv(filters, 1)]
    rest = [_conv(filters, kernel, groups=filters), _conv(filters, 1)]
    body = _bn(_through(entry, _relu(data), "branchseparablesreduction", pad_names))
    return _bn(_through(rest, _relu(body)))


def _max(data, pad_names):
    return _through([nn.MaxPool2D(3, 2, 1)], data, "maxpoolpad", pad_names)


def _average(data, stride=1, pad_names=None):
    return _through([nn.AvgPool2D(3, stride, 1)], data, "avgpoolpad", pad_names)


def _through(blocks, data, hint=None, pad_names=None):
    """Apply the blocks in turn, where pad_names is given to a padded map, and drop the first row and column again."""
    name = pad_names and pad_names.get(None, hint)
    if name:
        data = mx.sym.Pad(data, pad_width=(0, 0, 0, 0, 1, 0, 1, 0), name=f"{name}_pad0", **ZEROS)
    for block in blocks:
        data = block(data)
    return mx.sym.slice(data, name=f"{name}_slice0", **WITHOUT_FIRST) if name else data


def _sum(cell, left, right):
    return mx.sym.elemwise_add(left, right, name=cell.get(None, "_plus"))


def _conv(channels, kernel, stride=1, **groups):
    return nn.Conv2D(channels, kernel, stride, kernel // 2, use_bias=False, **groups)


def _bn(data):
    return nn.BatchNorm(momentum=0.1, epsilon=0.001)(data)


def _relu(data):
    return nn.Activation("relu")(data)
