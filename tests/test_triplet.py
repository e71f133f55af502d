"""Triplets: mining against plain loops, the losses against float64 formulas, and train_triplet.py as users run it."""

import re
import signal
import subprocess
import sys

import harness
import numpy as np
import pytest
from harness import error_of
from numeric import slope
from small_training import Recorder

from insightface_mx import options, recipe, train_softmax, train_triplet, triplets
from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.engine import network as verify
from insightface_mx.eval import verification
from insightface_mx.formats import checkpoint
from insightface_mx.formats.face_records import FaceRecords
from insightface_mx.options import TripletOptions

NETWORK = "--network r18 --version-act relu --version-output GAP --emb-size 8 --image-size 32,32 --target toy".split()
PHOTOS = 6  # of each person in the data set
SMALL = [*NETWORK, *"--per-batch-size 6 --triplet-bag-size 20 --images-per-identity 5".split()]


# Mining.


def unit_rows(rng, *shape):
    rows = rng.standard_normal(shape)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def semi_hard(embeddings, identities, alpha, max_ap=0.0):
    """The definition: {(anchor, positive): set of negatives}, without empty sets."""
    found = {}
    for a in range(len(embeddings)):
        for p in range(a + 1, len(embeddings)):
            ap = ((embeddings[a] - embeddings[p]) ** 2).sum()
            if identities[a] != identities[p] or 0 < max_ap < ap:
                continue
            for n in range(len(embeddings)):
                if identities[n] != identities[a] and ap < ((embeddings[a] - embeddings[n]) ** 2).sum() < ap + alpha:
                    found.setdefault((a, p), set()).add(n)
    return found


