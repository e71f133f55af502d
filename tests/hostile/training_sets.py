"""train.rec, train.idx, property and the caches next to them."""

from __future__ import annotations

import io
import os
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

import numpy as np
from hostile.images import jpeg_of, png_of
from hostile.mutations import LONG, changed, damaged, file_cases, foreign, odd_files, with_file
from hostile.rule import EITHER, ERROR, VALUE, Case, Group
from hostile.verification import images

from insightface_mx.base.errors import UserError
from insightface_mx.datasets import checks
from insightface_mx.datasets.info import describe
from insightface_mx.files import cache
from insightface_mx.formats.recordio import RecordFile
from insightface_mx.formats.training_set import TrainingSet, write_training_set
from insightface_mx.image_iter import FaceImageIter
from insightface_mx.photos.identities import identity_photos
from insightface_mx.photos.sources import open_source

IDENTITIES, PHOTOS, SIZE = 5, 4, (48, 40)
_HEADER = struct.Struct("<IfQQ")
Record = bytes  # header, label array and payload


def prepare(folder: Path) -> None:
    """Write a training set."""
    pictures = images(IDENTITIES * PHOTOS)
    groups = [pictures[start : start + PHOTOS] for start in range(0, len(pictures), PHOTOS)]
    write_training_set(str(folder), groups, SIZE)


def write_caches(folder: Path) -> None:
    """Let the project write the caches of a set, which are otherwise written for large sets only."""
    cache.MIN_CACHED_BYTES = 0
    assert len(TrainingSet(str(folder)).identities) == IDENTITIES


def prepare_cached(folder: Path) -> None:
    """Write a training set and its caches; these do not fit a copy, so each case has them written again."""
    prepare(folder)
    write_caches(folder)


def record(label: Any, payload: bytes, record_id: int = 0) -> Record:
    """Return the bytes of a record; label: a number, or the values of a label array."""
    if isinstance(label, (list, tuple)):
        return _HEADER.pack(len(label), 0, record_id, 0) + struct.pack(f"<{len(label)}f", *label) + payload
    return _HEADER.pack(0, label, record_id, 0) + payload


def write_raw(folder: Path, records: Sequence[Record], classes: object = 2) -> None:
    """Write records as they are, with an index and a property."""
    position, index = 0, []
    with open(folder / "train.rec", "wb") as file:
        for number, content in enumerate(records):
            stored = struct.pack("<II", 0xCED7230A, len(content)) + content + bytes(-len(content) % 4)
            file.write(stored)
            index.append(f"{number}\t{position}\n")
            position += len(stored)
    (folder / "train.idx").write_text("".join(index))
    (folder / "property").write_text(f"{classes},{SIZE[0]},{SIZE[1]}\n")


def cases(good: Path) -> Iterator[Case]:
    for case in file_cases(good, "train.rec", flips=40, cuts=12, words=30, expect_foreign=EITHER):
        yield case
    for case in file_cases(good, "train.idx", flips=30, cuts=10, words=8):
        expect = EITHER if case.name.endswith("zeros") else case.expect
        yield case._replace(expect=expect)
    for case in file_cases(good, "property", flips=20, cuts=3, words=6):
        number = "h15 " if case.name.endswith(("pipe", "/dev/zero")) else ""
        yield case._replace(name=number + case.name)
    yield from properties(good)
    yield from indexes(good)
    yield from raw_sets()


def properties(good: Path) -> Iterator[Case]:
    """Yield contents of `property`."""
    for text in ("²,48,40", f"{LONG},48,40", f"5,{LONG},40"):
        yield Case(f"h25 property {text[:12]}", with_file(good, "property", text.encode()), ERROR)
    for text in ("200000001,48,40", f"{2**31},48,40", f"{2**63},48,40"):
        yield Case(f"h28 property {text}", with_file(good, "property", text.encode()), ERROR)
    for text in ("5,99999999,99999999", f"5,{2**31},40", "5,1,1000000000"):
        yield Case(f"property {text}", with_file(good, "property", text.encode()), ERROR)
    for text in (
        "0,48,40",
        "-5,48,40",
        "5,0,40",
        "5,48",
        "5,48,40,3",
        "5 48 40",
        "five,48,40",
        "5.0,48,40",
        "nan,48,40",
        "5,48,inf",
        "1e3,48,40",
        "0x5,48,40",
        "5,,40",
        "",
        "5;48;40",
        "\x1b[2J,48,40",
        "x" * 5000,
        "5\n48\n40",
    ):
        yield Case(f"property {text[:30]!r}", with_file(good, "property", text.encode()), ERROR)
    for text in ("٥,48,40", " 5 , 48 , 40 \r\n", "\ufeff5,48,40", "5_0,48,40", "05,048,040", "5,48,40\nmore"):
        yield Case(f"property {text!r}", with_file(good, "property", text.encode()))


