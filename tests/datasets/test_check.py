"""check.py: every kind of damage gets its line, and --repair leaves a set in which nothing is wrong."""

import io
import os
import re
import struct

import cv2
import numpy as np
import pytest
from harness import error_of, run, status_of
from tqdm import tqdm

from insightface_mx.base.compat import mx
from insightface_mx.datasets import check, checks
from insightface_mx.datasets.checks import check_copies, check_records, check_table, find_problems, read_set
from insightface_mx.formats.face_records import FaceRecords
from insightface_mx.formats.identity_table import read_table
from insightface_mx.formats.recordio import find_offsets
from insightface_mx.formats.training_set import read_property, write_training_set
from insightface_mx.formats.verification_set import write_bin
from insightface_mx.image_iter import FaceImageIter

IDENTITIES, PHOTOS, SIZE = 6, 4, 16


def photo(number, size=SIZE, extension=".png"):
    image = np.random.RandomState(number).randint(0, 256, (size, size, 3)).astype(np.uint8)
    return cv2.imencode(extension, image)[1].tobytes()


def write(folder, identities):
    write_training_set(str(folder), identities, (SIZE, SIZE))
    return folder


@pytest.fixture
def identities():
    return [[photo(1 + PHOTOS * identity + number) for number in range(PHOTOS)] for identity in range(IDENTITIES)]


@pytest.fixture
def whole(tmp_path, identities):
    """Images are the records 1 to 24, the identities' records 25 to 30."""
    return write(tmp_path / "data", identities)


def test_the_bar_ends_at_the_last_record(whole, monkeypatch):
    ends = []

    class Bar(tqdm):
        def __init__(self, *args, **options):
            super().__init__(*args, **{**options, "disable": False, "file": io.StringIO()})

        def close(self):
            ends.append((self.n, self.total))
            super().close()

    monkeypatch.setattr(checks, "tqdm", Bar)
    read_set(str(whole))
    assert ends[0] == (31, 31)


def offsets(folder):
    return np.loadtxt(folder / "train.idx", dtype=np.int64)[:, 1]


def spoil(folder, number, content, at):
    with open(folder / "train.rec", "r+b") as file:
        file.seek(offsets(folder)[number] + at)
        file.write(content)


def problems(folder, capsys, *options, status=1):
    """The lines that check.py prints, less the last."""
    if status:
        assert status_of(check, folder, *options) == status
    else:
        run(check, folder, *options)
    lines = capsys.readouterr().out.splitlines()
    summary = next(line for line in lines if re.fullmatch(r"\d+ records, \d+ images, \d+ problems", line))
    return lines[: lines.index(summary)]


def repaired(folder, capsys, *options):
    """Images of each identity in the repaired set, in which nothing is wrong, and which trains."""
    target = folder.parent / "good"
    problems(folder, capsys, *options, "--repair", target)
    assert problems(target, capsys, status=0) == []
    table = read_table(FaceRecords(str(target / "train.rec")))
    counts = [last - first for first, last in table.ranges.tolist()]
    assert read_property(str(target)) == (len(counts), SIZE, SIZE)
    data = FaceImageIter(2, (3, SIZE, SIZE), str(target / "train.rec"), num_classes=len(counts), on_bad_record="stop")
    assert sum(1 for _ in data) == sum(counts) // 2
    return counts


def test_nothing_is_wrong(whole, capsys):
    assert problems(whole, capsys, status=0) == []


def test_a_damaged_record(whole, capsys):
    spoil(whole, 6, b"junk", 0)
    (line,) = problems(whole, capsys)
    assert "no valid record 6" in line
    assert repaired(whole, capsys) == [4, 3, 4, 4, 4, 4]


def test_images_that_cannot_be_decoded(whole, capsys):
    spoil(whole, 2, b"nonsense", 32)
    spoil(whole, 24, b"\xff\xd8\xff\xe0nonsense", 32)
    assert problems(whole, capsys) == [f"record {n}: an image that cannot be decoded" for n in (2, 24)]
    assert repaired(whole, capsys) == [3, 4, 4, 4, 4, 3]


