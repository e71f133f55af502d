"""Test a network on a verification set, as in training and in verification.py."""

from __future__ import annotations

from typing import List, NamedTuple, Sequence, Tuple

import numpy as np

from insightface_mx.base.compat import Module, NDArray
from insightface_mx.cli.types import Size
from insightface_mx.embedding.vectors import normalize, unit_with_mirror
from insightface_mx.eval import roc

# MXNet takes seconds to load: load_bin and test import it.
DataSet = Tuple[List[NDArray], List[bool]]  # [images, mirror images], (2n, 3, height, width) each; n flags


class VerificationResult(NamedTuple):
    """What a test on n pairs finds, in the order of the original's tuple.

    Attributes:
        acc1: Mean accuracy over the folds for the images alone.
        std1: Its standard deviation over the folds.
        acc2: Mean accuracy for image and mirror image (Accuracy-Flip).
        std2: Its standard deviation over the folds.
        xnorm: Mean length of an embedding before it is scaled to 1.
        embeddings: Those of the images and of the mirror images, not scaled, (2n, d) each.
    """

    acc1: float
    std1: float
    acc2: float
    std2: float
    xnorm: float
    embeddings: list[np.ndarray]

    @property
    def unit_embeddings(self) -> np.ndarray:
        """Unit vectors (2n, d) of image and mirror image, by whose distances acc2 judges the pairs."""
        return unit_with_mirror(*self.embeddings)


def load_bin(path: str, image_size: Size) -> DataSet:
    """Read and decode a verification set.

    Args:
        path: The set, NAME.bin.
        image_size: Height and width; images of another size are fitted, see `photos.decode.fit`.

    Returns:
        [images, mirror images], uint8 NDArrays of shape (2n, 3, height, width), RGB, in CPU memory; and n booleans:
        whether images 2i and 2i + 1 show the same identity.

    Raises:
        UserError: The set cannot be read, or an image of it cannot be decoded; the message names the image.
    """
    from insightface_mx.base.compat import mx
    from insightface_mx.photos.pairs import read_pairs

    decoded, issame = read_pairs(path, image_size)
    images = mx.nd.array(decoded, dtype=np.uint8)
    return [images, mx.nd.flip(images, axis=3)], issame


def test(
    data_set: DataSet,
    model: Module,
    batch_size: int,
    nfolds: int = 10,
    data_extra: NDArray | np.ndarray | None = None,
    label_shape: tuple[int, ...] | None = None,
) -> VerificationResult:
    """Test a bound Module or an InferenceModule on a verification set.

    Args:
        data_set: What `load_bin` returns.
        model: Its output 0 is the embedding.
        batch_size: Images in one pass.
        nfolds: Folds of the cross-validation.
        data_extra: A second input, the same for every batch.
        label_shape: Shape of the labels, if not as the Module was bound.
    """
    from insightface_mx.engine.network import embed

    views, issame = data_set
    return judge([embed(view, model, batch_size, data_extra, label_shape) for view in views], issame, nfolds)


test.__test__ = False  # type: ignore[attr-defined]  # not one of pytest's


def judge(embeddings: list[np.ndarray], issame: Sequence[bool], nfolds: int = 10) -> VerificationResult:
    """Compute the accuracies of the embeddings of images and of mirror images, (2n, d) each and not scaled."""
    plain, mirrored = embeddings
    flags = np.asarray(issame, bool)
    xnorm = np.mean([np.linalg.norm(view, axis=1) for view in embeddings])
    _, _, accuracy = roc.calculate_roc(normalize(plain), flags, nfolds)
    _, _, flip_accuracy = roc.calculate_roc(unit_with_mirror(plain, mirrored), flags, nfolds)
    return VerificationResult(
        np.mean(accuracy), np.std(accuracy), np.mean(flip_accuracy), np.std(flip_accuracy), xnorm, embeddings
    )


def result_lines(name: str, result: VerificationResult, step: int | None = None) -> list[str]:
    """Format a result for the log.

    Args:
        name: Of the verification set.
        result: What `test` returned; the original's tuple will do.
        step: Batch of the training; None: outside training, where the accuracy without mirror images is reported too.
    """
    acc1, std1, acc2, std2, xnorm, _ = result
    label = f"[{name}]" if step is None else f"[{name}][{step}]"
    lines = [f"{label}XNorm: {xnorm:f}", f"{label}Accuracy-Flip: {acc2:.5f}+-{std2:.5f}"]
    if step is None:
        lines.insert(1, f"{label}Accuracy: {acc1:.5f}+-{std1:.5f}")
    return lines