def indexes(good: Path) -> Iterator[Case]:
    """Yield contents of train.idx."""
    lines = (good / "train.idx").read_text().splitlines()
    for offset in (2**63 - 1, 2**63 - 9, 2**62):
        changed_lines = [*lines[:5], f"5\t{offset}", *lines[6:]]
        yield Case(f"h27 idx offset {offset}", with_file(good, "train.idx", "\n".join(changed_lines).encode()))
        yield Case(
            f"idx offsets {offset}",
            with_file(good, "train.idx", "".join(f"{i}\t{offset}\n" for i in range(26)).encode()),
            ERROR,
        )
    for line in (
        "5",
        "5\t",
        "\t7",
        "5\t7\t9",
        "5 7",
        "5,7",
        "a\tb",
        "5\t-7",
        "-5\t7",
        "5\tnan",
        "5\t1e3",
        "5\t0x10",
        f"5\t{2**64}",
        f"5\t{LONG}",
        "5\t²",
        "5\t7 # more",
        "# 5\t7",
        "5\t" + "x" * 100_000,
        "\x1b[2J\t5",
        "5\t7\0",
    ):
        changed_lines = [*lines[:5], line, *lines[6:]]
        yield Case(f"idx line {line[:20]!r}", with_file(good, "train.idx", "\n".join(changed_lines).encode("utf-8")))
    for name, text in {
        "twice the same id": "\n".join([*lines, lines[3]]),
        "from 1 on": "\n".join(lines[1:]),
        "backwards": "\n".join(lines[::-1]),
        "ids shifted": "\n".join(f"{i + 7}\t{line.split()[1]}" for i, line in enumerate(lines)),
        "large ids": "\n".join(f"{2**62 + i}\t{line.split()[1]}" for i, line in enumerate(lines)),
        "all at 0": "\n".join(f"{i}\t0" for i in range(len(lines))),
        "many lines": "".join(f"{i}\t0\n" for i in range(200_000)),
        "CRLF": "\r\n".join(lines),
        "one line": lines[0],
        "only comments": "# a\n# b\n",
        "byte order mark": "\ufeff" + "\n".join(lines),
    }.items():
        yield Case(f"idx {name}", with_file(good, "train.idx", text.encode()))


def raw_sets() -> Iterator[Case]:
    """Yield sets of well-formed parts with strange records."""
    one, other = images(2)

    def raw(name: str, records: Sequence[Record], expect: str = EITHER, classes: object = 2) -> Case:
        return Case(name, lambda folder: write_raw(folder, records, classes), expect)

    def table(*ranges: Sequence[float], photos: int = 2, first: Sequence[float] | None = None) -> list[Record]:
        pictures = [record(float(index % 2), (one, other)[index % 2]) for index in range(photos)]
        named = [record(list(values), b"") for values in ranges]
        return [record(first or [photos + 1, photos + 1 + len(ranges)], b""), *pictures, *named]

    yield Case("h13 24,000 identities that each name all images", _overlapping(24_000, 20_000), ERROR)
    yield Case("h13 2,000 identities that each name all images", _overlapping(2_000, 1_000), ERROR)
    yield raw("h27 record 0 of 20 bytes", [bytes(20), *table([1, 2], [2, 3])[1:]], ERROR)
    yield raw("record 0 empty", [b"", *table([1, 2], [2, 3])[1:]], ERROR)
    yield raw("record 0 of a flag of 2^32-1", [struct.pack("<IfQQ", 2**32 - 1, 0, 0, 0), *table([1, 2])[1:]], ERROR)
    for label in (float("nan"), float("inf"), 1e30, -1.0, -1e30, 0.5, 2.0**24, 3e9):
        number = "h27 " if label != label or abs(label) > 1e20 else ""
        yield raw(f"{number}a list with label {label}", [record(0.0, one), record(label, other)])
        yield raw(
            f"{number}a table with label {label}", [*table([1, 3])[:2], record(label, other), record([1, 3], b"")]
        )
    for values in (
        [2, 1],
        [0, 2],
        [-1, 2],
        [1, 100],
        [1, 1e30],
        [float("nan"), 2],
        [1, float("inf")],
        [1.5, 2.5],
        [1],
        [1, 2, 3],
        [1, 1],
        [1, 4],
        [3, 4],
        [1, 2**24],
    ):
        yield raw(f"an identity that names {values}", table([1, 2], values))
        yield raw(f"record 0 that names {values}", table([1, 2], [2, 3], first=values))
    yield raw("identities that overlap", table([1, 3], [2, 3]))
    yield raw("identities that are equal", table([1, 3], [1, 3]))
    yield raw("identities without images", table(*[[1, 1]] * 1000, photos=1), classes=1000)
    yield raw("a label array of 100,000 values", table([1, 3], [1.0] * 100_000))
    yield raw(
        "an image with a label array",
        [*table([1, 3])[:1], record([0, 1, 2], one), record(0.0, other), record([1, 3], b"")],
    )
    yield raw("all records are tables", [record([1, 2], b"")] * 10)
    yield raw("no images", [record([1, 1], b"")], ERROR)
    yield raw("images of nothing", [record(float(i), b"") for i in range(4)])
    for name, content in (
        ("jpg of 65500x65500", jpeg_of(65_500, 65_500, one)),
        ("png of 30000x30000", png_of(30_000, 30_000)),
    ):
        yield raw(f"h10 {name}", [record(0.0, content), record(1.0, content)])
    for name, content in foreign():
        yield raw(f"an image that is {name}", [record(0.0, one), record(1.0, content), record(1.0, other)])
    for kind in range(8):
        yield Case(f"parts of kind {kind}", _parts_of(kind, one))
    yield Case("a record in a hundred thousand parts", _many_parts)


