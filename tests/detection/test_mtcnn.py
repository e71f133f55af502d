"""MTCNN: weights from the package and from checkpoints, the arithmetic of boxes, and faces found in the ORL photos."""

import importlib.util
import os
import pickle
import sys
from types import SimpleNamespace

import cv2
import lz4.frame
import numpy as np
import pytest
from harness import MODEL_ZOO, ZOO_ONLY, orl_photo

from insightface_mx import alignment
from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.detection import boxes as mtcnn_boxes
from insightface_mx.detection import detector as mtcnn_detector
from insightface_mx.detection import weights as mtcnn_weights
from insightface_mx.detection.detector import MtcnnDetector
from insightface_mx.formats import checkpoint


@pytest.fixture(scope="module")
def detector():
    return MtcnnDetector()


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """The package's weights as the original's files det1 to det3."""
    folder = tmp_path_factory.mktemp("mtcnn-model")
    for name in "pro":
        network = mtcnn_weights.NETWORKS[name]
        checkpoint.save(str(folder / network.checkpoint), 1, network.symbol(), mtcnn_weights.load(name), {})
    return folder


def assert_equal_tensors(params, others):
    assert sorted(params) == sorted(others)
    for name, array in params.items():
        assert np.array_equal(array.asnumpy(), others[name].asnumpy()), name


# Weights


@pytest.mark.parametrize(
    ("name", "parameters", "argument", "total"),
    [
        ("p", 6632, "conv1_weight", 161.16102050244808),
        ("r", 100178, "conv4_weight", -2983799.84098869),
        ("o", 389040, "conv5_weight", -20241286.080124483),
    ],
)
def test_weights_of_the_package(name, parameters, argument, total):
    """As the original's checkpoints have them: the sums, in which every number has its place, were taken there."""
    params = mtcnn_weights.load(name)
    assert sum(array.size for array in params.values()) == parameters
    values = params[argument].asnumpy().astype(np.float64).ravel()
    np.testing.assert_allclose(values @ np.arange(len(values)), total, rtol=1e-9)
    assert "mtcnn" not in sys.modules


def test_the_layouts_of_tensorflow():
    kernel = np.arange(3 * 3 * 3 * 2.0, dtype=np.float32).reshape(3, 3, 3, 2)
    dense = np.arange(2 * 2 * 2 * 5.0, dtype=np.float32).reshape(8, 5)
    last = np.arange(5 * 3.0, dtype=np.float32).reshape(5, 3)
    arrays = [kernel, np.zeros(2), np.ones((1, 1, 2)), dense, np.ones(5), last, np.full(3, 2.0)]
    params = mtcnn_weights.convert(["conv1", "prelu1", "conv4", "conv5_1"], arrays)
    params = {name: array.asnumpy() for name, array in params.items()}
    assert params["conv1_weight"].shape == (2, 3, 3, 3)
    assert params["prelu1_gamma"].shape == (2,)
    assert params["conv5_1_bias"].tolist() == [2, 2, 2]
    for out, channel, y, x in np.ndindex(2, 3, 3, 3):
        assert params["conv1_weight"][out, channel, y, x] == kernel[y, x, 2 - channel, out]
    for out, channel, y, x in np.ndindex(5, 2, 2, 2):
        assert params["conv4_weight"][out, channel * 4 + y * 2 + x] == dense[x * 4 + y * 2 + channel, out]
    assert np.array_equal(params["conv5_1_weight"], last.T)


def test_checkpoints_give_the_same_tensors(checkpoints):
    for name in "pro":
        assert_equal_tensors(mtcnn_weights.load(name, str(checkpoints)), mtcnn_weights.load(name))


@ZOO_ONLY
def test_the_originals_checkpoints_give_the_same_tensors():
    folder = os.path.join(MODEL_ZOO, "mtcnn-model")
    for name in "pro":
        assert_equal_tensors(mtcnn_weights.load(name, folder), mtcnn_weights.load(name))


