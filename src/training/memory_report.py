"""Estimate the memory of a training step before it starts: --memory-report.

Parameters, gradients and momentum follow from the shapes. The memory that MXNet plans between the operators is linear
in the batch and, in the head, in the number of classes: binding network and head at two small batches gives it. The
memory that oneDNN adds is estimated. Tests on verification sets, which have a Module of their own, come on top.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from pathlib import Path
from typing import Callable, Collection, Mapping, Sequence, Tuple

import numpy as np

from insightface_mx.base.compat import Context, MXNet, Symbol, mx
from insightface_mx.base.errors import UserError
from insightface_mx.base.limits import MAX_ARRAY, MAX_CLASSES
from insightface_mx.base.machine import resident_bytes
from insightface_mx.base.quiet import quiet_mxnet
from insightface_mx.cli.types import Size
from insightface_mx.engine import cpu_rewrite
from insightface_mx.engine.symbol_graph import SymbolGraph
from insightface_mx.training.fine_tuning import freeze

Shapes = Mapping[str, Tuple[int, ...]]  # input name -> shape
GroupFiles = Tuple[str, str, str]  # names of a control group's files

MIB = 2**20
_BATCHES = (4, 16)  # batches to bind the network with
_HEAD_BATCHES, _HEAD_CLASSES = (64, 1024), 16384  # large, because MXNet reports memory in whole MiB

# oneDNN's layouts, scratch memory and the holes it leaves in the heap, as fractions of other sizes. Activations change
# their layout next to a PReLU that is not oneDNN's. The estimates of y1, r50 and r100 are within 5 % of the real peak,
# those of the original graphs within 15 %.
_OF_ACTIVATIONS, _OF_NETWORK, _OF_CLASS_WEIGHTS = 0.8, 1.6, 1.0
_NOT_ONEDNN = ("LeakyReLU", "_insightface_prelu")
_KVSTORE_COPIES = 2  # with several contexts: the parameters, and the sum of their gradients

_GROUP_FILES = {  # controllers in /proc/self/cgroup: limit, usage, and the freeable file cache in memory.stat
    "": ("memory.max", "memory.current", "inactive_file"),  # control groups version 2
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # version 1
}


@dataclasses.dataclass(frozen=True)
class TrainingStep:
    """The training step to estimate.

    Attributes:
        embedding: Symbol from the input `data` to the embedding.
        training_symbol: Function (embedding, number of classes) -> symbol to train. Its label is `softmax_label`; the
            parameters that grow with the number of classes are called fc7_*.
        image_size: Height and width of the input.
        state_names: Inputs of the training symbol that are neither trained nor saved.
        freeze: Patterns of the parameters that are not trained.
        momentum: Whether the optimizer keeps a momentum.
        cpu_rewrite: Whether the graph is rewritten for the CPU before it is bound.
        shards: Number of shards of the class weights; 0: each context holds all of them.
        sample_ratio: Fraction of the classes that a batch is held against, in shards.
    """

    embedding: Symbol
    training_symbol: Callable[[Symbol, int], Symbol]
    image_size: Size
    state_names: Sequence[str] = ()
    freeze: str = ""
    momentum: bool = True
    cpu_rewrite: bool = True
    shards: int = 0
    sample_ratio: float = 1.0


def report(step: TrainingStep, images: int, classes: int, contexts: Sequence[Context]) -> None:
    """Log the memory of a training step, and the largest batch and class count that fit in the available memory.

    Args:
        step: The step to estimate.
        images: Images a context and batch.
        classes: Number of classes.
        contexts: The MXNet contexts of the run.

    Raises:
        UserError: The contexts are GPUs, or the machine does not say how much memory is available.
    """
    if any(context.device_type != "cpu" for context in contexts):
        raise UserError("--memory-report knows the memory of CPUs only: give --ctx cpu, or leave it out")
    estimate, available = MemoryEstimate(step, classes, len(contexts)), available_bytes()
    logging.info("memory of a context, %d images and %d classes:", images, classes)
    for name, size in estimate.of_context(images, classes).items():
        logging.info("%9.1f MiB %s", size / MIB, name)
    for name, size in estimate.of_shards(images, classes).items():
        logging.info("%9.1f MiB %s, of all contexts together", size / MIB, name)
    logging.info("%9.1f MiB in all, contexts: %d", estimate.total(images, classes) / MIB, len(contexts))
    logging.info("%9.1f MiB taken by this process before, %.1f MiB available", resident_bytes() / MIB, available / MIB)
    fitting = largest_fit(lambda count: estimate.total(count, classes), available)
    logging.info("largest batch at %d classes: %d images a context", classes, fitting)
    fitting = min(largest_fit(lambda count: estimate.total(images, count), available), estimate.most_classes)
    logging.info("largest class count at %d images a context: %d", images, fitting)


class MemoryEstimate:
    """Bytes of memory of a training step; linear in the images a context, and linear in the number of classes."""

    def __init__(self, step: TrainingStep, classes: int, contexts: int) -> None:
        """Measure a step's graph.

        Args:
            step: The step to estimate.
            classes: A number of classes to build the graph with; any will do.
            contexts: Number of contexts of the run.
        """
        self._step, self._contexts = step, contexts
        data = {"data": (1, 3, *step.image_size)}
        inputs = {"data", "softmax_label", *step.state_names}
        symbol, self._frozen = freeze(step.training_symbol(step.embedding, classes), step.freeze, inputs)
        names, shapes = symbol.list_arguments(), symbol.infer_shape(**data, softmax_label=(1,))
        sizes = {name: _array_bytes(shape) for name, shape in zip(names, shapes[0]) if name not in inputs}
        self._per_class = {name: size // classes for name, size in sizes.items() if name.startswith("fc7_")}
        self._network = {name: size for name, size in sizes.items() if name not in self._per_class}
        self._averages = sum(map(_array_bytes, shapes[2]))

        network_inputs = [{"data": (batch, 3, *step.image_size)} for batch in _BATCHES]
        self._activations = self._plan(step.embedding, network_inputs, _BATCHES)
        self._outside_onednn = _fraction_outside_onednn(self._bound_graph(step.embedding, data))
        emb_size = step.embedding.infer_shape(**data)[1][0][1]
        self.most_classes = MAX_CLASSES if step.shards else MAX_ARRAY // emb_size  # as one array holds their weights
        self._emb_size = emb_size
        if step.shards:
            return
        head = step.training_symbol(mx.sym.Variable("embedding"), _HEAD_CLASSES)
        head_inputs = [{"embedding": (batch, emb_size), "softmax_label": (batch,)} for batch in _HEAD_BATCHES]
        self._head = self._plan(head, head_inputs, _HEAD_BATCHES)

    def of_context(self, images: int, classes: int) -> dict[str, float]:
        """Return the bytes of one context by their use; momentum, which all contexts share, is included.

        Class weights in shards are left out: see `of_shards`.
        """
        if self._step.shards:
            classes = 0
        network, head = sum(self._network.values()), classes * sum(self._per_class.values())
        trained = self._trained_bytes(self._network) + classes * self._trained_bytes(self._per_class)
        activations = self._activations(images)
        return {
            "parameters": network + head,
            "gradients": trained,
            "momentum": trained if self._step.momentum else 0,
            "moving averages": self._averages,
            "activations and their gradients": activations,
            "head, without class weights": self._head(images) * classes / _HEAD_CLASSES if classes else 0,
            "oneDNN and the heap (about)": _OF_ACTIVATIONS * self._outside_onednn * activations
            + _OF_NETWORK * network
            + _OF_CLASS_WEIGHTS * head,
        }

    def of_shards(self, images: int, classes: int) -> dict[str, float]:
        """Return the bytes of class weights in shards by their use, of all contexts together; none without shards."""
        if not self._step.shards:
            return {}
        weights, chosen = classes * sum(self._per_class.values()), self._step.sample_ratio * classes
        return {
            "class weights": weights,
            "their momentum": classes * self._trained_bytes(self._per_class) if self._step.momentum else 0,
            "copies of the sampled class weights": chosen * self._emb_size * 4 if self._step.sample_ratio < 1 else 0,
            "logits": 4 * chosen * images * self._contexts,
        }

    def total(self, images: int, classes: int) -> float:
        """Return the bytes of all contexts and shards, with the kvstore's copies if there are several contexts."""
        return self._of_contexts(images, classes) + sum(self.of_shards(images, classes).values())

    def _of_contexts(self, images: int, classes: int) -> float:
        parts = self.of_context(images, classes)
        alone = sum(parts.values())
        if self._contexts == 1:
            return alone
        shared = parts["momentum"] + _KVSTORE_COPIES * parts["parameters"]
        return self._contexts * (alone - parts["momentum"]) + shared

    def _trained_bytes(self, sizes: Mapping[str, int]) -> int:
        return sum(size for name, size in sizes.items() if name not in self._frozen)

    def _bound_graph(self, symbol: Symbol, shapes: Shapes) -> Symbol:
        """Return the graph that is really bound (rewritten unless --no-cpu-rewrite)."""
        return cpu_rewrite.rewrite(symbol, None, shapes) if self._step.cpu_rewrite else symbol

    def _plan(self, symbol: Symbol, shapes: Sequence[Shapes], batches: Sequence[int]) -> Callable[[int], float]:
        """Return a function from images to bytes between the operators, from two `batches` and their input shapes."""
        symbol = self._bound_graph(symbol, shapes[0])
        untrained: Collection[str] = {*shapes[0], *self._step.state_names, *self._frozen}
        requests = {name: "null" if name in untrained else "write" for name in symbol.list_arguments()}
        with quiet_mxnet():
            low, high = (planned_bytes(symbol.simple_bind(mx.cpu(), requests, **inputs)) for inputs in shapes)
        slope = (high - low) / (batches[1] - batches[0])
        return lambda images: low + slope * (images - batches[0])


