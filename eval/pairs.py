"""Test a network on a verification set: the figures that training and verification.py print."""

import numpy as np

from insightface_mx.base.compat import mx
from insightface_mx.engine.network import embed
from insightface_mx.eval import roc
from insightface_mx.photos.pairs import read_pairs


def load_bin(path, image_size):
    """Read and decode a verification set: ([images, mirrored images], list of n booleans).

    Images are uint8 NDArrays of shape (2n, 3, height, width), RGB, in CPU memory; see `photos.pairs.read_pairs`.
    """
    decoded, issame = read_pairs(path, image_size)
    images = mx.nd.array(decoded, dtype=np.uint8)
    return [images, mx.nd.flip(images, axis=3)], issame


def test(data_set, model, batch_size, nfolds=10, data_extra=None, label_shape=None):
    """Accuracy of a bound Module or an InferenceModule on what `load_bin` returns; other arguments: those of `embed`.

    Returns acc1, std1 (mean and standard deviation over the folds for the images alone), acc2, std2 (for the sum of
    image and mirror image), xnorm (mean length of an embedding before it is scaled to 1) and the list of the two
    embeddings, not scaled, of shape (2n, d).
    """
    data_list, issame_list = data_set
    embeddings_list = [embed(data, model, batch_size, data_extra, label_shape) for data in data_list]
    xnorm = np.mean([np.linalg.norm(embeddings, axis=1) for embeddings in embeddings_list])
    acc1, std1 = _accuracy(embeddings_list[0], issame_list, nfolds)
    acc2, std2 = _accuracy(sum(embeddings_list), issame_list, nfolds)
    return acc1, std1, acc2, std2, xnorm, embeddings_list


def result_lines(name, result, step=None):
    """The lines that report what `test` returned: in training with the step, else with the accuracy without mirror."""
    acc1, std1, acc2, std2, xnorm, _ = result
    label = f"[{name}]" if step is None else f"[{name}][{step}]"
    lines = [f"{label}XNorm: {xnorm:f}", f"{label}Accuracy-Flip: {acc2:.5f}+-{std2:.5f}"]
    if step is None:
        lines.insert(1, f"{label}Accuracy: {acc1:.5f}+-{std1:.5f}")
    return lines


def _accuracy(embeddings, issame, nfolds):
    _, _, accuracy = roc.calculate_roc(roc.normalize(embeddings), np.asarray(issame, bool), nfolds)
    return np.mean(accuracy), np.std(accuracy)
