"""insightface-embed: every kind of input and output, bad images among good ones, interruptions."""

import csv
import os
import shutil

import cv2
import numpy as np
import pytest
import small_network
from harness import error_of, orl_photo, status_of
from harness import run as run_command
from pyarrow import parquet

from insightface_mx.datasets import build
from insightface_mx.deploy import embed, face_table
from insightface_mx.deploy.face_model import Face, FaceModel
from insightface_mx.deploy.face_options import EmbedOptions
from insightface_mx.eval import verification
from insightface_mx.files import manifest
from insightface_mx.formats.training_set import write_training_set
from insightface_mx.formats.verification_set import write_bin
from insightface_mx.photos import decode, sources
from insightface_mx.photos.decode import decode_photo, fit, network_input

own_cache = pytest.fixture(autouse=True, scope="module")(small_network.own_cache)
COUNT = 10


def face(number):
    """An aligned face, or something of that size, as PNG."""
    draw = np.random.RandomState(number)
    colours = cv2.resize(draw.randint(0, 256, (5, 5, 3)).astype(np.uint8), (112, 112), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".png", colours)[1].tobytes()


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a network, aligned/ with ten images, train.rec with the same ten, pairs.bin and photos/."""
    folder = tmp_path_factory.mktemp("embed")
    for name in ("aligned", "photos"):
        (folder / name).mkdir()
    for number in range(COUNT):
        (folder / "aligned" / f"{number}.png").write_bytes(face(number))
    write_training_set(str(folder), [[face(i) for i in range(first, first + 5)] for first in (0, 5)], (112, 112))
    write_bin(str(folder / "pairs.bin"), [face(number) for number in range(COUNT)], [True, False, True, False, True])
    two = np.hstack([orl_photo(1, 1), orl_photo(2, 1)])
    for name, photo in (("one", orl_photo(3, 1)), ("two", two), ("none", np.zeros((40, 40), np.uint8))):
        cv2.imwrite(str(folder / "photos" / f"{name}.png"), photo)
    (folder / "photos" / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    cut = (folder / "photos" / "one.png").read_bytes()
    (folder / "photos" / "cut.png").write_bytes(cut[: len(cut) // 2])
    small_network.save(folder / "net")
    return folder


def command(work, source, output, *more):
    return [source, "--model", f"{work}/net,1", "--output", output, "--batch-size", "4", *more]


def run(work, source, output, *more):
    run_command(embed, *command(work, source, output, *more))


def expected_features(work, flip=False):
    faces = np.stack([network_input(decode_photo(face(number), "")) for number in range(COUNT)])
    rows = small_network.plain_mxnet(f"{work}/net,1", faces)
    if flip:
        rows = rows + small_network.plain_mxnet(f"{work}/net,1", faces[:, :, :, ::-1])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.slow
def test_aligned_images_of_a_folder(work, tmp_path):
    run(work, work / "aligned", tmp_path / "a.npz", "--aligned")
    table = np.load(tmp_path / "a.npz")
    assert table["name"].tolist() == [f"{work}/aligned/{number}.png" for number in range(COUNT)]
    np.testing.assert_allclose(table["embedding"], expected_features(work), atol=1e-5)
    assert table["embedding"].dtype == np.float32
    assert table["label"].tolist() == [-1] * COUNT
    assert table["box"].tolist() == [[0, 0, 112, 112]] * COUNT
    assert os.listdir(tmp_path) == ["a.npz"]


@pytest.mark.slow
def test_training_records_have_labels(work, tmp_path):
    run(work, work / "train.rec", tmp_path / "a.npz", "--aligned")
    table = np.load(tmp_path / "a.npz")
    assert table["name"].tolist() == [str(number) for number in range(1, COUNT + 1)]
    assert table["label"].tolist() == [0] * 5 + [1] * 5
    np.testing.assert_allclose(table["embedding"], expected_features(work), atol=1e-5)


@pytest.mark.slow
def test_a_verification_set_as_verification_py_embeds_it(work, tmp_path):
    run(work, work / "pairs.bin", tmp_path / "a.npz", "--aligned", "--flip")
    options = ["--data-dir", str(work), "--target", "pairs", "--mode", "2", "--output", str(tmp_path)]
    verification.main(["--model", f"{work}/net,1", *options])
    table = np.load(tmp_path / "a.npz")
    assert table["name"].tolist() == [str(number) for number in range(COUNT)]
    np.testing.assert_allclose(
        table["embedding"], np.load(tmp_path / "pairs-0001-embeddings.npz")["embeddings"], atol=1e-5
    )
    np.testing.assert_allclose(table["embedding"], expected_features(work, flip=True), atol=1e-5)


@pytest.mark.parametrize("aligned", [["--aligned"], []])
def test_an_image_that_a_verification_set_repeats_is_embedded_once(work, tmp_path, monkeypatch, capsys, aligned):
    order = [0, 1, 0, 2, 3, 3, 1, 0, 4, 9, 9, 0]
    contents = [face(number) for number in range(4)] + [b"no image"] * 6
    write_bin(str(tmp_path / "pairs.bin"), [contents[number] for number in order], [True, False] * 3)
    read, embedded = [], []
    monkeypatch.setattr(embed, "CHUNK", 5)
    monkeypatch.setattr(
        sources, "decode_photo", lambda *args, decode=sources.decode_photo: read.append(args[1]) or decode(*args)
    )
    get_feature = FaceModel.get_feature
    monkeypatch.setattr(
        FaceModel, "get_feature", lambda model, faces: embedded.append(len(faces)) or get_feature(model, faces)
    )
    monkeypatch.setattr(FaceModel, "get_faces", lambda model, images: [[_whole(image)] for image in images])
    options = [*aligned, "--backend", "mxnet"]
    assert status_of(embed, *command(work, tmp_path / "pairs.bin", tmp_path / "a.npz", *options)) == 2
    assert read == [f"{tmp_path}/pairs.bin: image {index}" for index in (0, 1, 3, 4, 8)]
    assert sum(embedded) == 4
    said = capsys.readouterr().err
    assert "error: 3 images could not be used" in said and "pairs.bin: image 8 is not an image" in said
    assert "error: 9: it is the same as 8, which cannot be used" in said
    table = np.load(tmp_path / "a.npz")
    good = [index for index, number in enumerate(order) if number < 4]
    assert table["name"].tolist() == [str(index) for index in good]
    expected = expected_features(work)[[order[index] for index in good]]
    np.testing.assert_allclose(table["embedding"], expected, atol=1e-5)


def _whole(image):
    return Face(np.zeros(4), 1.0, np.zeros((5, 2)), network_input(image))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("b", "a", "10"), {"b": 2, "a": 1, "10": 0}),
        (("10", "9", "2"), {"10": 2, "9": 1, "2": 0}),
        (("Zoe", "anna/deep", "empty"), {"Zoe": 0, "anna": 1}),
    ],
)
def test_labels_of_a_folder_are_those_of_build_set(work, tmp_path, names, labels):
    for number, name in enumerate(names):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(2 * (name != "empty")):
            (tmp_path / "photos" / name / f"{index}.png").write_bytes(face(2 * number + index))
    run_command(build, tmp_path / "photos", "--output", tmp_path / "set", "--aligned", "--workers", 1)
    (tmp_path / "photos" / "of_nobody.png").write_bytes(face(9))
    run(work, tmp_path / "photos", tmp_path / "a.npz", "--aligned")
    table = np.load(tmp_path / "a.npz")
    found = dict(zip(table["name"].tolist(), table["label"].tolist()))
    assert found.pop(f"{tmp_path}/photos/of_nobody.png") == -1
    assert {os.path.relpath(name, tmp_path / "photos").split(os.sep)[0]: found[name] for name in found} == labels
    lines = (line.split("\t") for line in (tmp_path / "set" / "train.lst").read_text().splitlines())
    assert found == {path: int(float(label)) for _, path, label in lines}


def test_lists(work, tmp_path):
    (tmp_path / "a.lst").write_text(
        f"1\t{work}/aligned/3.png\t7\n\n0\t{work}/aligned/1.png\t8.0\t0\t0\t9\t9\n{work}/aligned/0.png\n"
    )
    run(work, tmp_path / "a.lst", tmp_path / "a.npz", "--aligned")
    table = np.load(tmp_path / "a.npz")
    assert table["label"].tolist() == [7, 8, -1]
    np.testing.assert_allclose(table["embedding"], expected_features(work)[[3, 1, 0]], atol=1e-5)


def test_lines_that_name_no_image_are_named_and_the_others_embedded(work, tmp_path, capsys):
    lines = [f"1\t{work}/aligned/3.png\t7", "2\tx.png\t7", f"1\t{work}/aligned/1.png\t8", "1\tx.png\t0.5"]
    (tmp_path / "a.lst").write_text("\n".join(lines))
    assert status_of(embed, *command(work, tmp_path / "a.lst", tmp_path / "a.npz", "--aligned")) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert errors[0].startswith(f"error: {tmp_path}/a.lst:2: a line is aligned (0 or 1), path, label")
    assert errors[1] == f"error: {tmp_path}/a.lst:4: the label '0.5' is no class number 0, 1, 2 ..."
    assert errors[2:] == [f"error: 2 images could not be used; the others are in {tmp_path}/a.npz"]
    assert np.load(tmp_path / "a.npz")["label"].tolist() == [7, 8]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "path,label\naligned/3.png,7\naligned/1.png,8\n"),
        ("im2rec.lst", "0\t7.0\taligned/3.png\n1\t8.0\taligned/1.png\n"),
        ("a.lst", "1\taligned/3.png\t7\n1\taligned/1.png\t8\n"),
    ],
)
def test_lists_of_build_set_start_from_their_folder_or_root(work, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    (tmp_path / "aligned").symlink_to(work / "aligned")
    run(work, tmp_path / name, tmp_path / "a.npz", "--aligned")
    (tmp_path / "lists").mkdir()
    (tmp_path / name).rename(tmp_path / "lists" / name)
    run(work, tmp_path / "lists" / name, tmp_path / "b.npz", "--aligned", "--root", work)
    own, rooted = (np.load(tmp_path / f"{one}.npz") for one in "ab")
    assert own["label"].tolist() == rooted["label"].tolist() == [7, 8]
    assert own["name"].tolist() == [f"{tmp_path}/aligned/{number}.png" for number in (3, 1)]
    assert rooted["name"].tolist() == [f"{work}/aligned/{number}.png" for number in (3, 1)]
    for table in (own, rooted):
        np.testing.assert_allclose(table["embedding"], expected_features(work)[[3, 1]], atol=1e-5)


@pytest.mark.slow
def test_csv_and_parquet_hold_the_same(work, tmp_path):
    for ending in ("npz", "csv", "parquet"):
        run(work, work / "train.rec", tmp_path / f"a.{ending}", "--aligned")
    table = np.load(tmp_path / "a.npz")
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        head, *lines = csv.reader(file)
    assert head[:9] == ["name", "label", "face", "x1", "y1", "x2", "y2", "score", "e0"]
    assert [line[0] for line in lines] == table["name"].tolist()
    assert np.array_equal(np.array([line[8:] for line in lines], np.float32), table["embedding"])
    rows = parquet.read_table(tmp_path / "a.parquet").to_pydict()
    assert list(rows) == [*head[:8], "embedding"]
    assert np.array_equal(np.array(rows["embedding"], np.float32), table["embedding"])
    assert (rows["label"], rows["x2"], rows["score"]) == ([0] * 5 + [1] * 5, [112] * COUNT, [1] * COUNT)


@pytest.mark.slow
def test_bad_photos_among_good_ones(work, tmp_path, capsys):
    assert status_of(embed, *command(work, work / "photos", tmp_path / "a.npz")) == 2
    said = capsys.readouterr().err
    assert "broken.jpg is not an image" in said
    assert "cut.png is a damaged image or one cut short" in said
    assert "none.png: no face found" in said
    assert f"error: 3 images could not be used; the others are in {tmp_path}/a.npz" in said
    assert "Traceback" not in said
    table = np.load(tmp_path / "a.npz")
    assert [os.path.basename(name) for name in table["name"]] == ["one.png", "two.png"]
    model = FaceModel(model=f"{work}/net,1", backend="mxnet")
    expected = model.get_feature(model.get_input(orl_photo(3, 1)))
    np.testing.assert_allclose(table["embedding"][0], expected, atol=1e-4)
    assert (table["score"] > 0.8).all() and table["box"][0, 2] - table["box"][0, 0] > 100


@pytest.mark.slow
def test_a_name_that_is_not_utf8(work, tmp_path):
    folder = os.fsencode(tmp_path / "photos")
    os.mkdir(folder)
    for name in (b"caf\xe9.png", "caf\u00e9.png".encode(), b"a\nb.png"):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(face(1))
    for ending in ("npz", "csv", "parquet"):
        run(work, tmp_path / "photos", tmp_path / f"a.{ending}", "--aligned")
    names = sorted(os.path.join(folder, name) for name in os.listdir(folder))
    assert sorted(map(os.fsencode, np.load(tmp_path / "a.npz")["name"].tolist())) == names
    with open(tmp_path / "a.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        assert sorted(os.fsencode(row[0]) for row in list(csv.reader(file))[1:]) == names
    found = parquet.read_table(tmp_path / "a.parquet")["name"].to_pylist()
    assert sorted(os.path.basename(name) for name in found) == ["a\nb.png", "caf\\xe9.png", "caf\u00e9.png"]


@pytest.mark.slow
def test_all_faces(work, tmp_path):
    (tmp_path / "list").write_text(f"{work}/photos/two.png\n{work}/photos/one.png\n")
    run(work, tmp_path / "list", tmp_path / "a.npz", "--all-faces")
    table = np.load(tmp_path / "a.npz")
    assert table["face"].tolist() == [0, 1, 0]
    assert (table["box"][:2, 2].min() < 312) and (table["box"][:2, 0].max() > 312)


@pytest.mark.slow
def test_an_interrupted_run_goes_on(work, tmp_path, monkeypatch):
    monkeypatch.setattr(embed, "CHUNK", 4)
    reads = []
    read = decode.decode_photo

    def stopping(content, name):
        reads.append(name)
        if len(reads) == 9:
            raise KeyboardInterrupt
        return read(content, name)

    monkeypatch.setattr(sources, "decode_photo", stopping)
    assert status_of(embed, *command(work, work / "pairs.bin", tmp_path / "a.npz", "--aligned")) == 130
    assert os.listdir(tmp_path) == ["a.npz.part"]
    copy = tmp_path / "b.npz.part"
    shutil.copytree(tmp_path / "a.npz.part", copy)
    del reads[:]
    reads += [""] * 9
    run(work, work / "pairs.bin", tmp_path / "a.npz", "--aligned")
    assert len(reads) - 9 == 2  # eight of ten were done
    np.testing.assert_allclose(np.load(tmp_path / "a.npz")["embedding"], expected_features(work), atol=1e-5)
    assert status_of(embed, *command(work, work / "pairs.bin", tmp_path / "b.npz", "--aligned", "--flip")) == 2
    assert not (tmp_path / "b.npz").exists()


@pytest.mark.slow
def test_a_damaged_chunk_is_made_again(work, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(embed, "CHUNK", 4)
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setitem(face_table.WRITERS, ".npz", lambda *_: 1 // 0)
        run(work, work / "pairs.bin", tmp_path / "a.npz", "--aligned")
    chunks = sorted((tmp_path / "a.npz.part").glob("*.npz"))
    assert len(chunks) == 3
    chunks[0].write_bytes(chunks[0].read_bytes()[:-30])
    chunks[1].write_bytes(b"")
    reads, read = [], decode.decode_photo
    monkeypatch.setattr(sources, "decode_photo", lambda *args: reads.append(args) or read(*args))
    run(work, work / "pairs.bin", tmp_path / "a.npz", "--aligned")
    assert len(reads) == 8
    assert capsys.readouterr().err.count("a run that continues makes it again") == 2
    np.testing.assert_allclose(np.load(tmp_path / "a.npz")["embedding"], expected_features(work), atol=1e-5)
    assert os.listdir(tmp_path) == ["a.npz"]


def test_a_failed_write_leaves_the_old_output(work, tmp_path, monkeypatch, capsys):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 old")

    def full(path, arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(face_table, "save_npz", full)
    assert status_of(embed, *command(work, work / "aligned", tmp_path / "a.npz", "--aligned")) == 2
    assert "a.npz: No space left on device" in capsys.readouterr().err
    assert (tmp_path / "a.npz").read_bytes() == b"PK\x03\x04 old"
    assert sorted(os.listdir(tmp_path)) == ["a.npz", "a.npz.part"]


@pytest.mark.parametrize(
    ("source", "output", "message"),
    [
        ("nothing", "a.npz", "cannot open nothing: No such file"),
        ("{empty}", "a.npz", "holds no image files"),
        ("{work}/net-0001.params", "a.npz", "is no list of paths"),
        ("{work}/aligned", "a.txt", "the name must end in .npz, .csv, .parquet"),
        ("{empty}/a.bin", "a.npz", "cannot open"),
    ],
)
def test_what_cannot_be_done(work, tmp_path, capsys, source, output, message):
    (tmp_path / "empty").mkdir()
    source = source.format(work=work, empty=tmp_path / "empty")
    assert status_of(embed, *command(work, source, tmp_path / output, "--aligned")) == 2
    assert message in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["empty"]


@pytest.mark.parametrize(
    ("source", "more", "message"),
    [
        ("aligned", ["--root", "."], "aligned is no list of paths: leave it out"),
        ("train.rec", ["--root", "."], "--root has no effect, as"),
        ("pairs.bin", ["--root", "."], "--root has no effect, as"),
        ("aligned", ["--aligned", "--all-faces"], "--all-faces has no effect with --aligned"),
        ("aligned", ["--aligned", "--det", 1, "--detector", "x"], "--det and --detector have no effect with --aligned"),
    ],
)
def test_options_that_cannot_act_say_so(work, tmp_path, capsys, source, more, message):
    assert message in error_of(capsys, embed, *command(work, work / source, tmp_path / "a.npz", *more))
    assert os.listdir(tmp_path) == []


def test_no_faces_at_all(work, tmp_path, capsys):
    (tmp_path / "list").write_text(f"{work}/photos/none.png\nmissing.png\n")
    assert status_of(embed, *command(work, tmp_path / "list", tmp_path / "a.csv")) == 2
    assert "missing.png: No such file" in capsys.readouterr().err
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1


def test_settings_follow_network_and_options(work):
    source = sources.open_source(str(work / "aligned"))

    def text(**options):
        model = FaceModel(model=f"{work}/net,1", **{"backend": "mxnet", **options})
        return embed.settings_text(model, EmbedOptions(aligned=True), source)

    before = text()
    assert text(gpu=-1, ctx="cpu") == before
    for changed in ({"flip": True}, {"image_size": (56, 56)}, {"backend": "openvino"}, {"det": 1}):
        assert text(**changed) != before
    os.utime(work / "net-0001.params", (1, 1))
    assert text() != before


@pytest.mark.slow
def test_the_image_size_is_that_of_the_manifest(work, tmp_path):
    small_network.save(tmp_path / "net")
    manifest.write(f"{tmp_path}/net-0001.json", [], {"options": {"image_size": "56,56"}})
    run(tmp_path, work / "aligned", tmp_path / "a.npz", "--aligned", "--backend", "mxnet")
    photos = [fit(decode_photo(face(number), ""), (56, 56)) for number in range(COUNT)]
    rows = small_network.plain_mxnet(f"{tmp_path}/net,1", np.stack([network_input(photo) for photo in photos]))
    expected = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    found = np.load(tmp_path / "a.npz")["embedding"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - expected_features(work)).max() > 1e-3
