"""Sources of the batches of a run (which comes next, and where in its epochs the run is), and observers of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

import numpy as np

from insightface_mx.base.compat import Module, MXNet, Params
from insightface_mx.formats.face_records import FaceRecords

DataBatch = MXNet  # an mx.io.DataBatch whose `index` holds the record ids of its images


class ImageIterator(Protocol):
    """Batches of images in a random order that follows from seed and epoch; `image_iter.FaceImageIter` is one."""

    batch_size: int
    batches_per_epoch: int
    epoch: int
    batch: int  # batches taken from the epoch
    seed: int
    num_classes: int | None
    images: np.ndarray  # record ids
    records: FaceRecords
    data_shape: tuple[int, ...]  # (3, height, width)
    provide_data: list[Any]
    provide_label: list[Any]

    def next(self) -> DataBatch:
        """Return the next batch. Raises StopIteration at the end of the epoch."""

    def reset(self) -> None:
        """Begin the next epoch."""

    def start(self, epoch: int, batch: int, order: np.ndarray | None = None) -> None:
        """Continue with a batch of an epoch; order: record ids to serve in place of every image once."""

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """Return the images of these records without augmentation, (n, 3, height, width)."""


class BatchSource(ABC):
    """Where the batches of a run come from."""

    def __init__(self, images: ImageIterator) -> None:
        """Serve batches of `images`."""
        self._images = images

    @property
    def batch_size(self) -> int:
        """Images a batch, over all devices."""
        return self._images.batch_size

    @property
    def epoch(self) -> int:
        """The epoch that the last batch belongs to, counted from 0."""
        return self._images.epoch

    @property
    def batch(self) -> int:
        """Batches that were taken from the epoch."""
        return self._images.batch

    @property
    def batches_per_epoch(self) -> int:
        """Batches of the whole epoch."""
        return self._images.batches_per_epoch

    @property
    def path(self) -> str:
        """The file of the images, for messages."""
        return self._images.records.path

    @property
    @abstractmethod
    def batches_left(self) -> int | None:
        """Batches until the last epoch is done, None if unknown."""

    @abstractmethod
    def next_batch(self) -> DataBatch | None:
        """Return the next batch, from the next epoch if this one has ended; None at the end of the run."""

    @abstractmethod
    def arrays(self) -> Params:
        """Return what a saved state must hold of the source and what does not follow from seed, epoch and batch."""

    @abstractmethod
    def start(self, epoch: int, batch: int, arrays: Params, seed: int) -> None:
        """Continue after `batch` batches of an epoch; arrays: those of the saved state."""

    @abstractmethod
    def restart_reshuffled(self, epoch: int, batch: int, seed: int) -> None:
        """Continue after `batch` batches of an epoch with other images, which follow from a new seed."""


class EpochSource(BatchSource):
    """All images, epoch after epoch."""

    def __init__(self, images: ImageIterator, epochs: int) -> None:
        """Serve batches of `images`; the run ends after `epochs` epochs."""
        super().__init__(images)
        self._epochs = epochs

    @property
    def batches_left(self) -> int:
        """Batches until the last epoch is done."""
        return (self._epochs - self.epoch) * self.batches_per_epoch - self.batch

    def next_batch(self) -> DataBatch:
        """Return the next batch, from the next epoch if this one has ended."""
        try:
            return self._images.next()
        except StopIteration:
            self._images.reset()
            return self._images.next()

    def arrays(self) -> Params:
        """Return nothing: the position follows from seed, epoch and batch."""
        return {}

    def start(self, epoch: int, batch: int, _arrays: Params, seed: int) -> None:
        """Continue after `batch` batches of an epoch."""
        self._images.seed = seed
        self._images.start(epoch, batch)

    def restart_reshuffled(self, epoch: int, batch: int, seed: int) -> None:
        """Continue in another order: some of the epoch's images come twice, others not at all."""
        self.start(epoch, batch, {}, seed)


class Observer:
    """Is called at two moments of every batch; here it does nothing."""

    def before_batch(self, step: int, batch: DataBatch, model: Module) -> None:
        """Act before batch `step`, counted from 1, goes forward."""

    def after_backward(self, step: int, batch: DataBatch, model: Module) -> None:
        """Act when outputs and gradients of batch `step` are there, before they are checked and used."""
