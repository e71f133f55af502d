"""train.rec, train.idx, property and the caches next to them."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

import numpy as np
from hostile.images import jpeg_of, png_of
from hostile.mutations import LONG, changed, damaged, file_cases, foreign, odd_files, with_file
from hostile.rule import EITHER, ERROR, VALUE, Case, Group
from hostile.verification import images

from insightface_mx.datasets import checks
from insightface_mx.datasets.info import describe
from insightface_mx.formats import cache
from insightface_mx.formats.recordio import RecordFile
from insightface_mx.formats.training_set import TrainingSet, write_training_set
from insightface_mx.image_iter import FaceImageIter
from insightface_mx.photos.sources import identity_photos, open_source

IDENTITIES, PHOTOS, SIZE = 5, 4, (48, 40)
_HEADER = struct.Struct("<IfQQ")
Record = bytes  # header, label array and payload


def prepare(folder: Path) -> None:
    """Write a training set."""
    pictures = images(IDENTITIES * PHOTOS)
    groups = [pictures[start : start + PHOTOS] for start in range(0, len(pictures), PHOTOS)]
    write_training_set(str(folder), groups, SIZE)


def prepare_cached(folder: Path) -> None:
    """Write a training set with its caches, which are otherwise written for large sets only."""
    prepare(folder)
    cache.MIN_CACHED_BYTES = 0
    assert len(TrainingSet(str(folder)).identities) == IDENTITIES
    assert {path.suffix for path in folder.iterdir()} >= {".npz"}


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
    """Read a set as check-set does."""
    checks.find_problems(checks.read_set(str(folder)))


def list_photos(folder: Path) -> None:
    """Read a set as embed and build-set do."""
    source = open_source(str(folder))
    for index in range(min(len(source), 40)):
        source.image(index)
    identity_photos(str(folder))


def cached_cases(good: Path) -> Iterator[Case]:
    """Yield sets whose caches are damaged or of another set: they are made again."""
    arrays = dict(np.load(good / "train.idx.npz"))
    for name in ("train.idx.npz", "train.table.npz"):
        for kind, content in damaged((good / name).read_bytes(), name, flips=40, cuts=8, words=20):
            yield Case(f"{name}: {kind}", with_file(good, name, content), VALUE)
        for kind, content in foreign():
            yield Case(f"{name}: {kind}", with_file(good, name, content), VALUE)
        for kind, make in odd_files(Path(name)):
            yield Case(f"{name}: {kind}", changed(good, make), VALUE)
        yield Case(f"h15 {name}: a zip bomb", with_file(good, name, bomb(2 << 30, arrays)), VALUE)
        yield Case(f"{name}: a huge shape", with_file(good, name, npz_of_shape("(1000000000000,)", arrays)), VALUE)
    for name, values in {
        "numbers too large": {"numbers": arrays["numbers"] + 2**40},
        "offsets too large": {"offsets": arrays["offsets"] + 2**50},
        "offsets negative": {"offsets": -arrays["offsets"] - 1},
        "fewer offsets": {"offsets": arrays["offsets"][:3]},
        "no numbers": {"numbers": np.empty(0, np.int64)},
        "text": {"numbers": np.array(["a"] * len(arrays["numbers"]))},
        "floats": {"numbers": arrays["numbers"] * 1.5},
        "two dimensions": {"numbers": arrays["numbers"][:, None]},
        "a number": {"numbers": np.int64(3)},
        "records": {"numbers": np.zeros(26, [("a", "i8"), ("b", "f4")])},
        "bools": {"offsets": arrays["offsets"] > 0},
    }.items():
        yield Case(f"h29 train.idx.npz forged: {name}", with_file(good, "train.idx.npz", npz({**arrays, **values})))
    yield Case(
        "train.idx.npz forged: one array", with_file(good, "train.idx.npz", npz({"stamp": arrays["stamp"]})), EITHER
    )
    table = dict(np.load(good / "train.table.npz"))
    for name, values in {
        "ranges outside": {"ranges": table["ranges"] + 10_000},
        "ranges backwards": {"ranges": table["ranges"][:, ::-1]},
        "ranges negative": {"ranges": -table["ranges"]},
        "ranges of three": {"ranges": np.ones((5, 3), np.int64)},
        "ranges of floats": {"ranges": table["ranges"] + 0.5},
        "problems of bytes": {"problems": np.array([b"\x1b[2J" * 1000])},
        "problems of numbers": {"problems": np.arange(3)},
        "problems of a megabyte": {"problems": np.array(["p" * (1 << 20)])},
        "no ranges": {"ranges": np.empty((0, 2), np.int64)},
    }.items():
        yield Case(f"train.table.npz forged: {name}", with_file(good, "train.table.npz", npz({**table, **values})))
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
    """Return a function that puts the files of a set of equal sizes and times in the place of the good ones."""

    def make(folder: Path) -> None:
        changed(good, lambda _: None)(folder)
        for name in ("train.rec", "train.idx"):
            before = os.stat(folder / name)
            content = (folder / name).read_bytes()
            if name == "train.idx":
                first, second, *rest = content.decode().splitlines(keepends=True)
                content = "".join([first, *rest, second]).encode()
            other = folder / f"{name}.other"
            other.write_bytes(content)
            os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
            other.replace(folder / name)

    return make


def read_cached(folder: Path) -> None:
    """Read a set with caches: it must be the set that the .rec file holds."""
    data = TrainingSet(str(folder))
    assert [len(ids) for ids in data.identities] == [PHOTOS] * IDENTITIES
    ids = [int(line.split("\t")[0]) for line in (folder / "train.idx").read_text().splitlines()]
    assert RecordFile(str(folder / "train.rec")).keys() == ids
    for identity in data.identities:
        for record_id in identity.tolist():
            assert data.image(record_id)[:2] == b"\xff\xd8"


GROUPS = [
    Group("training sets", prepare, cases, read),
    Group("checked sets", prepare, cases, check),
    Group("listed sets", prepare, cases, list_photos),
    Group("caches of sets", prepare_cached, cached_cases, read_cached),
]
