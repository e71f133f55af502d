"""Tell whether two photos show the same person.

python compare.py a.jpg b.jpg --model ../model/r50,1
python compare.py a.jpg b.jpg --model ../model/r50,1 --calibration ../model/lfw-0001-embeddings.npz --far 0.001

Prints each photo's faces (box in pixels, probability), and of the most probable ones the squared distance of the unit
embeddings, their cosine and the verdict: the same person below the threshold. That is 1.24, or with --calibration the
one at which a share of --far of the pairs of different people pass for one person. The calibration file is what
`verification.py --mode 2` writes for the same network; as there, embeddings are then those of image plus mirror image.
"""

import argparse
import zipfile

import numpy as np

from insightface_mx.base.errors import UserError, exit_on_user_error
from insightface_mx.deploy import face_model
from insightface_mx.deploy.face_model import THRESHOLD, FaceModel
from insightface_mx.eval import roc
from insightface_mx.photos.decode import read_photo

FAR = 1e-3


def calibrated_threshold(path, far, length):
    """The squared distance below which a share `far` of the different pairs of a calibration file lies.

    length: of the network's embeddings. UserError: no such file, one of another network, or too few different pairs to
    tell such a share.
    """
    embeddings, issame = _read_calibration(path)
    if embeddings.shape[1] != length:
        raise UserError(f"{path} has embeddings of {embeddings.shape[1]} numbers, the network {length}: use its own")
    different = np.count_nonzero(~issame)
    if different * far < 1:
        raise UserError(f"{path} has {different} pairs of different people: --far must be at least 1/{different}")
    return roc.threshold_at_far(roc.pair_distances(embeddings), issame, far)


def _read_calibration(path):
    try:
        with np.load(path) as arrays:
            return arrays["embeddings"], arrays["issame"].astype(bool)
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror or 'no .npz file'}; see --calibration") from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is not what verification.py --mode 2 writes: {error}") from error


def find_face(model, path):
    """The most probable face of a photo, after a line for each. UserError: the photo cannot be used or has no face."""
    try:
        faces = model.get_faces([read_photo(path)])[0]
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    if not faces:
        raise UserError(f"{path}: no face found; --det 1 takes photos for crops of one face")
    for number, face in enumerate(faces, 1):
        box = ",".join(f"{value:.0f}" for value in face.box)
        used = " (compared)" if number == 1 and len(faces) > 1 else ""
        print(f"{path}: face {number} of {len(faces)} at {box}, probability {face.score:.3f}{used}")
    return faces[0]


def _face_or_problem(model, path, problems):
    try:
        return find_face(model, path)
    except UserError as error:
        problems.append(str(error))
    return None


def run(args):
    """Compare the two photos and print what was found."""
    model = FaceModel(args, flip=bool(args.calibration))
    threshold = model.threshold
    if args.calibration:
        threshold = calibrated_threshold(args.calibration, args.far, model.backend.length)
    problems = []
    faces = [_face_or_problem(model, path, problems) for path in args.photos]
    if problems:
        raise UserError("\nerror: ".join(problems))
    one, other = model.get_feature(np.stack([face.aligned for face in faces]))
    distance = np.sum((one - other) ** 2)
    print(f"distance {distance:.4f}, cosine {one @ other:.4f} ({model.backend.name})")
    verdict = "the same person" if distance < threshold else "different people"
    origin = f", false accept rate {args.far:g} on {args.calibration}" * bool(args.calibration)
    print(f"{verdict} (threshold {threshold:.4f}{origin})")


def parser():
    """The command's options."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = result.add_argument
    add("photos", nargs=2, metavar="PHOTO", help="an image file")
    face_model.add_options(result)
    threshold = result.add_mutually_exclusive_group()
    threshold.add_argument(
        "--threshold", type=float, default=THRESHOLD, help="squared distance, 0 to 4 (default: %(default)s)"
    )
    threshold.add_argument("--calibration", metavar="FILE.npz", help="pairs that the threshold is taken from")
    add("--far", type=share, default=FAR, help="false accept rate with --calibration, 0 to 1 (default: %(default)s)")
    return result


def share(text):
    """A number between 0 and 1."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def main(argv=None):
    """Run the command; exit status 2 with a message for what the user can mend."""
    args = parser().parse_args(argv)
    with exit_on_user_error():
        run(args)


if __name__ == "__main__":
    main()
