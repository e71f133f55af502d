"""The whole job on real faces: build the demo set, train on 30 people, verify on 10 others.

python demo.py --network y1 --epochs 40
"""

import argparse
import os

import numpy as np

from insightface_mx import train_softmax
from insightface_mx.datasets import orl
from insightface_mx.errors import exit_on_user_error
from insightface_mx.eval import roc, verification

NAME = "orl"


def pixel_accuracy(data_set, nfolds=10):
    """Accuracy (mean over folds) of comparing the pixels themselves: image plus mirror image, as one unit vector."""
    images, issame = data_set
    pixels = sum(flipped.asnumpy().reshape(flipped.shape[0], -1).astype(np.float32) for flipped in images)
    return np.mean(roc.evaluate(pixels / np.linalg.norm(pixels, axis=1, keepdims=True), issame, nfolds)[2])
