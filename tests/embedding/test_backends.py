"""Back ends: they compute what MXNet computes; which one is taken."""

import os

import numpy as np
import onnx
import pytest
import small_network
from harness import error_of
from onnx import numpy_helper

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.conversion import export
from insightface_mx.deploy import benchmark, export_onnx
from insightface_mx.embedding import backends
from insightface_mx.files import manifest
from insightface_mx.formats import checkpoint

own_cache = pytest.fixture(autouse=True, scope="module")(small_network.own_cache)
IMAGES = np.random.RandomState(6).randint(0, 256, (5, 3, 112, 112)).astype(np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_network.save(tmp_path_factory.mktemp("model") / "net")


@pytest.fixture(scope="module")
def expected(model):
    return small_network.plain_mxnet(model, IMAGES)


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("onnx") / "net.onnx")
    export_onnx.main(["--model", model, "--output", path])
    return path


def assert_close(found, expected):
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", backends.PACKAGES)
def test_every_backend_computes_the_same(name, model, expected):
    backend = backends.load(model, name=name)
    assert (backend.name, backend.length, backend.image_size) == (name, small_network.LENGTH, (112, 112))
    assert np.abs(expected[0] - expected[1]).max() > 0.01 * np.abs(expected).max()
    for batch_size in (1, 2, 8):
        assert_close(backend.embed(IMAGES, batch_size), expected)
    assert_close(backend.embed(IMAGES[1:2].astype(np.float32)), expected[1:2])
    assert backend.embed(IMAGES[:0]).shape == (0, small_network.LENGTH)
    mirrored = IMAGES[:, :, :, ::-1]
    assert np.array_equal(backend.embed(mirrored), backend.embed(mirrored.copy()))


@pytest.mark.parametrize("shape", [(3, 112, 112), (1, 3, 112, 96), (1, 112, 112, 3)])
def test_images_of_another_shape(model, shape):
    with pytest.raises(ValueError, match=r"images must be \(n, 3, 112, 112\), not "):
        backends.load(model, name="mxnet").embed(np.zeros(shape))


@pytest.mark.slow
def test_the_fastest_that_agrees_is_taken(model, monkeypatch, caplog):
    assert list(backends.PACKAGES) == ["openvino", "onnxruntime", "mxnet"]
    assert backends.load(model).name == "openvino"
    assert "skipped" not in caplog.text
    wrong = []

    def onnx_backend(name, path, image_size, load=backends.onnx_backend):
        backend = load(name, path, image_size)
        run = backend.run
        backend.run = lambda images: run(images) + np.float32(0.05 * (name in wrong))
        return backend

    monkeypatch.setattr(backends, "onnx_backend", onnx_backend)
    for name, chosen in (("openvino", "onnxruntime"), ("onnxruntime", "mxnet")):
        wrong.append(name)
        with pytest.raises(backends.Unfit, match=f"{name} disagrees with the reference: largest relative difference"):
            backends.load(model, name=name)
        assert backends.load(model).name == chosen
    assert "skipped a faster back end: openvino disagrees" in caplog.text
    assert "skipped a faster back end: onnxruntime disagrees" in caplog.text


def test_only_what_is_installed(model, file, monkeypatch):
    monkeypatch.setattr(backends, "installed", lambda name: name == "mxnet")
    assert backends.load(model).name == "mxnet"
    with pytest.raises(UserError, match=r"openvino needs openvino and onnx and onnxruntime: pip install"):
        backends.load(model, name="openvino")
    with pytest.raises(UserError, match=r"onnxruntime needs onnx and onnxruntime: pip install"):
        backends.load(file)


def test_an_operator_without_onnx_form_leaves_mxnet(tmp_path, caplog):
    fc1 = mx.sym.FullyConnected(mx.sym.erf(mx.sym.var("data")), num_hidden=3, no_bias=True, name="fc1")
    mx.model.save_checkpoint(str(tmp_path / "erf"), 1, fc1, {"fc1_weight": mx.nd.ones((3, 3 * 8 * 8))}, {})
    assert backends.load(f"{tmp_path}/erf,1", (8, 8)).name == "mxnet"
    assert "operator erf (node erf" in caplog.text
    with pytest.raises(UserError, match="operator erf"):
        backends.load(f"{tmp_path}/erf,1", (8, 8), name="onnxruntime")


@pytest.mark.slow
def test_the_onnx_file_is_written_once(tmp_path, monkeypatch):
    model = small_network.save(tmp_path / "net", seed=4)
    exported = []
    write = export.export
    monkeypatch.setattr(export, "export", lambda *args: exported.append(args[1]) or write(*args))
    first = backends.load(model).embed(IMAGES)
    assert np.array_equal(backends.load(model).embed(IMAGES), first)
    assert len(exported) == 1 and exported[0].startswith(os.environ["XDG_CACHE_HOME"])
    half = IMAGES[:, :, ::2, ::2]
    assert_close(backends.load(model, (56, 56)).embed(half), small_network.plain_mxnet(model, half))
    small_network.save(tmp_path / "net", seed=5)
    assert np.abs(backends.load(model).embed(IMAGES) - first).max() > 0.01
    assert len(set(exported)) == len(exported) == 3