@ZOO_ONLY
@pytest.mark.parametrize("name", list("prol"))
def test_the_originals_graphs_compute_the_same(name):
    network = mtcnn_weights.NETWORKS[name]
    original, params, _ = checkpoint.load(os.path.join(MODEL_ZOO, "mtcnn-model", network.checkpoint), 1)
    height, width = (37, 50) if name == "p" else network.input[1:]
    data = mx.nd.random.uniform(-1, 1, (3, network.input[0], height, width))
    outputs = []
    for symbol in (original, network.symbol()):
        label = {"prob1_label": mx.nd.zeros(3)} if "prob1_label" in symbol.list_arguments() else {}
        executor = symbol.bind(mx.cpu(), {**params, **label, "data": data}, grad_req="null")
        outputs.append([output.asnumpy() for output in executor.forward(is_train=False)])
    assert len(outputs[0]) == len(outputs[1])
    for one, other in zip(*outputs):
        np.testing.assert_allclose(other, one, atol=1e-5)


class Attack:
    def __reduce__(self):
        return os.system, ("echo attacked",)


def test_a_pickle_that_names_anything_else_runs_nothing(capfd):
    with pytest.raises(pickle.UnpicklingError, match=r"system, which could run code; nothing was run"):
        mtcnn_weights.read_arrays(pickle.dumps([Attack()], protocol=4))
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [(b"f4", b"f8", "numbers of type f8"), (b"<", b">", "byte order >"), (b"\x8c\x01C", b"\x8c\x01F", "order F")],
)
def test_arrays_that_are_not_plain_float32(old, new, message):
    content = package_content("pnet.lz4")
    assert content[:260].count(old) == 1
    with pytest.raises(pickle.UnpicklingError, match=message):
        mtcnn_weights.read_arrays(content.replace(old, new, 1))


def package_content(file):
    package = os.path.dirname(importlib.util.find_spec("mtcnn").origin)
    with open(os.path.join(package, "assets", "weights", file), "rb") as stream:
        return lz4.frame.decompress(stream.read())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no lz4", "damaged or not of mtcnn 1.0.0"),
        (lz4.frame.compress(package_content("pnet.lz4")[:-40]), "damaged or not of mtcnn 1.0.0"),
        (lz4.frame.compress(pickle.dumps({})), "does not hold a list of arrays"),
        (lz4.frame.compress(pickle.dumps([])), "damaged or not of mtcnn 1.0.0"),
        (lz4.frame.compress(pickle.dumps([Attack()])), "could run code"),
        (lz4.frame.compress(package_content("rnet.lz4")), "is not MTCNN's det1: conv1_weight is"),
    ],
)
def test_a_damaged_package(tmp_path, monkeypatch, content, message):
    weights = tmp_path / "assets" / "weights"
    weights.mkdir(parents=True)
    (weights / "pnet.lz4").write_bytes(content)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / "__init__.py")))
    with pytest.raises(UserError, match=message) as caught:
        mtcnn_weights.load("p")
    assert "pnet.lz4" in str(caught.value)
    with pytest.raises(UserError, match=r"cannot open .*onet\.lz4"):
        mtcnn_weights.load("o")


def test_what_is_missing(tmp_path, monkeypatch, checkpoints):
    with pytest.raises(UserError, match="give a model_folder with det4, or leave accurate_landmark off"):
        MtcnnDetector(accurate_landmark=True)
    with pytest.raises(UserError, match=r"det4-symbol\.json does not exist"):
        MtcnnDetector(str(checkpoints), accurate_landmark=True)
    for end in ("symbol.json", "0001.params"):
        (tmp_path / f"det1-{end}").write_bytes((checkpoints / f"det2-{end}").read_bytes())
    with pytest.raises(UserError, match=r"det1-0001\.params is not MTCNN's det1: conv1_weight is \(28, 3, 3, 3\)"):
        MtcnnDetector(str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"mtcnn and lz4: pip install 'insightface-mx\[detect\]'"):
        MtcnnDetector()


# Boxes


