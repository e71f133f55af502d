"""arcface_torch's MobileFaceNet: a random state dict, and the ONNX file that PyTorch's exporter would write of it."""

from __future__ import annotations

import numpy as np
from iresnet_files import State, Writer

MBF, MBF_LARGE = (1, 4, 6, 2), (2, 8, 12, 4)  # blocks of the Residuals: layers 1 (where 1 is a plain layer), 3, 5, 7


def widths(scale: int) -> list[tuple[int, int, int]]:
    """Return (channels before, inside, behind) of layers 1 to 7."""
    narrow, wide = 64 * scale, 128 * scale
    return [
        (narrow, 128, narrow),
        (narrow, 128, narrow),
        (narrow, 128, narrow),
        (narrow, 256, wide),
        (wide, 256, wide),
        (wide, 512, wide),
        (wide, 256, wide),
    ]


class _Builder:
    """Draws the parameters of each layer, and writes its nodes."""

    def __init__(self) -> None:
        self.random, self.state = np.random.RandomState(0), {}
        self.writer = Writer(self.state)

    def conv(self, data, name, outputs, inputs, kernel=1, stride=1, pad=0, groups=1, prelu=True):
        size = (outputs, inputs // groups, kernel, kernel)
        self.state[f"{name}.layers.0.weight"] = self.random.normal(0, np.sqrt(2 / np.prod(size[1:])), size)
        self._norm(f"{name}.layers.1", outputs)
        weight = self.writer.constant(self.state[f"{name}.layers.0.weight"])
        attrs = {"strides": [stride] * 2, "pads": [pad] * 4, "group": groups, "kernel_shape": [kernel] * 2}
        data = self.writer.norm(self.writer.add("Conv", data, weight, **attrs), f"{name}.layers.1")
        if not prelu:
            return data
        self.state[f"{name}.layers.2.weight"] = self.random.uniform(0.1, 0.4, outputs)
        return self.writer.prelu(data, f"{name}.layers.2")

    def block(self, data, name, before, inside, behind, stride):
        body = self.conv(data, f"{name}.layers.0", inside, before)
        body = self.conv(body, f"{name}.layers.1", inside, inside, 3, stride, 1, inside)
        return self.conv(body, f"{name}.layers.2", behind, inside, prelu=False)

    def features(self, data, emb_size):
        body = self.conv(data, "features.layers.0", 512, 512, 7, groups=512, prelu=False)
        body = self.writer.add("Flatten", body, axis=1)
        self.state["features.layers.2.weight"] = self.random.normal(0, 0.05, (emb_size, 512))
        body = self.writer.add("MatMul", body, self.writer.constant(self.state["features.layers.2.weight"].T))
        self._norm("features.layers.3", emb_size)
        return self.writer.norm(body, "features.layers.3")

    def _norm(self, name, channels):
        self.state[f"{name}.weight"] = self.random.uniform(0.5, 1.5, channels)
        self.state[f"{name}.bias"] = self.random.normal(0, 0.2, channels)
        self.state[f"{name}.running_mean"] = self.random.normal(0, 0.2, channels)
        self.state[f"{name}.running_var"] = self.random.uniform(0.5, 1.5, channels)


def write_mobilefacenet(path: str, scale: int = 2, emb_size: int = 32, blocks: tuple[int, ...] = MBF) -> State:
    """Write the ONNX file, and return the state dict."""
    builder = _Builder()
    narrow, wide = 64 * scale, 128 * scale
    body = builder.conv("input.1", "layers.0", narrow, 3, 3, 2, 1)
    for layer, (before, inside, behind) in enumerate(widths(scale), 1):
        if layer % 2 == 0:
            body = builder.block(body, f"layers.{layer}", before, inside, behind, 2)
        elif blocks[layer // 2] == 1:
            body = builder.conv(body, f"layers.{layer}", narrow, narrow, 3, 1, 1, groups=64)
        else:
            for index in range(blocks[layer // 2]):
                end = builder.block(body, f"layers.{layer}.layers.{index}", before, inside, behind, 1)
                body = builder.writer.add("Add", body, end)
    body = builder.conv(body, "conv_sep", 512, wide)
    builder.writer.save(path, builder.features(body, emb_size))
    return builder.state
