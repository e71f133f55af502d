"""Embedding a verification set and the command verification.py, on tiny networks whose embeddings numpy knows."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from harness import error_of, no_file_over, run, status_of
from toy_verification import (
    FOLDS,
    HEIGHT,
    ISSAME,
    LENGTH,
    PAIRS,
    WIDTH,
    expected_embeddings,
    network,
    options,
    photos,
    save,
    training_network,
    weights,
    write_folder,
)

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.deploy import export_onnx
from insightface_mx.engine import devices
from insightface_mx.engine import network as embedding
from insightface_mx.engine.cpu_rewrite import OnceLog
from insightface_mx.eval import bad_cases, pairs, roc, verification
from insightface_mx.files import manifest
from insightface_mx.formats import checkpoint
from insightface_mx.formats.verification_set import write_bin


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("verify")
    write_folder(path)
    return path


def load(prefix, epoch=1, batch_size=4, image_size=(HEIGHT, WIDTH)):
    return embedding.load_model(str(prefix), epoch, [mx.cpu()], batch_size, image_size)


def toy(folder):
    return pairs.load_bin(str(folder / "toy.bin"), (HEIGHT, WIDTH))


def expected_lines(seed):
    plain, mirrored = expected_embeddings(seed)
    xnorm = (np.linalg.norm(plain, axis=1).mean() + np.linalg.norm(mirrored, axis=1).mean()) / 2
    accuracy = roc.evaluate(roc.normalize(plain), ISSAME, FOLDS)[2]
    flip = roc.evaluate(roc.normalize(plain + mirrored), ISSAME, FOLDS)[2]
    return [
        f"[toy]XNorm: {xnorm:f}",
        f"[toy]Accuracy: {np.mean(accuracy):1.5f}+-{np.std(accuracy):1.5f}",
        f"[toy]Accuracy-Flip: {np.mean(flip):1.5f}+-{np.std(flip):1.5f}",
    ]


# ---- sets and embeddings


def test_load_bin_decodes_to_rgb_and_mirrors(folder):
    (images, mirrored), issame = toy(folder)
    assert issame == ISSAME
    assert images.dtype == mirrored.dtype == np.uint8
    np.testing.assert_array_equal(images.asnumpy(), photos().transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(mirrored.asnumpy(), images.asnumpy()[:, :, :, ::-1])


@pytest.mark.parametrize("shape", [(32, 40), (40, 32), (11, 8)])
def test_load_bin_scales_the_short_side_and_crops_the_centre(tmp_path, shape):
    """On an image that rises by more than 13 a pixel, so that half a pixel's shift would show."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    red, green = columns * 255 / (shape[1] - 1), rows * 255 / (shape[0] - 1)
    photo = np.stack([red, green, 0 * red], axis=2).astype(np.uint8)
    write_bin(str(tmp_path / "a.bin"), [cv2.imencode(".png", photo[:, :, ::-1])[1]] * 2, [True])
    (images, _), _ = pairs.load_bin(str(tmp_path / "a.bin"), (16, 16))
    scaled = mx.image.resize_short(mx.nd.array(photo, dtype=np.uint8), 16)
    expected = mx.image.center_crop(scaled, (16, 16))[0].asnumpy().transpose(2, 0, 1)
    assert np.abs(images[0].asnumpy().astype(int) - expected).max() <= 4


def test_load_bin_names_the_image_that_cannot_be_decoded(tmp_path):
    good = cv2.imencode(".png", photos()[0])[1]
    write_bin(str(tmp_path / "a.bin"), [good, good, good, b"no image"], [True, False])
    with pytest.raises(UserError, match=r"a\.bin: image 3 \(of pair 1\) is "):
        pairs.load_bin(str(tmp_path / "a.bin"), (16, 16))


@pytest.mark.parametrize("batch_size", [4, 7, 24, 32, 100])
@pytest.mark.parametrize("form", [lambda data: data, lambda data: data.asnumpy()])
def test_batches_of_any_size_give_the_same_embeddings(folder, batch_size, form):
    (images, _), _ = toy(folder)
    embeddings = embedding.embed(form(images), load(folder / "slim", batch_size=batch_size), batch_size)
    np.testing.assert_array_equal(embeddings, expected_embeddings(1)[0])
    assert embeddings.dtype == np.float64


