"""Writing a training set in the original's format: train.rec, train.idx and property (read by `src/dataset.py`)."""

import contextlib
import os

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.formats.atomic import atomic_path, report_write_errors, save_text


class Images:
    """Encoded images as a training set takes them: sized, and read only as they are iterated over.

    read: a function from one of `numbers` to bytes.
    """

    def __init__(self, read, numbers):
        self._read, self._numbers = read, numbers

    def __len__(self):
        return len(self._numbers)

    def __iter__(self):
        return map(self._read, self._numbers)


def write_training_set(output, identities, image_size):
    """Write a training set; a half-written one is never mistaken for a whole one, as it has no `property`.

    output: folder. identities: for every class 0, 1, ... its encoded images (bytes), in anything that has a length and
    can be iterated over once; all are read in order. image_size: height and width in pixels.
    """
    path_rec, path_idx, path_property = (os.path.join(output, name) for name in ("train.rec", "train.idx", "property"))
    with report_write_errors(path_rec):
        with contextlib.suppress(FileNotFoundError):
            os.remove(path_property)
        with atomic_path(path_rec) as temporary_rec, atomic_path(path_idx) as temporary_idx:
            records = mx.recordio.MXIndexedRecordIO(temporary_idx, temporary_rec, "w")
            for number, (label, payload) in enumerate(_records(identities)):
                records.write_idx(number, mx.recordio.pack(mx.recordio.IRHeader(0, label, number, 0), payload))
            records.close()
        height, width = image_size
        save_text(path_property, f"{len(identities)},{height},{width}\n")


def refuse_existing(output):
    """Raise UserError where a folder holds a training set already."""
    if os.path.exists(os.path.join(output, "property")):
        raise UserError(f"{output} holds a training set already: remove it, or choose another --output")


def write_lst(path, rows):
    """Write the list of a set's images: rows of (path of the photo, class), in the order of the records."""
    lines = [f"1\t{photo}\t{label}\n" for photo, label in rows]
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.writelines(lines)


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
