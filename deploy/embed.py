"""Write the embeddings of many images: a folder, a list, training records or a verification set.

A row is a face: name (path, record id or index in the set), label (-1: none), face (0: the most probable one of the
image), x1, y1, x2, y2 (pixels; the complete image with --aligned), score (0..1) and the unit embedding. Labels of a
folder that holds a folder for each identity are 0, 1, 2 ... in the order in which build-set numbers identities: that of
the folders' names.

Results are stored in OUTPUT.part while the command runs: started again after an interruption it continues from there.
The output appears when all is done. An image that cannot be used, and a line of a list that names none, is named on
standard error, the others are embedded, and the exit status is 2.
"""

from __future__ import annotations

if __name__ == "__main__":  # first, so that a signal ends the imports below, too, without a traceback
    from insightface_mx.cli import start

    start.embed()

import argparse
from collections import Counter
from typing import TYPE_CHECKING, Callable, Iterator, Sequence

from insightface_mx.base.errors import UserError
from insightface_mx.cli.device import add_device_options
from insightface_mx.cli.fields import add_options, changed, read_options, refuse_idle
from insightface_mx.cli.main import make_parser, run_command
from insightface_mx.cli.output import note
from insightface_mx.deploy.face_options import EmbedOptions, FaceOptions, make_face_options
from insightface_mx.engine.network_input import INPUT_GROUP, NetworkInput
from insightface_mx.formats import overwrite
from insightface_mx.photos.lists import SOURCES

if TYPE_CHECKING:
    from concurrent.futures import Future

    import numpy as np

    from insightface_mx.deploy.face_model import Face, FaceModel
    from insightface_mx.deploy.face_table import FaceRow, Table, Writer
    from insightface_mx.files.chunks import ChunkStore
    from insightface_mx.photos.sources import Source

EXAMPLE = """
insightface-embed photos --model model/r50,1 --output photos.npz
insightface-embed data/train.rec --aligned --model model/r50,1 --output train.parquet
insightface-embed data/lfw.bin --aligned --flip --model model/r50,1 --output lfw.csv
"""
CHUNK = 512  # images whose results are stored together; an interruption loses less than this


class ChunkEmbedder:
    """Embeds chunks of a source; the next batch of images is read while one is embedded.

    What a verification set has several times is embedded once.
    """

    def __init__(self, source: Source, model: FaceModel, options: EmbedOptions) -> None:
        """Start the threads that read images."""
        from concurrent.futures import ThreadPoolExecutor

        from insightface_mx.base.machine import cpu_count

        self._source, self._model, self._options = source, model, options
        self._pool = ThreadPoolExecutor(cpu_count(), "decode")
        self._repeats = Counter(source.repeated.values())  # how often a result will be needed again
        self._results: dict[int, list[FaceRow] | UserError] = {}  # by index

    def embed(self, start: int, count_image: Callable[[], object]) -> tuple[Table, list[str]]:
        """Embed the CHUNK images from index `start` on.

        Args:
            start: Index of the first image.
            count_image: Called after every image.

        Returns:
            The table of the faces, and a line for each image that could not be used.
        """
        from insightface_mx.deploy.face_table import make_table

        indices = range(start, min(start + CHUNK, len(self._source)))
        firsts = [self._source.repeated.get(index, index) for index in indices]
        missing = [first for first in dict.fromkeys(firsts) if first not in self._results]
        for batch in self._batches(missing):
            self._results.update(self._embed_batch(batch, count_image))
        rows: list[FaceRow] = []
        failures: list[str] = []
        for index, first in zip(indices, firsts):
            result, name = self._results[first], self._source.name(index)
            if not isinstance(result, UserError):
                rows += [row._replace(name=name) for row in result]
            elif index == first:
                failures.append(str(result))
            else:
                failures.append(f"{name}: it is the same as {self._source.name(first)}, which cannot be used")
        for _ in range(len(indices) - len(missing)):
            count_image()
        self._repeats.subtract(first for index, first in zip(indices, firsts) if index != first)
        self._results = {first: result for first, result in self._results.items() if self._repeats[first] > 0}
        return make_table(rows, self._model.embedder.length), failures

    def _embed_batch(
        self, batch: list[tuple[int, Future[tuple[np.ndarray, int]]]], count_image: Callable[[], object]
    ) -> dict[int, list[FaceRow] | UserError]:
        """Return the rows of every image of a batch, by index, or why there is none."""
        import numpy as np

        from insightface_mx.deploy.face_table import FaceRow

        found = {}
        for index, image in batch:
            found[index] = self._faces_or_error(index, image)
            count_image()
        usable = [result[1] for result in found.values() if not isinstance(result, UserError)]
        aligned = [face.aligned for faces in usable for face in faces]
        features = iter(self._model.get_feature(np.stack(aligned)) if aligned else ())
        results: dict[int, list[FaceRow] | UserError] = {}
        for index, result in found.items():
            if isinstance(result, UserError):
                results[index] = result
            else:
                name, (label, faces) = self._source.name(index), result
                results[index] = [
                    FaceRow(name, label, place, face.box, face.score, next(features))
                    for place, face in enumerate(faces)
                ]
        return results

    def _batches(self, indices: Sequence[int]) -> Iterator[list[tuple[int, Future[tuple[np.ndarray, int]]]]]:
        """Yield batches of (index, image and label to be read), each being read while the one before it is used."""
        size = self._options.batch_size
        waiting = []
        for start in range(0, len(indices), size):
            batch = indices[start : start + size]
            waiting.append([(index, self._pool.submit(self._source.image, index)) for index in batch])
            if len(waiting) > 1:
                yield waiting.pop(0)
        yield from waiting

    def _faces_or_error(self, index: int, image: Future[tuple[np.ndarray, int]]) -> tuple[int, list[Face]] | UserError:
        """Return the label of an image and its faces to embed, or why there is none."""
        name = self._source.name(index)
        try:
            pixels, label = image.result()
        except UserError as error:
            return error
        if self._options.aligned:
            return label, [self._aligned_face(pixels)]
        try:
            faces = self._model.get_faces([pixels])[0]
        except (UserError, ValueError) as error:
            return UserError(f"{name}: {error}")
        if not faces:
            return UserError(f"{name}: no face found; --aligned takes images as they are")
        return label, faces if self._options.all_faces else faces[:1]

    def _aligned_face(self, pixels: np.ndarray) -> Face:
        import numpy as np

        from insightface_mx.deploy.face_model import Face
        from insightface_mx.photos.decode import fit, network_input

        height, width = pixels.shape[:2]
        return Face(np.array([0, 0, width, height]), 1.0, None, network_input(fit(pixels, self._model.image_size)))


