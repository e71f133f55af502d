"""Where images come from: a folder, a list of paths, a .rec of training records or a .bin of pairs."""

import hashlib
import os

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.formats.recordio import RecordFile
from insightface_mx.formats.training_set import image_records
from insightface_mx.formats.verification_set import read_bin
from insightface_mx.photos import images
from insightface_mx.photos.decode import fit

HELP = "folder of images, list (a path a line, or the original's .lst), .rec with its .idx beside it, or .bin"


def open_source(path):
    """The Source of what `path` is, as HELP says. UserError: nothing is there, or nothing that can be read."""
    if os.path.isdir(path):
        source = _Files(images.find(path))
        nothing = f"{path} holds no image files ({', '.join(images.EXTENSIONS)})"
    else:
        source = {".rec": _Records, ".bin": _Pairs}.get(os.path.splitext(path)[1], _list_file)(path)
        nothing = f"{path} names no images"
    if not len(source):
        raise UserError(nothing)
    return source


def aligned_images(path, image_size, most):
    """At most so many images, spread evenly over a source: (n, 3, height, width) float32, RGB of 0..255.

    They are taken as aligned, and fitted to image_size (height, width) where they are larger or smaller.
    """
    source = open_source(path)
    numbers = np.unique(np.linspace(0, len(source) - 1, most).astype(int))
    return np.stack([network_input(fit(source.read(number)[0], image_size)) for number in numbers]).astype(np.float32)


def network_input(image):
    """An image as networks take it: (3, height, width) RGB, from (height, width, 3) BGR."""
    return image[:, :, ::-1].transpose(2, 0, 1)


def file_identity(path):
    """Text that changes when the file does."""
    status = os.stat(path)
    return f"{os.path.abspath(path)} {status.st_size} {status.st_mtime_ns}"


class _Files:
    """Image files; labels: a number for each, -1 where there is none."""

    def __init__(self, paths, labels=None):
        self._paths, self._labels = paths, labels or [-1] * len(paths)

    def __len__(self):
        return len(self._paths)

    @property
    def identity(self):
        """Text that tells this source from others."""
        return hashlib.sha256("\0".join([*self._paths, *map(str, self._labels)]).encode()).hexdigest()

    def name(self, number):
        """What image `number` is called in results."""
        return self._paths[number]

    def read(self, number):
        """Image `number`, (height, width, 3) BGR, and its label."""
        return images.read(self._paths[number]), self._labels[number]


class _Records:
    """The images of a .rec; names are record numbers."""

    def __init__(self, path):
        self._records = RecordFile(path)
        self._numbers = image_records(self._records)

    def __len__(self):
        return len(self._numbers)

    @property
    def identity(self):
        return file_identity(self._records.path)

    def name(self, number):
        return str(self._numbers[number])

    def read(self, number):
        record = int(self._numbers[number])
        labels, encoded = self._records.read(record)
        return images.decode(encoded, f"{self._records.path}: record {record}"), int(labels[0])


class _Pairs:
    """The images of a verification set, pair i being 2i and 2i + 1; names are their numbers."""

    def __init__(self, path):
        self._path = path
        self._encoded, _ = read_bin(path)

    def __len__(self):
        return len(self._encoded)

    @property
    def identity(self):
        return file_identity(self._path)

    def name(self, number):
        return str(number)

    def read(self, number):
        return images.decode(self._encoded[number], f"{self._path}: image {number}"), -1


def _list_file(path):
    """A path a line, or `aligned TAB path TAB label ...`; paths are relative to the current folder."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.rstrip("\r\n").split("\t") for line in file if line.strip()]
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}; give a {HELP}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no list of paths: give a {HELP}") from error
    paths = [fields[1] if len(fields) > 1 else fields[0] for fields in lines]
    return _Files(paths, [_label(path, number, fields) for number, fields in enumerate(lines, 1)])


def _label(path, number, fields):
    if len(fields) < 3:
        return -1
    try:
        return int(float(fields[2]))
    except ValueError as error:
        raise UserError(f"{path}, line {number}: the label '{fields[2]}' is no number") from error
