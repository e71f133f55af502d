"""Check --memory-report: sizes that follow from shapes are exact, and estimates are linear and fit in the memory."""

import re

import harness
import numpy as np
import pytest

from insightface_mx import losses, options, recipe, train_softmax
from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.engine import prelu_library
from insightface_mx.engine.cpu_rewrite import rewrite
from insightface_mx.training import memory_report
from insightface_mx.training.memory_report import MemoryEstimate, available_bytes, largest_fit

SMALL = "--network r18 --version-output GAP --emb-size 8 --image-size 32,32 --per-batch-size 6".split()
MIB = 2**20


def parse(*argv):
    parser = options.parser(options.SoftmaxOptions, "", "")
    return options.read(parser.parse_args([*SMALL, *argv]), options.SoftmaxOptions)


def network(given):
    return recipe.build_network(given.network, given.data.image_size)


def step(given):
    return train_softmax.memory_step(given, network(given))


def estimate(*argv, classes=50, contexts=1):
    return MemoryEstimate(step(parse(*argv)), classes, contexts)


def bound_sizes(classes, *argv):
    """Bytes of the parameters, of their gradients and of the moving averages that a Module really has."""
    given = parse(*argv)
    symbol = losses.training_symbol(network(given), classes, given.loss, given.network.emb_size)
    states = losses.state_names(given.loss)
    module = mx.mod.Module(symbol, label_names=["softmax_label"], state_names=states)
    module.bind([("data", (2, 3, 32, 32))], [("softmax_label", (2,))])
    executor = module._exec_group.execs[0]
    parameters = [executor.arg_dict[name] for name in module._param_names]
    gradients = [executor.grad_dict[name] for name in module._param_names]
    return [4 * sum(array.size for array in arrays) for arrays in (parameters, gradients, executor.aux_arrays)]


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["--loss-type 4", "--loss-type 0", "--loss-type 1"])
def test_parameters_gradients_and_momentum_are_exact(loss):
    parts = estimate(*loss.split()).of_context(6, 50)
    parameters, gradients, averages = bound_sizes(50, *loss.split())
    assert parts["parameters"] == parameters
    assert parts["gradients"] == parts["momentum"] == gradients
    assert parts["moving averages"] == averages
    more = estimate(*loss.split()).of_context(6, 1000)
    assert more["parameters"] - parts["parameters"] == 950 * 4 * (8 + (loss == "--loss-type 0"))  # a bias a class


def test_what_is_not_trained_has_no_gradient():
    parts = estimate("--freeze", "conv0*,fc7_weight", "--mom", "0").of_context(6, 50)
    assert parts["parameters"] - parts["gradients"] == 4 * (64 * 3 * 3 * 3 + 50 * 8)
    assert parts["momentum"] == 0


def test_momentum_is_held_once_and_the_kvstore_has_copies():
    one, three = estimate(), estimate(contexts=3)
    parts = one.of_context(6, 50)
    assert three.of_context(6, 50) == parts
    expected = 3 * (one.total(6, 50) - parts["momentum"]) + parts["momentum"] + 2 * parts["parameters"]
    assert three.total(6, 50) == expected


def test_the_plan_of_another_batch_is_what_mxnet_sets_aside():
    given = parse()
    found = estimate()
    shapes = {"data": (64, 3, 32, 32), "softmax_label": (64,)}
    symbol = rewrite(losses.training_symbol(network(given), 20000, given.loss, given.network.emb_size), None, shapes)
    requests = {name: "null" if name in ("data", "softmax_label") else "write" for name in symbol.list_arguments()}
    executor = symbol.simple_bind(mx.cpu(), requests, **shapes)
    parts = found.of_context(64, 20000)
    estimated = parts["activations and their gradients"] + parts["head, without class weights"]
    np.testing.assert_allclose(estimated, memory_report.planned_bytes(executor), rtol=0.1)
    assert memory_report.planned_bytes(executor) > 30 * MIB


@pytest.mark.slow
def test_what_changes_its_layout_follows_from_the_activations():
    def about(network, *argv):
        parts = estimate("--network", network, *argv).of_context(6, 50)
        return parts["oneDNN and the heap (about)"] - 1.6 * fixed(parts), parts["activations and their gradients"]

    def fixed(parts):  # of the network's own parameters, and the class weights
        return parts["parameters"] - 50 * 4 * 8 + 50 * 4 * 8 / 1.6

    beyond, activations = about("y1")
    if not prelu_library.load_error():
        np.testing.assert_allclose(beyond, 0.8 * activations * 32 / 34, rtol=1e-6)
    assert abs(about("r18")[0]) < 1
    beyond, activations = about("r18", "--no-cpu-rewrite")
    np.testing.assert_allclose(beyond, 0.8 * activations, rtol=1e-6)