@pytest.mark.parametrize(("label", "shown"), [(-1.0, "-1"), (float("nan"), "nan"), (1.5, "1.5"), (1e30, "1e+30")])
def test_labels_that_are_no_class(whole, capsys, label, shown):
    spoil(whole, 3, struct.pack("<f", label), 12)
    assert problems(whole, capsys) == [f"record 3: its label {shown} is no class"]
    assert repaired(whole, capsys) == [3, 4, 4, 4, 4, 4]


@pytest.mark.parametrize(
    ("label", "line", "counts"),
    [
        (4, "record 3 in a range of images that have another label; the labels count", [3, 4, 4, 4, 5, 4]),
        (6, "record 3 in a range of images that have another label; the labels count", [3, 4, 4, 4, 4, 4, 1]),
    ],
)
def test_a_label_of_another_identity(whole, capsys, label, line, counts):
    """The label counts: it may be the table that is wrong."""
    spoil(whole, 3, struct.pack("<f", label), 12)
    lines = problems(whole, capsys)
    assert lines[0] == f"the identity table has {line}"
    assert lines[1:] == (["property says 6 classes, the records hold 7"] if label == 6 else [])
    assert repaired(whole, capsys) == counts


def test_identity_records_that_share_images_or_leave_some_out(whole, capsys):
    """No image is lost."""
    spoil(whole, 25, struct.pack("<ff", 1, 1), 32)
    assert problems(whole, capsys) == [
        "the identity table has 5 ranges of images, their labels make 6 identities; the labels count"
    ]
    spoil(whole, 27, struct.pack("<ff", 8, 13), 32)
    assert problems(whole, capsys) == [
        f"{whole}/train.rec: record 27 of the identity table names images that another one also names (1 are bad)"
    ]
    assert repaired(whole, capsys) == [4] * 6


def test_a_damaged_identity_record(whole, capsys):
    spoil(whole, 26, struct.pack("<ff", 99, 3), 32)
    assert problems(whole, capsys) == [
        f"{whole}/train.rec: record 26 of the identity table names no images of the file (1 are bad)"
    ]
    spoil(whole, 26, b"junk", 0)
    lines = problems(whole, capsys)
    assert "no valid record 26" in lines[0]
    assert "record 26 of the identity table" in lines[1]
    assert repaired(whole, capsys) == [4] * 6


@pytest.mark.parametrize("text", ["5,16,16\n", "7,16,16\n", "6,16\n", None])
def test_a_wrong_property(whole, capsys, text):
    os.remove(whole / "property")
    if text:
        (whole / "property").write_text(text)
    lines = problems(whole, capsys)
    assert any("property" in line for line in lines)


def test_images_of_another_size_stay(tmp_path, identities, capsys):
    identities[1][0] = photo(99, SIZE + 4)
    (line,) = problems(write(tmp_path / "data", identities), capsys)
    assert line == "record 5: an image of 20,20 pixels, property says 16,16 (height,width); training scales it"


def test_images_that_are_there_twice(tmp_path, identities, capsys):
    identities[0][3], identities[2][0] = identities[0][1], identities[4][2]
    folder = write(tmp_path / "data", identities)
    assert problems(folder, capsys) == [
        "record 4: the same image as record 2",
        "records 9 and 19: the same image for two identities",
    ]
    assert repaired(folder, capsys) == [3, 4, 3, 4, 3, 4]


