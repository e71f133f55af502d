"""From photos to a training set: what is read from where, what is left out, and runs that were stopped."""

import csv
import hashlib
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from harness import error_of, run, status_of

from insightface_mx.datasets import build, face_store, prepare
from insightface_mx.datasets.face_options import FaceOptions
from insightface_mx.formats import recordio, training_set
from insightface_mx.formats.face_records import FaceRecords
from insightface_mx.formats.training_set import read_property
from insightface_mx.formats.verification_set import read_bin
from insightface_mx.photos.identities import identity_photos

PEOPLE = {"ann": 5, "bob": 4, "cy": 5, "di": 6}


def picture(seed, shape=(112, 112, 3), extension=".png"):
    image = np.random.RandomState(seed).randint(0, 256, (*shape[:2], 3)).astype(np.uint8)
    return cv2.imencode(extension, image)[1].tobytes()


@pytest.fixture
def folder(tmp_path):
    """20 crops of four people, PNG, all different."""
    for place, (person, count) in enumerate(PEOPLE.items()):
        os.makedirs(tmp_path / "photos" / person)
        for number in range(count):
            (tmp_path / "photos" / person / f"{person}_{number:04d}.png").write_bytes(picture(100 * place + number))
    return tmp_path / "photos"


@pytest.fixture
def many(tmp_path):
    """150 crops of 15 identities, 8x8 pixels: three chunks of the face store."""
    for identity in range(15):
        os.makedirs(tmp_path / "many" / f"{identity:02d}")
        for index in range(10):
            content = picture(10 * identity + index, (8, 8))
            (tmp_path / "many" / f"{identity:02d}" / f"{index}.png").write_bytes(content)
    return tmp_path / "many"


def build_aligned(source, output, *options):
    run(build, source, "--output", output, "--aligned", "--workers", 1, *options)


def content(output):
    """Images by class, as they are in a set's records."""
    records = FaceRecords(str(output / "train.rec"))
    classes = []
    for label, (first, last) in enumerate(records.table.ranges.tolist()):
        read = [records.read(number) for number in range(first, last)]
        assert read
        assert all(labels.tolist() == [label] for labels, _ in read)
        classes.append([image for _, image in read])
    return classes


def digests(output):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in output.iterdir()}


