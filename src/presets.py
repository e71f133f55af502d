"""Published training recipes, by name: `train_softmax.py --config NAME`.

Each was published for a total batch of 512 images. `lr_batch` scales the learning rate to the real batch, and the
default --lr-steps are stretched by 512 / batch: 100000, 140000, 160000 at 512, for softmax 40000, 60000, 80000.

Sources:
    * InsightFace README of 2018 (https://github.com/deepinsight/insightface): learning rate 0.1 at 4 x 128 images, the
      steps, and the commands for ArcFace r100, CosFace r50 and the combined margin.
    * ArcFace, arXiv 1801.07698: s = 64, m = 0.5; combined margin (1, 0.3, 0.2); weight decay 5e-4, momentum 0.9.
    * CosFace, arXiv 1801.09414: s = 64, m = 0.35.
    * MobileFaceNet, arXiv 1804.07573: global depthwise convolution (GDC) to 128 numbers; weight decay 4e-5, after the
      last convolution 4e-4 (multiplier 10); learning rate 0.1. The ArcFace loss is hard to start with on this small
      network, so it is trained with softmax first. The steps of its two stages are the defaults, not the paper's.
"""

from __future__ import annotations

from insightface_mx.cli.config import Preset

_SGD = {"lr": 0.1, "lr_batch": 512, "wd": 0.0005, "mom": 0.9}
_ARCFACE = {"loss_type": 4, "margin_s": 64.0, "margin_m": 0.5}
_MOBILEFACENET = {
    "network": "y1",
    "version_output": "GDC",
    "emb_size": 128,
    **_SGD,
    "wd": 0.00004,
    "fc7_wd_mult": 10.0,
}

PRESETS = {
    "arcface-r100": Preset("ArcFace (s 64, m 0.5), ResNet-100", {"network": "r100", **_SGD, **_ARCFACE}),
    "arcface-r50": Preset("ArcFace (s 64, m 0.5), ResNet-50", {"network": "r50", **_SGD, **_ARCFACE}),
    "cosface-r50": Preset(
        "CosFace (s 64, m 0.35), ResNet-50",
        {"network": "r50", **_SGD, "loss_type": 2, "margin_s": 64.0, "margin_m": 0.35},
    ),
    "combined-r100": Preset(
        "combined margin (1, 0.3, 0.2), ResNet-100",
        {
            "network": "r100",
            **_SGD,
            "loss_type": 5,
            "margin_s": 64.0,
            "margin_a": 1.0,
            "margin_m": 0.3,
            "margin_b": 0.2,
        },
    ),
    "mobilefacenet-softmax": Preset("MobileFaceNet, first stage: softmax", {**_MOBILEFACENET, "loss_type": 0}),
    "mobilefacenet-arcface": Preset(
        "MobileFaceNet, second stage: ArcFace; give --pretrained PREFIX,EPOCH of the first",
        {**_MOBILEFACENET, **_ARCFACE},
    ),
}