def overlap(one, other, mode):
    """Shared part of two boxes whose ends belong to them, pixel by pixel."""
    cells = [
        {(x, y) for x in range(int(b[0]), int(b[2]) + 1) for y in range(int(b[1]), int(b[3]) + 1)} for b in (one, other)
    ]
    shared = len(cells[0] & cells[1])
    return shared / (min(map(len, cells)) if mode == "min" else len(cells[0] | cells[1]))


@pytest.mark.parametrize("mode", ["union", "min"])
def test_suppression_pixel_by_pixel(mode):
    draw = np.random.RandomState(1)
    corners = draw.randint(0, 25, (40, 2))
    boxes = np.hstack([corners, corners + draw.randint(4, 16, (40, 2)), draw.permutation(40)[:, None] / 40])
    kept = []
    for number in sorted(range(40), key=lambda number: -boxes[number, 4]):
        if all(overlap(boxes[number], boxes[other], mode) <= 0.4 for other in kept):
            kept.append(number)
    assert 3 < len(kept) < 30
    assert mtcnn_boxes.nms(boxes, 0.4, mode).tolist() == kept
    assert mtcnn_boxes.nms(boxes[:0], 0.4, mode).tolist() == []


def test_the_pyramid():
    scales = mtcnn_boxes.scales(100, 300, minsize=20, factor=0.709)
    np.testing.assert_allclose(scales, [0.6, 0.4254, 0.3016086, 0.2138405, 0.1516129], rtol=1e-6)
    assert mtcnn_boxes.scales(20, 300, 20, 0.709) == []
    assert mtcnn_boxes.scaled(np.zeros((100, 301, 3), np.uint8), 0.6).shape == (60, 181, 3)


def test_proposals_in_pixels_of_the_image():
    probability = np.zeros((3, 4))
    probability[[0, 2], [1, 3]] = 0.7, 0.6
    regression = np.arange(48.0).reshape(4, 3, 4)
    found = mtcnn_boxes.proposals(probability, regression, 0.5, 0.6)
    assert found.tolist() == [[6, 2, 30, 26, 0.7, 1, 13, 25, 37]]


def test_boxes_are_moved_and_squared():
    boxes = np.array([[10.0, 20, 29, 59, 0.5]])
    moved = mtcnn_boxes.calibrated(boxes, np.array([[0.1, -0.1, 0.2, 0.5]]))
    assert moved.tolist() == [[12, 16, 33, 79, 0.5]]
    assert mtcnn_boxes.squared(moved).tolist() == [[-9, 16, 54, 79, 0.5]]
    shares = np.array([[0, 0.5, 1, 0.25, 0.1, 0, 0.5, 1, 0.25, 0.1]])
    assert mtcnn_boxes.landmark_places(boxes, shares).tolist() == [[10, 20, 30, 15, 12, 20, 40, 60, 30, 24]]


def test_landmark_patches_and_places_in_them():
    boxes = np.array([[0.0, 0, 75, 99, 1]])
    points = np.array([[30.0, 60, 45, 33, 57, 40, 40, 60, 80, 80]])
    patches = mtcnn_boxes.landmark_patches(boxes, points)
    assert patches[0].tolist() == [
        [17, 27, 42, 52],
        [47, 27, 72, 52],
        [32, 47, 57, 72],
        [20, 67, 45, 92],
        [44, 67, 69, 92],
    ]
    np.testing.assert_allclose(mtcnn_boxes.patch_places(patches, np.full((1, 5, 2), 0.5)), points)


@pytest.mark.parametrize(
    "box", [(3, 4, 12, 11), (-5, -2, 8, 9), (15, 10, 26, 33), (-3, -3, 22, 18), (30, 5, 40, 15), (5, 5, 4, 9)]
)
def test_a_crop_is_black_outside(box):
    image = np.random.RandomState(2).randint(1, 256, (16, 20, 3)).astype(np.uint8)
    x1, y1, x2, y2 = box
    patch = np.zeros((max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1), 3), np.uint8)
    for y in range(max(y1, 0), min(y2 + 1, 16)):
        for x in range(max(x1, 0), min(x2 + 1, 20)):
            patch[y - y1, x - x1] = image[y, x]
    assert np.array_equal(mtcnn_boxes.crop(image, box, 24), cv2.resize(patch, (24, 24)))