@pytest.mark.parametrize("pairs_at_once", [5, 1024])
@pytest.mark.parametrize("alpha, max_ap", [(0.3, 0.0), (0.05, 0.0), (0.3, 1.8)])
def test_mined_triplets_are_the_definitions(monkeypatch, pairs_at_once, alpha, max_ap):
    monkeypatch.setattr(triplets, "_PAIRS_AT_ONCE", pairs_at_once)
    rng = np.random.default_rng(0)
    embeddings, identities = unit_rows(rng, 40, 6), rng.permutation(np.arange(40) // 4)
    expected = semi_hard(embeddings, identities, alpha, max_ap)
    found = triplets.mine(embeddings, identities, alpha, rng, max_ap).tolist()
    assert [(a, p) for a, p, _ in found] == sorted(expected)
    assert all(n in expected[a, p] for a, p, n in found)
    assert len(found) in {(0.3, 0.0): range(50, 60), (0.05, 0.0): range(1, 40), (0.3, 1.8): range(1, 40)}[alpha, max_ap]


@pytest.mark.slow
def test_every_negative_is_as_likely():
    rng = np.random.default_rng(0)
    embeddings, identities = unit_rows(rng, 20, 3), np.arange(20) // 2
    choices = max(semi_hard(embeddings, identities, 0.5).items(), key=lambda item: len(item[1]))
    (a, p), negatives = choices
    draws = np.concatenate([triplets.mine(embeddings, identities, 0.5, rng) for _ in range(4000)])
    drawn = draws[(draws[:, 0] == a) & (draws[:, 1] == p), 2]
    counts = np.array([(drawn == n).sum() for n in negatives])
    assert counts.sum() == 4000
    assert len(counts) > 3
    assert (abs(counts - 4000 / len(counts)) < 5 * np.sqrt(4000 / len(counts))).all()


@pytest.mark.parametrize(
    "factor, identities",
    [(1, np.arange(6)), (1, np.zeros(6)), (np.nan, np.arange(6) // 2), (0, np.arange(6) // 2)],
    ids=["no pairs", "no negatives", "NaN", "zeros"],
)
def test_nothing_to_mine(factor, identities):
    rng = np.random.default_rng(0)
    assert triplets.mine(unit_rows(rng, 6, 4) * factor, identities, 0.3, rng).shape == (0, 3)


def test_a_bag():
    groups = [np.arange(10 * i, 10 * i + size) for i, size in enumerate([7, 1, 3, 9, 5, 5])]
    images, identities = triplets.draw_bag(groups, 12, 4, np.random.default_rng(1))
    assert len(images) == len(identities) == 12
    assert len(set(images.tolist())) == 12
    assert (images // 10 == identities).all()
    assert np.unique(identities, return_counts=True)[1].max() == 4
    images, identities = triplets.draw_bag(groups, 1000, 4, np.random.default_rng(1))
    assert np.bincount(identities).tolist() == [4, 1, 3, 4, 4, 4]  # all there is
    firsts = {triplets.draw_bag(groups, 4, 4, np.random.default_rng(seed))[1][0] for seed in range(60)}
    assert firsts == set(range(6))


def test_triplets_are_grouped_by_device():
    images = triplets.group_by_device(np.arange(21).reshape(7, 3), 2)
    assert images.reshape(-1, 3, 2).tolist() == [
        [[0, 3], [1, 4], [2, 5]],
        [[6, 9], [7, 10], [8, 11]],
        [[12, 15], [13, 16], [14, 17]],
    ]


# The losses.


def formula(x, loss_type, alpha, devices=1):
    """The mean over devices of each one's loss, in float64."""
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    values = []
    for part in np.split(x, devices):
        for a, p, n in zip(*np.split(part, 3)):
            if loss_type == 1:
                distances = ((a - p) ** 2).sum(), ((a - n) ** 2).sum()
            else:
                distances = np.arccos(a @ p), np.arccos(a @ n)
            values.append(max(0.0, distances[0] - distances[1] + alpha))
    return np.mean(values), values


def run_symbol(x, loss_type, alpha, devices=1):
    """Outputs of a Module over several contexts, and the gradient of its loss."""
    symbol = triplets.training_symbol(mx.sym.Variable("data"), loss_type, alpha)
    model = mx.mod.Module(symbol, label_names=None, context=[mx.cpu(i) for i in range(devices)])
    model.bind([("data", x.shape)], inputs_need_grad=True)
    model.init_params()
    model.forward_backward(mx.io.DataBatch([mx.nd.array(x)]))
    return [out.asnumpy() for out in model.get_outputs()], model.get_input_grads()[0].asnumpy()


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("loss_type", [1, 2])
def test_value_and_gradient(loss_type, devices):
    x = np.random.RandomState(3).standard_normal((36, 5)) * 2
    (embedding, loss), gradient = run_symbol(x, loss_type, 0.3, devices)
    mean, values = formula(x, loss_type, 0.3, devices)
    assert 0 < sum(value == 0 for value in values) < len(values)  # both sides of the hinge
    assert np.allclose(embedding, x, rtol=1e-6)
    assert loss.shape == (devices,)
    assert np.isclose(loss.mean(), mean, rtol=1e-5)
    expected = slope(lambda x: formula(x, loss_type, 0.3, devices)[0], x)
    assert np.allclose(gradient / devices, expected, atol=1e-4 * abs(expected).max())


@pytest.mark.parametrize("loss_type", [1, 2])
def test_finite_for_any_finite_input(loss_type):
    rng = np.random.RandomState(0)
    row = rng.standard_normal(5)
    anchors = np.stack([row, row, 0 * row, 1e30 * row, 1e-30 * row, row])
    positives = np.stack([row, -row, row, row, row, 1.0000001 * row])
    negatives = np.stack([row, row, row, -1e30 * row, 0 * row, -row])
    (_, loss), gradient = run_symbol(np.concatenate([anchors, positives, negatives]), loss_type, 0.3)
    assert np.isfinite(loss).all()
    assert np.isfinite(gradient).all()


# The command.


def run(data_dir, prefix, *argv, pretrained=None, **replacements):
    start = ["--pretrained", f"{pretrained},1"] if pretrained else []
    argv = [*SMALL, "--data-dir", data_dir, "--prefix", prefix, "--seed", "1", *start, *argv]
    harness.run(train_triplet, *argv, **replacements)


def params(prefix, epoch):
    _, arg_params, aux_params = checkpoint.load(str(prefix), epoch)
    return {name: array.asnumpy() for name, array in {**arg_params, **aux_params}.items()}


@pytest.fixture(scope="module")
def start(data_dir, tmp_path_factory):
    """A checkpoint of the softmax command after three batches."""
    prefix = tmp_path_factory.mktemp("start") / "m"
    settings = "--per-batch-size 6 --max-steps 3 --seed 1 --lr 0.01".split()
    train_softmax.main([*NETWORK, *settings, "--data-dir", str(data_dir), "--prefix", str(prefix)])
    return prefix


@pytest.mark.slow
def test_a_run_prints_and_saves(data_dir, tmp_path, start, capsys):
    run(data_dir, tmp_path / "m", *"--max-steps 4 --verbose 2 --ckpt 2 --lr 0.01".split(), pretrained=start)
    out = capsys.readouterr().out
    bags = re.findall(r"^bag of 20 images: (\d+) triplets$", out, re.M)
    assert bags
    assert int(bags[0]) > 2
    assert re.search(r"^\[toy\]\[4\]Accuracy-Flip: \d\.\d{5}\+-\d\.\d{5}$", out, re.M)
    assert checkpoint.epochs(str(tmp_path / "m")) == [1, 2]
    printed = re.findall(r"\[toy\]\[4\](XNorm: .*|Accuracy-Flip: .*)", out)
    model = f"{tmp_path}/m,2"
    verification.main(["--data-dir", str(data_dir), "--model", model, "--target", "toy", "--image-size", "32,32"])
    assert re.findall(r"\[toy\](XNorm: .*|Accuracy-Flip: .*)", capsys.readouterr().out) == printed


@pytest.mark.slow
def test_a_checkpoint_is_a_plain_mxnet_one(data_dir, tmp_path, start):
    run(data_dir, tmp_path / "m", "--max-steps", "1", pretrained=start)
    symbol, arg_params, aux_params = mx.model.load_checkpoint(str(tmp_path / "m"), 1)
    assert symbol.list_outputs()[1:] == ["triplet_loss_output"]
    assert {*arg_params, "fc7_weight"} == {*checkpoint.load(str(start), 1)[1]}
    names = symbol.get_internals().list_outputs()
    assert "fc1_output" in names
    assert "fc1n_output" in names
    assert "_insightface" not in symbol.tojson()
    model = mx.mod.Module(symbol, label_names=None)
    model.bind([("data", (3, 3, 32, 32))], for_training=False)
    model.set_params(arg_params, aux_params)


@pytest.mark.slow
@pytest.mark.parametrize("loss_type", [1, 2])
def test_a_step_is_the_formulas_step(data_dir, tmp_path, start, loss_type):
    """w - lr (mean over two devices of their gradients + wd w), on triplets of images of the right identities."""
    recorder = Recorder()
    settings = f"--loss-type {loss_type} --max-steps 1 --lr 0.02 --wd 0.01 --ctx cpu:2 --rand-mirror 0".split()
    run(data_dir, tmp_path / "m", *settings, pretrained=start, observers=[recorder])
    parts = np.array(recorder.records).reshape(2, 6)
    identity = (parts - 1) // PHOTOS
    assert (identity[:, :2] == identity[:, 2:4]).all()
    assert (identity[:, :2] != identity[:, 4:]).all()

    given = parse(*SMALL, "--data-dir", str(data_dir))
    data = recipe.open_images(given.data, 6, seed=0)
    network = recipe.build_network(given.network, given.data.image_size)
    executor = network.simple_bind(mx.cpu(), data=(6, 3, 32, 32))
    before, after = params(start, 1), params(tmp_path / "m", 1)
    gradients = [gradients_of(executor, before, data.read(part), loss_type) for part in parts]
    for parameter in ("conv0_weight", "stage2_unit1_conv1_weight", "bn1_beta", "fc1_beta"):
        update = -0.02 * (sum(of[parameter] for of in gradients) / 2 + 0.01 * before[parameter])
        error = abs(after[parameter] - before[parameter] - update).max() / abs(update).max()
        assert error < 2e-3, parameter


def gradients_of(executor, values, images, loss_type):
    """Gradients of the parameters, numpy arrays by name, from `values` and the loss's formula."""
    executor.copy_params_from(
        {name: mx.nd.array(values[name]) for name in executor.arg_dict if name != "data"},
        {name: mx.nd.array(values[name]) for name in executor.aux_dict},
    )
    embedding = executor.forward(is_train=True, data=mx.nd.array(images))[0].asnumpy().astype(np.float64)
    executor.backward(mx.nd.array(slope(lambda x: formula(x, loss_type, 0.3)[0], embedding)))
    return {name: array.asnumpy() for name, array in executor.grad_dict.items()}


def parse(*argv):
    parser = options.parser(options.TripletTrainingOptions, "", "")
    return options.read(parser.parse_args(argv), options.TripletTrainingOptions)


@pytest.mark.slow
def test_a_seed_makes_a_run_repeatable_bit_for_bit(data_dir, tmp_path, start):
    runs = {}
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        run(data_dir, tmp_path / name, "--max-steps", "3", "--seed", seed, "--color", "1", pretrained=start)
        runs[name] = params(tmp_path / name, 1)
    assert [name for name in runs["a"] if not np.array_equal(runs["a"][name], runs["b"][name])] == []
    assert not np.array_equal(runs["a"]["conv0_weight"], runs["c"]["conv0_weight"])


@pytest.mark.slow
def test_a_bag_is_mined_by_the_parameters_of_the_moment(data_dir, tmp_path, start):
    """Its unit embeddings are those of the checkpoint that the bag before it ends with."""
    recorder, seen = Recorder(), []

    def recording(*args):
        embed = train_triplet.make_embed(*args)

        def of_bag(records):
            seen.append((len(recorder.steps), records, embed(records)))
            return seen[-1][2]

        return of_bag

    settings = "--triplet-bag-size 12 --images-per-identity 3 --verbose 1 --ckpt 2 --lr 0.01 --ctx cpu:2".split()
    settings += ["--end-epoch", "2", "--target", ""]
    run(data_dir, tmp_path / "m", *settings, pretrained=start, embed=recording, observers=[recorder])
    (first, *_), (batches, *_) = seen
    assert first == 0
    assert 1 <= batches < len(recorder.steps)
    assert checkpoint.epochs(str(tmp_path / "m")) == recorder.steps
    data = recipe.open_images(parse(*SMALL, "--data-dir", str(data_dir)).data, 6, seed=0)
    for prefix, epoch, (_, records, embeddings) in ((start, 1, seen[0]), (tmp_path / "m", batches, seen[1])):
        model = verify.load_model(str(prefix), epoch, [mx.cpu()], 6, (32, 32))
        expected = verify.embed(data.read(records), model, 6)
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        assert np.allclose(embeddings, expected, atol=1e-5)


@pytest.mark.slow
def test_a_run_ends_where_no_triplets_are_left(data_dir, tmp_path, start, capsys):
    embeddings = iter([unit_rows(np.random.default_rng(0), 20, 8)])

    def one_good_bag(*_):
        return lambda records: next(embeddings, np.ones((20, 8)))

    run(data_dir, tmp_path / "m", pretrained=start, embed=one_good_bag)
    out = capsys.readouterr().out
    found = int(re.search(r"bag of 20 images: (\d+) triplets", out).group(1))
    assert f"saved {tmp_path}/m-0001.params after batch {found // 2}" in out
    assert found > 2
    argv = [*SMALL, "--data-dir", data_dir, "--prefix", tmp_path / "n"]
    assert "start from a better network" in error_of(capsys, train_triplet, *argv, embed=one_good_bag)


def test_few_triplets_are_collected_from_several_bags():
    bag = TripletOptions(triplet_bag_size=8, images_per_identity=2)
    groups, bags = [np.arange(6 * i, 6 * i + 6) for i in range(4)], []

    def embed(numbers):
        bags.append(numbers)
        return unit_rows(np.random.default_rng(len(bags)), len(numbers), 3)

    found = triplets.find_triplets(groups, embed, bag, np.random.default_rng(0), 9)
    assert len(found) >= 9
    assert len(bags) > 2
    assert (found[:, 0] // 6 == found[:, 1] // 6).all()
    assert (found[:, 0] // 6 != found[:, 2] // 6).all()


def test_triplets_are_shuffled():
    bag, bags = TripletOptions(triplet_bag_size=24), []

    def embed(numbers):
        bags.append(numbers.tolist())
        return unit_rows(np.random.default_rng(0), len(numbers), 3)

    groups = [np.arange(6 * i, 6 * i + 6) for i in range(5)]
    found = triplets.find_triplets(groups, embed, bag, np.random.default_rng(0), 1)
    places = [bags[0].index(number) for number in found[:, 0]]
    assert len(bags) == 1
    assert places != sorted(places)


def test_a_plain_list_is_grouped_by_label(tmp_path):
    path = str(tmp_path / "plain.rec")
    file = mx.recordio.MXIndexedRecordIO(str(tmp_path / "plain.idx"), path, "w")
    for number, label in enumerate([2, 0, 2, 5, 0, 2]):
        file.write_idx(number, mx.recordio.pack(mx.recordio.IRHeader(0, label, number, 0), b"image"))
    file.close()
    records = FaceRecords(path)
    assert [group.tolist() for group in triplets.identities(records, 0)] == [[1, 4], [0, 2, 5], [3]]
    assert [group.tolist() for group in triplets.identities(records, 2)] == [[1, 4], [0, 2, 5]]
    with pytest.raises(UserError, match=r"plain\.rec: triplets need two identities"):
        triplets.identities(records, 3)


def test_identities_of_a_training_set(data_dir):
    groups = triplets.identities(FaceRecords(str(data_dir / "train.rec")), 0)
    assert [group.tolist() for group in groups] == [list(range(6 * i + 1, 6 * i + 7)) for i in range(4)]


@pytest.mark.slow
def test_ctrl_c_saves_and_says_where(data_dir, tmp_path):
    argv = [
        *SMALL,
        "--data-dir",
        str(data_dir),
        "--prefix",
        str(tmp_path / "m"),
        *"--lr 0 --triplet-bag-size 8 --seed 1".split(),  # some seeds find too few triplets and end by themselves
    ]
    process = subprocess.Popen([sys.executable, train_triplet.__file__, *argv], stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if "Train-lossvalue" in line:  # the first bag is done
            process.send_signal(signal.SIGINT)
            break
    out = process.stdout.read()
    process.stdout.close()
    assert process.wait() == 128 + signal.SIGINT
    assert re.search(r"saved .*m-0001\.params after batch \d+", out)


def test_defaults_are_the_originals():
    found = {name: value for group in vars(parse()).values() for name, value in vars(group).items()}
    expected = {
        "loss_type": 1, "triplet_bag_size": 3600, "images_per_identity": 5, "triplet_alpha": 0.3, "triplet_max_ap": 0,
        "lr": 0.1, "per_batch_size": 128, "verbose": 2000, "network": "r50", "emb_size": 512,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    assert [parse("--loss-type", number).loss.loss_type for number in ("12", "13", "2")] == [1, 2, 2]
    assert train_triplet.triplets_per_device(parse().data) == 42


BAD_INPUT = {
    "--loss-type 4": "choose from 1, 2",
    "--images-per-identity 1": "--images-per-identity: 1 is not 2 or more",
    "--triplet-bag-size 5": "--triplet-bag-size 5: a bag of one identity holds no negative",
    "--triplet-max-ap -1": "--triplet-max-ap: -1 is not 0 or more",
    "--triplet-alpha 0": "--triplet-alpha: 0 is not more than 0",
    "--per-batch-size 2": "--per-batch-size 2: a triplet is 3 images",
    "--images-filter 7": "lower --images-filter",
    "--pretrained {tmp_path}/none,1": "none-symbol.json does not exist",
    "--data-dir {tmp_path}/none": "train.idx",
    "--network q50": "r50",
}


@pytest.mark.parametrize("argv", BAD_INPUT)
def test_bad_input(data_dir, tmp_path, capsys, argv):
    common = [*SMALL, "--data-dir", data_dir, "--prefix", tmp_path / "m", "--max-steps", "1"]
    words = argv.format(tmp_path=tmp_path).split()
    assert BAD_INPUT[argv] in error_of(capsys, train_triplet, *common, *words)
