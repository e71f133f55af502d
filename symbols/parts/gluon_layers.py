"""Build layers of Gluon whose names are numbered as Gluon numbers those of a block, which checkpoints hold."""

from __future__ import annotations

from collections import Counter
from typing import Any

from insightface_mx.base.compat import Symbol, mx
from insightface_mx.symbols.parts import layers
from insightface_mx.symbols.parts.variants import choose

nn = mx.gluon.nn


class Block:
    """Names the layers of a Gluon block: prefix, kind of layer, and how many of that kind came before it."""

    def __init__(self, prefix: str) -> None:
        """Start a block; `prefix` ends with _."""
        self._prefix = prefix
        self._count: Counter[str] = Counter()

    def name(self, kind: str) -> str:
        """Return the next name of a layer of this kind."""
        number = self._count[kind]
        self._count[kind] += 1
        return f"{self._prefix}{kind}{number}"

    def conv(self, data: Symbol, channels: int, kernel: int, **attrs: Any) -> Symbol:
        """Apply a convolution without bias that keeps the map's size but for its strides."""
        layer = nn.Conv2D(
            channels, kernel, padding=kernel // 2, use_bias=False, prefix=f"{self.name('conv')}_", **attrs
        )
        return layer(data)

    def norm(self, data: Symbol) -> Symbol:
        """Apply Gluon's batch norm: eps 1e-5, momentum 0.9."""
        return nn.BatchNorm(prefix=f"{self.name('batchnorm')}_")(data)

    def act(self, data: Symbol, act_type: str) -> Symbol:
        """Apply one of layers.ACTIVATIONS; Gluon's PReLU has one slope for all channels."""
        choose("version_act", act_type, layers.ACTIVATIONS)
        prefix = f"{self.name(act_type)}_"
        return nn.PReLU(prefix=prefix)(data) if act_type == "prelu" else nn.Activation(act_type, prefix=prefix)(data)

    def conv_norm_act(self, data: Symbol, channels: int, kernel: int, act_type: str, **attrs: Any) -> Symbol:
        """Apply `conv`, `norm` and `act`."""
        return self.act(self.norm(self.conv(data, channels, kernel, **attrs)), act_type)