# Faces


def assert_sane(points):
    """Eyes above the nose above the mouth, left left of right; points (10,)."""
    (left, right, nose, mouth_left, mouth_right) = points.reshape(2, 5).T
    assert left[0] < right[0] and mouth_left[0] < mouth_right[0]
    assert max(left[1], right[1]) < nose[1] < min(mouth_left[1], mouth_right[1])
    assert 25 < np.hypot(*(right - left)) < 110


def test_one_photo_of_each_of_the_40_people(detector):
    found = detector.detect_faces([orl_photo(person, 1) for person in range(1, 41)])
    assert [None if faces is None else len(faces[0]) for faces in found] == [1] * 40
    aligned = []
    for boxes, points in found:
        assert boxes.shape == (1, 5) and points.shape == (1, 10)
        assert 0.8 < boxes[0, 4] <= 1
        assert_sane(points[0])
        aligned.append(points[0].reshape(2, 5).T / 2 - 32)
    expected = [(30.34, 52.1), (63.86, 52.55), (46.75, 70.26), (31.73, 85.72), (61.05, 86.26)]
    np.testing.assert_allclose(np.mean(aligned, axis=0), expected, atol=0.05)


def test_where_the_first_face_is(detector):
    boxes, points = detector.detect_face(orl_photo(1, 1))
    np.testing.assert_allclose(boxes, [[81.779, 90.292, 223.244, 283.654, 0.9967]], atol=0.01)
    np.testing.assert_allclose(
        points, [[119.54, 190.09, 155.4, 128.59, 182.61, 167.23, 166.23, 208.15, 243.64, 243.73]], atol=0.02
    )


def test_images_together_as_one_by_one(detector):
    images = [
        orl_photo(1, 1),
        np.zeros((50, 60), np.uint8),
        orl_photo(2, 3),
        orl_photo(3, 1)[:, :200],
        np.ones((1, 1), np.uint8),
    ]
    together = detector.detect_faces(images)
    alone = [detector.detect_face(image) for image in images]
    assert (
        [faces is None for faces in together] == [faces is None for faces in alone] == [False, True, False, False, True]
    )
    for one, other in zip(together, alone):
        if one is not None:
            np.testing.assert_allclose(one[0], other[0], atol=1e-3)
            np.testing.assert_allclose(one[1], other[1], atol=1e-3)
    assert detector.detect_faces([]) == []