def test_the_last_batch_is_filled_with_the_images_before_it():
    """Each embedding is less the mean over its batch, as with GNAP it depends on it."""
    data = mx.sym.var("data")
    rows = mx.sym.Flatten(data)
    symbol = mx.sym.broadcast_sub(rows, mx.sym.mean(rows, axis=0, keepdims=True), name="fc1")
    model = embedding.bind(symbol, [mx.cpu()], 4, (1, 1))
    model.set_params({}, {})
    images = np.arange(18, dtype=np.uint8).reshape(6, 3, 1, 1) ** 2
    rows = images.reshape(6, 3).astype(np.float64)
    expected = np.concatenate((rows[:4] - rows[:4].mean(0), rows[4:] - rows[2:].mean(0)))
    np.testing.assert_array_equal(embedding.embed(images, model, 4), expected)


def test_metrics_and_their_order(folder):
    plain, mirrored = expected_embeddings(1)
    result = pairs.test(toy(folder), load(folder / "slim"), 4, FOLDS)
    acc1, std1, acc2, std2, xnorm, embeddings_list = result
    assert (acc1, std1, acc2, std2, xnorm) == (result.acc1, result.std1, result.acc2, result.std2, result.xnorm)
    np.testing.assert_array_equal(result.unit_embeddings, roc.normalize(plain + mirrored))
    np.testing.assert_array_equal(embeddings_list, [plain, mirrored])
    lines = pairs.result_lines("toy", (acc1, std1, acc2, std2, xnorm, embeddings_list))
    assert lines == expected_lines(1)
    assert (round(acc1, 5), round(acc2, 5)) == (0.58333, 0.66667)
    trained = pairs.result_lines("toy", (acc1, std1, acc2, std2, xnorm, embeddings_list), 2000)
    assert trained == [line.replace("[toy]", "[toy][2000]") for line in (lines[0], lines[2])]


@pytest.mark.parametrize("label_shape", [None, (8,)])
def test_a_training_module_on_two_devices_gives_the_checkpoints_metrics(folder, label_shape):
    data_set = toy(folder)
    _, arg_params, aux_params = checkpoint.load(str(folder / "net"), 1)
    module = mx.mod.Module(training_network(), context=[mx.cpu(0), mx.cpu(1)])
    module.bind([("data", (8, 3, HEIGHT, WIDTH))], [("softmax_label", (8,))])
    module.init_params(arg_params=arg_params, aux_params=aux_params)
    training = pairs.test(data_set, module, 8, FOLDS, label_shape=label_shape)
    inference = pairs.test(data_set, load(folder / "net"), 4, FOLDS)
    assert training[:5] == inference[:5]
    np.testing.assert_array_equal(training[5], inference[5])


def test_a_second_input_is_fed_with_data_extra(folder):
    symbol = mx.sym.broadcast_add(network(), mx.sym.var("extra"), name="sum")
    module = mx.mod.Module(symbol, data_names=("data", "extra"), label_names=None)
    module.bind([("data", (4, 3, HEIGHT, WIDTH)), ("extra", (4, LENGTH))], for_training=False)
    module.set_params({"fc1_weight": mx.nd.array(weights(1))}, {})
    result = pairs.test(toy(folder), module, 4, FOLDS, data_extra=np.full((4, LENGTH), 5))
    np.testing.assert_array_equal(result[5], np.array(expected_embeddings(1)) + 5)


# ---- models


@pytest.mark.parametrize("prefix", ["net", "slim"])
def test_a_loaded_model_has_the_embedding_alone(folder, prefix):
    model = load(folder / prefix)
    assert model.symbol.list_outputs() == ["fc1_output"]
    assert model.symbol.list_arguments() == ["data", "fc1_weight"]


