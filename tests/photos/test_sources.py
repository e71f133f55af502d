"""Sources of photos: every command reads a list the same way, and problems name the file and the line."""

import os
import re

import cv2
import numpy as np
import pytest

from insightface_mx.base.errors import UserError
from insightface_mx.formats.recordio import write_records
from insightface_mx.formats.training_set import write_training_set
from insightface_mx.formats.verification_set import write_bin
from insightface_mx.photos.identities import identity_photos
from insightface_mx.photos.sources import PhotoReader, aligned_images, open_source

LISTS = {
    "original.lst": "1\tx.png\t3\n0\tsub/y.png\t4\t0\t0\t9\t9\n",
    "im2rec.lst": "0\t3.0\tx.png\n1\t4.0\tsub/y.png\n",
    "title.csv": "path,label\nx.png,3\nsub/y.png,4\n",
    "rows.csv": "x.png,3\nsub/y.png,4\n",
    "points.csv": "x.png,3.0\nsub/y.png,4.00\n",
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


def problem_of(path):
    """What is wrong with a list: the error, or the first line that is left out."""
    try:
        return ": ".join(open_source(path).left_out[0])
    except UserError as error:
        return str(error)


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
        ("a.csv", "x.png,3\n\0\n", r"a\.csv is no list of paths, as it holds zero bytes"),
        ("a.csv", "path,label\n", r"a\.csv names no images"),
        ("a.csv", f'"{"x" * 200000}",3\n', r"a\.csv:1: field larger than"),
    ],
)
def test_a_problem_of_a_list_names_the_file_and_the_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    assert re.search(message, problem_of(str(tmp_path / name)))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.lst", "1\tx.png\t3\n2\tx.png\t3\nx y\t3\n0\tsub/y.png\t4\n1\tx.png\t0.5\n"),
        ("a.csv", "path,label\nx.png,3\nx.png,3,5\nsub/y.png,4\n,5\n"),
    ],
)
def test_lines_that_name_no_photo_are_left_out_and_listed_everywhere(folder, name, text):
    path = str(folder / name)
    (folder / name).write_text(text)
    source, (photos, skipped) = open_source(path), identity_photos(path)
    assert contents(source) == [(picture(1), 3), (picture(2), 4)]
    assert [photo.path for photo in photos] == [source.name(index) for index in range(2)]
    assert skipped == source.left_out
    numbers = {"a.lst": (2, 3, 5), "a.csv": (3, 5)}[name]
    assert [place for place, _ in skipped] == [f"{path}:{number}" for number in numbers]


def test_a_root_and_flat_without_a_list_or_folder_are_refused(folder):
    for path in (folder, folder / "a.rec", folder / "a.bin"):
        for read in (open_source, identity_photos):
            with pytest.raises(UserError, match=r"--root has no effect, as .* is no list of paths"):
                read(str(path), str(folder))
    for path in (folder / "original.lst", folder / "a.rec"):
        with pytest.raises(UserError, match=r"--flat has no effect, as .* is no folder of photos"):
            identity_photos(str(path), flat=True)


@pytest.mark.parametrize("label", [0.5, 16777216, -1, float("nan")])
def test_labels_of_records_that_are_no_class_numbers(tmp_path, label):
    with write_records(str(tmp_path / "a.rec")) as writer:
        for record_id, value in enumerate((label, 3)):
            writer.write(record_id, np.float32(value), picture(record_id))
    with pytest.raises(UserError, match=r"a\.rec: record 0 has the label .*, which is no class number"):
        open_source(str(tmp_path / "a.rec")).read(0)
    photos, skipped = identity_photos(str(tmp_path / "a.rec"))
    assert [photo.identity for photo in photos] == ["3"]
    assert [name for name, _ in skipped] == [f"{tmp_path}/a.rec#0"]


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


def test_aligned_images_of_a_list_tell_of_lines_that_name_none(folder, caplog):
    (folder / "a.lst").write_text("1\tx.png\t3\n2\tx.png\n1\tx.png\tz\n")
    assert aligned_images(str(folder / "a.lst"), (12, 10), 3).shape == (1, 3, 12, 10)
    assert f"2 lines of {folder}/a.lst name no image; the first: {folder}/a.lst:2: a line is aligned" in caplog.text


def test_aligned_images_of_a_verification_set_are_different(tmp_path):
    images = [cv2.imencode(".png", np.full((8, 8, 3), 10 * value, np.uint8))[1].tobytes() for value in range(6)]
    write_bin(str(tmp_path / "pairs.bin"), [images[value] for value in (0, 1, 0, 2, 0, 3, 4, 0, 0, 5)], [True] * 5)
    for most, expected in ((9, [0, 10, 20, 30, 40, 50]), (3, [0, 20, 50])):
        assert aligned_images(str(tmp_path / "pairs.bin"), (8, 8), most)[:, 0, 0, 0].tolist() == expected


@pytest.fixture
def linked(folder, tmp_path):
    """The folder photos/ with sub (y.png), two links to folders elsewhere, and links that lead in circles."""
    elsewhere = tmp_path / "elsewhere"
    for name, seed in (("deep/z.png", 3), ("w.png", 4)):
        (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / name).write_bytes(picture(seed))
    os.symlink(elsewhere, folder / "ann")
    os.symlink(elsewhere / "deep", folder / "sub" / "more")
    os.symlink(folder, folder / "sub" / "back")
    os.symlink(folder / "sub", folder / "twice")
    os.symlink("itself", folder / "itself")
    return folder