def test_largest_fit():
    assert largest_fit(lambda n: 100 + 7 * n, 170) == 10
    assert largest_fit(lambda n: 100 + 7 * n, 169) == 9
    assert largest_fit(lambda n: 100 + 7 * n, 50) == 0


@pytest.mark.slow
def test_what_fits_is_logged(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(memory_report, "available_bytes", lambda: 1000 * MIB)
    once = "--max-steps 1 --ckpt 0 --target toy --memory-report".split()
    train_softmax.main([*SMALL, "--data-dir", str(data_dir), "--prefix", str(tmp_path / "m"), *once])
    log = (tmp_path / "m.log").read_text()
    found = estimate(classes=4)
    images = int(re.search(r"largest batch at 4 classes: (\d+) images a context", log).group(1))
    assert found.total(images, 4) <= 1000 * MIB < found.total(images + 1, 4)
    classes = int(re.search(r"largest class count at 6 images a context: (\d+)", log).group(1))
    assert found.total(6, classes) <= 1000 * MIB < found.total(6, classes + 1)
    assert f"{found.total(6, 4) / MIB:9.1f} MiB in all, contexts: 1" in log


def test_other_devices_are_refused():
    with pytest.raises(UserError, match="--ctx cpu"):
        memory_report.report(step(parse()), 6, 4, [mx.gpu(0)])


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def machine(tmp_path):
    """A root folder with 1000 kB available, and a process in no group."""
    write(tmp_path / "proc/meminfo", "MemTotal:        9000 kB\nMemAvailable:    1000 kB\n")
    write(tmp_path / "proc/self/cgroup", "8:pids:/\n")
    return tmp_path


def test_available_memory_of_the_machine(machine):
    assert available_bytes(machine) == 1000 << 10
    assert available_bytes() > 1 << 20  # this one
    (machine / "proc/meminfo").unlink()
    with pytest.raises(UserError, match="meminfo"):
        available_bytes(machine)


def test_available_memory_in_control_groups_of_version_2(machine):
    write(machine / "proc/self/cgroup", "0::/user/job\n")
    for group, limit in (("user/job", "max"), ("user", "900000")):
        write(machine / f"sys/fs/cgroup/{group}/memory.max", f"{limit}\n")
        write(machine / f"sys/fs/cgroup/{group}/memory.current", "500000\n")
        write(machine / f"sys/fs/cgroup/{group}/memory.stat", "anon 5\ninactive_file 1234\n")
    assert available_bytes(machine) == 900000 - 500000 + 1234


def test_available_memory_in_control_groups_of_version_1(machine):
    # in a container the path is the host's, and the mount shows the group itself
    write(machine / "proc/self/cgroup", "8:pids:/\n4:memory:/docker/1234\n")
    write(machine / "sys/fs/cgroup/memory/memory.limit_in_bytes", "700000\n")
    write(machine / "sys/fs/cgroup/memory/memory.usage_in_bytes", "650000\n")
    write(machine / "sys/fs/cgroup/memory/memory.stat", "inactive_file 7\ntotal_inactive_file 10000\n")
    assert available_bytes(machine) == 60000


@pytest.mark.slow
def test_class_weights_in_shards_are_counted_once():
    step_of = "--fc7-shards 2 --sample-ratio 0.25".split()
    shards, dense = estimate(*step_of, classes=1000, contexts=2), estimate(classes=1000, contexts=2)
    parts = shards.of_shards(6, 1000)
    assert parts == {
        "class weights": 1000 * 8 * 4,
        "their momentum": 1000 * 8 * 4,
        "copies of the sampled class weights": 250 * 8 * 4,
        "logits": 250 * 12 * 4,
    }
    full = estimate("--fc7-shards", "2", "--mom", "0", classes=1000, contexts=2).of_shards(6, 1000)
    assert full == {**parts, "their momentum": 0, "copies of the sampled class weights": 0, "logits": 1000 * 12 * 4}
    assert dense.of_shards(6, 1000) == {}
    per_context = shards.of_context(6, 1000)
    assert per_context["parameters"] == dense.of_context(6, 0)["parameters"]
    assert per_context["head, without class weights"] == 0
    growth = shards.total(6, 2_001_000) - shards.total(6, 1000)
    assert growth == pytest.approx(2_000_000 * (32 + 32 + 8 + 12))
    assert growth < (dense.total(6, 2_001_000) - dense.total(6, 1000)) / 3


@pytest.mark.slow
def test_the_report_of_shards(data_dir, tmp_path, capsys):
    argv = [*SMALL, "--memory-report", "--fc7-shards", "2", "--ckpt", "0", "--end-epoch", "0"]
    harness.run(train_softmax, *argv, "--data-dir", data_dir, "--prefix", tmp_path / "m")
    out = capsys.readouterr().out
    assert "MiB class weights, of all contexts together" in out
    assert "largest class count at 6 images a context:" in out
