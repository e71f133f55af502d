"""Tell whether two photos show the same person.

Prints each photo's faces (box in pixels, probability), and of the most probable ones the squared distance of the unit
embeddings, their cosine and the verdict: the same person below the threshold. The threshold is 1.24, or with
--calibration the one at which a fraction of --far of the pairs of different identities is taken for one identity. The
calibration file is written by `verification.py --mode 2`, or by its --json, for the same network; as there, embeddings
are then those of image plus mirror image.
"""

from __future__ import annotations

if __name__ == "__main__":  # first, so that a signal ends the imports below, too, without a traceback
    from insightface_mx.cli import start

    start.compare()

import argparse
from typing import TYPE_CHECKING, Sequence

from insightface_mx.base.errors import UserError
from insightface_mx.cli.device import add_device_options
from insightface_mx.cli.fields import add_options, refuse_idle
from insightface_mx.cli.main import make_parser, run_command
from insightface_mx.cli.output import say
from insightface_mx.cli.types import fraction
from insightface_mx.deploy.face_options import THRESHOLD, FaceOptions, make_face_options
from insightface_mx.engine.network_input import INPUT_GROUP, NetworkInput

if TYPE_CHECKING:
    import numpy as np

    from insightface_mx.deploy.face_model import Face, FaceModel

EXAMPLE = """
insightface-compare a.jpg b.jpg --model model/r50,1
insightface-compare a.jpg b.jpg --model model/r50,1 --calibration model/lfw-0001-embeddings.npz --far 0.001
"""
FAR = 1e-3
UNIT_TOLERANCE = 0.01  # of a unit embedding's length


def run(args: argparse.Namespace) -> None:
    """Compare the two photos and print the verdict."""
    import numpy as np

    from insightface_mx.deploy.face_model import FaceModel

    if args.far != FAR and not args.calibration:
        refuse_idle(["--far"], "without --calibration FILE.npz: give that, too")
    model = FaceModel(make_face_options(args, flip=bool(args.calibration)))
    threshold, origin = model.threshold, ""
    if args.calibration:
        threshold = find_threshold(args.calibration, args.far, args.model, model.embedder.length)
        origin = f", false accept rate {args.far:g} on {args.calibration}"
    found = [find_faces(model, path) for path in args.photos]
    for path, faces in zip(args.photos, found):
        if not isinstance(faces, UserError):
            print_faces(path, faces)
    problems = [str(faces) for faces in found if isinstance(faces, UserError)]
    if problems:
        raise UserError("\nerror: ".join(problems))
    one, other = model.get_feature(np.stack([faces[0].aligned for faces in found if not isinstance(faces, UserError)]))
    distance = np.sum((one - other) ** 2)
    say(f"distance {distance:.4f}, cosine {one @ other:.4f} ({model.embedder.backend.name})")
    verdict = "the same person" if distance < threshold else "different people"
    say(f"{verdict} (threshold {threshold:.4f}{origin})")


def find_faces(model: FaceModel, path: str) -> list[Face] | UserError:
    """Return the faces of a photo, the most probable one first, or the reason why there is none."""
    from insightface_mx.photos.decode import read_photo

    try:
        faces = model.get_faces([read_photo(path)])[0]
    except UserError as error:
        return error
    except ValueError as error:
        return UserError(f"{path}: {error}")
    return faces or UserError(f"{path}: no face found; --det 1 takes photos for crops of one face")


def print_faces(path: str, faces: list[Face]) -> None:
    """Print a line for each face of a photo."""
    for index, face in enumerate(faces, 1):
        box = ",".join(f"{value:.0f}" for value in face.box)
        used = " (compared)" if index == 1 and len(faces) > 1 else ""
        say(f"{path}: face {index} of {len(faces)} at {box}, probability {face.score:.3f}{used}")