def test_folders_behind_links_are_read_once(linked, caplog):
    source = open_source(str(linked))
    found = [os.path.relpath(source.name(index), linked) for index in range(len(source))]
    assert found == ["ann/deep/z.png", "ann/w.png", "sub/y.png", "x.png"]
    assert [source.read(index)[0] for index in range(4)] == [picture(seed) for seed in (3, 4, 2, 1)]
    again = {str(linked / name) for name in ("sub/more", "sub/back", "twice")}
    assert {record.getMessage() for record in caplog.records} == {
        f"{name} is left out: a link makes it a folder that is read already" for name in again
    }
    photos, skipped = identity_photos(str(linked))
    assert [(os.path.relpath(photo.path, linked), photo.identity) for photo in photos] == [
        ("ann/w.png", "ann"),
        ("ann/deep/z.png", "ann"),
        ("sub/y.png", "sub"),
    ]
    assert {name for name, reason in skipped if reason == "a link makes it a folder that is read already"} == again


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-bom", "utf-16-be-bom"])
@pytest.mark.parametrize("name", ["rows.csv", "original.lst", "plain"])
def test_lists_in_utf_16_with_a_mark_are_read(folder, name, encoding):
    text = (folder / name).read_text()
    expected = contents(open_source(str(folder / name)))
    if encoding.endswith("bom"):
        (folder / name).write_bytes(("\ufeff" + text).encode(encoding[:9]))
    else:
        (folder / name).write_text(text, encoding=encoding)
    assert contents(open_source(str(folder / name))) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            "x.png,3\n".encode("utf-16-le"),
            "as it holds zero bytes: save a list as text in UTF-8",
        ),
        ("a.lst", b"1\tx\0.png\t3\n", r"a\.lst is no list of paths, as it holds zero bytes"),
        ("a.csv", "x.png,3\n".encode("utf-16")[:-1], r"a\.csv is no text in UTF-16"),
        ("a.lst", b"\xff\xfe\0\xd8\0\xd8", r"a\.lst is no text in UTF-16"),
        ("a.csv", b"x.png,1\n" + b"x" * 200000 + b",3\n", r"a\.csv:2: field larger than field limit"),
        ("a.lst", b"0\tx.png\t1\t1 2 3 nan\n", r"a\.lst:1: 'nan' in the box or landmarks is no number of pixels"),
        ("a.lst", b"0\tx.png\t1\t1 2 3 " + b"4" * 5000 + b"\n", r"a\.lst:1: '4{57}\.\.\.4{20}' in the box"),
        ("a.lst", "0\tx.png\t²\n".encode(), r"a\.lst:1: the label '²' is no class number"),
        ("a.lst", b"0\tx.png\t" + b"1" * 5000 + b"\n", r"a\.lst:1: the label '1{57}\.\.\.1{20}' is no class number"),
        ("a.lst", b"0\tx.png\t-inf\n", r"a\.lst:1: the label '-inf' is no class number"),
        ("a.lst", b"0\tx.png\t-2\n", r"a\.lst:1: the label '-2' is no class number"),
        ("a.lst", b"0\tx.png\t1\x1b[2J\n", r"a\.lst:1: the label '1\\x1b\[2J' is no class number"),
    ],
)
def test_hostile_lists(folder, name, content, message):
    (folder / name).write_bytes(content)
    assert re.search(message, problem_of(str(folder / name)))


@pytest.mark.parametrize("label", ["²", "٣" * 30, "9" * 5000])
def test_labels_of_a_csv_that_are_no_class_numbers_are_names(folder, label):
    (folder / "a.csv").write_text(f"x.png,{label}\nsub/y.png,-1\n")
    assert [label for _, label in contents(open_source(str(folder / "a.csv")))] == [-1, -1]
    photos, skipped = identity_photos(str(folder / "a.csv"))
    assert [photo.identity for photo in photos] == [label]
    assert len(skipped) == 1


@pytest.mark.parametrize("name", ["a.csv", "a.lst", "a", "a.bin"])
def test_a_pipe_as_a_list_is_refused(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match=r"cannot open .*: it is a pipe, not a file"):
        open_source(str(tmp_path / name))


def test_a_pipe_and_a_device_as_photos_are_refused(folder):
    os.mkfifo(folder / "a.png")
    (folder / "list").write_text(f"a.png\n{os.devnull}\n")
    source = open_source(str(folder / "list"))
    for index, kind in enumerate(("pipe", "device")):
        with pytest.raises(UserError, match=f"cannot open .*: it is a {kind}, not a file"):
            source.read(index)


def test_names_that_are_not_utf_8(folder):
    os.rename(folder / "x.png", os.fsencode(folder) + b"/M\xe4rz.png")
    (folder / "list").write_bytes(b"M\xe4rz.png\nsub/y.png\n")
    for path in (folder, folder / "list"):
        source = open_source(str(path))
        assert os.fsencode(source.name(0)) == os.fsencode(folder) + b"/M\xe4rz.png"
        assert source.read(0)[0] == picture(1)
        assert source.stamp()