def run(args: argparse.Namespace) -> None:
    """Embed everything and write the output, which no other process does at the same time."""
    from insightface_mx.deploy.face_table import find_writer
    from insightface_mx.files.lock import lock_file

    write = find_writer(args.output)
    overwrite.refuse_other_kind(args.output, "table of embeddings", args.force)
    with lock_file(args.output):
        embed_all(args, write)


def embed_all(args: argparse.Namespace, write: Writer) -> None:
    """Embed everything, and let `write` write the output."""
    from insightface_mx.deploy.face_model import FaceModel
    from insightface_mx.files.atomic import report_write_errors
    from insightface_mx.files.chunks import ChunkStore
    from insightface_mx.photos.sources import open_source

    options = read_options(args, EmbedOptions)
    model = FaceModel(make_face_options(args))
    if options.aligned:
        idle = changed(options, "all_faces") + changed(model.options, "det", "detector")
        refuse_idle(idle, "with --aligned, which looks for no faces: leave it out")
    source = open_source(args.input, args.root)
    note(f"{len(source)} images, {model.embedder.backend.name}")
    for place, reason in source.left_out:
        note(f"error: {place}: {reason}")
    with report_write_errors(args.output):
        store = ChunkStore(f"{args.output}.part", settings_text(model, options, source))
        if store.of_another_run():
            raise UserError(
                f"{store.folder} holds results of other images, another network or other options: remove it"
            )
        store.begin()
        chunks = range(len(range(0, len(source), CHUNK)))
        fill(store, ChunkEmbedder(source, model, options), len(source))
    write(args.output, (load_chunk(store, chunk)[0] for chunk in chunks))
    failed = sum(len(load_chunk(store, chunk)[1]) for chunk in chunks) + len(source.left_out)
    store.remove()
    note(f"{args.output} written")
    if failed:
        raise UserError(f"{failed} images could not be used; the others are in {args.output}")


def fill(store: ChunkStore, embedder: ChunkEmbedder, images: int) -> None:
    """Embed every chunk that is not stored yet, and name the images that cannot be used."""
    import numpy as np
    from tqdm import tqdm

    starts = range(0, images, CHUNK)
    missing = set(store.missing(len(starts)))
    with tqdm(total=images, unit="img", disable=None) as progress:
        for chunk, start in enumerate(starts):
            if chunk in missing:
                table, failures = embedder.embed(start, progress.update)
                store.save(chunk, {**table, "failures": np.array(failures, str)})
            else:
                progress.update(min(CHUNK, images - start))
            for failure in load_chunk(store, chunk)[1]:
                note(f"error: {failure}")


def load_chunk(store: ChunkStore, chunk: int) -> tuple[Table, list[str]]:
    """Return the table of a stored chunk, and a line for each image that could not be used."""
    table = store.load(chunk)
    return table, table.pop("failures").tolist()


def settings_text(model: FaceModel, options: EmbedOptions, source: Source) -> str:
    """Return text that differs for runs whose results must not be mixed."""
    import json

    faces = model.options
    chosen = {
        "image_size": model.image_size,
        "backend": faces.backend,
        "det": faces.det,
        "detector": faces.detector,
        "flip": faces.flip,
        "aligned": options.aligned,
        "all_faces": options.all_faces,
        **faces.network_input.given(),
    }
    return json.dumps({**chosen, "source": source.stamp(), "network": faces.stamp()}, indent=1)


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    result = make_parser(__doc__, EXAMPLE)
    result.add_argument("input", metavar="INPUT", help=SOURCES)
    result.add_argument("--root", help="folder that a list's paths start from (default: the list's own)")
    result.add_argument("--output", required=True, metavar="FILE", help="what to write: .npz, .csv or .parquet")
    overwrite.add_force_option(result)
    add_options(result, "faces", FaceOptions, EmbedOptions)
    add_options(result, INPUT_GROUP, NetworkInput)
    result.add_argument("--flip", action="store_true", help="embed image plus mirror image, as verification.py does")
    add_device_options(result, gpu=0)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; argv: words of the command line, None for those of the process."""
    run_command(run, parser(), argv)