def test_a_dense_layer_behind_a_convolution_can_be_bound():
    """oneDNN's fused dense layer fails there, in GDC networks for example."""
    conv = mx.sym.Convolution(mx.sym.var("data"), num_filter=16, kernel=(HEIGHT, WIDTH), no_bias=True, name="conv")
    before = dict(os.environ)
    model = embedding.bind(mx.sym.FullyConnected(conv, num_hidden=2, name="fc1"), [mx.cpu()], 2, (HEIGHT, WIDTH))
    assert dict(os.environ) == before
    model.set_params(
        {
            "conv_weight": mx.nd.ones((16, 3, HEIGHT, WIDTH)),
            "fc1_weight": mx.nd.ones((2, 16)),
            "fc1_bias": mx.nd.zeros(2),
        },
        {},
    )
    images = photos()[:3].transpose(0, 3, 1, 2)
    expected = images.sum((1, 2, 3), dtype=np.float64)[:, np.newaxis] * [16, 16]
    np.testing.assert_allclose(embedding.embed(images, model, 2), expected, rtol=1e-6)


def test_a_checkpoint_that_does_not_fit(folder, tmp_path):
    with pytest.raises(UserError, match=r"slim-0001\.params .* 8,8: fc1_weight is \(3, 768\), not \(3, 192\)"):
        load(folder / "slim", image_size=(8, 8))
    save(tmp_path / "empty", 1, network(), {"other": mx.nd.ones(1)})
    with pytest.raises(UserError, match=r"empty-0001\.params .*fc1_weight is missing"):
        load(tmp_path / "empty")
    foreign = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2, name="fc2")
    save(tmp_path / "foreign", 1, foreign, {"fc2_bias": mx.nd.ones(2)})
    with pytest.raises(UserError, match=r"foreign-symbol\.json has no node fc1_output"):
        load(tmp_path / "foreign")
    with pytest.raises(UserError, match=r"net-0009\.params does not exist"):
        load(folder / "net", 9)


# ---- bad cases


def test_wrong_pairs_are_those_of_the_accuracy_worst_first():
    rows = roc.normalize(np.sum(expected_embeddings(1), axis=0))
    negatives, positives = bad_cases.wrong_pairs(rows, ISSAME, FOLDS)
    accuracy = roc.evaluate(rows, ISSAME, FOLDS)[2]
    assert len(negatives) + len(positives) == round(PAIRS * (1 - accuracy.mean())) > 0
    distances = roc.pair_distances(rows)
    for wrong, same in ((negatives, True), (positives, False)):
        for pair, distance, threshold in wrong:
            assert ISSAME[pair] == same
            assert distance == distances[pair]
            assert (distance < threshold) != same
        excess = [abs(distance - threshold) for _, distance, threshold in wrong]
        assert excess == sorted(excess, reverse=True)


def test_a_pair_at_the_threshold_itself_counts_as_different():
    """The other same pairs lie at 0.249, so the last pair's threshold is 0.25, which is its distance."""
    rows = np.zeros((8, 1))
    rows[1::2, 0] = 0.499, 0.499, 1, 0.5
    negatives, positives = bad_cases.wrong_pairs(rows, [True, True, False, True], 4)
    assert negatives == [(3, 0.25, 0.25)]
    assert positives == []


def test_a_sheet_shows_the_pairs_as_they_are(tmp_path):
    images = mx.nd.array(photos().transpose(0, 3, 1, 2), dtype=np.uint8)
    pairs = [bad_cases.WrongPair(pair, 1.5, 1.2) for pair in (7, 2, 9, 4, 1)]
    bad_cases.write_sheet(str(tmp_path / "sheet.png"), images, pairs)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))[:, :, ::-1]
    assert sheet.shape == (2 * (HEIGHT + 20), 4 * (2 * WIDTH + 10), 3)
    for place, (pair, _, _) in enumerate(pairs):
        top, left = place // 4 * (HEIGHT + 20), place % 4 * (2 * WIDTH + 10)
        expected = np.hstack(photos()[2 * pair : 2 * pair + 2])
        np.testing.assert_array_equal(sheet[top : top + HEIGHT, left : left + 2 * WIDTH], expected)
        assert sheet[top + HEIGHT : top + HEIGHT + 20, left : left + 2 * WIDTH].min() < 200


# ---- the command


def maximum(seeds):
    accuracies = [float(expected_lines(seed)[2].split(": ")[1].split("+-")[0]) for seed in seeds]
    return f"Max of [toy] is {max(accuracies):.5f}"