def skipped(output):
    with open(output / "skipped.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["skipped", "reason"]
    return {os.path.basename(name): reason for name, reason in rows[1:]}


def test_a_folder_of_people(folder, tmp_path, capsys):
    build_aligned(folder, tmp_path / "set")
    assert sorted(os.listdir(tmp_path / "set")) == ["property", "train.idx", "train.lst", "train.rec"]
    assert read_property(str(tmp_path / "set")) == (4, 112, 112)
    expected = [[picture(100 * place + i) for i in range(count)] for place, count in enumerate(PEOPLE.values())]
    assert content(tmp_path / "set") == expected
    lines = (tmp_path / "set" / "train.lst").read_text().splitlines()
    assert len(lines) == 20
    assert lines[5] == f"1\t{folder}/bob/bob_0000.png\t1"
    assert "20 images of 4 identities" in capsys.readouterr().out


def paths_and_labels(folder):
    """Paths, relative to the folder, labels and names of the photos in it."""
    photos, _ = identity_photos(str(folder))
    names = list(PEOPLE)
    return [(os.path.relpath(photo.path, folder), names.index(photo.identity), photo.identity) for photo in photos]


LISTS = {
    "spec.lst": lambda i, path, label, name: f"1\t{path}\t{label}",
    "im2rec.lst": lambda i, path, label, name: f"{i}\t{label:f}\t{path}",
    "plain.csv": lambda i, path, label, name: f"{path},{label}" if i else f"path,label\n{path},{label}",
    "names.csv": lambda i, path, label, name: f'"{path}", {name}',
}


@pytest.mark.parametrize("name", LISTS)
def test_every_list_gives_the_set_of_the_folder(folder, tmp_path, name):
    build_aligned(folder, tmp_path / "folder")
    lines = [LISTS[name](i, *photo) for i, photo in enumerate(paths_and_labels(folder))]
    text = "\ufeff" + "\r\n".join(reversed(lines)) if name == "names.csv" else "\n".join(lines) + "\n"
    (tmp_path / name).write_text(text, encoding="utf-8")
    build_aligned(tmp_path / name, tmp_path / "list", "--root", folder)
    found, expected = content(tmp_path / "list"), content(tmp_path / "folder")
    assert [sorted(images) for images in found] == [sorted(images) for images in expected]


@pytest.mark.parametrize("name", ["", "train.rec", "train.lst"])
def test_a_set_built_from_a_set_is_the_same(folder, tmp_path, name):
    build_aligned(folder, tmp_path / "first")
    build_aligned(tmp_path / "first" / name, tmp_path / "again")
    assert content(tmp_path / "again") == content(tmp_path / "first")


@pytest.mark.parametrize(("names", "expected"), [(["10", "9", "2"], ["2", "9", "10"]), (["s10", "s9"], ["s10", "s9"])])
def test_identities_are_numbered_in_the_order_of_numbers_or_names(tmp_path, names, expected):
    (tmp_path / "list.csv").write_text("\n".join(f"{name}.png,{name}" for name in names))
    assert [photo.identity for photo in identity_photos(str(tmp_path / "list.csv"))[0]] == expected


def test_one_photo_each(tmp_path):
    os.makedirs(tmp_path / "flat")
    for name in ("Zé Vitor", "Ann"):
        (tmp_path / "flat" / f"{name}.jpg").write_bytes(picture(len(name), extension=".jpg"))
    build_aligned(tmp_path / "flat", tmp_path / "set", "--flat")
    assert [len(images) for images in content(tmp_path / "set")] == [1, 1]
    assert "Zé Vitor.jpg\t1" in (tmp_path / "set" / "train.lst").read_text(encoding="utf-8")


def test_held_out_people(folder, tmp_path, capsys):
    options = ("--hold-out", 2, "--pairs", 20)
    build_aligned(folder, tmp_path / "a", *options)
    build_aligned(folder, tmp_path / "b", *options)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert read_property(str(tmp_path / "a")).num_classes == 2
    images, issame = read_bin(str(tmp_path / "a" / "holdout.bin"))
    assert issame == [True, False] * 10
    assert images
    assert not set(images) & {image for images in content(tmp_path / "a") for image in images}
    rows = list(csv.reader((tmp_path / "a" / "holdout.csv").read_text().splitlines()))
    for (one, other, same), flag, pair in zip(rows, issame, zip(images[::2], images[1::2])):
        assert (os.path.dirname(one) == os.path.dirname(other)) == flag == (same == "1")
        assert pair == (open_read(one), open_read(other))
    other = ("--hold-out-name", "unseen", "--seed", 7)
    build_aligned(folder, tmp_path / "c", *options, *other)
    assert "2 identities held out: 20 pairs in unseen.bin" in capsys.readouterr().out


def open_read(path):
    with open(path, "rb") as file:
        return file.read()


def test_size(folder, tmp_path):
    build_aligned(folder, tmp_path / "small", "--image-size", "40, 32")
    image = cv2.imdecode(np.frombuffer(content(tmp_path / "small")[0][0], np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (40, 32, 3)


def test_encoding(folder, tmp_path):
    sizes = []
    for options in (("--png",), ("--quality", 95), ("--quality", 30)):
        output = tmp_path / f"set{len(sizes)}"
        build_aligned(folder, output, "--image-size", "56,56", *options)
        (encoded, *_), *_ = content(output)
        assert encoded.startswith(b"\x89PNG" if options == ("--png",) else b"\xff\xd8")
        sizes.append(len(encoded))
    assert sizes[0] > sizes[1] > sizes[2]


def test_every_malformed_photo_is_listed_with_its_reason(folder, tmp_path, capsys):
    whole = picture(0)
    ann = folder / "ann"
    malformed = {
        "empty.jpg": (b"", "it is empty: get it again"),
        "text.jpg": (b"no image at all", "it is not an image"),
        "cut.png": (whole[: len(whole) // 2], "it is a damaged image or one cut short"),
        "cut.jpg": (picture(1, extension=".jpg")[:3000], "it is a damaged image or one cut short"),
        "huge.png": (
            whole[:16] + b"\x7f\xff\xff\xff" * 2 + whole[24:],
            "it has 2147483647x2147483647 pixels, more than",
        ),
        "notes.txt": (b"", "does not end in"),
        "tab\tname.png": (whole, "tab or a line break"),
    }
    for name, (data, _) in malformed.items():
        (ann / name).write_bytes(data)
    os.mkfifo(ann / "pipe.png")
    os.symlink("nowhere", ann / "link.png")
    (folder / "loose.png").write_bytes(whole)
    os.mkdir(folder / "empty")
    build_aligned(folder, tmp_path / "set")
    found = skipped(tmp_path / "set")
    assert len(found) == len(malformed) + 3
    for name, (_, reason) in malformed.items():
        assert reason in found[name] or "damaged" in found[name], name
    assert found["pipe.png"] == "it cannot be read: it is a pipe, not a file"
    assert found["link.png"] == "there is no such file"
    assert found["loose.png"] == "it is in no identity's folder"
    assert "10 skipped" in capsys.readouterr().out
    assert [len(images) for images in content(tmp_path / "set")] == list(PEOPLE.values())


def test_every_malformed_line_is_listed_with_its_reason(folder, tmp_path):
    lines = {
        "1\tann/ann_0000.png\t0": "",
        "": "",
        "2\tann/ann_0001.png\t0": "a line is aligned",
        "1\tann/ann_0001.png": "a line is aligned",
        "1\tann/ann_0001.png\t-1": "no class number",
        "1\tann/ann_0001.png\t0.5": "no class number",
        "1\tann/ann_0001.png\tnan": "no class number",
        "0\tann/ann_0001.png\t0\t1\t2\t3": "3 numbers follow",
        "0\tann/ann_0001.png\t0\t1\t2\t3\tx": "in the box or landmarks is no number",
        "0\tann/ann_0002.png\t0\t500\t500\t600\t600": "lies outside the image",
        "0\tann/ann_0003.png\t0\t1\t1\t9\t9" + "\t5" * 10: "in one place",
        "1\tann/none.png\t0": "no such file",
        "just words": "a line is aligned",
    }
    (folder / "list.lst").write_text("\n".join(lines))
    run(build, folder / "list.lst", "--output", tmp_path / "set", "--workers", 1)
    found = list(skipped(tmp_path / "set").values())
    assert len(found) == sum(bool(reason) for reason in lines.values())
    for reason in filter(None, lines.values()):
        assert any(reason in one for one in found), reason


def test_rows_of_a_csv(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"path,label\na.png,1\nb.png\n,2\nc.png,\nd.png,1,2\n\xff.png,3\n")
    photos, left_out = identity_photos(str(tmp_path / "a.csv"))
    assert [photo.identity for photo in photos] == ["1", "3"]
    assert [reason for _, reason in left_out] == ["a row is path,label"] * 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("none", (), "cannot open"),
        ("photos/ann/ann_0000.png", (), "only folders, lists"),
        ("nobody", (), "it is empty"),
        ("photos/ann", (), "it is in no identity's folder"),
        ("photos", ("--image-size", "112"), "'112' is not an image size"),
        ("photos", ("--quality", 101), "--quality: 101 is not from 1 to 100"),
        ("photos", ("--min-face", 11), "--min-face: 11 is not 12 or more"),
        ("photos", ("--hold-out", 4), "--hold-out 4: of 4 identities"),
        ("photos", ("--hold-out", 1), "--hold-out 1"),
        ("photos", ("--hold-out", 2, "--pairs", 19), "ten folds need 10 of each"),
        ("photos", ("--min-images", 9), "no photo of"),
        ("photos", ("--pairs", 20), "--pairs has no effect without --hold-out N"),
        ("photos", ("--seed", 2, "--hold-out-name", "x"), "--hold-out-name and --seed have no effect without --hold"),
        ("photos", ("--png", "--quality", 90), "--quality has no effect with --png"),
        ("photos", ("--min-face", 30, "--no-face", "crop"), "--no-face and --min-face have no effect with --aligned"),
        ("photos", ("--root", "."), "--root has no effect, as"),
        ("zeros.csv", ("--flat",), "zeros.csv is no folder of photos: leave it out"),
        ("zeros.csv", (), "is no list of paths, as it holds zero bytes: save a list as text in UTF-8"),
    ],
)
def test_what_the_user_can_mend(folder, tmp_path, capsys, source, options, words):
    output = tmp_path / "set"
    os.mkdir(tmp_path / "nobody")
    (tmp_path / "zeros.csv").write_text("photos/ann/ann_0000.png,1", encoding="utf-16-le")
    common = ("--output", output, "--aligned", "--workers", 1)
    assert words in error_of(capsys, build, tmp_path / source, *options, *common)
    assert not (output / "property").exists()


def test_what_depends_on_the_output(folder, tmp_path, capsys):
    output = tmp_path / "set"
    no_detector = error_of(capsys, build, folder, "--output", output, "--detector", tmp_path / "none", "--workers", 1)
    assert f"{tmp_path}/none" in no_detector
    unaligned = error_of(capsys, build, folder, "--output", output, "--image-size", "56,56")
    assert "--image-size 56,56: faces are aligned to 112,112 or 112,96" in unaligned
    build_aligned(folder, output)
    assert "holds a training set already" in error_of(capsys, build, folder, "--output", output, "--aligned")
    file = folder / "ann" / "ann_0000.png"
    assert "cannot save" in error_of(capsys, build, folder, "--output", file / "set", "--aligned")


@pytest.mark.slow
def test_aligned_photos_need_no_mxnet(folder, tmp_path):
    code = (
        "import sys\nfrom insightface_mx.datasets import build\n"
        "build.main(sys.argv[1:])\nprint([name for name in ('mxnet', 'mtcnn') if name in sys.modules])"
    )
    argv = [sys.executable, "-c", code, str(folder), "--output", str(tmp_path / "set"), "--aligned", "--workers", "1"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    build_aligned(folder, tmp_path / "here")
    assert content(tmp_path / "set") == content(tmp_path / "here")


def test_min_images(folder, tmp_path):
    build_aligned(folder, tmp_path / "set", "--min-images", 5)
    assert [len(images) for images in content(tmp_path / "set")] == [5, 5, 6]
    found = skipped(tmp_path / "set")
    assert found["bob"] == "the identity has 4 usable photos, --min-images is 5"
    assert found["bob_0003.png"] == "its identity has too few usable photos"
    assert len(found) == 4 + 1


def test_a_stopped_run_continues_where_it_was(many, tmp_path, monkeypatch):
    options = ("--image-size", "8,8")
    build_aligned(many, tmp_path / "whole", *options)
    done = []

    class Stopping(prepare.Preparer):
        def __call__(self, photos):
            done.append(photos[0].name)
            if len(done) == 2:
                raise KeyboardInterrupt
            return super().__call__(photos)

    monkeypatch.setattr(face_store, "_preparer", Stopping)
    argv = (many, "--output", tmp_path / "set", "--aligned", "--workers", 1, *options)
    assert status_of(build, *argv) == 130
    assert os.listdir(tmp_path / "set") == ["faces.partial"]
    (tmp_path / "set" / "faces.partial" / "000000.npz").write_bytes(b"damaged since")
    run(build, *argv)
    assert done[2:] == [done[0], done[1], done[4]]  # of three chunks two were done, and one of these is damaged
    assert len(done) == 5
    assert digests(tmp_path / "set") == digests(tmp_path / "whole")


def test_other_photos_or_options_start_again(folder, tmp_path, capsys):
    photos, _ = identity_photos(str(folder))
    for options in (FaceOptions(aligned=True), FaceOptions(aligned=True, png=True)):
        faces = face_store.FaceStore(str(tmp_path / "partial"), photos, options)
        faces.fill(1)
        assert faces.face(7) == picture(102)
    os.utime(photos[0].path, ns=(1, 1))
    (tmp_path / "partial" / "000000.npz").write_bytes(b"of the photo as it was")
    face_store.FaceStore(str(tmp_path / "partial"), photos, FaceOptions(aligned=True, png=True)).fill(1)
    assert (tmp_path / "partial" / "000000.npz").stat().st_size > 1000


@pytest.mark.parametrize("failing", ["train.lst", "train.rec", "train.idx"])
def test_a_half_written_set_is_none(folder, tmp_path, monkeypatch, failing):
    """Whatever write fails, there is no property; the next run completes the set."""
    build_aligned(folder, tmp_path / "whole")
    atomic_path = recordio.atomic_path

    def fail(path):
        if path.endswith(failing):
            raise OSError(28, "No space left on device")
        return atomic_path(path)

    monkeypatch.setattr(recordio, "atomic_path", fail)
    monkeypatch.setattr(training_set, "atomic_path", fail)
    assert status_of(build, folder, "--output", tmp_path / "set", "--aligned", "--workers", 1) == 2
    assert not (tmp_path / "set" / "property").exists()
    monkeypatch.undo()
    build_aligned(folder, tmp_path / "set")
    assert digests(tmp_path / "set") == digests(tmp_path / "whole")


def test_a_set_that_is_being_replaced_is_none(folder, tmp_path, monkeypatch):
    build_aligned(folder, tmp_path / "set")
    monkeypatch.setattr(training_set, "write_records", None)
    with pytest.raises(TypeError):
        training_set.write_training_set(str(tmp_path / "set"), [[picture(1)]], (112, 112))
    assert not (tmp_path / "set" / "property").exists()


@pytest.mark.slow
def test_several_processes_give_the_same_set(many, tmp_path):
    run(build, many, "--output", tmp_path / "one", "--aligned", "--image-size", "8,8", "--workers", 1)
    run(build, many, "--output", tmp_path / "two", "--aligned", "--image-size", "8,8", "--workers", 2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