def find_threshold(path: str, far: float, model: str, length: int) -> float:
    """Return the squared distance of --calibration, which names embeddings or the JSON file of a report.

    Args:
        path: The file.
        far: The false accept rate.
        model: The network, 'PREFIX,EPOCH' or 'FILE.onnx'.
        length: Of its embeddings.

    Raises:
        UserError: The file cannot be read, is one of another network, or has too few pairs for the rate.
    """
    from insightface_mx.eval.report_thresholds import is_report, reported_threshold

    return reported_threshold(path, far, model) if is_report(path) else calibrated_threshold(path, far, length)


def calibrated_threshold(path: str, far: float, length: int) -> float:
    """Return the squared distance below which a fraction `far` of the pairs of different identities lies.

    Args:
        path: The calibration file.
        far: The fraction.
        length: Of the network's embeddings.

    Raises:
        UserError: There is no such file, it is one of another network, or has too few pairs for the fraction.
    """
    import numpy as np

    from insightface_mx.eval import roc

    embeddings, issame = read_calibration(path)
    if embeddings.shape[1] != length:
        raise UserError(f"{path} has embeddings of length {embeddings.shape[1]}, the network {length}: use its own")
    different = np.count_nonzero(~issame)
    if different * far < 1:
        raise UserError(f"{path} has {different} pairs of different identities: --far must be at least 1/{different}")
    return roc.threshold_at_far(roc.pair_distances(embeddings), issame, far)


def read_calibration(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Read unit embeddings (2n, d) and flags (n,). Raises UserError where the file does not hold them."""
    from insightface_mx.files.safe_npz import BadArrays, read_npz

    try:
        arrays = read_npz(path)
        problem = _calibration_problem(arrays)
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}; see --calibration") from error
    except BadArrays as error:
        problem = str(error)
    if problem:
        raise UserError(
            f"{path} is not what verification.py --mode 2 writes, unit embeddings (2n, d) and issame (n,): {problem}"
        )
    return arrays["embeddings"], arrays["issame"].astype(bool)


def _calibration_problem(arrays: dict[str, np.ndarray]) -> str:
    """Say what is wrong with the arrays of a calibration file; '' if nothing is."""
    import numpy as np

    missing = [name for name in ("embeddings", "issame") if name not in arrays]
    if missing:
        return f"it has no array {missing[0]}"
    embeddings, issame = arrays["embeddings"], arrays["issame"]
    if embeddings.dtype.kind != "f" or issame.dtype.kind not in "biuf":
        return f"its embeddings are {embeddings.dtype}, its issame {issame.dtype}"
    if embeddings.ndim != 2 or issame.ndim != 1 or len(embeddings) != 2 * len(issame) or not embeddings.size:
        return f"its embeddings are {embeddings.shape}, its issame {issame.shape}"
    if not (np.abs(embeddings) <= 1 + UNIT_TOLERANCE).all():
        return "its embeddings hold NaN or numbers above 1"
    if np.linalg.norm(embeddings, axis=1).max() > 1 + UNIT_TOLERANCE:
        return "its embeddings are longer than 1"
    return "" if np.isin(issame, (0, 1)).all() else "its issame holds other values than 0 and 1"


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    result = make_parser(__doc__, EXAMPLE)
    result.add_argument("photos", nargs=2, metavar="PHOTO", help="an image file")
    add_options(result, "faces", FaceOptions)
    add_options(result, INPUT_GROUP, NetworkInput)
    add_device_options(result, gpu=0)
    group = result.add_argument_group("verdict")
    threshold = group.add_mutually_exclusive_group()
    threshold.add_argument("--threshold", type=float, default=THRESHOLD, help="squared distance, 0 to 4")
    threshold.add_argument(
        "--calibration", metavar="FILE", help="pairs, .npz, or report, .json, that gives the threshold"
    )
    group.add_argument("--far", type=fraction, default=FAR, help="false accept rate with --calibration, 0 to 1")
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; argv: words of the command line, None for those of the process."""
    run_command(run, parser(), argv)
