"""What training will take of memory, told before it starts: --memory-report.

Parameters, gradients and momentum follow from the shapes. What MXNet plans between the operators is linear in the batch
and, in the head, in the number of classes, so that small batches of network and head tell it. What oneDNN adds is
estimated. Tests on verification sets, which have a Module of their own, come on top.
"""

import json
import logging
import re
from pathlib import Path

import numpy as np

from insightface_mx import losses
from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.engine import cpu_rewrite
from insightface_mx.training.freeze import freeze

MIB = 2**20
_BATCHES = (4, 16)  # that the network is bound at
_HEAD_BATCHES, _HEAD_CLASSES = (64, 1024), 16384  # large beside the whole MiB that MXNet reports in

# oneDNN's layouts, scratch memory and the holes it leaves in the heap, as shares of other sizes. Activations change
# their layout beside a PReLU that is not oneDNN's. The peaks of y1, r50 and r100 are told to within 5 %, those of the
# plain graphs to within 15 %.
_OF_ACTIVATIONS, _OF_NETWORK, _OF_CLASS_WEIGHTS = 0.8, 1.6, 1.0
_NOT_ONEDNN = ("LeakyReLU", "_insightface_prelu")
_KVSTORE_COPIES = 2  # with several contexts: the parameters, and the sum of their gradients

_GROUP_FILES = {  # controllers in /proc/self/cgroup: limit, usage, and the freeable file cache in memory.stat
    "": ("memory.max", "memory.current", "inactive_file"),  # control groups version 2
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # version 1
}


def report(args, embedding, classes, contexts):
    """Log what a training step will take, and the largest batch and class count that fit in what is available.

    args: options of train_softmax. embedding: its symbol. contexts: list of MXNet contexts. UserError: they are GPUs,
    or the machine does not say how much is available.
    """
    if any(context.device_type != "cpu" for context in contexts):
        raise UserError("--memory-report knows the memory of CPUs only: give --ctx cpu, or leave it out")
    demand, images, left = Demand(args, embedding, classes, len(contexts)), args.per_batch_size or 128, available()
    logging.info("memory of a context, %d images and %d classes:", images, classes)
    for name, size in demand.of_context(images, classes).items():
        logging.info("%9.1f MiB %s", size / MIB, name)
    logging.info("%9.1f MiB in all, contexts: %d", demand.total(images, classes) / MIB, len(contexts))
    logging.info("%9.1f MiB taken by this process before, %.1f MiB available", resident() / MIB, left / MIB)
    fitting = largest(lambda number: demand.total(number, classes), left)
    logging.info("largest batch at %d classes: %d images a context", classes, fitting)
    fitting = largest(lambda number: demand.total(images, number), left)
    logging.info("largest class count at %d images a context: %d", images, fitting)