def test_an_onnx_file_needs_no_checkpoint(file, expected):
    for name in ("auto", "onnxruntime"):
        assert_close(backends.load(file, name=name).embed(IMAGES), expected)


def changed(file, path, **changes):
    model = onnx.load(file)
    for name, value in changes.items():
        setattr(model, name, value)
    onnx.save(model, path)
    return str(path)


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("{tmp}/foreign.onnx", {}, "was not written here, so its scaling of pixels is unknown: give --pixel-mean"),
        ("{tmp}/text.onnx", {}, "text.onnx is no ONNX file, or damaged"),
        ("{tmp}/none.onnx", {}, r"cannot open .*none\.onnx: No such file"),
        ("{file}", {"image_size": (56, 56)}, "takes images of 112,112: give --image-size 112,112"),
        ("{file}", {"name": "mxnet"}, "MXNet does not run .*net.onnx"),
        ("{model}", {"name": "tvm"}, "backend tvm is not known: choose one of auto, openvino, onnxruntime, mxnet"),
        ("{tmp}/none,3", {}, r"none-symbol\.json does not exist"),
        ("{tmp}/none,3", {"name": "mxnet"}, r"none-symbol\.json does not exist"),
        ("none", {}, "'none' is not a checkpoint"),
    ],
)
def test_files_that_cannot_be_taken(file, model, tmp_path, path, options, message):
    (tmp_path / "text.onnx").write_text("not a network")
    changed(file, tmp_path / "foreign.onnx", producer_name="pytorch")
    with pytest.raises(UserError, match=message):
        backends.load(path.format(file=file, model=model, tmp=tmp_path), **options)


def in_halves(model):
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16


def in_eights(model):
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 8


def elsewhere(model):
    onnx.external_data_helper.convert_model_to_external_data(model, location="weights.bin")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
@pytest.mark.parametrize(("change", "tolerance"), [(in_halves, 5e-3), (in_eights, 2e-5), (elsewhere, 2e-5)])
def test_onnx_files_that_others_have_changed(file, expected, tmp_path, name, change, tolerance, caplog):
    model = onnx.load(file)
    change(model)
    onnx.save(model, str(tmp_path / "net.onnx"))
    backend = backends.load(f"{tmp_path}/net.onnx", name=name)
    assert backend.image_size == (112, 112)
    found = backend.embed(IMAGES)
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())
    assert backend.embed(np.arange(9 * 3 * 112 * 112).reshape(9, 3, 112, 112) % 251).shape == (9, small_network.LENGTH)
    assert ("is computed in float32" in caplog.text) == (change is in_halves)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("image_size", "expected"), [(None, (112, 112)), ("56,56", (56, 56)), ("112,96", (112, 96)), ("large", (112, 112))]
)
def test_the_image_size_of_a_checkpoint(tmp_path, image_size, expected):
    model = small_network.save(tmp_path / "net")
    if image_size:
        manifest.write(f"{tmp_path}/net-0001.json", [], {"options": {"image_size": image_size}})
    assert backends.image_size_of(model) == expected
    assert backends.load(model, name="mxnet").image_size == expected


def test_the_image_size_of_an_onnx_file(model, tmp_path):
    path = str(tmp_path / "net.onnx")
    export_onnx.main(["--model", model, "--output", path, "--image-size", "56,48"])
    assert backends.image_size_of(path) == backends.load(path).image_size == (56, 48)


def test_a_checkpoint_of_another_network_is_one_error(model, tmp_path, caplog):
    symbol, arg_params, aux_params = checkpoint.load(model[:-2], 1)
    del arg_params["conv_1_conv2d_weight"]
    checkpoint.save(str(tmp_path / "net"), 1, symbol, arg_params, aux_params)
    with pytest.raises(UserError, match=r"net-0001\.params does not fit .*: conv_1_conv2d_weight is missing"):
        backends.load(f"{tmp_path}/net,1")
    assert not caplog.records


def test_the_benchmark_takes_networks_or_a_model(capsys):
    error = error_of(capsys, benchmark, "--model", "a,1", "--networks", "r18")
    assert error == "error: --networks has no effect with --model: leave one of them out\n"


def test_a_row_of_the_benchmark():
    reference = np.array([[1.0, -4.0]])
    times = {1: [0.010, 0.020, 0.030], 32: [0.1, 0.2, 0.4]}
    measured = benchmark.Measurement(times, 512_000_000, reference + np.array([0.1, -0.2]))
    row = benchmark.table_row("y1", "mxnet", measured, reference)
    assert row == "| y1 | mxnet | 50.0 | 20.0 | 29.0 | 160.0 | 200.0 | 380.0 | 512 | 0.05 |"
    head, line = benchmark.table_head([1, 32])
    assert head.count("|") == line.count("|") == row.count("|")
