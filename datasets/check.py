"""Read a whole training set and name everything that is wrong with it.

    python check.py ../data
    python check.py ../data --repair ../data-good

A line for every damaged record, unreadable image, image of another size, wrong label, person without images, and for
every image that is there twice or also in a verification set (the .bin files in the folder, and those of
--verification; images are compared by their pixels). Exit status: 0 nothing is wrong, 1 something is.

--repair writes a copy without the images that a line names. Persons are numbered anew where some have none left.
"""

import argparse
import hashlib
import logging
import os
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from insightface_mx.base.compat import cpu_count
from insightface_mx.base.errors import UserError
from insightface_mx.cli.main import Help
from insightface_mx.datasets import command
from insightface_mx.formats.recordio import RecordFile, find_offsets
from insightface_mx.formats.training_set import (
    LazyImages,
    group_by_label,
    read_property,
    record_range,
    refuse_existing,
    verification_sets,
    write_training_set,
)
from insightface_mx.formats.verification_set import read_bin
from insightface_mx.photos.decode import decode_record

# A record: its labels, and of its image size (height, width) and the pixels' hash; problem: '' or what is wrong.
Record = namedtuple("Record", "labels size digest problem")


class Check:
    """Goes through a set; `problems` are lines, `bad` the numbers of the images that they name."""

    def __init__(self, folder, verification=()):
        self.problems, self.bad = [], set()
        self._folder = folder
        self.property = self._read_property()
        self.records = self._open_records()
        self.found = self._read_all()
        self.images = {number: record for number, record in self.found.items() if record.size}
        self._check_records()
        self._check_table()
        self._check_copies()
        for path in [*verification_sets(folder), *verification]:
            self._check_overlap(path)

    def good_groups(self):
        """For every person the record numbers of the images that nothing is wrong with."""
        good = {number: image.labels[0] for number, image in self.images.items() if number not in self.bad}
        return group_by_label(list(good), list(good.values()))

    @property
    def image_size(self):
        """Height and width from the property, or else of the first image."""
        return self.property[1:] if self.property else next(iter(self.images.values())).size

    def _say(self, problem, *images):
        self.problems.append(problem)
        self.bad.update(images)

    def _read_property(self):
        try:
            return read_property(self._folder)
        except UserError as error:
            self._say(str(error))
            return None

    def _open_records(self):
        path = os.path.join(self._folder, "train.rec")
        try:
            return RecordFile(path)
        except UserError as error:
            self._say(str(error))
        records = RecordFile(path, find_offsets(path))
        self._say(f"{path}: {len(records)} records were found without the index, and numbered from 0")
        return records

    def _read_all(self):
        with ThreadPoolExecutor(cpu_count()) as pool:
            keys = self.records.keys()
            found = pool.map(lambda number: _inspect(self.records, number), keys)
            return dict(zip(keys, tqdm(found, total=len(keys), unit="rec", desc="reading", disable=None)))

    def _check_records(self):
        for number, record in self.found.items():
            if record.problem:
                self._say(record.problem, number)
            elif record.size:
                self._check_image(number, record)

    def _check_image(self, number, record):
        classes = self.property.num_classes if self.property else np.inf
        label = record.labels[0] if len(record.labels) else np.nan
        if not 0 <= label < classes or label != int(label):
            self._say(f"record {number}: its label {label:g} is no class from 0 to {classes} - 1", number)
        if self.property and record.size != self.property[1:]:
            height, width = record.size
            self.problems.append(
                f"record {number}: an image of {height},{width} pixels, property says {self.image_size[0]},"
                f"{self.image_size[1]} (height,width); training scales it"
            )

    def _check_table(self):
        """The persons' records: where they are, and what they say of the images."""
        if not self._has_table():
            self._check_classes({image.labels[0] for image in self.images.values()})
            return
        first, last = (int(label) for label in self.found[0].labels[:2])
        seen = set()
        for person, number in enumerate(range(first, last)):
            numbers = self._numbers_of(person, number)
            if seen & set(numbers):
                self._say(f"record {number}: shares images with a person before it")
            seen.update(numbers)
        for number in sorted(set(self.images) - seen):
            self._say(f"record {number}: an image of no person", number)
        self._check_classes(range(first, last))

    def _has_table(self):
        record = self.found.get(0)
        if not record or record.problem or record.size:
            return False
        if record_range(record.labels, max(self.found) + 1) is not None:
            return True
        self._say(f"record 0 names the persons' records {record.labels[:2]}, which are not in the file")
        return False

    def _numbers_of(self, person, number):
        """Record numbers of a person's images; what is wrong with them is said."""
        record = self.found.get(number)
        if record is None or record.problem:
            self._say(f"person {person}: its record {number} cannot be read")
            return []
        numbers = record_range(record.labels, max(self.found) + 1)
        if numbers is None:
            self._say(f"person {person}: its record {number} names the records {record.labels[:2]}, not in the file")
            return []
        if not any(one in self.images for one in numbers):
            self._say(f"person {person}: no images")
        for one in numbers:
            if one in self.images and self.images[one].labels[0] != person:
                self._say(f"record {one}: its label {self.images[one].labels[0]:g}, but it is person {person}'s", one)
        return numbers

    def _check_classes(self, persons):
        if self.property and len(persons) != self.property.num_classes:
            self._say(f"property says {self.property.num_classes} classes, the records hold {len(persons)}")

    def _check_copies(self):
        first_of = {}
        for number, image in self.images.items():
            first = first_of.setdefault(image.digest, number)
            if first != number and image.labels[0] == self.images[first].labels[0]:
                self._say(f"record {number}: the same image as record {first}", number)
            elif first != number:
                self._say(f"records {first} and {number}: the same image for two persons", first, number)

    def _check_overlap(self, path):
        try:
            encoded = read_bin(path)[0]
        except UserError as error:
            self._say(str(error))
            return
        places = {}
        for place, image in enumerate(encoded):
            pixels = decode_record(image)
            if pixels is None:
                self._say(f"{path}: image {place} cannot be decoded")
            else:
                places.setdefault(_digest(pixels), place)
        for number, image in self.images.items():
            if image.digest in places:
                self._say(f"record {number}: also image {places[image.digest]} of {path}", number)


