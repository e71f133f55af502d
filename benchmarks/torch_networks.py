"""PyTorch networks that are equal to the MXNet networks r18 to r100 and y1 with output E and ArcFace, to compare times.

Parameters are in the order of the MXNet symbol's, so that they can be copied one by one.
"""

from __future__ import annotations

import math
from typing import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from insightface_mx.base.compat import Params
from insightface_mx.symbols.fmobilefacenet import BLOCKS
from insightface_mx.symbols.fresnet import BASIC_FILTERS, UNITS


class IRUnit(nn.Module):
    """The residual unit v3 of fresnet.py: bn-conv-bn-act-conv-bn next to the shortcut."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.BatchNorm2d(channels, 2e-5),
            nn.Conv2d(channels, filters, 3, 1, 1, bias=False),
            nn.BatchNorm2d(filters, 2e-5),
            nn.PReLU(filters),
            nn.Conv2d(filters, filters, 3, stride, 1, bias=False),
            nn.BatchNorm2d(filters, 2e-5),
        )
        projection = [nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters, 2e-5)]
        self.shortcut = nn.Sequential(*(projection if stride > 1 else []))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the unit's output."""
        return self.branch(x) + self.shortcut(x)


class Bottleneck(nn.Module):
    """The unit of MobileFaceNet: widen, depthwise convolution, narrow; with a shortcut if `add`."""

    def __init__(self, channels: int, inner: int, filters: int, stride: int, add: bool) -> None:
        super().__init__()
        self.add = add
        self.branch = nn.Sequential(
            *_linear(channels, inner, 1),
            nn.PReLU(inner),
            *_linear(inner, inner, 3, stride, inner),
            nn.PReLU(inner),
            *_linear(inner, filters, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the unit's output."""
        return self.branch(x) + x if self.add else self.branch(x)


class Training(nn.Module):
    """A network for images of 0..255, its class weights, and the mean ArcFace loss (m = 0.5, s = 64) of a batch."""

    def __init__(self, network: str, classes: int, emb_size: int = 512) -> None:
        super().__init__()
        body = _mobilefacenet() if network == "y1" else _resnet(int(network[1:]))
        self.embedding = nn.Sequential(
            *body,
            nn.BatchNorm2d(512, 2e-5),
            nn.Dropout(0.4),
            nn.Flatten(),
            nn.Linear(512 * 7 * 7, emb_size),
            nn.BatchNorm1d(emb_size, 2e-5),
        )
        self.weight = nn.Parameter(torch.randn(classes, emb_size) * 0.01)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Return the embeddings (n, emb_size)."""
        return self.embedding((images - 127.5) * 0.0078125)

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the mean loss."""
        cosines = functional.linear(functional.normalize(self.embed(images)), functional.normalize(self.weight))
        cos_t = cosines.gather(1, labels[:, None])
        cos_of_sum = cos_t * math.cos(0.5) - (1 - cos_t * cos_t).clamp(min=1e-12).sqrt() * math.sin(0.5)
        target = torch.where(cos_t > math.cos(math.pi - 0.5), cos_of_sum, cos_t - 0.5 * math.sin(0.5))
        return functional.cross_entropy(64 * cosines.scatter(1, labels[:, None], target), labels)


def training_step(
    network: str, classes: int, images: np.ndarray, labels: np.ndarray, arg_params: Params, threads: int
) -> tuple[Training, Callable[[], None]]:
    """Return a Training, and a function that makes one step of it with SGD.

    Args:
        network: Letter and depth.
        classes: Number of classes.
        images: The batch (n, 3, height, width), of 0..255.
        labels: Its classes (n,).
        arg_params: Parameters of the MXNet Module, in the symbol's order.
        threads: CPU threads for PyTorch.

    Raises:
        ValueError: The parameters have other shapes than those of the Training.
    """
    torch.set_num_threads(threads)
    model = Training(network, classes)
    sources = [torch.from_numpy(array.asnumpy()) for array in arg_params.values()]
    targets = [model.embedding.get_parameter(name) for name, _ in model.embedding.named_parameters()] + [model.weight]
    if [tuple(target.shape) for target in targets] != [tuple(source.shape) for source in sources]:
        raise ValueError(f"{network} in PyTorch has other parameters than in MXNet")
    with torch.no_grad():
        for target, source in zip(targets, sources):
            target.copy_(source)
    optimizer = torch.optim.SGD(model.parameters(), 1e-4, momentum=0.9, weight_decay=5e-4)
    data, classes_of = torch.from_numpy(images), torch.from_numpy(labels)

    def step() -> None:
        optimizer.zero_grad()
        model(data, classes_of).backward()
        optimizer.step()

    return model, step


def embeddings(model: Training, images: np.ndarray) -> np.ndarray:
    """Return the embeddings of images in inference."""
    model.eval()
    with torch.no_grad():
        found = model.embed(torch.from_numpy(images)).numpy()
    model.train()
    return found


def _linear(
    channels: int, filters: int, kernel: int, stride: int = 1, groups: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """Return a convolution and a batch norm with MXNet's default eps."""
    convolution = nn.Conv2d(channels, filters, kernel, stride, kernel // 2, groups=groups, bias=False)
    return convolution, nn.BatchNorm2d(filters, 1e-3)


def _resnet(depth: int) -> list[nn.Module]:
    channels = 64
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64, 2e-5), nn.PReLU(64)]
    for units, filters in zip(UNITS[depth], BASIC_FILTERS):
        for unit in range(units):
            layers.append(IRUnit(channels, filters, 1 if unit else 2))
            channels = filters
    return layers


def _mobilefacenet() -> list[nn.Module]:
    layers: list[nn.Module] = [*_linear(3, 64, 3, 2), nn.PReLU(64), *_linear(64, 64, 3, 1, 64), nn.PReLU(64)]
    channels = 64
    stages = zip(BLOCKS[1][1:], (128, 256, 512), (64, 128, 128), (128, 256, 256))
    for blocks, inner_down, filters, inner in stages:
        layers.append(Bottleneck(channels, inner_down, filters, 2, add=False))
        layers += [Bottleneck(filters, inner, filters, 1, add=True) for _ in range(blocks)]
        channels = filters
    return [*layers, *_linear(channels, 512, 1), nn.PReLU(512)]
