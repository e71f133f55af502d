"""Write the images of a training set as files: OUTPUT/CLASS/RECORD.jpg, bytes as they are in the records.

A run that was stopped continues when it is started again; OUTPUT is there once it is complete.
"""

from __future__ import annotations

if __name__ == "__main__":  # first, so that a signal ends the imports below, too, without a traceback
    from insightface_mx.cli import start

    start.unpack_set()

import argparse
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Sequence, Tuple

from tqdm import tqdm

from insightface_mx.base.errors import UserError
from insightface_mx.base.machine import cpu_count
from insightface_mx.cli.main import make_parser, run_command
from insightface_mx.cli.output import start_logging
from insightface_mx.datasets.skipped import report_skipped
from insightface_mx.files.atomic import atomic_path, remove_leftovers, report_write_errors
from insightface_mx.files.chunks import ChunkStore
from insightface_mx.files.lock import lock_file
from insightface_mx.formats.training_set import TrainingSet
from insightface_mx.photos.image_files import extension
from insightface_mx.photos.lists import Skipped
from insightface_mx.photos.sources import file_stamp

EXAMPLE = "insightface-unpack-set data --output photos"

_Place = Tuple[int, int]  # class and record id


def unpack(folder: str, output: str) -> Skipped:
    """Write all images of a set.

    Args:
        folder: The training set.
        output: Folder to write, which must not exist.

    Returns:
        Records that cannot be read, and why.

    Raises:
        UserError: The set cannot be read, or the output exists or cannot be written.
    """
    if os.path.exists(output):
        raise UserError(f"{output} exists already: remove it, or choose another --output")
    data, partial = TrainingSet(folder), f"{output}.partial"
    store = ChunkStore(partial, file_stamp(os.path.join(folder, "train.rec")))
    with report_write_errors(output), ThreadPoolExecutor(cpu_count()) as pool:
        if store.of_another_run():
            raise UserError(f"{partial} holds images of another set: remove it, or choose another --output")
        store.begin()
        labels = data.labels.tolist()
        for label in labels:
            os.makedirs(os.path.join(partial, _folder(label)), exist_ok=True)
            remove_leftovers(os.path.join(partial, _folder(label)), r"\d{8,}\.\w+")
        places = [(label, record_id) for label, images in zip(labels, data.identities) for record_id in images.tolist()]
        done = pool.map(lambda place: _write(data, partial, place), places)
        skipped = [problem for problem in tqdm(done, total=len(places), unit="img", disable=None) if problem]
        store.release()
        os.rename(partial, output)
    return data.unusable + skipped


def _folder(label: int) -> str:
    return f"{label:07d}"


def _write(data: TrainingSet, output: str, place: _Place) -> tuple[str, str] | None:
    """Write an image unless it is there; returns None, or its name and the reason why it cannot be read."""
    label, record_id = place
    try:
        encoded = data.image(record_id)
    except UserError as error:
        return f"record {record_id}", str(error)
    path = os.path.join(output, _folder(label), f"{record_id:08d}{extension(encoded)}")
    if not (os.path.isfile(path) and os.path.getsize(path) == len(encoded)):
        with atomic_path(path, durable=False) as temporary, open(temporary, "wb") as file:
            file.write(encoded)
    return None


def run(args: argparse.Namespace) -> None:
    """Write the images and the list of what cannot be read."""
    start_logging()
    output = args.output.rstrip(os.sep) or os.sep
    with lock_file(output):
        skipped = unpack(args.data_dir, output)
        report_skipped(os.path.join(output, "skipped.csv"), skipped)
    logging.info("the images are in %s", output)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = make_parser(__doc__, EXAMPLE)
    parser.add_argument("data_dir", help="folder with train.rec, train.idx and property")
    parser.add_argument("--output", required=True, help="folder to write, a new one")
    run_command(run, parser, argv)
