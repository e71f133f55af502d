"""Read and restore all that training changes in a Module: parameters, momentum, the batch norms' moving averages.

This is the only file that uses private names of MXNet's Module and optimizer.

The state is one dict name -> NDArray in CPU memory: arg:NAME for a parameter, momentum:NAME for its momentum, and
aux:DEVICE:NAME for a moving average, which differs from device to device. (MXNet itself saves momentum as a pickle.)

A Module may keep class weights outside its graph, as its attribute `head`: see `ClassWeights`. They are saved under the
names that they have in a graph.
"""

from __future__ import annotations

import warnings
from typing import Any, Iterable, Mapping, Protocol

from insightface_mx.base.compat import Module, NDArray, Params, mx
from insightface_mx.formats import checkpoint
from insightface_mx.formats.params_writer import Rows

Optimizer = Any  # an mx.optimizer.Optimizer
Executor = Any  # an mx.executor.Executor
Updater = Any  # an mx.optimizer.Updater


class ClassWeights(Protocol):
    """Class weights that are in no graph of MXNet; `shards.head.ShardedHead` is one."""

    def params(self) -> dict[str, Rows]:
        """Return the class weights by name."""

    def momenta(self) -> dict[str, Rows]:
        """Return their momentum by name."""

    def restore_momenta(self, source: Mapping[str, Any]) -> None:
        """Set their momentum."""

    def own_weights(self, labels: NDArray) -> NDArray:
        """Return the class weights of the samples."""

    def checked(self) -> Params:
        """Return the arrays of a batch that must be finite, by name."""


def wait_for_moving_averages() -> None:
    """Wait until MXNet has finished all operations; call this before moving averages are read or used.

    On a CPU a training step writes the batch norms' moving averages in its backward pass, and MXNet does not know that
    these operations change them: neither reading the arrays nor a forward pass waits for it.
    """
    mx.nd.waitall()


def executors(module: Module) -> list[Executor]:
    """Return a bound Module's executors, one a device, which hold its arrays by name (grad_dict, output_dict ...)."""
    return module._exec_group.execs


def outputs_and_gradients(module: Module) -> list[Params]:
    """Return what a batch has computed in a bound Module, by names for a message: one dict a device."""
    head = _head(module)
    return [
        *(
            {
                **executor.output_dict,
                **{f"gradient of {name}": array for name, array in executor.grad_dict.items() if array is not None},
            }
            for executor in executors(module)
        ),
        *([head.checked()] if head else []),
    ]


def own_class_weights(module: Module, labels: NDArray) -> NDArray:
    """Return the class weights of the samples with these labels, samples x length of the embedding."""
    head = _head(module)
    if head:
        return head.own_weights(labels)
    weight = executors(module)[0].arg_dict["fc7_weight"]
    return mx.nd.take(weight, labels.as_in_context(weight.context))


def moving_averages(module: Module) -> list[NDArray]:
    """Return the moving averages of a bound Module on all devices, after waiting for them."""
    wait_for_moving_averages()
    return [array for executor in executors(module) for array in executor.aux_arrays]


def current_params(module: Module) -> tuple[Params, Params]:
    """Return the parameters and moving averages of a bound Module, after waiting for the moving averages."""
    wait_for_moving_averages()
    return module.get_params()


def read(module: Module) -> Params:
    """Return all training state of `module` as CPU arrays; the optimizer must be attached.

    Class weights outside the graph come as `Rows`.
    """
    wait_for_moving_averages()
    devices, parameters, head = executors(module), _parameters(module), _head(module)
    arrays = {f"arg:{name}": devices[0].arg_dict[name] for name in parameters}
    arrays.update((f"arg:{name}", rows) for name, rows in (head.params() if head else {}).items())
    for device, executor in enumerate(devices):
        arrays.update((f"aux:{device}:{name}", array) for name, array in executor.aux_dict.items())
    states = _updater(module).states
    momenta = {name: states.get(_updater_keys(module, name)[0]) for name in parameters}
    arrays.update((f"momentum:{name}", array) for name, array in momenta.items() if array is not None)
    arrays.update((f"momentum:{name}", rows) for name, rows in (head.momenta() if head else {}).items())
    return {name: array if isinstance(array, Rows) else array.as_in_context(mx.cpu()) for name, array in arrays.items()}


