"""PyTorch networks equal to the Modules that they are timed against: r18 to r100 and y1 with head E, and ArcFace.

Parameters are in the order of the MXNet symbol's, so that they can be copied one by one.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from insightface_mx.symbols.fmobilefacenet import BLOCKS
from insightface_mx.symbols.fresnet import BASIC_FILTERS, UNITS


class IRUnit(nn.Module):
    """fresnet's residual unit v3: bn-conv-bn-act-conv-bn beside the shortcut."""

    def __init__(self, channels, filters, stride):
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

    def forward(self, x):
        return self.branch(x) + self.shortcut(x)


class Bottleneck(nn.Module):
    """MobileFaceNet's: widen, convolve each channel by itself, narrow; residual where `add`."""

    def __init__(self, channels, inner, filters, stride, add):
        super().__init__()
        self.add = add
        self.branch = nn.Sequential(
            *_linear(channels, inner, 1),
            nn.PReLU(inner),
            *_linear(inner, inner, 3, stride, inner),
            nn.PReLU(inner),
            *_linear(inner, filters, 1),
        )

    def forward(self, x):
        return self.branch(x) + x if self.add else self.branch(x)


class Training(nn.Module):
    """A network of 0..255 images, its class weights, and the mean ArcFace loss (m = 0.5, s = 64) of a batch."""

    def __init__(self, network, classes, emb_size=512):
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

    def embed(self, images):
        return self.embedding((images - 127.5) * 0.0078125)

    def forward(self, images, labels):
        cosines = functional.linear(functional.normalize(self.embed(images)), functional.normalize(self.weight))
        cos_t = cosines.gather(1, labels[:, None])
        cos_of_sum = cos_t * math.cos(0.5) - (1 - cos_t * cos_t).clamp(min=1e-12).sqrt() * math.sin(0.5)
        target = torch.where(cos_t > math.cos(math.pi - 0.5), cos_of_sum, cos_t - 0.5 * math.sin(0.5))
        return functional.cross_entropy(64 * cosines.scatter(1, labels[:, None], target), labels)


def training_step(network, classes, images, labels, arg_params, threads):
    """A Training with the parameters of a Module (dict name -> NDArray, in the symbol's order), and its step with SGD.

    ValueError where their shapes are not those of the Training.
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
    images, labels = torch.from_numpy(images), torch.from_numpy(labels)

    def step():
        optimizer.zero_grad()
        model(images, labels).backward()
        optimizer.step()

    return model, step


def embeddings(model, images):
    """Embeddings of a Training in inference, numpy to numpy."""
    model.eval()
    with torch.no_grad():
        found = model.embed(torch.from_numpy(images)).numpy()
    model.train()
    return found


def _linear(channels, filters, kernel, stride=1, groups=1):
    """Convolution and batch norm, whose eps is MXNet's default here."""
    convolution = nn.Conv2d(channels, filters, kernel, stride, kernel // 2, groups=groups, bias=False)
    return convolution, nn.BatchNorm2d(filters, 1e-3)


def _resnet(depth):
    channels, layers = 64, [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64, 2e-5), nn.PReLU(64)]
    for units, filters in zip(UNITS[depth], BASIC_FILTERS):
        for unit in range(units):
            layers.append(IRUnit(channels, filters, 1 if unit else 2))
            channels = filters
    return layers


def _mobilefacenet():
    layers = [*_linear(3, 64, 3, 2), nn.PReLU(64), *_linear(64, 64, 3, 1, 64), nn.PReLU(64)]
    channels = 64
    stages = zip(BLOCKS[1][1:], (128, 256, 512), (64, 128, 128), (128, 256, 256))
    for blocks, inner_down, filters, inner in stages:
        layers.append(Bottleneck(channels, inner_down, filters, 2, add=False))
        layers += [Bottleneck(filters, inner, filters, 1, add=True) for _ in range(blocks)]
        channels = filters
    return [*layers, *_linear(channels, 512, 1), nn.PReLU(512)]
