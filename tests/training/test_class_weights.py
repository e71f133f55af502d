"""Class weights in parts, or with several rows a class, become one row a class."""

import numpy as np
import pytest
from class_network import INPUTS, SHAPE, network, parameters

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.formats import checkpoint
from insightface_mx.training.fine_tuning import load_pretrained

LENGTH = 32  # of the embedding of `network`
FRESH = {"conv0_weight", "bn0_gamma", "bn0_beta"}


def rows(count, seed=0):
    return np.random.RandomState(seed).normal(size=(count, LENGTH)).astype(np.float32)


def body():
    return network().get_internals()["bn0_output"]


def save(folder, weights, symbol=None):
    """A checkpoint with class weights, name -> array, whose graph ends with the embedding where none is given."""
    args, averages = parameters(network())
    del args["fc7_weight"]
    args.update((name, mx.nd.array(array)) for name, array in weights.items())
    checkpoint.save(str(folder / "m"), 1, body() if symbol is None else symbol, args, averages)
    return f"{folder}/m,1"


def load(text, classes, **options):
    args, _ = load_pretrained(text, network(classes=classes), SHAPE, INPUTS, **options)
    assert set(args) - {"fc7_weight"} == FRESH
    return args["fc7_weight"].asnumpy() if "fc7_weight" in args else None


def parts(whole, count):
    """Parts of as many rows, as train_parall.py stores them; what is over in the last part is padding."""
    size = -(-len(whole) // count)
    padded = np.concatenate([whole, np.full((size * count - len(whole), LENGTH), 9, np.float32)])
    return {f"fc7_{i}_weight": part for i, part in enumerate(np.split(padded, count))}


@pytest.mark.parametrize(("classes", "count"), [(12, 1), (12, 4), (10, 4), (25, 12)])
def test_parts_of_devices_are_joined_and_padding_left_out(tmp_path, caplog, classes, count):
    caplog.set_level("INFO")
    whole = rows(classes)
    found = load(save(tmp_path, parts(whole, count)), classes, strict_classes=True)
    assert np.array_equal(found, whole)
    padding = -classes % count
    more = f"; its last {padding} rows are no class" if padding else ""
    name = "fc7_0_weight" if count == 1 else f"fc7_0_weight to fc7_{count - 1}_weight"
    assert f"--pretrained {tmp_path}/m: {name} joined to {classes + padding} rows{more}" in caplog.messages


def centres(classes, count):
    """Rows of sub-centre ArcFace, of which in class c row c % count is the longest; and those longest rows."""
    every = rows(classes * count).reshape(classes, count, LENGTH)
    every /= np.linalg.norm(every, axis=2, keepdims=True)
    every[np.arange(classes), np.arange(classes) % count] *= 1.5
    return every.reshape(-1, LENGTH), every[np.arange(classes), np.arange(classes) % count]


@pytest.mark.parametrize("count", [2, 3, 10])
@pytest.mark.parametrize("devices", [1, 4])
def test_of_the_rows_of_a_class_the_longest_is_taken(tmp_path, caplog, count, devices):
    caplog.set_level("INFO")
    classes = 6
    size = -(-classes // devices) * devices
    stored, longest = centres(size, count)
    names = parts(stored, devices) if devices > 1 else {"fc7_weight": stored}
    assert np.array_equal(load(save(tmp_path, names), classes), longest[:classes])
    assert (
        f"--pretrained {tmp_path}/m: {count} rows a class (sub-centres), of which the longest is taken: images "
        "lengthen the centre that they are nearest to, weight decay shortens the others"
    ) in caplog.messages


def test_a_graph_that_tells_all_rows_apart_has_no_sub_centres(tmp_path, caplog):
    caplog.set_level("INFO")
    assert load(save(tmp_path, {"fc7_weight": rows(10)}, network(classes=10)), 5) is None
    assert "found fc7_weight (10, 32), expected (5, 32); the class weights start as random ones" in caplog.text


@pytest.mark.parametrize(("stored", "classes"), [(11, 5), (3, 5), (85, 5)])
def test_rows_of_another_training_set_stay_unused(tmp_path, stored, classes):
    assert load(save(tmp_path, {"fc7_weight": rows(stored)}), classes) is None
    with pytest.raises(UserError, match=rf"found fc7_weight \({stored}, 32\), expected \({classes}, 32\)"):
        load(f"{tmp_path}/m,1", classes, strict_classes=True)


@pytest.mark.parametrize("sizes", [(3, 3, 2), (4, 4), (8,), (3, 3, 3)])
def test_rank_files_of_partial_fc_are_joined(tmp_path, caplog, sizes):
    caplog.set_level("INFO")
    whole = rows(sum(sizes))
    for rank, part in enumerate(np.split(whole, np.cumsum(sizes)[:-1])):
        mx.nd.save(str(tmp_path / f"{rank}_centers.param"), mx.nd.array(part))
        mx.nd.save(str(tmp_path / f"{rank}_centers_mom.param"), mx.nd.zeros((1,)))
    assert np.array_equal(load(save(tmp_path, {}), 8), whole[:8])
    last = f" to {len(sizes) - 1}_centers.param" if len(sizes) > 1 else ""
    assert f"--pretrained {tmp_path}/m: 0_centers.param{last} joined to {sum(sizes)} rows" in caplog.text


@pytest.mark.parametrize("name", ["rank_{}_softmax_weight.pt", "rank:{}_softmax_weight.pt"])
def test_rank_files_of_pytorch_are_joined(tmp_path, caplog, name):
    torch = pytest.importorskip("torch", minversion="2.6")
    caplog.set_level("INFO")
    whole = rows(8)
    for rank, part in enumerate(np.split(whole, [3, 6])):
        torch.save(torch.from_numpy(part.copy()), tmp_path / name.format(rank))
        torch.save(torch.zeros(1), tmp_path / name.format(rank).replace(".pt", "_mom.pt"))
    assert np.array_equal(load(save(tmp_path, {}), 8), whole)
    assert f"{name.format(0)} to {name.format(2)} joined to 8 rows" in caplog.text
    torch.save({"weight": torch.zeros(1)}, tmp_path / name.format(1))
    with pytest.raises(UserError, match=f"{name.format(1)} holds no tensor"):
        load(f"{tmp_path}/m,1", 8)


def test_class_weights_in_the_checkpoint_come_before_rank_files(tmp_path):
    mx.nd.save(str(tmp_path / "0_centers.param"), mx.nd.array(rows(5, seed=1)))
    assert np.array_equal(load(save(tmp_path, {"fc7_weight": rows(5)}), 5), rows(5))


def test_a_missing_part_is_named(tmp_path):
    weights = parts(rows(12), 4)
    del weights["fc7_2_weight"]
    text = save(tmp_path, weights)
    with pytest.raises(UserError, match=r"m-symbol\.json: of the parts of the class weights, .*, there is no part 2"):
        load(text, 12)


@pytest.mark.parametrize(("content", "says"), [(b"x" * 100, "0_centers.param"), (None, "holds 2 arrays, not the one")])
def test_a_rank_file_of_something_else_is_named(tmp_path, content, says):
    path = tmp_path / "0_centers.param"
    if content:
        path.write_bytes(content)
    else:
        mx.nd.save(str(path), [mx.nd.zeros((2,)), mx.nd.zeros((2,))])
    with pytest.raises(UserError, match=says):
        load(save(tmp_path, {}), 5)