@pytest.mark.parametrize(
    ("model", "more", "seeds"),
    [
        ("net,1", [], [1]),
        ("net,0003|1", [], [3, 1]),
        ("net", [], [3, 2, 1]),
        ("net", ["--max", "1,3"], [2, 1]),
        ("net", ["--max", "0,1"], [3]),
    ],
)
def test_prints_every_checkpoints_metrics_then_the_best(folder, capsys, model, more, seeds):
    run(verification, *options(folder, *more, model=model))
    expected = [line for seed in seeds for line in expected_lines(seed)]
    assert capsys.readouterr().out.splitlines() == [*expected, maximum(seeds)]


def test_the_image_size_is_that_of_the_manifest(folder, tmp_path, capsys):
    save(tmp_path / "net", 1, network(), {"fc1_weight": mx.nd.array(weights(1))})
    (tmp_path / "toy.bin").write_bytes((folder / "toy.bin").read_bytes())
    assert status_of(verification, *options(tmp_path, size="")) == 2
    assert "does not fit its symbol and --image-size 112,112" in capsys.readouterr().err
    manifest.write(str(tmp_path / "net-0001.json"), [], {"options": {"image_size": f"{HEIGHT},{WIDTH}"}})
    run(verification, *options(tmp_path, size=""))
    assert capsys.readouterr().out.splitlines() == [*expected_lines(1), maximum([1])]


@pytest.mark.slow
@pytest.mark.parametrize("size", ["", f"{HEIGHT},{WIDTH}"])
def test_an_onnx_file_gives_the_checkpoints_metrics(folder, tmp_path, capsys, size):
    size_option = ["--image-size", f"{HEIGHT},{WIDTH}"]
    run(export_onnx, "--model", folder / "slim,1", "--output", tmp_path / "slim.onnx", *size_option)
    (tmp_path / "toy.bin").write_bytes((folder / "toy.bin").read_bytes())
    capsys.readouterr()
    run(verification, *options(tmp_path, model="slim.onnx", size=size))
    xnorm, *accuracies = capsys.readouterr().out.splitlines()
    expected_xnorm, *expected = expected_lines(1)
    assert accuracies == [*expected, maximum([1])]
    assert float(xnorm.split(": ")[1]) == pytest.approx(float(expected_xnorm.split(": ")[1]), rel=1e-5)
    run(verification, *options(tmp_path, "--mode", "2", model="slim.onnx", size=size))
    assert (tmp_path / "toy-slim-embeddings.npz").is_file()


