"""insightface-compare on ORL photos, with a synthetic network."""

import hashlib
import json
import re

import cv2
import numpy as np
import pytest
import small_network
from harness import orl_photo, status_of
from harness import run as run_command

from insightface_mx.base.errors import UserError
from insightface_mx.deploy import compare
from insightface_mx.deploy.face_model import FaceModel
from insightface_mx.eval import roc
from insightface_mx.files import manifest
from insightface_mx.formats import checkpoint

own_cache = pytest.fixture(autouse=True, scope="module")(small_network.own_cache)
PAIRS = 400
LENGTH = small_network.LENGTH


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a network, photos a and b of two people, two of both, empty, and pairs.npz to calibrate on."""
    folder = tmp_path_factory.mktemp("compare")
    two = np.hstack([orl_photo(1, 1), orl_photo(2, 1)])
    photos = {"a": orl_photo(1, 1), "b": orl_photo(2, 1), "two": two, "empty": np.zeros((50, 50), np.uint8)}
    for name, photo in photos.items():
        cv2.imwrite(str(folder / f"{name}.png"), photo)
    (folder / "text.jpg").write_text("no picture")
    small_network.save(folder / "net")
    rows = np.random.RandomState(0).normal(0, 1, (2 * PAIRS, small_network.LENGTH))
    rows[1::4] = rows[0::4] + 0.3 * rows[1::4]
    issame = np.arange(PAIRS) % 2 == 0
    np.savez(folder / "pairs.npz", embeddings=roc.normalize(rows), issame=issame)
    return folder


def command(work, one, other, *more):
    return [f"{work}/{one}", f"{work}/{other}", "--model", f"{work}/net,1", *more]


def run(work, one, other, *more):
    run_command(compare, *command(work, one, other, *more))


def expected_distance(work, flip):
    model = FaceModel(model=f"{work}/net,1", backend="mxnet", flip=flip)
    one, other = (model.get_feature(model.get_input(orl_photo(person, 1))) for person in (1, 2))
    return np.sum((one - other) ** 2)


def printed_values(text):
    return [
        float(value)
        for value in re.search(r"distance ([\d.]+), cosine ([-\d.]+) \((?:openvino|mxnet)\)", text).groups()
    ]


@pytest.mark.slow
def test_boxes_distance_cosine_and_verdict(work, capsys):
    run(work, "a.png", "b.png")
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"{work}/a\.png: face 1 of 1 at 82,90,223,284, probability 0\.997", lines[0])
    assert len(lines) == 4
    distance, cosine = printed_values(lines[2])
    assert distance == pytest.approx(expected_distance(work, flip=0), abs=2e-4)
    assert cosine == pytest.approx(1 - distance / 2, abs=2e-4)
    assert lines[3] == "the same person (threshold 1.2400)"
    run(work, "a.png", "b.png", "--threshold", f"{distance - 0.001}")
    assert f"different people (threshold {distance - 0.001:.4f})" in capsys.readouterr().out


@pytest.mark.slow
def test_the_same_photo(work, capsys):
    run(work, "a.png", "a.png")
    assert printed_values(capsys.readouterr().out) == [0, 1]


def test_of_several_faces_the_most_probable(work, capsys):
    run(work, "two.png", "a.png")
    lines = capsys.readouterr().out.splitlines()
    assert "face 1 of 2" in lines[0] and lines[0].endswith("(compared)")
    assert "face 2 of 2" in lines[1] and not lines[1].endswith("(compared)")


@pytest.mark.slow
def test_a_threshold_at_a_false_accept_rate(work, capsys):
    run(work, "a.png", "b.png", "--calibration", f"{work}/pairs.npz", "--far", "0.05")
    text = capsys.readouterr().out
    assert printed_values(text)[0] == pytest.approx(expected_distance(work, flip=1), abs=2e-4)
    threshold = float(re.search(r"threshold ([\d.]+), false accept rate 0\.05 on .*pairs\.npz\)", text).group(1))
    with np.load(f"{work}/pairs.npz") as arrays:
        distances, issame = roc.pair_distances(arrays["embeddings"]), arrays["issame"]
    assert np.mean(distances[~issame] < threshold) == pytest.approx(0.05, abs=0.0051)
    assert threshold == pytest.approx(np.sort(distances[~issame])[9], abs=0.03)
    assert np.mean(distances[issame] < threshold) == 1


@pytest.mark.slow
def test_a_threshold_of_a_report(work, tmp_path, capsys):
    digest = hashlib.sha256((work / "net-0001.params").read_bytes()).hexdigest()
    rows = [{"target": 0.01, "squared_distance": 1.5}, {"target": 0.05, "squared_distance": 0.125}]
    result = {"set": "lfw", "impostor": 200, "parameters_sha256": digest, "thresholds": rows}
    report = {"format": "insightface-mx verification 1", "results": [result]}
    (tmp_path / "r.json").write_text(json.dumps(report))
    run(work, "a.png", "b.png", "--calibration", tmp_path / "r.json", "--far", "0.05")
    text = capsys.readouterr().out
    assert printed_values(text)[0] == pytest.approx(expected_distance(work, flip=1), abs=2e-4)
    assert f"(threshold 0.1250, false accept rate 0.05 on {tmp_path}/r.json)" in text


@pytest.mark.parametrize(
    ("name", "far", "length", "message"),
    [
        ("pairs.npz", 0.001, LENGTH, "has 200 pairs of different identities: --far must be at least 1/200"),
        ("pairs.npz", 0.1, 512, "has embeddings of length 32, the network 512"),
        ("none.npz", 0.1, LENGTH, "cannot open .*none.npz: No such file"),
        ("text.npz", 0.1, LENGTH, r"text.npz is not what verification.py --mode 2 writes"),
        ("other.npz", 0.1, LENGTH, r"other.npz is not what verification.py --mode 2 writes"),
    ],
)
def test_calibrations_that_cannot_serve(work, tmp_path, name, far, length, message):
    (tmp_path / "text.npz").write_text("no arrays")
    np.savez(tmp_path / "other.npz", name=np.arange(3))
    folder = work if name == "pairs.npz" else tmp_path
    with pytest.raises(UserError, match=message):
        compare.calibrated_threshold(f"{folder}/{name}", far, length)


ROWS = roc.normalize(np.random.RandomState(3).normal(size=(2000, 4)))
FLAGS = np.arange(1000) % 2 == 0


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"embeddings": ROWS}, "it has no array issame"),
        ({"issame": FLAGS}, "it has no array embeddings"),
        ({"embeddings": ROWS[:1], "issame": FLAGS}, r"its embeddings are (1, 4), its issame (1000,)"),
        ({"embeddings": ROWS[:, 0], "issame": FLAGS}, r"its embeddings are (2000,), its issame (1000,)"),
        ({"embeddings": ROWS, "issame": FLAGS[:, None]}, r"its embeddings are (2000, 4), its issame (1000, 1)"),
        ({"embeddings": ROWS[:0], "issame": FLAGS[:0]}, r"its embeddings are (0, 4), its issame (0,)"),
        ({"embeddings": ROWS[:, :0], "issame": FLAGS}, r"its embeddings are (2000, 0), its issame (1000,)"),
        ({"embeddings": ROWS.astype(str), "issame": FLAGS}, "its embeddings are <U32, its issame bool"),
        ({"embeddings": ROWS > 0, "issame": FLAGS}, "its embeddings are bool, its issame bool"),
        ({"embeddings": ROWS, "issame": FLAGS.astype(str)}, "its embeddings are float64, its issame <U5"),
        ({"embeddings": ROWS, "issame": FLAGS * 2}, "its issame holds other values than 0 and 1"),
        ({"embeddings": ROWS, "issame": np.full(1000, np.nan)}, "its issame holds other values than 0 and 1"),
        ({"embeddings": np.where(ROWS > 0.9, np.nan, ROWS), "issame": FLAGS}, "hold NaN or numbers above 1"),
        ({"embeddings": np.where(ROWS > 0.9, np.inf, ROWS), "issame": FLAGS}, "hold NaN or numbers above 1"),
        ({"embeddings": ROWS * 1e300, "issame": FLAGS}, "hold NaN or numbers above 1"),
        ({"embeddings": ROWS * 0 + 0.9, "issame": FLAGS}, "its embeddings are longer than 1"),
        ({"embeddings": np.array([print]), "issame": FLAGS}, "array 'embeddings': its header is not that of an array"),
    ],
)
def test_calibrations_of_another_content(tmp_path, arrays, message):
    path = f"{tmp_path}/a.npz"
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        compare.calibrated_threshold(path, 0.5, 4)
    assert str(error.value).startswith(
        f"{path} is not what verification.py --mode 2 writes, unit embeddings (2n, d) and issame (n,): "
    )


@pytest.mark.parametrize("flags", [FLAGS, FLAGS.astype(int), FLAGS.astype(np.float32), FLAGS.astype(np.uint8)])
def test_flags_of_every_type_count(tmp_path, flags):
    np.savez_compressed(tmp_path / "a.npz", embeddings=ROWS, issame=flags)
    expected = np.sort(roc.pair_distances(ROWS)[~FLAGS])[4]
    assert compare.calibrated_threshold(f"{tmp_path}/a.npz", 0.01, 4) == pytest.approx(expected, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("size", [[], ["--image-size", "56,56"]])
def test_the_image_size_is_that_of_the_manifest(work, tmp_path, capsys, size):
    small_network.save(tmp_path / "net")
    if not size:
        options = {"options": {"image_size": "56,56"}}
        manifest.write(checkpoint.manifest_path(f"{tmp_path}/net", 1), [], options)
    run_command(compare, work / "a.png", work / "b.png", "--model", f"{tmp_path}/net,1", "--backend", "mxnet", *size)
    model = FaceModel(model=f"{tmp_path}/net,1", backend="mxnet", image_size=(56, 56))
    faces = [model.get_input(orl_photo(person, 1)) for person in (1, 2)]
    rows = small_network.plain_mxnet(f"{tmp_path}/net,1", faces)
    one, other = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert printed_values(capsys.readouterr().out) == pytest.approx([np.sum((one - other) ** 2), one @ other], abs=2e-4)
    assert np.sum((one - other) ** 2) != pytest.approx(expected_distance(work, flip=0), abs=1e-3)


def test_both_bad_photos_are_named(work, capsys):
    assert status_of(compare, *command(work, "empty.png", "text.jpg")) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert re.fullmatch(r"error: .*empty\.png: no face found; --det 1 takes photos for crops of one face", lines[0])
    assert len(lines) == 2
    assert re.fullmatch(r"error: .*text\.jpg is not an image that can be read .*", lines[1])


@pytest.mark.parametrize(
    "wrong", [["--far", "2"], ["--far", "x"], ["--far", "0.01"], ["--threshold", "1", "--calibration", "a.npz"]]
)
def test_options_are_checked(work, capsys, wrong):
    assert status_of(compare, *command(work, "a.png", "b.png", *wrong)) == 2
    assert wrong[0] in capsys.readouterr().err