def _inspect(records, number):
    try:
        labels, encoded = records.read(number)
    except UserError as error:
        return Record(np.empty(0), None, None, str(error))
    if not encoded:
        problem = "" if len(labels) > 1 else f"record {number}: neither an image nor a person's record"
        return Record(labels, None, None, problem)
    image = decode_record(encoded)
    if image is None:
        return Record(labels, None, None, f"record {number}: an image that cannot be decoded")
    return Record(labels, image.shape[:2], _digest(image), "")


def _digest(image):
    return hashlib.blake2b(image.tobytes() + repr(image.shape).encode(), digest_size=16).digest()


def check(args):
    """Check a set and, where that is asked for, write a good copy; true where nothing is wrong."""
    if not os.path.isdir(args.data_dir):
        raise UserError(f"data folder '{args.data_dir}' does not exist")
    if args.repair:
        refuse_existing(args.repair)
    found = Check(args.data_dir, args.verification)
    for problem in found.problems:
        logging.info(problem)
    logging.info("%d records, %d images, %d problems", len(found.found), len(found.images), len(found.problems))
    if args.repair:
        groups = found.good_groups()
        if not groups:
            raise UserError(f"{args.data_dir} has no good image: there is nothing to repair")
        images = [LazyImages(lambda number: found.records.read(number)[1], group.tolist()) for group in groups]
        write_training_set(args.repair, images, found.image_size)
        logging.info("%d good images of %d people in %s", sum(map(len, groups)), len(groups), args.repair)
    return not found.problems


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    parser.add_argument("data_dir", help="folder with train.rec, train.idx and property")
    parser.add_argument("--verification", nargs="+", default=[], metavar="BIN", help="more verification sets")
    parser.add_argument("--repair", metavar="FOLDER", help="write a good copy there, a new folder")
    with command.running():
        good = check(parser.parse_args(argv))
    if not good:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
