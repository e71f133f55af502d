"""Write the embeddings of many images: a folder, a list, training records or a verification set.

python embed.py photos --model ../model/r50,1 --output photos.npz
python embed.py ../data/train.rec --aligned --model ../model/r50,1 --output train.parquet
python embed.py ../data/lfw.bin --aligned --flip --model ../model/r50,1 --output lfw.csv

A row is a face: name (path, record number or number in the set), label (-1: none), face (0: the most probable one of
the image), x1, y1, x2, y2 (pixels; the whole image with --aligned), score (0..1) and the embedding, of unit length.

Results are kept in OUTPUT.part while the command runs: started again after an interruption it goes on from there. The
output appears when all is done. An image that cannot be used is named on standard error, the others are done, and the
exit status is 2.
"""

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from insightface_mx.base.compat import cpu_count
from insightface_mx.base.errors import UserError, exit_on_user_error
from insightface_mx.cli.types import positive
from insightface_mx.deploy import face_model, face_table
from insightface_mx.deploy.face_model import Face, FaceModel
from insightface_mx.engine.network import BATCH_SIZE
from insightface_mx.formats import checkpoint
from insightface_mx.formats.atomic import report_write_errors
from insightface_mx.formats.chunks import ChunkStore
from insightface_mx.photos import sources
from insightface_mx.photos.decode import fit, network_input

CHUNK = 512  # images whose results are kept together; an interruption loses less than so many


class Embedder:
    """Embeds chunks of a source; aligned and all_faces are the options of that name."""

    def __init__(self, source, model, batch_size, aligned, all_faces):
        self._source, self._model, self._batch_size = source, model, batch_size
        self._aligned, self._all_faces = aligned, all_faces
        self._pool = ThreadPoolExecutor(cpu_count(), "decode")

    def chunk(self, start, progress):
        """Table and failures of the images from `start` on; `progress` is told of every image."""
        rows, failures = [], []
        for images in self._batches(range(start, min(start + CHUNK, len(self._source)))):
            faces = []
            for number, future in images:
                try:
                    image, label = future.result()
                    faces += [(self._source.name(number), label, *found) for found in self._faces(number, image)]
                except UserError as error:
                    failures.append(str(error))
                progress.update()
            rows += self._embedded(faces)
        return face_table.make(rows, self._model.backend.length), failures

    def _batches(self, numbers):
        """Lists of (number, future of image and label), each list being read while the one before it is used."""
        waiting = []
        for start in range(0, len(numbers), self._batch_size):
            batch = numbers[start : start + self._batch_size]
            waiting.append([(number, self._pool.submit(self._source.image, number)) for number in batch])
            if len(waiting) > 1:
                yield waiting.pop(0)
        yield from waiting

    def _faces(self, number, image):
        """(number of the face, Face) of an image. UserError: there is none, or the image cannot be used."""
        if self._aligned:
            height, width = image.shape[:2]
            aligned = network_input(fit(image, self._model.image_size))
            return [(0, Face(np.array([0, 0, width, height]), 1.0, None, aligned))]
        try:
            faces = self._model.get_faces([image])[0]
        except (UserError, ValueError) as error:
            raise UserError(f"{self._source.name(number)}: {error}") from error
        if not faces:
            raise UserError(f"{self._source.name(number)}: no face found; --aligned takes images as they are")
        return list(enumerate(faces))[: None if self._all_faces else 1]

    def _embedded(self, faces):
        if not faces:
            return []
        features = self._model.get_feature(np.stack([face.aligned for *_, face in faces]))
        return [
            (name, label, number, face.box, face.score, feature)
            for (name, label, number, face), feature in zip(faces, features)
        ]


def run(args):
    """Embed everything and write the output; returns the number of images that could not be used."""
    write = face_table.writer(args.output)
    source = sources.open_source(args.input)
    model = FaceModel(args)
    note(f"{len(source)} images, {model.backend.name}")
    with report_write_errors(args.output):
        kept = ChunkStore(f"{args.output}.part", settings(args, source))
        if kept.of_another_run():
            raise UserError(f"{kept.folder} holds results of other images, another network or other options: remove it")
        kept.begin()
        chunks = compute(source, Embedder(source, model, args.batch_size, args.aligned, args.all_faces), kept)
    write(args.output, (load_chunk(kept, number)[0] for number in chunks))
    failed = sum(len(load_chunk(kept, number)[1]) for number in chunks)
    kept.remove()
    return failed


def compute(source, embedder, kept):
    """Do every chunk that is not kept yet; returns the numbers of all."""
    starts = range(0, len(source), CHUNK)
    missing = set(kept.missing(len(starts)))
    with tqdm(total=len(source), unit="img", disable=None) as progress:
        for number, start in enumerate(starts):
            if number in missing:
                table, failures = embedder.chunk(start, progress)
                kept.save(number, {**table, "failures": np.array(failures, str)})
            else:
                progress.update(min(CHUNK, len(source) - start))
            for failure in load_chunk(kept, number)[1]:
                note(f"error: {failure}")
    return range(len(starts))


def load_chunk(kept, number):
    """Return the table and the failures, a list of lines, of a stored chunk."""
    table = kept.load(number)
    return table, table.pop("failures").tolist()


def settings(args, source):
    """Text that tells runs apart whose results must not be mixed."""
    path = args.model
    if not path.endswith(".onnx"):
        path = checkpoint.params_path(*checkpoint.parse(path))
    chosen = {key: value for key, value in vars(args).items() if key not in ("output", "batch_size", "gpu")}
    return json.dumps({**chosen, "source": source.stamp(), "network": sources.file_stamp(path)}, indent=1)


def note(line):
    """Print what is no result, to standard error."""
    tqdm.write(line, file=sys.stderr)


def parser():
    """The command's options."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = result.add_argument
    add("input", metavar="INPUT", help=sources.HELP)
    add("--output", required=True, metavar="FILE", help="what to write: .npz, .csv or .parquet")
    face_model.add_options(result)
    add("--aligned", action="store_true", help="images are aligned faces: no detection, only fitted to --image-size")
    add("--all-faces", action="store_true", help="every face of an image, not only the most probable one")
    add("--flip", action="store_true", help="embeddings of image plus mirror image, as in verification.py")
    add("--batch-size", type=positive, default=BATCH_SIZE, metavar="N", help="images at a time (default: %(default)s)")
    return result


def main(argv=None):
    """Run the command; exit status 2 with a message for what the user can mend."""
    args = parser().parse_args(argv)
    with exit_on_user_error():
        failed = run(args)
        note(f"{args.output} written")
        if failed:
            raise UserError(f"{failed} images could not be used; the others are in {args.output}")


if __name__ == "__main__":
    main()