def test_images_that_a_verification_set_holds(whole, identities, tmp_path, capsys):
    again = cv2.imencode(".bmp", cv2.imdecode(np.frombuffer(identities[0][0], np.uint8), 1))[1].tobytes()
    write_bin(str(whole / "lfw.bin"), [photo(500), again], [True])
    write_bin(str(tmp_path / "other.bin"), [b"no image", identities[5][3]], [False])
    lines = problems(whole, capsys, "--verification", tmp_path / "other.bin")
    assert lines == [
        f"record 1: also image 1 of {whole}/lfw.bin",
        f"{tmp_path}/other.bin: image 0 cannot be decoded",
        f"record 24: also image 1 of {tmp_path}/other.bin",
    ]
    assert repaired(whole, capsys, "--verification", tmp_path / "other.bin") == [3, 4, 4, 4, 4, 3]
    (whole / "bad.bin").write_bytes(b"no pickle")
    assert any("bad.bin is damaged" in line for line in problems(whole, capsys))


@pytest.mark.parametrize("index", [None, "", "0\t0\n1\t8\n", "words\n"])
def test_without_its_index(whole, capsys, index):
    os.remove(whole / "train.idx")
    if index is not None:
        (whole / "train.idx").write_text(index)
    lines = problems(whole, capsys)
    assert "31 records were found without the index" in lines[1]
    assert repaired(whole, capsys) == [4] * 6


def test_cut_short(whole, capsys):
    """The identities's records at the end are gone, and a part of the last images."""
    os.truncate(whole / "train.rec", int(offsets(whole)[23]) + 40)
    lines = problems(whole, capsys)
    assert "cut short" in lines[0]
    assert "24 records were found without the index" in lines[1]
    assert repaired(whole, capsys) == [4, 4, 4, 4, 4, 2]


def test_a_plain_list(tmp_path, capsys):
    records = mx.recordio.MXIndexedRecordIO(str(tmp_path / "train.idx"), str(tmp_path / "train.rec"), "w")
    for number in range(6):
        header = mx.recordio.IRHeader(0, number % 2, number, 0)
        records.write_idx(number, mx.recordio.pack(header, photo(number)))
    records.write_idx(6, mx.recordio.pack(mx.recordio.IRHeader(0, 1, 6, 0), b""))
    records.close()
    (tmp_path / "property").write_text("2,16,16\n")
    assert problems(tmp_path, capsys) == ["record 6: neither an image nor an identity's record"]


def test_offsets_are_found_in_a_damaged_file(whole):
    expected = offsets(whole).tolist()
    path = str(whole / "train.rec")
    assert find_offsets(path).tolist() == expected
    spoil(whole, 4, struct.pack("<I", 1 << 20), 4)
    assert find_offsets(path).tolist() == expected
    spoil(whole, 9, b"junk", 0)
    assert find_offsets(path).tolist() == expected[:9] + expected[10:]


def test_a_magic_number_that_is_not_aligned_begins_no_record(tmp_path):
    magic = struct.pack("<II", 0xCED7230A, 8)
    folder = write(tmp_path / "data", [[b"abcd" * 3, b"a" + magic + b"bcd" * 4, b"abcd"]])
    expected = offsets(folder).tolist()
    spoil(folder, 2, b"junk", 0)
    assert find_offsets(str(folder / "train.rec")).tolist() == expected[:2] + expected[3:]


def test_checks_return_problems_with_the_images_that_a_repair_leaves_out(tmp_path, identities):
    identities[0][3], identities[2][0] = identities[0][1], identities[4][2]
    folder = write(tmp_path / "data", identities)
    spoil(folder, 24, b"nonsense", 32)
    found = read_set(str(folder))
    assert found.problems == check_table(found) == []
    assert [problem.images for problem in check_records(found)] == [(24,)]
    assert [problem.images for problem in check_copies(found)] == [(4,), (9, 19)]
    assert find_problems(found) == [*check_records(found), *check_copies(found)]
    assert len(found.images) == 23


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["{folder}/none"], "does not exist"),
        (["{folder}/data", "--repair", "{folder}/data"], "holds a training set already"),
        (["{folder}"], "train.rec"),
    ],
)
def test_what_the_user_can_mend(whole, tmp_path, capsys, argv, words):
    assert words in error_of(capsys, check, *[word.format(folder=tmp_path) for word in argv])