def _overlapping(identities: int, photos: int) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        table = [record([1, photos + 1], b"")] * identities
        first = [photos + 1, photos + 1 + identities]
        write_raw(folder, [record(first, b""), *[record(0.0, b"x")] * photos, *table], identities)

    return make


def _parts_of(kind: int, image: bytes) -> Callable[[Path], object]:
    """Return a function that writes a set in whose records all parts are of one kind."""

    def make(folder: Path) -> None:
        write_raw(folder, [record(0.0, image), record(1.0, image)])
        content = bytearray((folder / "train.rec").read_bytes())
        length = struct.unpack_from("<I", content, 4)[0]
        for position in (0, 8 + (length + 3) // 4 * 4):
            struct.pack_into("<I", content, position + 4, kind << 29 | length)
        (folder / "train.rec").write_bytes(content)

    return make


def _many_parts(folder: Path) -> None:
    """Write a record that begins and never ends."""
    write_raw(folder, [b"x"])
    first = struct.pack("<II", 0xCED7230A, 1 << 29)
    middle = struct.pack("<II", 0xCED7230A, 2 << 29)
    (folder / "train.rec").write_bytes(first + middle * 100_000)


def read(folder: Path) -> None:
    """Read a set as training does, and as the commands that print it and list its photos do."""
    data = TrainingSet(str(folder))
    batches = FaceImageIter(
        2, (3, *SIZE), data.records.path, num_classes=data.property.num_classes, workers=1, seed=1, shuffle=True
    )
    for _ in range(3):
        try:
            batches.next()
        except StopIteration:
            break
    describe(data)


def check(folder: Path) -> None:
    """Read a set as check-set does, which goes on after a problem and names it."""
    problems = checks.find_problems(checks.read_set(str(folder)))
    if problems:
        raise UserError(problems[0].text)


def list_photos(folder: Path) -> None:
    """Read a set as embed and build-set do."""
    source = open_source(str(folder))
    for index in range(min(len(source), 40)):
        source.image(index)
    identity_photos(str(folder))


def _listed(good: Path) -> Iterator[Case]:
    """Yield the cases for readers that do not look at `property`, and leave out what is nobody's image."""
    return (case._replace(expect=EITHER) for case in cases(good))


def cached_cases(good: Path) -> Iterator[Case]:
    """Yield sets whose caches are damaged or of another set: they are made again."""

    def spoiled(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
        def make(folder: Path) -> None:
            for source in ("train.rec", "train.idx", "property"):
                shutil.copy2(good / source, folder / source)
            write_caches(folder)
            (folder / name).write_bytes(change((folder / name).read_bytes()))

        return make

    def forged(name: str, values: dict[str, Any]) -> Callable[[Path], object]:
        return spoiled(name, lambda content: npz({**np.load(io.BytesIO(content)), **values}))

    for name in ("train.idx.npz", "train.table.npz"):
        for kind, _ in damaged((good / name).read_bytes(), name, flips=40, cuts=8, words=20):

            def damage(content: bytes, name: str = name, kind: str = kind) -> bytes:
                return dict(damaged(content, name, flips=40, cuts=8, words=20))[kind]

            yield Case(f"{name}: {kind}", spoiled(name, damage), VALUE)
        for kind, content in foreign():
            yield Case(f"{name}: {kind}", with_file(good, name, content), VALUE)
        for kind, make in odd_files(Path(name)):
            yield Case(f"{name}: {kind}", changed(good, make), VALUE)
        array = "numbers" if name == "train.idx.npz" else "classes"
        for title, content in (
            ("a zip bomb", bomb(2 << 30, {}, array)),
            ("a huge shape", npz_of_shape("(1000000000000,)", {}, array)),
        ):
            yield Case(f"h15 {name}: {title}", with_file(good, name, content), VALUE)
    records = IDENTITIES * (PHOTOS + 1) + 1
    numbers = np.arange(records)
    for name, values in {
        "numbers too large": {"numbers": numbers + 2**40},
        "numbers negative": {"numbers": -numbers},
        "offsets too large": {"offsets": numbers + 2**50},
        "offsets negative": {"offsets": -numbers - 1},
        "fewer offsets": {"offsets": numbers[:3]},
        "nothing": {"numbers": numbers[:0], "offsets": numbers[:0]},
        "text": {"numbers": np.array(["a"] * records)},
        "floats": {"numbers": numbers * 1.5},
        "two dimensions": {"numbers": numbers[:, None]},
        "a number": {"numbers": np.int64(3)},
        "records": {"numbers": np.zeros(records, [("a", "i8"), ("b", "f4")])},
        "bools": {"offsets": numbers > 0},
        "more arrays": {"other": numbers},
    }.items():
        yield Case(f"h29 train.idx.npz forged: {name}", forged("train.idx.npz", values), EITHER)
    for name, values in {
        "huge classes": {"classes": np.full(records, 2**31 - 1, np.int32)},
        "negative classes": {"classes": np.full(records, -5, np.int32)},
        "no images": {"classes": np.full(records, -1, np.int32)},
        "fewer classes": {"classes": np.zeros(2, np.int32)},
        "floats": {"classes": np.full(records, np.nan)},
        "text": {"classes": np.array(["\x1b[2J"] * records)},
        "two dimensions": {"classes": np.zeros((records, 2), np.int32)},
        "nothing": {"classes": np.zeros(0, np.int32)},
    }.items():
        yield Case(f"h29 train.table.npz forged: {name}", forged("train.table.npz", values), EITHER)
    yield Case("h19 the caches of another set of equal size and time", _of_another_set(good), VALUE)


def npz(arrays: dict[str, Any]) -> bytes:
    """Return the bytes of a .npz file."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npz_of_shape(shape: str, arrays: dict[str, Any] | None = None, name: str = "numbers", code: str = "<i8") -> bytes:
    """Return a .npz file whose array `name` claims a shape that its data do not have."""
    header = f"{{'descr': '{code}', 'fortran_order': False, 'shape': {shape}, }}"
    header = header.ljust(118 - len(header) % 1) + "\n"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(64)
    return _with_member(arrays or {}, name, member, zipfile.ZIP_STORED)


def bomb(size: int, arrays: dict[str, Any] | None = None, name: str = "numbers") -> bytes:
    """Return a small .npz file with an array of `size` bytes of zeros."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size},), }}".ljust(117) + "\n"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
    return _with_member(arrays or {}, name, member, zipfile.ZIP_DEFLATED, size)


def _with_member(arrays: dict[str, Any], name: str, content: bytes, method: int, zeros: int = 0) -> bytes:
    file = io.BytesIO()
    np.savez(file, **{key: value for key, value in arrays.items() if key != name})
    with zipfile.ZipFile(file, "a", method, compresslevel=1) as archive, archive.open(
        f"{name}.npy", "w", force_zip64=True
    ) as member:
        member.write(content)
        block = bytes(1 << 20)
        for _ in range(zeros >> 20):
            member.write(block)
    return file.getvalue()


def _of_another_set(good: Path) -> Callable[[Path], object]:
    """Return a function that puts an index of equal size and time in the place of the one that was cached."""

    def make(folder: Path) -> None:
        for source in ("train.rec", "train.idx", "property"):
            shutil.copy2(good / source, folder / source)
        write_caches(folder)
        index = folder / "train.idx"
        before = index.stat()
        first, second, *rest = index.read_text().splitlines(keepends=True)
        index.write_text("".join([first, *rest, second]))
        os.utime(index, ns=(before.st_atime_ns, before.st_mtime_ns))

    return make


def read_cached(folder: Path) -> None:
    """Read a set with caches: its images must be those of the .rec file, in the order of the index."""
    data = TrainingSet(str(folder))
    ids = [int(line.split("\t")[0]) for line in (folder / "train.idx").read_text().splitlines()]
    assert RecordFile(str(folder / "train.rec")).keys() == ids
    data.records.image_ids(images_filter=2)
    assert sorted(len(images) for images in data.identities) == [PHOTOS] * IDENTITIES
    for identity in data.identities:
        for record_id in identity.tolist():
            assert data.image(record_id)[:2] == b"\xff\xd8"


GROUPS = [
    Group("training sets", prepare, cases, read),
    Group("checked sets", prepare, cases, check),
    Group("listed sets", prepare, _listed, list_photos),
    Group("caches of sets", prepare_cached, cached_cases, read_cached),
]
