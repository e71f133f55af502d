"""FaceImageIter: batches of face images from a RecordIO file, decoded by all processors."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from insightface_mx import augment
from insightface_mx.compat import mx, processors
from insightface_mx.dataset import image_records
from insightface_mx.errors import UserError
from insightface_mx.recordio import RecordFile

_BATCHES_AHEAD = 3


class FaceImageIter(mx.io.DataIter):
    """Batches of RGB images, NCHW float32 in 0..255, with their class numbers; the last partial batch is dropped.

    batch_size: images a batch. data_shape: (3, height, width). path_imgrec: the .rec file, its .idx beside it.
    shuffle: a new order of the images every epoch. aug_list: functions from one height x width x 3 image to another,
    run before the augmentations of `augment.apply` (rand_mirror, cutoff, color_jittering). mean: three channel means
    to subtract. images_filter: leave out identities with fewer images. num_classes: refuse labels from there on.

    Order and augmentation follow from `seed`, the epoch and the batch number alone, whatever the number of `workers`
    (decoding threads; 0: one a processor). Raises UserError, naming the record, for one that cannot be used.
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
    ):
        super().__init__(batch_size)
        if len(data_shape) != 3 or data_shape[0] != 3:
            raise ValueError(f"data_shape must be (3, height, width), not {data_shape}")
        self.data_shape = tuple(data_shape)
        self.records = RecordFile(path_imgrec)
        self.images = image_records(self.records, images_filter)
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
        self.workers = workers or processors()
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
        for part in parts:
            part.result()
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
        data, _, parts = self._load(numbers)
        for part in parts:
            part.result()
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
        self._ahead.append((numbers, *self._load(numbers, drawn)))
        return True

    def _load(self, numbers, drawn=None):
        """Have the workers read records: images, labels, and the futures that have filled both when they are done."""
        data = np.empty((len(numbers), *self.data_shape), np.float32)
        labels = np.empty(len(numbers), np.float32)
        parts = [
            self._pool.submit(self._fill, data, labels, numbers, drawn, range(part, len(numbers), self.workers))
            for part in range(self.workers)
        ]
        return data, labels, parts

    def _fill(self, data, labels, numbers, drawn, which):
        """Read, decode and augment (where something is drawn) images `which` of a batch into its memory."""
        for i in which:
            image, labels[i] = self._read(int(numbers[i]))
            for function in self.aug_list:
                image = function(image)
            if drawn:
                image = augment.apply(image, drawn[i], **self.augmentations)
            data[i] = image.transpose(2, 0, 1)
            if self.mean is not None:
                data[i] -= self.mean

    def _read(self, number):
        label, encoded = self.records.read(number)
        if not 0 <= label[0] < (self.num_classes or np.inf):
            raise UserError(
                f"{self.records.path}: record {number} has class {label[0]:g}, but `property` says there are "
                f"{self.num_classes} classes (0 to {self.num_classes} - 1): correct one of them"
            )
        image = decode(encoded, self.data_shape[1:])
        if image is None:
            raise UserError(f"{self.records.path}: record {number} is not an image that OpenCV can read")
        return image, label[0]


def decode(encoded, image_size):
    """Decode JPEG, PNG or another of OpenCV's formats to RGB, (height, width, 3) uint8; None where it is no image.

    An image of another size is scaled to `image_size` on the short side and cropped around its centre.
    """
    if not len(encoded):
        return None
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        return None
    return fit(image, image_size)[:, :, ::-1]


def fit(image, image_size):
    """Scale an image on its short side so that it covers `image_size` (height, width), and crop its centre."""
    height, width = image_size
    if image.shape[:2] == (height, width):
        return image
    scale = max(height / image.shape[0], width / image.shape[1])
    scaled = (max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale)))
    image = cv2.resize(image, scaled, interpolation=cv2.INTER_CUBIC)  # as mx.image.resize_short has it
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]
