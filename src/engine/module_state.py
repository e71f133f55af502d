"""Everything that training changes in a Module: parameters, the batch norms' moving averages, the momentum.

It is read as one dict name -> NDArray: arg:NAME for a parameter, momentum:NAME for its momentum, and aux:DEVICE:NAME
for a moving average, which differs from device to device. MXNet's own way of saving momentum is a pickle.
"""

import warnings

from insightface_mx.base.compat import mx
from insightface_mx.formats import checkpoint


def read(module):
    """The arrays of a Module that has its optimiser, at the processor."""
    mx.nd.waitall()  # on a CPU the backward pass writes moving averages, which reading them does not await
    executors, parameters = _executors(module), _parameters(module)
    arrays = {f"arg:{name}": executors[0].arg_dict[name] for name in parameters}
    for device, executor in enumerate(executors):
        arrays.update((f"aux:{device}:{name}", array) for name, array in executor.aux_dict.items())
    states = _updater(module).states
    momenta = {name: states.get(_updater_keys(module, name)[0]) for name in parameters}
    arrays.update((f"momentum:{name}", array) for name, array in momenta.items() if array is not None)
    return {name: array.as_in_context(mx.cpu()) for name, array in arrays.items()}


def current_params(module):
    """Parameters of a bound Module, waiting for the batch norms' moving averages, which get_params alone does not."""
    mx.nd.waitall()
    return module.get_params()


def params(arrays):
    """Two dicts name -> NDArray, parameters and moving averages; of several devices' averages their mean."""
    devices = _by_device(arrays)
    means = {name: sum(of[name] for of in devices) / len(devices) for name in (devices[0] if devices else ())}
    return checkpoint.named(arrays, "arg:"), means


def restore(module, optimizer, arrays):
    """Bring a bound Module back to what `read` returned; `optimizer` becomes its optimiser.

    On another number of devices each gets the mean of the moving averages.
    """
    module.set_params(*params(arrays))
    attach(module, optimizer)
    devices = _by_device(arrays)
    if len(devices) == len(_executors(module)):
        for executor, averages in zip(_executors(module), devices):
            for name, array in averages.items():
                array.copyto(executor.aux_dict[name])
    momenta = checkpoint.named(arrays, "momentum:")
    updater = _updater(module)
    updater.states = {key: momenta[name].copy() for name in momenta for key in _updater_keys(module, name)}
    updater.states_synced = dict.fromkeys(updater.states, False)  # each goes to its device at the next update


def attach(module, optimizer):
    """Let an optimiser train a Module, gradients summed over its devices; an earlier one's momentum is forgotten."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Optimizer created manually outside Module")
        module.init_optimizer(kvstore="device", optimizer=optimizer, force_init=True)


def _by_device(arrays):
    """A list with every device's moving averages."""
    averages = checkpoint.named(arrays, "aux:")
    count = len({name.partition(":")[0] for name in averages})
    return [checkpoint.named(averages, f"{device}:") for device in range(count)]


def _executors(module):
    return module._exec_group.execs


def _parameters(module):
    return module._exec_group.param_names


def _updater(module):
    return module._kvstore._updater if module._update_on_kvstore else module._updater


def _updater_keys(module, name):
    """Under what a Module's updater keeps a parameter's momentum, one key a device unless the kvstore updates."""
    if module._update_on_kvstore:
        return [name]
    devices, number = len(_executors(module)), _parameters(module).index(name)
    return [number * devices + device for device in range(devices)]
