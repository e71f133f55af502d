"""From photos to a training set: what is read from where, what is left out, and runs that were stopped."""

import csv
import hashlib
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from insightface_mx.base.errors import UserError
from insightface_mx.datasets import build, orl, prepare, spool, workers
from insightface_mx.formats import recordio, training_set
from insightface_mx.formats.recordio import RecordFile
from insightface_mx.formats.training_set import identity_ranges, read_property
from insightface_mx.formats.verification_set import read_bin
from insightface_mx.photos import sources

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


def run(source, output, *options):
    build.main([str(source), "--output", str(output), "--aligned", "--workers", "1", *map(str, options)])


def error_of(capsys, *argv):
    with pytest.raises(SystemExit) as stop:
        build.main([str(word) for word in argv])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.strip().splitlines()) <= 2
    return error


def content(output):
    """Images by class, as they are in a set's records."""
    records = RecordFile(str(output / "train.rec"))
    classes = []
    for label, (first, last) in enumerate(identity_ranges(records).tolist()):
        read = [records.read(number) for number in range(first, last)]
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
    run(folder, tmp_path / "set")
    assert sorted(os.listdir(tmp_path / "set")) == ["property", "train.idx", "train.lst", "train.rec"]
    assert read_property(str(tmp_path / "set")) == (4, 112, 112)
    expected = [[picture(100 * place + i) for i in range(count)] for place, count in enumerate(PEOPLE.values())]
    assert content(tmp_path / "set") == expected
    lines = (tmp_path / "set" / "train.lst").read_text().splitlines()
    assert len(lines) == 20
    assert lines[5] == f"1\t{folder}/bob/bob_0000.png\t1"
    assert "20 images of 4 people" in capsys.readouterr().out


def test_every_source_gives_the_same_set(folder, tmp_path):
    run(folder, tmp_path / "folder")
    expected = content(tmp_path / "folder")
    photos, _ = sources.identity_photos(str(folder))
    names = list(PEOPLE)
    paths = [os.path.relpath(photo.path, folder) for photo in photos]
    labels = [names.index(photo.identity) for photo in photos]
    lists = {
        "spec.lst": [f"1\t{path}\t{label}" for path, label in zip(paths, labels)],
        "im2rec.lst": [f"{i}\t{label:f}\t{path}" for i, (path, label) in enumerate(zip(paths, labels))],
        "plain.csv": ["path,label", *(f"{path},{label}" for path, label in zip(paths, labels))],
        "names.csv": [f'"{path}", {photo.identity}' for path, photo in zip(paths, photos)],
    }
    for name, lines in lists.items():
        text = "\ufeff" + "\r\n".join(reversed(lines)) if name == "names.csv" else "\n".join(lines) + "\n"
        (tmp_path / name).write_text(text, encoding="utf-8")
        run(tmp_path / name, tmp_path / f"from-{name}", "--root", folder)
        found = content(tmp_path / f"from-{name}")
        assert [sorted(images) for images in found] == [sorted(images) for images in expected], name
    for source in (tmp_path / "folder", tmp_path / "folder" / "train.rec", tmp_path / "folder" / "train.lst"):
        run(source, tmp_path / f"again{source.name}")
        assert content(tmp_path / f"again{source.name}") == expected


def test_people_are_numbered_in_the_order_of_numbers_or_names(tmp_path):
    for people, expected in ((["10", "9", "2"], ["2", "9", "10"]), (["s10", "s9"], ["s10", "s9"])):
        lines = [f"{person}.png,{person}" for person in people]
        (tmp_path / "list.csv").write_text("\n".join(lines))
        assert [photo.identity for photo in sources.identity_photos(str(tmp_path / "list.csv"))[0]] == expected


def test_one_photo_each(tmp_path):
    os.makedirs(tmp_path / "flat")
    for name in ("Zé Vitor", "Ann"):
        (tmp_path / "flat" / f"{name}.jpg").write_bytes(picture(len(name), extension=".jpg"))
    run(tmp_path / "flat", tmp_path / "set", "--flat")
    assert [len(images) for images in content(tmp_path / "set")] == [1, 1]
    assert "Zé Vitor.jpg\t1" in (tmp_path / "set" / "train.lst").read_text(encoding="utf-8")


