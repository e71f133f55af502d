"""Write the images of a training set as files: OUTPUT/CLASS/RECORD.jpg, bytes as they are in the records.

    python unpack.py ../data --output photos

A run that was stopped goes on when it is started again; OUTPUT is there once it is complete.
"""

import argparse
import logging
import os
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from insightface_mx.base.compat import cpu_count
from insightface_mx.base.errors import UserError
from insightface_mx.cli.main import Help
from insightface_mx.datasets import command
from insightface_mx.formats.atomic import report_write_errors
from insightface_mx.formats.training_set import TrainingSet
from insightface_mx.photos.decode import extension


def unpack(folder, output):
    """Write all images of a set; returns (name, reason) of those that cannot be read."""
    if os.path.exists(output):
        raise UserError(f"{output} exists already: remove it, or choose another --output")
    data, partial = TrainingSet(folder), f"{output}.partial"
    with report_write_errors(output), ThreadPoolExecutor(cpu_count()) as pool:
        for label in range(len(data.identities)):
            os.makedirs(os.path.join(partial, _folder(label)), exist_ok=True)
        places = [(label, number) for label, group in enumerate(data.identities) for number in group.tolist()]
        done = pool.map(lambda place: _write(data, partial, *place), places)
        skipped = [problem for problem in tqdm(done, total=len(places), unit="img", disable=None) if problem]
        os.rename(partial, output)
    return skipped


def _folder(label):
    return f"{label:07d}"


def _write(data, output, label, number):
    """Write an image unless it is there; None, or its name and the reason why it cannot be read."""
    try:
        encoded = data.image(number)
    except UserError as error:
        return f"record {number}", str(error)
    path = os.path.join(output, _folder(label), f"{number:08d}{extension(encoded)}")
    if not os.path.exists(path):
        with open(f"{path}.tmp", "wb") as file:
            file.write(encoded)
        os.replace(f"{path}.tmp", path)
    return None


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    parser.add_argument("data_dir", help="folder with train.rec, train.idx and property")
    parser.add_argument("--output", required=True, help="folder to write, a new one")
    args = parser.parse_args(argv)
    with command.running():
        skipped = unpack(args.data_dir, args.output)
        command.report_skipped(os.path.join(args.output, "skipped.csv"), skipped)
        logging.info("the images are in %s", args.output)


if __name__ == "__main__":
    main()