def test_skips_missing_sets_and_says_what_it_runs_on_once(folder, capsys, monkeypatch):
    monkeypatch.setattr(devices, "once_log", OnceLog())  # another test may have logged it
    run(verification, *options(folder, model="net,1|2", target="lfw,toy"))
    captured = capsys.readouterr()
    assert "lfw" not in captured.out
    assert captured.err.count("lfw.bin") == 1
    assert captured.err.count("no GPU 0: on the CPU") == 1
    run(verification, *options(folder, "--gpu", "-1"))
    assert "no GPU" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "changes", "message"),
    [
        ([], {"target": "lfw,cfp_fp"}, "no verification set: none of"),
        ([], {"model": "net,7"}, "net-0007.params does not exist"),
        ([], {"model": "net,1|7"}, "net-0007.params does not exist"),
        ([], {"model": "none"}, "no checkpoint to test"),
        ([], {"model": "nowhere/net"}, "cannot look for checkpoints of"),
        (["--max", "5,9"], {"model": "net"}, "no checkpoint to test: 3 files"),
        (["--max", "5"], {"model": "net"}, "--max 5: write a,b"),
        (["--max", "0,1"], {}, "--max has no effect where --model names the networks"),
        (["--max", "0,1"], {"model": "none.onnx"}, "--max has no effect where --model names the networks"),
        (["--output", "x"], {}, "--output has no effect with --mode 0"),
        (["--image-size", "8,8"], {}, "net-0001.params does not fit"),
        (["--image-size", "8"], {}, "argument --image-size: '8' is not an image size"),
        (["--mode", "2", "--output", __file__], {}, f"cannot save {__file__}: "),
        ([], {"model": "none.onnx"}, "none.onnx"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_status_2(folder, capsys, more, changes, message):
    assert status_of(verification, *options(folder, *more, **changes)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert "error: " in captured.err.splitlines()[-1]
    assert message in captured.err.splitlines()[-1]


def test_mode_1_draws_the_wrong_pairs(folder, capsys, tmp_path):
    run(verification, *options(folder, "--mode", "1", "--output", str(tmp_path / "new")))
    rows = roc.normalize(np.sum(expected_embeddings(1), axis=0))
    for kind, wrong, line in zip(
        ("false-negatives", "false-positives"),
        bad_cases.wrong_pairs(rows, ISSAME, FOLDS),
        capsys.readouterr().out.splitlines(),
    ):
        path = tmp_path / "new" / f"toy-0001-{kind}.png"
        assert line.startswith(f"[toy]{len(wrong)} {kind} of 12 pairs")
        assert path.exists() == bool(wrong)
        if wrong:
            assert line.endswith(str(path))
            left = cv2.imread(str(path))[:HEIGHT, :WIDTH, ::-1]
            np.testing.assert_array_equal(left, photos()[2 * wrong[0][0]])


def test_mode_2_writes_the_embeddings_beside_the_model(folder, capsys):
    run(verification, *options(folder, "--mode", "2", model="net,2"))
    path = folder / "toy-0002-embeddings.npz"
    assert capsys.readouterr().out == f"[toy]embeddings: {path}\n"
    with np.load(path) as arrays:
        np.testing.assert_array_equal(arrays["embeddings"], roc.normalize(np.sum(expected_embeddings(2), axis=0)))
        assert arrays["issame"].tolist() == ISSAME
    path.unlink()


@pytest.mark.parametrize("mode, name", [("1", "toy-0001-false-negatives.png"), ("2", "toy-0001-embeddings.npz")])
def test_files_replace_links_and_are_never_cut(folder, capsys, tmp_path, mode, name):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / name).symlink_to(tmp_path / "victim")
    argv = options(folder, "--mode", mode, "--output", str(tmp_path))
    with no_file_over(50):
        message = error_of(capsys, verification, *argv)
    assert f"cannot save {tmp_path}/{name}: File too large" in message
    assert sorted(os.listdir(tmp_path)) == sorted(["victim", name])
    run(verification, *argv)
    assert (tmp_path / "victim").read_text() == "precious"
    assert not (tmp_path / name).is_symlink()
    assert (tmp_path / name).stat().st_size > 50


@pytest.mark.parametrize("wrong", [["--batch-size", "0"], ["--nfolds", "x"], ["--mode", "3"]])
def test_options_are_checked(folder, capsys, wrong):
    assert status_of(verification, *options(folder, *wrong)) == 2
    assert wrong[0] in capsys.readouterr().err


@pytest.mark.slow
def test_runs_from_inside_its_folder_as_a_script(folder):
    here = os.path.dirname(verification.__file__)
    done = subprocess.run(
        [sys.executable, "verification.py", *options(folder)], cwd=here, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout.splitlines() == [*expected_lines(1), maximum([1])]
    assert "Traceback" not in done.stderr


def test_names_that_other_programs_import():
    assert verification.load_bin is pairs.load_bin
    assert verification.test is pairs.test
    assert verification.evaluate is roc.evaluate


def test_repeated_images_are_computed_once():
    images = np.random.RandomState(0).randint(0, 256, (3, 3, HEIGHT, WIDTH)).astype(np.uint8)[[0, 1, 0, 2, 1, 0]]
    passes = []

    class Counting:
        label_shapes = ()

        def forward(self, batch, is_train):
            passes.append(batch.data[0].shape)
            self.sums = batch.data[0].sum(axis=(2, 3))

        def get_outputs(self):
            return [self.sums]

    embeddings = embedding.embed(images, Counting(), 2)
    assert passes == [(2, 3, HEIGHT, WIDTH)] * 2
    assert np.array_equal(embeddings, images.sum(axis=(2, 3)))