def _fraction_outside_onednn(symbol: Symbol) -> float:
    """Return the fraction of activations that are computed outside oneDNN."""
    graph = SymbolGraph(symbol)
    outside = len(graph.nodes_of(*_NOT_ONEDNN))
    return outside / max(1, outside + len(graph.nodes_of("Activation")))


def planned_bytes(executor: MXNet) -> int:
    """Return the bytes that MXNet has reserved between an executor's operators, a multiple of 1 MiB."""
    return _number(r"Total (\d+) MB allocated", executor.debug_str()) << 20


def largest_fit(size: Callable[[int], float], available: float) -> int:
    """Return the largest count n with size(n) <= available, 0 if there is none; `size` must be linear."""
    return max(0, int((available - size(0)) // (size(1) - size(0))))


def available_bytes(root: str | Path = "/") -> int:
    """Return the bytes that this process can still have: free in the machine, and allowed by its control groups.

    Args:
        root: The folder of /proc and /sys.

    Raises:
        UserError: The machine does not say.
    """
    root = Path(root)
    try:
        machine = _number(r"MemAvailable: +(\d+) kB", (root / "proc/meminfo").read_text()) << 10
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError as error:
        raise UserError(
            f"--memory-report cannot read how much memory there is: {error}; leave the option out"
        ) from error
    left = [_left_in_group(folder, names) for group in groups for folder, names in _memory_folders(root, group)]
    return int(max(0, min([machine, *left])))


def _memory_folders(root: Path, group: str) -> list[tuple[Path, GroupFiles]]:
    """List the folders of a control group, a line of /proc/self/cgroup, and of its parents, with their file names."""
    _, controllers, path = group.split(":", 2)
    if controllers not in _GROUP_FILES:
        return []
    mount, names = root / "sys/fs/cgroup" / controllers, _GROUP_FILES[controllers]
    parts = Path(path).parts[1:]
    folders = [mount.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]
    return [(folder, names) for folder in folders if (folder / names[0]).exists()]


def _left_in_group(folder: Path, names: GroupFiles) -> float:
    """Return the bytes up to a control group's limit, the file cache counted as free; infinity without a limit."""
    limit, usage, stat = ((folder / name).read_text().strip() for name in (*names[:2], "memory.stat"))
    if limit == "max":
        return float("inf")
    return int(limit) - int(usage) + _number(rf"^{names[2]} (\d+)", stat)


def _number(pattern: str, text: str) -> int:
    """Return the number in the first match of a pattern. Raises OSError if there is none."""
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise OSError(f"no '{pattern}' in '{text[:50]}'")
    return int(found.group(1))


def _array_bytes(shape: Sequence[int]) -> int:
    """Return the bytes of a float32 array."""
    return 4 * int(np.prod(shape))
