"""Build NASNet-A large (Zoph et al., arXiv 1707.07012): n.

Its layers come from Gluon, which counts the layers of each kind and names them conv0, conv1, batchnorm0 and so on. The
order of the calls below is therefore part of every checkpoint.
"""

from __future__ import annotations

from typing import Any

from insightface_mx.base.compat import Symbol, mx
from insightface_mx.symbols.parts import layers
from insightface_mx.symbols.parts.symbol_utils import get_fc1
from insightface_mx.symbols.parts.variants import network_builder

nn = mx.gluon.nn
Layer = Any  # a Gluon layer
Names = Any  # an MXNet NameManager
STEM_FILTERS = 96
STAGES = (168, 336, 672)  # filters of each branch of the cells
NORMAL_CELLS = 5  # in a stage, after its first cell
ZEROS = {"mode": "constant", "constant_value": 0}
WITHOUT_FIRST = {"begin": (None, None, 1, 1), "end": (None, None, None, None)}  # row and column


@network_builder
def get_symbol(num_classes: int, *, version_output: str = "E") -> Symbol:
    """Build NASNet-A large, whose input is N x 3 x H x W, RGB of 0..255.

    Args:
        num_classes: Length of the embedding.
        version_output: The output layers, one of symbol_utils.HEADS.
    """
    with mx.name.NameManager() as names:  # every call counts the layers from 0
        body = _cells(layers.scale_pixels(mx.sym.Variable("data")), names)
        names.get(None, "dropout")  # consume the name dropout0, an unused layer of the original
        return get_fc1(body, num_classes, version_output)


def _cells(data: Symbol, names: Names) -> Symbol:
    """Build all cells; each one's inputs are the outputs of the last two cells before it."""
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


def _normal(main: Symbol, other: Symbol, filters: int, cell: Names) -> Symbol:
    """Build the normal cell of the paper's figure 4: `main` comes from the last cell, `other` from the one before."""
    sums = [
        _sum(cell, _separable(main, filters, 5), _separable(other, filters, 3)),
        _sum(cell, _separable(other, filters, 5), _separable(other, filters, 3)),
        _sum(cell, _average(main), other),
        _sum(cell, _average(other), _average(other)),
        _sum(cell, _separable(main, filters, 3), main),
    ]
    return mx.sym.Concat(other, *sums, dim=1, name=cell.get(None, "concat"))


def _reduction(
    main: Symbol,
    other: Symbol,
    filters: int,
    cell: Names,
    pad_names: Names | None = None,
    other_filters: int | None = None,
) -> Symbol:
    """Build the reduction cell of the paper's figure 4, which halves the map.

    Args:
        main: Comes from the last cell.
        other: Comes from the cell before it.
        filters: Of each branch.
        cell: Names the operators.
        pad_names: If given, layers see maps with a row and a column of zeros before the first, and this names the
            paddings.
        other_filters: Channels of `other`; None: `filters`.
    """
    halving: dict[str, Any] = {"stride": 2, "pad_names": pad_names, "inner": other_filters or filters}
    sum0 = _sum(cell, _separable(main, filters, 5, 2, pad_names), _separable(other, filters, 7, **halving))
    sum1 = _sum(cell, _max(main, pad_names), _separable(other, filters, 7, **halving))
    sum2 = _sum(cell, _average(main, 2, pad_names), _separable(other, filters, 5, **halving))
    sum3 = _sum(cell, _average(sum0), sum1)
    sum4 = _sum(cell, _separable(sum0, filters, 3, 1, pad_names), _max(main, pad_names))
    return mx.sym.Concat(sum1, sum2, sum3, sum4, dim=1, name=cell.get(None, "concat"))


def _projected(data: Symbol, filters: int) -> Symbol:
    return _bn(_conv(filters, 1)(_relu(data)))


def _halved(data: Symbol, filters: int, cell: Names) -> Symbol:
    """Halve the map: half of the filters see every second pixel, the other half the pixels between them."""
    data = _relu(data)
    between = mx.sym.Pad(data, pad_width=(0, 0, 0, 0, 0, 1, 0, 1), name=cell.get(None, "pad"), **ZEROS)
    between = mx.sym.slice(between, name=cell.get(None, "slice"), **WITHOUT_FIRST)
    halves = [_conv(filters // 2, 1)(nn.AvgPool2D(1, 2)(pixels)) for pixels in (data, between)]
    return _bn(mx.sym.Concat(*halves, dim=1, name=cell.get(None, "concat")))


def _separable(
    data: Symbol,
    filters: int,
    kernel: int,
    stride: int = 1,
    pad_names: Names | None = None,
    inner: int | None = None,
) -> Symbol:
    """Apply ReLU, depthwise convolution, 1x1 convolution and batch norm, twice.

    inner: channels of data; None: `filters`.
    """
    inner = inner or filters
    entry = [_conv(inner, kernel, stride, groups=inner), _conv(filters, 1)]
    rest = [_conv(filters, kernel, groups=filters), _conv(filters, 1)]
    body = _bn(_through(entry, _relu(data), "branchseparablesreduction", pad_names))
    return _bn(_through(rest, _relu(body)))


def _max(data: Symbol, pad_names: Names | None) -> Symbol:
    return _through([nn.MaxPool2D(3, 2, 1)], data, "maxpoolpad", pad_names)


def _average(data: Symbol, stride: int = 1, pad_names: Names | None = None) -> Symbol:
    return _through([nn.AvgPool2D(3, stride, 1)], data, "avgpoolpad", pad_names)


def _through(blocks: list[Layer], data: Symbol, hint: str | None = None, pad_names: Names | None = None) -> Symbol:
    """Apply the layers in turn; with pad_names to a padded map, whose first row and column are removed afterwards."""
    name = pad_names.get(None, hint) if pad_names else None
    if name:
        data = mx.sym.Pad(data, pad_width=(0, 0, 0, 0, 1, 0, 1, 0), name=f"{name}_pad0", **ZEROS)
    for block in blocks:
        data = block(data)
    if name:
        data = mx.sym.slice(data, name=f"{name}_slice0", **WITHOUT_FIRST)
    return data


def _sum(cell: Names, left: Symbol, right: Symbol) -> Symbol:
    return mx.sym.elemwise_add(left, right, name=cell.get(None, "_plus"))


def _conv(channels: int, kernel: int, stride: int = 1, **groups: int) -> Layer:
    return nn.Conv2D(channels, kernel, stride, kernel // 2, use_bias=False, **groups)


def _bn(data: Symbol) -> Symbol:
    return nn.BatchNorm(momentum=0.1, epsilon=0.001)(data)


def _relu(data: Symbol) -> Symbol:
    return nn.Activation("relu")(data)
