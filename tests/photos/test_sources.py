"""Sources of photos: every command reads a list the same way, and problems name the file and the line."""

import os

import cv2
import numpy as np
import pytest

from insightface_mx.base.errors import UserError
from insightface_mx.formats.training_set import write_training_set
from insightface_mx.formats.verification_set import write_bin
from insightface_mx.photos.sources import PhotoReader, aligned_images, identity_photos, open_source

LISTS = {
    "original.lst": "1\tx.png\t3\n0\tsub/y.png\t4\t0\t0\t9\t9\n",
    "im2rec.lst": "0\t3.0\tx.png\n1\t4.0\tsub/y.png\n",
    "title.csv": "path,label\nx.png,3\nsub/y.png,4\n",
    "rows.csv": "x.png,3\nsub/y.png,4\n",
}
PLAIN = {"plain": "x.png\nsub/y.png\n", "plain.lst": "x.png\n\nsub/y.png\n", "plain.csv": "path\nx.png\nsub/y.png\n"}


def picture(seed):
    image = np.random.RandomState(seed).randint(0, 256, (12, 10, 3)).astype(np.uint8)
    return cv2.imencode(".png", image)[1].tobytes()


@pytest.fixture
def folder(tmp_path):
    """A folder with x.png and sub/y.png, and every kind of list of the two."""
    os.makedirs(tmp_path / "photos" / "sub")
    (tmp_path / "photos" / "x.png").write_bytes(picture(1))
    (tmp_path / "photos" / "sub" / "y.png").write_bytes(picture(2))
    for name, text in {**LISTS, **PLAIN}.items():
        (tmp_path / "photos" / name).write_text(text)
    return tmp_path / "photos"


def contents(source):
    return [source.read(index) for index in range(len(source))]


@pytest.mark.parametrize("name", LISTS)
def test_a_list_means_the_same_to_what_needs_identities_and_what_does_not(folder, monkeypatch, tmp_path, name):
    """Paths start from the list's folder, wherever the command is started, and labels are those of the lines."""
    monkeypatch.chdir(tmp_path)
    source = open_source(f"photos/{name}")
    assert [source.name(index) for index in (0, 1)] == ["photos/x.png", "photos/sub/y.png"]
    assert contents(source) == [(picture(1), 3), (picture(2), 4)]
    photos, skipped = identity_photos(f"photos/{name}")
    assert skipped == []
    assert [(photo.path, photo.identity) for photo in photos] == [("photos/x.png", "3"), ("photos/sub/y.png", "4")]
    assert [PhotoReader().read(photo) for photo in photos] == [picture(1), picture(2)]


@pytest.mark.parametrize("name", PLAIN)
def test_a_list_without_labels(folder, name):
    assert contents(open_source(str(folder / name))) == [(picture(1), -1), (picture(2), -1)]
    with pytest.raises(UserError, match=rf"{name} holds no photo of an identity; left out: .*{name}:\d"):
        identity_photos(str(folder / name))


@pytest.mark.parametrize("name", [*LISTS, *PLAIN])
def test_paths_start_from_a_root_that_is_given(folder, tmp_path, name):
    moved = tmp_path / "lists" / name
    moved.parent.mkdir()
    moved.write_text((folder / name).read_text())
    with pytest.raises(UserError, match=r"cannot open .*lists/x\.png: No such file"):
        open_source(str(moved)).read(0)
    assert [content for content, _ in contents(open_source(str(moved), str(folder)))] == [picture(1), picture(2)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.lst", "1\tx.png\t3\n2\tx.png\t3\n", r"a\.lst:2: a line is aligned"),
        ("a.lst", "x.png\n\n1\tx.png\t0.5\n", r"a\.lst:3: the label '0.5' is no class number"),
        ("a.lst", "1\tx.png\tnan\n", r"a\.lst:1: the label 'nan' is no class number"),
        ("a.lst", "1\tx.png\t1e30\n", r"a\.lst:1: the label '1e30' is no class number"),
        ("a.lst", "0\tx.png\t1\t2\n", r"a\.lst:1: 1 numbers follow the label"),
        ("list", "x.png\nx\ty\tz\n", "list:2: a line is aligned"),
        ("a.csv", "path,label\nx.png,3\nx.png,3,4\n", r"a\.csv:3: a row is path,label"),
        ("a.csv", "x.png,\n", r"a\.csv:1: a row is path,label"),
        ("a.csv", "x.png,3\n\0\n", r"a\.csv is no list of paths"),
        ("a.csv", "path,label\n", r"a\.csv names no images"),
        ("a.csv", f'"{"x" * 200000}",3\n', r"a\.csv: field larger than"),
    ],
)
def test_a_problem_of_a_list_names_the_file_and_the_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        open_source(str(tmp_path / name))


def test_names_of_a_csv_are_identities_without_a_class_number(folder):
    (folder / "names.csv").write_text("x.png,ann\nsub/y.png, bob \n")
    assert [label for _, label in contents(open_source(str(folder / "names.csv")))] == [-1, -1]
    assert [photo.identity for photo in identity_photos(str(folder / "names.csv"))[0]] == ["ann", "bob"]


def test_records_and_verification_sets(tmp_path):
    write_training_set(str(tmp_path), [[picture(1), picture(2)], [picture(3)]], (12, 10))
    write_bin(str(tmp_path / "pairs.bin"), [picture(1), picture(4)], [False])
    for path in (tmp_path, tmp_path / "train.rec"):
        source = open_source(str(path))
        assert contents(source) == [(picture(1), 0), (picture(2), 0), (picture(3), 1)]
        assert [source.name(index) for index in range(3)] == ["1", "2", "3"]
    assert contents(open_source(str(tmp_path / "pairs.bin"))) == [(picture(1), -1), (picture(4), -1)]
    with pytest.raises(UserError, match="no identities"):
        identity_photos(str(tmp_path / "pairs.bin"))


@pytest.mark.parametrize("name", ["x.png", "sub"])
def test_the_stamp_changes_with_the_photos(folder, name):
    before = open_source(str(folder)).stamp()
    assert open_source(str(folder)).stamp() == before
    if name == "sub":
        (folder / name / "z.png").write_bytes(picture(1))
    else:
        os.utime(folder / name, (1, 1))
    assert open_source(str(folder)).stamp() != before


def test_aligned_images_are_spread_and_leave_out_what_cannot_be_used(tmp_path):
    for index in range(9):
        (tmp_path / f"{index}.png").write_bytes(picture(index) if index != 4 else b"no image")
    found = aligned_images(str(tmp_path), (12, 10), 3)
    assert found.dtype == np.float32
    expected = [cv2.imdecode(np.frombuffer(picture(index), np.uint8), 1)[:, :, ::-1] for index in (0, 8)]
    assert np.array_equal(found, np.stack(expected).transpose(0, 3, 1, 2))
    for index in range(9):
        (tmp_path / f"{index}.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"0\.png is not an image"):
        aligned_images(str(tmp_path), (12, 10), 3)


def test_aligned_images_of_a_verification_set_are_different(tmp_path):
    images = [cv2.imencode(".png", np.full((8, 8, 3), 10 * value, np.uint8))[1].tobytes() for value in range(6)]
    write_bin(str(tmp_path / "pairs.bin"), [images[value] for value in (0, 1, 0, 2, 0, 3, 4, 0, 0, 5)], [True] * 5)
    for most, expected in ((9, [0, 10, 20, 30, 40, 50]), (3, [0, 20, 50])):
        assert aligned_images(str(tmp_path / "pairs.bin"), (8, 8), most)[:, 0, 0, 0].tolist() == expected