class Demand:
    """Bytes that a training step takes, as functions of the images a context and the number of classes.

    Linear in each of the two. classes: any number of them, to build the graph with.
    """

    def __init__(self, args, embedding, classes, contexts):
        self._args, self._contexts = args, contexts
        symbol, self._frozen = freeze(losses.training_symbol(embedding, classes, args, args.emb_size), args.freeze)
        size = args.image_size
        names, shapes = symbol.list_arguments(), symbol.infer_shape(data=(1, 3, *size), softmax_label=(1,))
        inputs = {"data", "softmax_label", *losses.state_names(args)}
        self._bytes = {name: _bytes(shape) for name, shape in zip(names, shapes[0]) if name not in inputs}
        of_classes = [name for name in self._bytes if name.startswith("fc7_")]
        self._per_class = {name: self._bytes.pop(name) // classes for name in of_classes}
        self._averages = sum(map(_bytes, shapes[2]))
        self._activations = self._plan(embedding, [{"data": (batch, 3, *size)} for batch in _BATCHES], _BATCHES)
        self._relaid = _share_outside_onednn(self._bound(embedding, {"data": (1, 3, *size)}))
        head = losses.training_symbol(mx.sym.Variable("embedding"), _HEAD_CLASSES, args, args.emb_size)
        inputs = [{"embedding": (batch, args.emb_size), "softmax_label": (batch,)} for batch in _HEAD_BATCHES]
        self._head = self._plan(head, inputs, _HEAD_BATCHES)

    def of_context(self, images, classes):
        """Dict name -> bytes of what one context takes; momentum, of which there is one for all, included."""
        network, head = sum(self._bytes.values()), classes * sum(self._per_class.values())
        trained = self._trained(self._bytes) + classes * self._trained(self._per_class)
        activations = self._activations(images)
        return {
            "parameters": network + head,
            "gradients": trained,
            "momentum": trained if self._args.mom else 0,
            "moving averages": self._averages,
            "activations and their gradients": activations,
            "head, without class weights": self._head(images) * classes / _HEAD_CLASSES,
            "oneDNN and the heap (about)": _OF_ACTIVATIONS * self._relaid * activations
            + _OF_NETWORK * network
            + _OF_CLASS_WEIGHTS * head,
        }

    def total(self, images, classes):
        """Bytes of all contexts, with the kvstore's own where there are several."""
        parts = self.of_context(images, classes)
        alone = sum(parts.values())
        if self._contexts == 1:
            return alone
        shared = parts["momentum"] + _KVSTORE_COPIES * parts["parameters"]
        return self._contexts * (alone - parts["momentum"]) + shared

    def _trained(self, sizes):
        return sum(size for name, size in sizes.items() if name not in self._frozen)

    def _bound(self, symbol, shapes):
        """What of a symbol is bound."""
        return symbol if self._args.no_cpu_rewrite else cpu_rewrite.rewrite(symbol, None, shapes)

    def _plan(self, symbol, shapes, batches):
        """Function images -> bytes between the operators of `symbol`, from its two `shapes` at two `batches`."""
        symbol = self._bound(symbol, shapes[0])
        untrained = {*shapes[0], *losses.state_names(self._args), *self._frozen}
        requests = {name: "null" if name in untrained else "write" for name in symbol.list_arguments()}
        low, high = (planned(symbol.simple_bind(mx.cpu(), requests, **inputs)) for inputs in shapes)
        slope = (high - low) / (batches[1] - batches[0])
        return lambda images: low + slope * (images - batches[0])


def _share_outside_onednn(symbol):
    """Of the activation functions, 0 to 1."""
    operators = [node["op"] for node in json.loads(symbol.tojson())["nodes"]]
    outside = sum(map(operators.count, _NOT_ONEDNN))
    return outside / max(1, outside + operators.count("Activation"))


def planned(executor):
    """Bytes that MXNet has set aside between an executor's operators, in whole MiB."""
    return int(re.search(r"Total (\d+) MB allocated", executor.debug_str()).group(1)) << 20


def largest(demand, present):
    """The largest whole number n with demand(n) <= present, demand being linear; 0 where there is none."""
    return max(0, int((present - demand(0)) // (demand(1) - demand(0))))


def resident():
    """Bytes of memory that this process has."""
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text()).group(1)) << 10


def available(root="/"):
    """Bytes that this process can still have: what the machine has free or can free, and its control groups allow.

    root: where /proc and /sys are. UserError where the machine does not say.
    """
    root = Path(root)
    try:
        machine = re.search(r"MemAvailable: +(\d+) kB", (root / "proc/meminfo").read_text())
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError as error:
        raise UserError(f"--memory-report cannot read what memory there is: {error}; leave the option out") from error
    left = [_left_in_group(folder, names) for group in groups for folder, names in _memory_folders(root, group)]
    return max(0, min([int(machine.group(1)) << 10, *left]))


def _memory_folders(root, group):
    """(folder, file names) of a control group and its parents, as a line of /proc/self/cgroup names it."""
    _, controllers, path = group.split(":", 2)
    if controllers not in _GROUP_FILES:
        return []
    mount, names = root / "sys/fs/cgroup" / controllers, _GROUP_FILES[controllers]
    parts = Path(path).parts[1:]
    folders = [mount.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]
    return [(folder, names) for folder in folders if (folder / names[0]).exists()]


def _left_in_group(folder, names):
    """Bytes up to a control group's limit, the file cache counting as free; infinity without a limit."""
    limit, usage, stat = ((folder / name).read_text().strip() for name in (*names[:2], "memory.stat"))
    if limit == "max":
        return float("inf")
    return int(limit) - int(usage) + int(re.search(rf"^{names[2]} (\d+)", stat, re.MULTILINE).group(1))


def _bytes(shape):
    return 4 * int(np.prod(shape))
