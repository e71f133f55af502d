"""Read batches of face images from a RecordIO file, decoded by all CPUs: FaceImageIter."""

from __future__ import annotations

import functools
import logging
import weakref
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import Any, Callable, Iterator, NamedTuple, Sequence, Tuple

import numpy as np

from insightface_mx import augment
from insightface_mx.augment import AugmentParams
from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.base.machine import cpu_count
from insightface_mx.formats.face_records import MAX_BAD_FRACTION, FaceRecords
from insightface_mx.photos.decode import decode_face

SKIP, STOP = "skip", "stop"  # what to do about a damaged record
_BATCHES_AHEAD = 3

DataBatch = Any  # of MXNet
BadRecord = Tuple[int, str]  # record id and what is wrong with the record


class _Loading(NamedTuple):
    """A batch that the workers are filling: `data` and `labels` are complete once all `parts` are done."""

    record_ids: np.ndarray
    data: np.ndarray
    labels: np.ndarray
    parts: list[Future[list[BadRecord]]]


class FaceImageIter(mx.io.DataIter):
    """Iterates over batches of images and their classes; the last incomplete batch of an epoch is dropped.

    A batch's `data` holds RGB images, batch_size x 3 x height x width, float32 in 0..255; its `label` the classes,
    batch_size; its `index` the record ids. Order and augmentation follow from (seed, epoch, batch) alone, for any
    number of workers.

    Args:
        batch_size: Images a batch.
        data_shape: (3, height, width) of the images.
        path_imgrec: The .rec file, with its .idx file next to it.
        shuffle: Whether every epoch has a new random order.
        aug_list: Functions from one image to another, height x width x 3, applied before the augmentations below.
        mean: Three channel means to subtract.
        rand_mirror: See augment.Augmenter.
        cutoff: See augment.Augmenter.
        color_jittering: See `color` of augment.Augmenter.
        images_filter: Leave out identities with fewer images.
        data_name: Name of the data for a Module.
        label_name: Name of the label for a Module.
        num_classes: Number of classes; a record with a class outside 0 to num_classes - 1 is damaged. None: no limit.
        seed: Of order and augmentation; None: random.
        workers: Decoding threads; 0: one for each CPU.
        on_bad_record: 'skip': the nearest good record takes the place of a damaged one, which is logged once and stored
            in `bad_records`. 'stop': the first damaged record raises UserError.

    Attributes:
        images: Record ids of the images, an int64 array.
        bad_records: Record id of every damaged record so far -> what is wrong with it.
        epoch: The current epoch, from 0.
        batch: Number of batches of this epoch so far, which is the index of the next one.

    Raises:
        UserError: There are fewer images than one batch. While reading: a damaged record with 'stop', more than 1 % of
            the images damaged with 'skip'.
        ValueError: data_shape is not one of RGB images.
    """

    def __init__(
        self,
        batch_size: int,
        data_shape: tuple[int, int, int],
        path_imgrec: str,
        shuffle: bool = False,
        aug_list: Sequence[Callable[[np.ndarray], np.ndarray]] | None = None,
        mean: Sequence[float] | None = None,
        rand_mirror: bool = False,
        cutoff: int = 0,
        color_jittering: int = 0,
        images_filter: int = 0,
        data_name: str = "data",
        label_name: str = "softmax_label",
        num_classes: int | None = None,
        seed: int | None = None,
        workers: int = 0,
        on_bad_record: str = SKIP,
    ) -> None:
        """Open the file, and let the workers begin with the first batches."""
        super().__init__(batch_size)
        if len(data_shape) != 3 or data_shape[0] != 3:
            raise ValueError(f"data_shape must be (3, height, width), not {data_shape}")
        _, height, width = data_shape
        self.data_shape, self._image_size = (3, height, width), (height, width)
        self.records = FaceRecords(path_imgrec)
        self.skip_bad = on_bad_record == SKIP
        self.images = self.records.image_ids(images_filter, strict=not self.skip_bad)
        self.bad_records: dict[int, str] = {}
        if len(self.images) < batch_size:
            raise UserError(
                f"{path_imgrec} holds {len(self.images)} usable images, fewer than one batch of {batch_size}: choose "
                "smaller batches or a larger set"
            )
        self.shuffle = shuffle
        self.aug_list = aug_list or []
        self.mean = None if mean is None else np.asarray(mean, np.float32).reshape(3, 1, 1)
        self._make_augmenter = functools.partial(
            augment.Augmenter, self._image_size, rand_mirror=rand_mirror, cutoff=cutoff, color=color_jittering
        )
        self.num_classes = num_classes
        self.seed: int = np.random.SeedSequence(seed).entropy  # type: ignore[assignment]  # the seed, or a random one
        self.provide_data = [mx.io.DataDesc(data_name, (batch_size, *self.data_shape))]
        self.provide_label = [mx.io.DataDesc(label_name, (batch_size,))]
        self.workers = workers or cpu_count()
        self._buffers = _BufferPool((batch_size, *self.data_shape))
        self._pool = ThreadPoolExecutor(self.workers, "decode")
        self.start(0, 0)

    @property
    def batches_per_epoch(self) -> int:
        """Number of complete batches in this epoch."""
        return len(self._order) // self.batch_size

    def start(self, epoch: int, batch: int, order: np.ndarray | None = None) -> None:
        """Continue with a batch of an epoch.

        Args:
            epoch: From 0.
            batch: Index of the batch in the epoch, from 0.
            order: Record ids that make up this epoch, in place of every image once.
        """
        self.epoch, self.batch = epoch, batch
        self._order = self.images if order is None else order
        if self.shuffle and order is None:
            self._order = np.random.default_rng([self.seed, epoch]).permutation(self.images)
        self._ahead: deque[_Loading] = deque()
        self._next_submitted = batch
        for _ in range(_BATCHES_AHEAD):
            self._submit()

    def reset(self) -> None:
        """Begin the next epoch."""
        self.start(self.epoch + 1, 0)

    def next(self) -> DataBatch:
        """Return the next batch.

        Raises:
            StopIteration: The epoch is over.
        """
        if not self._ahead:
            raise StopIteration
        loading = self._ahead.popleft()
        self._await(loading)
        self._submit()
        self.batch += 1
        return mx.io.DataBatch(
            [mx.nd.from_numpy(loading.data)],
            [mx.nd.from_numpy(loading.labels)],
            pad=0,
            index=loading.record_ids,
            provide_data=self.provide_data,
            provide_label=self.provide_label,
        )

    def read(self, record_ids: np.ndarray) -> np.ndarray:
        """Read images of records with all workers, without augmentation: n x 3 x height x width, float32."""
        loading = self._load(record_ids, np.empty((len(record_ids), *self.data_shape), np.float32))
        self._await(loading)
        return loading.data

    def close(self) -> None:
        """Stop the workers and close the file."""
        for loading in self._ahead:
            for part in loading.parts:
                part.cancel()
        self._pool.shutdown()
        self.records.close()

    def _submit(self) -> None:
        """Queue the next batch of the epoch, if there is one left."""
        batch = self._next_submitted
        if batch >= self.batches_per_epoch:
            return
        self._next_submitted += 1
        record_ids = self._order[batch * self.batch_size : (batch + 1) * self.batch_size]
        rng = np.random.default_rng([self.seed, self.epoch, batch])
        params = augment.sample(rng, self.batch_size, self._image_size)
        self._ahead.append(self._load(record_ids, self._buffers.acquire(), params))

    def _load(
        self, record_ids: np.ndarray, data: np.ndarray, params: Sequence[AugmentParams] | None = None
    ) -> _Loading:
        """Let the workers fill `data` with the images of records, augmented if there are random parameters."""
        labels = np.empty(len(record_ids), np.float32)
        parts = [
            self._pool.submit(self._fill, data, labels, record_ids, params, range(first, len(record_ids), self.workers))
            for first in range(self.workers)
        ]
        return _Loading(record_ids, data, labels, parts)

    def _await(self, loading: _Loading) -> None:
        """Wait for the workers, note new damaged records, and raise UserError if there are too many."""
        for record_id, problem in chain.from_iterable(part.result() for part in loading.parts):
            if record_id in self.bad_records:
                continue
            self.bad_records[record_id] = problem
            logging.warning("record skipped, %d so far: %s", len(self.bad_records), problem)
            if len(self.bad_records) > MAX_BAD_FRACTION * len(self.images):
                raise UserError(
                    f"{self.records.path}: {len(self.bad_records)} of {len(self.images)} images cannot be used, more "
                    f"than {MAX_BAD_FRACTION:.0%}. Repair the set (insightface-check-set --repair). The first: "
                    f"{next(iter(self.bad_records.values()))}"
                )

    def _fill(
        self,
        data: np.ndarray,
        labels: np.ndarray,
        record_ids: np.ndarray,
        params: Sequence[AugmentParams] | None,
        rows: range,
    ) -> list[BadRecord]:
        """Fill these rows of `data` and `labels` (runs in a worker), and return the damaged records among them."""
        bad: list[BadRecord] = []
        augmenter = self._make_augmenter()
        memory = None if self.aug_list else np.empty((*self._image_size, 3), np.uint8)
        for i in rows:
            image, labels[i] = self._read(int(record_ids[i]), bad, memory)
            for function in self.aug_list:
                image = function(image)
            augmenter.write(image, params[i] if params else None, data[i])
            if self.mean is not None:
                data[i] -= self.mean
        return bad

    def _read(self, record_id: int, bad: list[BadRecord], memory: np.ndarray | None) -> tuple[np.ndarray, float]:
        """Return image and class of a record or, if it is damaged, of the nearest good one; add the others to `bad`."""
        most = int(MAX_BAD_FRACTION * len(self.images)) + 1  # as many neighbours as may be damaged, and one more
        for candidate in chain([record_id], islice(self._neighbours(record_id), most)):
            try:
                return self._read_record(candidate, memory)
            except UserError as error:  # noqa: PERF203
                if not self.skip_bad:
                    raise
                bad.append((candidate, str(error)))
        raise UserError(f"{self.records.path}: too many damaged records around {record_id}; the first: {bad[0][1]}")

    def _neighbours(self, record_id: int) -> Iterator[int]:
        """Yield the ids of the other images, the nearest in the file first."""
        place = int(np.searchsorted(self.images, record_id))
        for step in range(1, len(self.images)):
            for other in (place + step, place - step):
                if 0 <= other < len(self.images):
                    yield int(self.images[other])

    def _read_record(self, record_id: int, memory: np.ndarray | None) -> tuple[np.ndarray, float]:
        """Return image (decoded into `memory`, if that fits) and class of a record; UserError: it is damaged."""
        labels, encoded = self.records.read(record_id)
        label = float(labels[0]) if len(labels) else np.nan
        if not 0 <= label < (self.num_classes or np.inf):
            raise UserError(
                f"{self.records.path}: record {record_id} has class {label:g}, but `property` says there are "
                f"{self.num_classes} classes (0 to {self.num_classes} - 1): correct one of them, or number the classes "
                "again with insightface-check-set --repair"
            )
        if not label.is_integer():
            raise UserError(f"{self.records.path}: record {record_id} has the label {label:g}, which is no class")
        image = decode_face(encoded, self._image_size, memory)
        if image is None:
            raise UserError(f"{self.records.path}: record {record_id} is not an image that OpenCV can read")
        return image, label


class _BufferPool:
    """Float32 arrays of one shape for the batches, used again because new memory costs time.

    MXNet takes a batch's array without a copy, and only the user of the batch knows when it is done with it. So nobody
    gives an array back to the pool. The pool lends a view of the array instead; MXNet holds the view, Python destroys
    it together with the batch, and a weakref callback then puts the array back on the free list.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._free: list[np.ndarray] = []

    def acquire(self) -> np.ndarray:
        """Return an array with arbitrary content. Slices of it must not outlive it: they do not hold the view."""
        own = self._free.pop() if self._free else np.empty(self._shape, np.float32)
        lent = own.view()
        callback = weakref.finalize(lent, self._free.append, own)
        callback.atexit = False  # at the end of the process there is nothing to put back
        return lent