def test_twelve_faces_in_one_image(detector):
    rows = [np.hstack([orl_photo(4 * row + column, 1) for column in range(1, 5)]) for row in range(3)]
    image = cv2.resize(np.vstack(rows), None, fx=0.5, fy=0.5)
    boxes, points = detector.detect_face(image)
    assert len(boxes) == len(points) == 12
    assert (np.diff(boxes[:, 4]) <= 0).all()
    middle = ((boxes[:, :2] + boxes[:, 2:4]) / 2 // [156, 176]).astype(int)
    assert sorted(map(tuple, middle.tolist())) == [(x, y) for x in range(4) for y in range(3)]


def test_a_part_of_a_face_is_no_second_one():
    """This one's eye passes for a face, which lies within the real one and shares little of their union."""
    boxes, _ = MtcnnDetector(threshold=(0.3, 0.3, 0.3)).detect_face(orl_photo(4, 2))
    assert len(boxes) == 1
    assert boxes[0, 2] - boxes[0, 0] > 120


def test_colour_and_depth_make_no_difference(detector):
    grey = orl_photo(5, 2)
    boxes, points = detector.detect_face(grey)
    bgr = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    for same in (bgr, cv2.cvtColor(bgr, cv2.COLOR_BGR2BGRA), grey.astype(np.uint16) * 257):
        assert np.array_equal(detector.detect_face(same)[0], boxes)
        assert np.array_equal(detector.detect_face(same)[1], points)


def test_crops_need_only_the_last_network(detector):
    image = orl_photo(1, 1)
    boxes, points = detector.detect_face(image[80:293, 71:233], det_type=1)
    np.testing.assert_allclose(boxes, [[8.44, -0.36, 146.54, 210.39, 1]], atol=0.05)
    np.testing.assert_allclose(
        points, [[48.63, 116.38, 84.34, 56.19, 111.52, 88.24, 85.26, 130.32, 168.61, 166.92]], atol=0.05
    )
    whole = detector.detect_face(image)[1]
    assert np.abs(points.reshape(2, 5).T + np.array([71, 80]) - whole.reshape(2, 5).T).max() < 6
    assert detector.detect_face(np.zeros((112, 112, 3), np.uint8), det_type=1) is None
    with pytest.raises(ValueError, match="det_type"):
        detector.detect_face(image, det_type=2)


def test_the_face_is_aligned(detector):
    image = orl_photo(1, 1)
    _, points = detector.detect_face(image)
    aligned = alignment.preprocess(image, landmark=points[0].reshape(2, 5).T)
    _, again = detector.detect_face(aligned, det_type=1)
    distance = again[0].reshape(2, 5).T - alignment.reference((112, 112))
    assert np.hypot(*distance.T).mean() < 5


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (11, 11), (12, 12, 3), (21, 21), (400, 13, 4)])
def test_images_without_a_face(detector, shape):
    assert detector.detect_face(np.full(shape, 128, np.uint8)) is None
    assert detector.detect_face(np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)) is None


def test_what_is_no_image(detector):
    for image in (None, "face.jpg", np.zeros((0, 3), np.uint8), np.zeros((50, 50), np.float32)):
        with pytest.raises(ValueError, match="an image"):
            detector.detect_faces([orl_photo(1, 1), image])


def test_an_image_that_is_too_large(detector, monkeypatch):
    monkeypatch.setattr(mtcnn_detector, "MAX_PIXELS", 10000)
    with pytest.raises(UserError, match=r"312x352 pixels is too large to look for faces of 20 pixels.* 40 or more"):
        detector.detect_face(orl_photo(1, 1))
    assert len(MtcnnDetector(minsize=40).detect_face(orl_photo(1, 1))[0]) == 1


@pytest.mark.parametrize("options", [{"minsize": 300}, {"threshold": (0.6, 0.7, 1.0)}, {"threshold": (0.6, 1.0, 0.8)}])
def test_the_options_act(checkpoints, options):
    image = orl_photo(1, 1)
    assert len(MtcnnDetector(str(checkpoints)).detect_face(image)[0]) == 1
    assert MtcnnDetector(str(checkpoints), **options).detect_face(image) is None


@pytest.mark.parametrize("options", [{"minsize": 0}, {"factor": 1.0}, {"threshold": (0.6, 0.7)}])
def test_options_that_make_no_sense(options):
    with pytest.raises(UserError, match="a minsize above 0, a factor between 0 and 1 and three thresholds"):
        MtcnnDetector(**options)


@ZOO_ONLY
def test_accurate_landmarks_agree_better_with_the_mirror_image():
    images = [orl_photo(person, 4) for person in range(1, 21)]
    folder = os.path.join(MODEL_ZOO, "mtcnn-model")
    differences = []
    for accurate in (False, True):
        detector = MtcnnDetector(folder, accurate_landmark=accurate)
        found = zip(detector.detect_faces(images), detector.detect_faces([image[:, ::-1] for image in images]))
        pairs = np.array([(one[1][0], other[1][0]) for one, other in found]).reshape(-1, 2, 2, 5)
        mirrored = np.stack([images[0].shape[1] - 1 - pairs[:, 1, 0], pairs[:, 1, 1]], axis=1)[:, :, [1, 0, 2, 4, 3]]
        differences.append(np.abs(mirrored - pairs[:, 0]).mean())
    assert differences[1] < 0.6 * differences[0]