def test_held_out_people(folder, tmp_path, capsys):
    options = ("--hold-out", 2, "--pairs", 20)
    run(folder, tmp_path / "a", *options)
    run(folder, tmp_path / "b", *options)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert read_property(str(tmp_path / "a")).num_classes == 2
    images, issame = read_bin(str(tmp_path / "a" / "holdout.bin"))
    assert issame == [True, False] * 10
    assert not set(images) & {image for images in content(tmp_path / "a") for image in images}
    rows = list(csv.reader((tmp_path / "a" / "holdout.csv").read_text().splitlines()))
    for (one, other, same), flag, pair in zip(rows, issame, zip(images[::2], images[1::2])):
        assert (os.path.dirname(one) == os.path.dirname(other)) == flag == (same == "1")
        assert pair == (open_read(one), open_read(other))
    other = ("--hold-out-name", "unseen", "--seed", 7)
    run(folder, tmp_path / "c", *options, *other)
    assert "2 people held out: 20 pairs in unseen.bin" in capsys.readouterr().out


def open_read(path):
    with open(path, "rb") as file:
        return file.read()


def test_encoding_and_size(folder, tmp_path):
    run(folder, tmp_path / "small", "--image-size", "40,32")
    image = cv2.imdecode(np.frombuffer(content(tmp_path / "small")[0][0], np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (40, 32, 3)
    sizes = []
    for options in (("--png",), ("--quality", 95), ("--quality", 30)):
        output = tmp_path / f"set{len(sizes)}"
        run(folder, output, "--image-size", "56,56", *options)
        (encoded, *_), *_ = content(output)
        assert encoded.startswith(b"\x89PNG" if options == ("--png",) else b"\xff\xd8")
        sizes.append(len(encoded))
    assert sizes[0] > sizes[1] > sizes[2]


def test_every_malformed_photo_is_listed_with_its_reason(folder, tmp_path, capsys):
    whole = picture(0)
    ann = folder / "ann"
    malformed = {
        "empty.jpg": (b"", "it is empty"),
        "text.jpg": (b"no image at all", "it is not an image"),
        "cut.png": (whole[: len(whole) // 2], "it is a damaged image or one cut short"),
        "cut.jpg": (picture(1, extension=".jpg")[:3000], "it is a damaged image or one cut short"),
        "huge.png": (whole[:16] + b"\x7f\xff\xff\xff" * 2 + whole[24:], "it is not an image"),
        "notes.txt": (b"", "does not end in"),
        "tab\tname.png": (whole, "tab or a line break"),
    }
    for name, (data, _) in malformed.items():
        (ann / name).write_bytes(data)
    os.mkfifo(ann / "pipe.png")
    os.symlink("nowhere", ann / "link.png")
    (folder / "loose.png").write_bytes(whole)
    os.mkdir(folder / "empty")
    run(folder, tmp_path / "set")
    found = skipped(tmp_path / "set")
    assert len(found) == len(malformed) + 3
    for name, (_, reason) in malformed.items():
        assert reason in found[name] or "damaged" in found[name], name
    assert found["pipe.png"] == found["link.png"] == "there is no such file"
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
        "0\tann/ann_0001.png\t0\t1\t2\t3\tx": "could not convert",
        "0\tann/ann_0002.png\t0\t500\t500\t600\t600": "lies outside the image",
        "0\tann/ann_0003.png\t0\t1\t1\t9\t9" + "\t5" * 10: "in one place",
        "1\tann/none.png\t0": "no such file",
        "just words": "a line is aligned",
    }
    (folder / "list.lst").write_text("\n".join(lines))
    build.main([str(folder / "list.lst"), "--output", str(tmp_path / "set"), "--workers", "1"])
    found = list(skipped(tmp_path / "set").values())
    assert len(found) == sum(bool(reason) for reason in lines.values())
    for reason in filter(None, lines.values()):
        assert any(reason in one for one in found), reason


def test_rows_of_a_csv(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"path,label\na.png,1\nb.png\n,2\nc.png,\nd.png,1,2\n\xff.png,3\n")
    photos, left_out = sources.identity_photos(str(tmp_path / "a.csv"))
    assert [photo.identity for photo in photos] == ["1", "3"]
    assert [reason for _, reason in left_out] == ["a row is path,label"] * 4


def test_what_the_user_can_mend(folder, tmp_path, capsys):
    output = tmp_path / "set"
    common = ("--output", output, "--aligned", "--workers", 1)
    os.mkdir(tmp_path / "nobody")
    for argv, words in {
        (tmp_path / "none",): "cannot open",
        (folder / "ann" / "ann_0000.png",): "only folders, lists",
        (tmp_path / "nobody",): "it is empty",
        (folder / "ann",): "it is in no identity's folder",
        (folder, "--image-size", "112"): "--image-size 112:",
        (folder, "--quality", 101): "--quality 101",
        (folder, "--min-face", 11): "--min-face 11",
        (folder, "--hold-out", 4): "--hold-out 4: of 4 people",
        (folder, "--hold-out", 1): "--hold-out 1",
        (folder, "--hold-out", 2, "--pairs", 19): "ten folds need 10 of each",
        (folder, "--min-images", 9): "no photo of",
    }.items():
        assert words in error_of(capsys, *argv, *common), argv
        assert not (output / "property").exists()
    assert "are aligned to 112,112 or 112,96" in error_of(capsys, folder, "--output", output, "--image-size", "56,56")
    run(folder, output)
    assert "holds a training set already" in error_of(capsys, folder, *common)
    assert "cannot save" in error_of(capsys, folder, "--output", folder / "ann" / "ann_0000.png" / "set", "--aligned")


def test_min_images(folder, tmp_path):
    run(folder, tmp_path / "set", "--min-images", 5)
    assert [len(images) for images in content(tmp_path / "set")] == [5, 5, 6]
    found = skipped(tmp_path / "set")
    assert found["bob"] == "the person has 4 usable photos, 5 are wanted"
    assert found["bob_0003.png"] == "its person has too few usable photos"
    assert len(found) == 4 + 1


def test_a_stopped_run_goes_on_where_it_was(folder, tmp_path, monkeypatch):
    run(folder, tmp_path / "whole")
    monkeypatch.setattr(spool, "CHUNK", 4)
    done = []

    class Stopping(prepare.Preparer):
        def __call__(self, photos):
            done.append(photos[0].name)
            if len(done) == 3:
                raise KeyboardInterrupt
            return super().__call__(photos)

    monkeypatch.setattr(spool, "_preparer", Stopping)
    with pytest.raises(SystemExit) as stop:
        run(folder, tmp_path / "set")
    assert stop.value.code == 130
    assert os.listdir(tmp_path / "set") == ["faces.partial"]
    run(folder, tmp_path / "set")
    assert done[2] == done[3]
    assert len(done) == 3 + 3  # five chunks of 4, the third twice
    assert digests(tmp_path / "set") == digests(tmp_path / "whole")


def test_other_photos_or_options_start_anew(folder, tmp_path, capsys):
    photos, _ = sources.identity_photos(str(folder))
    for settings in (prepare.Settings(aligned=True), prepare.Settings(aligned=True, png=True)):
        faces = spool.Spool(str(tmp_path / "partial"), photos, settings)
        faces.fill(1)
        assert faces.face(7) == picture(102)
    os.utime(photos[0].path, ns=(1, 1))
    (tmp_path / "partial" / "000000.npz").write_bytes(b"of the photo as it was")
    spool.Spool(str(tmp_path / "partial"), photos, prepare.Settings(aligned=True, png=True)).fill(1)
    assert (tmp_path / "partial" / "000000.npz").stat().st_size > 1000


def test_a_half_written_set_is_none(folder, tmp_path, monkeypatch):
    """Whatever write fails, there is no property; the next run completes the set."""
    run(folder, tmp_path / "whole")
    atomic_path = recordio.atomic_path
    for failing in ("train.lst", "train.rec", "train.idx"):

        def fail(path, failing=failing):
            if path.endswith(failing):
                raise OSError(28, "No space left on device")
            return atomic_path(path)

        monkeypatch.setattr(recordio, "atomic_path", fail)
        monkeypatch.setattr(training_set, "atomic_path", fail)
        with pytest.raises(SystemExit) as stop:
            run(folder, tmp_path / "set")
        assert stop.value.code == 2
        assert not (tmp_path / "set" / "property").exists()
    monkeypatch.undo()
    run(folder, tmp_path / "set")
    assert digests(tmp_path / "set") == digests(tmp_path / "whole")


def test_a_set_that_is_being_replaced_is_none(folder, tmp_path, monkeypatch):
    run(folder, tmp_path / "set")
    monkeypatch.setattr(training_set, "write_records", None)
    with pytest.raises(TypeError):
        training_set.write_training_set(str(tmp_path / "set"), [[picture(1)]], (112, 112))
    assert not (tmp_path / "set" / "property").exists()


def test_several_processes_give_the_same_set(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "CHUNK", 4)
    run(folder, tmp_path / "one")
    run(folder, tmp_path / "two", "--workers", 2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_a_killed_worker_is_told(tmp_path):
    with pytest.raises(UserError, match="a worker process was killed"):
        list(workers.unordered(os._exit, [(1,)] * 2, 2))


def test_no_worker_survives_its_parent(tmp_path):
    code = (
        "import os, time\nfrom insightface_mx.datasets import workers\n"
        "def task(): print(os.getpid(), flush=True); time.sleep(100)\n"
        "if __name__ == '__main__': list(workers.unordered(task, [()] * 2, 2))\n"
    )
    (tmp_path / "parent.py").write_text(code)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py")], stdout=subprocess.PIPE, text=True)
    children = [int(parent.stdout.readline()) for _ in range(2)]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    for _ in range(100):
        if not any(map(alive, children)):
            return
        time.sleep(0.1)
    raise AssertionError(f"{children} still run")


def alive(process):
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_the_main_face_is_large_and_central():
    boxes = np.array([[0, 0, 40, 40, 0.99], [80, 80, 115, 115, 0.9], [0, 0, 10, 10, 1.0]])
    points = np.arange(30, dtype=np.float64).reshape(3, 10)
    assert prepare.main_face(boxes, points, (200, 200, 3)).tolist() == points[1].reshape(2, 5).T.tolist()


def test_faces_are_found_and_aligned(tmp_path, capsys):
    """Two photos of a person and one of nobody: at its own size, in a corner of a large one, and a blank one."""
    photo = orl.read_photos()[0][0]
    large = np.full((2000, 1800), 90, np.uint8)
    large[300:1420, 200:1120] = cv2.resize(photo, (920, 1120), interpolation=cv2.INTER_CUBIC)
    os.makedirs(tmp_path / "photos" / "s1")
    for name, image in {"small.png": photo, "large.png": large, "blank.png": np.full((200, 200), 90, np.uint8)}.items():
        cv2.imwrite(str(tmp_path / "photos" / "s1" / name), image)
    build.main([str(tmp_path / "photos"), "--output", str(tmp_path / "set"), "--workers", "1", "--png"])
    assert skipped(tmp_path / "set") == {"blank.png": "no face found"}
    large, small = (cv2.imdecode(np.frombuffer(face, np.uint8), 0) for face in content(tmp_path / "set")[0])
    assert np.corrcoef(large[20:100, 20:92].ravel(), small[20:100, 20:92].ravel())[0, 1] > 0.8
    build.main([str(tmp_path / "photos"), "--output", str(tmp_path / "crop"), "--workers", "1", "--no-face", "crop"])
    assert len(content(tmp_path / "crop")[0]) == 3
