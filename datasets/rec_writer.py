"""Writing a training set in the original's format: train.rec, train.idx and property (read by `src/dataset.py`)."""

import os

from insightface_mx.checkpoint import replacing
from insightface_mx.compat import mx
from insightface_mx.dataset import write_property


def write_training_set(output, identities, image_size):
    """Write a training set; a half-written one is never mistaken for a whole one, as `property` comes last.

    output: folder. identities: a list with a list of encoded images (bytes) for every identity, classes 0, 1, ...
    image_size: height and width in pixels.
    """
    os.makedirs(output, exist_ok=True)
    path_rec, path_idx = os.path.join(output, "train.rec"), os.path.join(output, "train.idx")
    with replacing(path_rec) as temporary_rec, replacing(path_idx) as temporary_idx:
        records = mx.recordio.MXIndexedRecordIO(temporary_idx, temporary_rec, "w")
        for number, (label, payload) in enumerate(_records(identities)):
            records.write_idx(number, mx.recordio.pack(mx.recordio.IRHeader(0, label, number, 0), payload))
        records.close()
    write_property(output, len(identities), *image_size)


def _records(identities):
    """Labels and payloads in order: the header, every image, every identity (SPEC of the format: `image_records`)."""
    images = sum(map(len, identities))
    yield [images + 1, images + 1 + len(identities)], b""
    for label, encoded in enumerate(identities):
        for payload in encoded:
            yield label, payload
    first = 1
    for encoded in identities:
        yield [first, first + len(encoded)], b""
        first += len(encoded)
