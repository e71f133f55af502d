"""A tiny data set: four people drawn as blobs of their own colour, 32x32, written by the project's own writer."""

import cv2
import numpy as np
import pytest

from insightface_mx.formats.rec_writer import write_training_set
from insightface_mx.formats.verification_set import write_bin

PEOPLE, PHOTOS, SIZE = 4, 6, 32


def photo(person, number, extension=".png"):
    """An encoded image whose mean colour tells the person and whose noise tells the photo."""
    noise = np.random.RandomState(100 * person + number).randint(0, 40, (SIZE, SIZE, 3))
    colour = np.array([(40, 60, 200), (200, 50, 60), (60, 200, 40), (200, 200, 40)][person])
    return cv2.imencode(extension, (colour + noise).astype(np.uint8))[1].tobytes()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A training folder with train.rec, train.idx, property and toy.bin (12 pairs)."""
    folder = tmp_path_factory.mktemp("data")
    write_training_set(str(folder), [[photo(p, i) for i in range(PHOTOS)] for p in range(PEOPLE)], (SIZE, SIZE))
    pairs = [(p, i, p, i + 1) for p in range(2) for i in range(3)] + [
        (p, i, p + 1, i) for p in range(2) for i in range(3)
    ]
    images = [image for p, i, q, j in pairs for image in (photo(p, i), photo(q, j))]
    write_bin(str(folder / "toy.bin"), images, [p == q for p, _, q, _ in pairs])
    return folder
