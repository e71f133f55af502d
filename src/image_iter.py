"""FaceImageIter: batches of face images from a RecordIO file, decoded by all processors."""

import logging
import weakref
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice

import numpy as np

from insightface_mx import augment
from insightface_mx.base.compat import cpu_count, mx
from insightface_mx.base.errors import UserError
from insightface_mx.formats.recordio import RecordFile
from insightface_mx.formats.training_set import MAX_BAD_FRACTION, image_records
from insightface_mx.photos.decode import decode_face

SKIP, STOP = "skip", "stop"  # what to do about a record that cannot be used
_BATCHES_AHEAD = 3


class FaceImageIter(mx.io.DataIter):
    """Batches of RGB images, NCHW float32 in 0..255, with their class numbers; the last partial batch is dropped.

    batch_size: images a batch. data_shape: (3, height, width). path_imgrec: the .rec file, its .idx beside it.
    shuffle: a new order of the images every epoch. aug_list: functions from one height x width x 3 image to another,
    run before those of `augment.Augmenter` (rand_mirror, cutoff, color_jittering). mean: three channel means
    to subtract. images_filter: leave out identities with fewer images. num_classes: refuse labels from there on.

    Order and augmentation follow from `seed`, the epoch and the batch number alone, whatever the number of `workers`
    (decoding threads; 0: one a processor).

    on_bad_record: 'skip' puts the next image of the person, or else of the file, in the place of one that cannot be
    used, logs its number once and keeps it with the reason in the dict `bad_records`; raises UserError when these are
    more than 1 % of the images. 'stop' raises UserError, naming the record, for the first.
    """

    def __init__(
        self,
        batch_size,
        data_shape,
        path_imgrec=None,
        shuffle=False,
        aug_list=None,
        mean=None,
        rand_mirror=False,
        cutoff=0,
        color_jittering=0,
        images_filter=0,
        data_name="data",
        label_name="softmax_label",
        num_classes=None,
        seed=None,
        workers=0,
        on_bad_record=SKIP,
    ):
        super().__init__(batch_size)
        if len(data_shape) != 3 or data_shape[0] != 3:
            raise ValueError(f"data_shape must be (3, height, width), not {data_shape}")
        self.data_shape = tuple(data_shape)
        self.records = RecordFile(path_imgrec)
        self.skip_bad = on_bad_record == SKIP
        self.images = image_records(self.records, images_filter, self.skip_bad)
        self.bad_records = {}
        if len(self.images) < batch_size:
            raise UserError(
                f"{path_imgrec} holds {len(self.images)} usable images, fewer than one batch of {batch_size}: lower "
                "--per-batch-size"
            )
        self.shuffle = shuffle
        self.aug_list = aug_list or []
        self.mean = None if mean is None else np.asarray(mean, np.float32).reshape(3, 1, 1)
        self.augmentations = {"rand_mirror": rand_mirror, "cutoff": cutoff, "color": color_jittering}
        self.num_classes = num_classes
        self.seed = np.random.SeedSequence(seed).entropy
        self.provide_data = [mx.io.DataDesc(data_name, (batch_size, *self.data_shape))]
        self.provide_label = [mx.io.DataDesc(label_name, (batch_size,))]
        self.workers = workers or cpu_count()
        self._memory = _Memory((batch_size, *self.data_shape))
        self._pool = ThreadPoolExecutor(self.workers, "decode")
        self.start(0, 0)

    @property
    def batches_per_epoch(self):
        return len(self._order) // self.batch_size

    def start(self, epoch, batch, order=None):
        """Continue with batch number `batch` of epoch `epoch`, both counted from 0.

        order: the numbers of the records that make up this epoch, in place of every image once.
        """
        self.epoch, self.batch = epoch, batch
        self._order = self.images if order is None else order
        if self.shuffle and order is None:
            self._order = np.random.default_rng([self.seed, epoch]).permutation(self.images)
        self._ahead = deque()
        self._next_submitted = batch
        while len(self._ahead) < _BATCHES_AHEAD and self._submit():
            pass

    def reset(self):
        """Begin the next epoch."""
        self.start(self.epoch + 1, 0)

    def next(self):
        if not self._ahead:
            raise StopIteration
        numbers, data, labels, parts = self._ahead.popleft()
        self._await(parts)
        self._submit()
        self.batch += 1
        return mx.io.DataBatch(
            [mx.nd.from_numpy(data)],
            [mx.nd.from_numpy(labels)],
            pad=0,
            index=numbers,
            provide_data=self.provide_data,
            provide_label=self.provide_label,
        )

    def read(self, numbers):
        """Images of the records with these numbers, without augmentation: NCHW float32, from all workers."""
        data, _, parts = self._load(numbers, np.empty((len(numbers), *self.data_shape), np.float32))
        self._await(parts)
        return data

    def close(self):
        """Stop the workers and close the file."""
        for _, _, _, parts in self._ahead:
            for part in parts:
                part.cancel()
        self._pool.shutdown()
        self.records.close()

    def _submit(self):
        """Queue the next batch of the epoch; false when there is none left."""
        batch = self._next_submitted
        if batch >= self.batches_per_epoch:
            return False
        self._next_submitted += 1
        numbers = self._order[batch * self.batch_size : (batch + 1) * self.batch_size]
        rng = np.random.default_rng([self.seed, self.epoch, batch])
        drawn = augment.draw(rng, self.batch_size, self.data_shape[1:])
        self._ahead.append((numbers, *self._load(numbers, self._memory.take(), drawn)))
        return True

    def _load(self, numbers, data, drawn=None):
        """Have the workers read records: images, labels, and the futures that have filled both when they are done."""
        labels = np.empty(len(numbers), np.float32)
        parts = [
            self._pool.submit(self._fill, data, labels, numbers, drawn, range(part, len(numbers), self.workers))
            for part in range(self.workers)
        ]
        return data, labels, parts

    def _await(self, parts):
        """Wait for the workers, and note which bad records they found."""
        for number, problem in chain.from_iterable(part.result() for part in parts):
            if number not in self.bad_records:
                self.bad_records[number] = problem
                logging.warning("record skipped, number %d so far: %s", len(self.bad_records), problem)
                self._check_share()

    def _check_share(self):
        if len(self.bad_records) > MAX_BAD_FRACTION * len(self.images):
            raise UserError(
                f"{self.records.path}: {len(self.bad_records)} of {len(self.images)} images cannot be used, more than "
                f"{MAX_BAD_FRACTION:.0%}. Repair the set (insightface-check-set --repair). The first: "
                f"{next(iter(self.bad_records.values()))}"
            )

    def _fill(self, data, labels, numbers, drawn, which):
        """Read, decode and augment (where something is drawn) images `which` of a batch into its memory.

        Returns the bad records that were met, (number, problem).
        """
        bad = []
        augmenter = augment.Augmenter(self.data_shape[1:], **self.augmentations)
        memory = None if self.aug_list else np.empty((*self.data_shape[1:], 3), np.uint8)
        for i in which:
            image, labels[i] = self._read(int(numbers[i]), bad, memory)
            for function in self.aug_list:
                image = function(image)
            augmenter.write(image, drawn and drawn[i], data[i])
            if self.mean is not None:
                data[i] -= self.mean
        return bad

    def _read(self, number, bad, memory):
        """Image (decoded into `memory` or not) and class of a record, or of the first usable one that may stand in."""
        for candidate in chain([number], self._stand_ins(number)):
            image, label, problem = self._read_record(candidate, memory)
            if not problem:
                return image, label
            if not self.skip_bad:
                raise UserError(problem)
            bad.append((candidate, problem))
        raise UserError(f"{self.records.path}: too many bad records around {number}; the first: {bad[0][1]}")

    def _stand_ins(self, number):
        """Yield the records next to one, nearest first, as many as may be bad and one more."""
        place = int(np.searchsorted(self.images, number))
        around = (place + side * step for step in range(1, len(self.images)) for side in (1, -1))
        near = (int(self.images[other]) for other in around if 0 <= other < len(self.images))
        yield from islice(near, int(MAX_BAD_FRACTION * len(self.images)) + 1)

    def _read_record(self, number, memory):
        """Image, class and '', or two Nones and what is wrong with the record."""
        try:
            labels, encoded = self.records.read(number)
        except UserError as error:
            return None, None, str(error)
        label = labels[0] if len(labels) else np.nan
        if not 0 <= label < (self.num_classes or np.inf):
            return (
                None,
                None,
                (
                    f"{self.records.path}: record {number} has class {label:g}, but `property` says there are "
                    f"{self.num_classes} classes (0 to {self.num_classes} - 1): correct one of them"
                ),
            )
        image = decode_face(encoded, self.data_shape[1:], memory)
        if image is None:
            return None, None, f"{self.records.path}: record {number} is not an image that OpenCV can read"
        return image, label, ""


class _Memory:
    """Arrays of one shape, float32, used again when nobody holds them any more: new memory costs time."""

    def __init__(self, shape):
        self._shape, self._free = shape, []

    def take(self):
        """An array whose content is arbitrary. Slices of it must not outlive it."""
        own = self._free.pop() if self._free else np.empty(self._shape, np.float32)
        lent = own.view()
        weakref.finalize(lent, self._free.append, own).atexit = False
        return lent
