"""Read and restore all that training changes in a Module: parameters, momentum, the batch norms' moving averages.

This is the only file that uses private names of MXNet's Module and optimizer.

The state is one dict name -> NDArray in CPU memory: arg:NAME for a parameter, momentum:NAME for its momentum, and
aux:DEVICE:NAME for a moving average, which differs from device to device. (MXNet itself saves momentum as a pickle.)
"""

from __future__ import annotations

import warnings
from typing import Any

from insightface_mx.base.compat import Module, NDArray, Params, mx
from insightface_mx.formats import checkpoint

Optimizer = Any  # an mx.optimizer.Optimizer
Executor = Any  # an mx.executor.Executor
Updater = Any  # an mx.optimizer.Updater


def wait_for_moving_averages() -> None:
    """Wait until MXNet has finished all operations; call this before moving averages are read or used.

    On a CPU a training step writes the batch norms' moving averages in its backward pass, and MXNet does not know that
    these operations change them: neither reading the arrays nor a forward pass waits for it.
    """
    mx.nd.waitall()


def executors(module: Module) -> list[Executor]:
    """Return a bound Module's executors, one a device, which hold its arrays by name (grad_dict, output_dict ...)."""
    return module._exec_group.execs


def moving_averages(module: Module) -> list[NDArray]:
    """Return the moving averages of a bound Module on all devices, after waiting for them."""
    wait_for_moving_averages()
    return [array for executor in executors(module) for array in executor.aux_arrays]


def current_params(module: Module) -> tuple[Params, Params]:
    """Return the parameters and moving averages of a bound Module, after waiting for the moving averages."""
    wait_for_moving_averages()
    return module.get_params()


def read(module: Module) -> Params:
    """Return all training state of `module` as CPU arrays; the optimizer must be attached."""
    wait_for_moving_averages()
    devices, parameters = executors(module), _parameters(module)
    arrays = {f"arg:{name}": devices[0].arg_dict[name] for name in parameters}
    for device, executor in enumerate(devices):
        arrays.update((f"aux:{device}:{name}", array) for name, array in executor.aux_dict.items())
    states = _updater(module).states
    momenta = {name: states.get(_updater_keys(module, name)[0]) for name in parameters}
    arrays.update((f"momentum:{name}", array) for name, array in momenta.items() if array is not None)
    return {name: array.as_in_context(mx.cpu()) for name, array in arrays.items()}


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
    updater = _updater(module)
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