def names_by_rows(module: Module) -> list[str]:
    """Return the names in a state of the class weights outside the graph; `restore` takes memory maps of them, too."""
    head = _head(module)
    return state_names(head.params()) if head else []


def state_names(parameters: Iterable[str]) -> list[str]:
    """Return the names in a state of parameters and of their momentum."""
    return [f"{kind}:{name}" for kind in ("arg", "momentum") for name in parameters]


def params_of(arrays: Params) -> tuple[Params, Params]:
    """Return the parameters and moving averages of a state, the mean of the moving averages of several devices."""
    devices = _by_device(arrays)
    names = devices[0] if devices else {}
    means = {name: sum(averages[name] for averages in devices) / len(devices) for name in names}
    return checkpoint.without_prefix(arrays, "arg:"), means


def restore(module: Module, optimizer: Optimizer, arrays: Params) -> None:
    """Restore a bound Module to a state, and attach its optimizer.

    Args:
        module: The Module; if the state is of another number of devices, each device gets the mean moving averages.
        optimizer: The optimizer that will train it.
        arrays: The state, as `read` returned it.
    """
    module.set_params(*params_of(arrays))
    attach_optimizer(module, optimizer)
    devices = _by_device(arrays)
    if len(devices) == len(executors(module)):
        for executor, averages in zip(executors(module), devices):
            for name, array in averages.items():
                array.copyto(executor.aux_dict[name])
    momenta = checkpoint.without_prefix(arrays, "momentum:")
    head, updater = _head(module), _updater(module)
    if head:
        head.restore_momenta(momenta)
        momenta = {name: array for name, array in momenta.items() if name in _parameters(module)}
    updater.states = {key: momenta[name].copy() for name in momenta for key in _updater_keys(module, name)}
    updater.states_synced = dict.fromkeys(updater.states, False)  # each goes to its device at the next update


def attach_optimizer(module: Module, optimizer: Optimizer) -> None:
    """Let an optimizer train a bound Module, gradients summed over its devices; drop an earlier one's momentum."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Optimizer created manually outside Module")
        module.init_optimizer(kvstore="device", optimizer=optimizer, force_init=True)


def set_update_count(optimizer: Optimizer, updates: int) -> None:
    """Set the number of updates that an optimizer has made, of every parameter; its schedule goes on from there."""
    optimizer.begin_num_update = optimizer.num_update = updates
    for counts in optimizer._all_index_update_counts.values():
        counts.clear()  # the count of every parameter begins at begin_num_update


def count_update(optimizer: Optimizer, name: str) -> dict[str, float]:
    """Count an update of a parameter that no Module updates; return its rate and weight decay: lr and wd."""
    optimizer._update_count(name)
    return {"lr": optimizer._get_lr(name), "wd": optimizer._get_wd(name)}


def _head(module: Module) -> ClassWeights | None:
    return getattr(module, "head", None)


def _by_device(arrays: Params) -> list[Params]:
    """Return the moving averages of a state, one dict a device."""
    averages = checkpoint.without_prefix(arrays, "aux:")
    count = len({name.partition(":")[0] for name in averages})
    return [checkpoint.without_prefix(averages, f"{device}:") for device in range(count)]


def _parameters(module: Module) -> list[str]:
    return module._exec_group.param_names


def _updater(module: Module) -> Updater:
    return module._kvstore._updater if module._update_on_kvstore else module._updater


def _updater_keys(module: Module, name: str) -> list[str] | list[int]:
    """Return the keys of a parameter's momentum in the updater, one a device unless the kvstore updates."""
    if module._update_on_kvstore:
        return [name]
    devices, index = len(executors(module)), _parameters(module).index(name)
    return [index * devices + device for device in range(devices)]
