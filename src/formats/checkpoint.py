"""Checkpoints in MXNet's own format: PREFIX-symbol.json and PREFIX-NNNN.params, written whole or not at all."""

import errno
import os

from insightface_mx.base.errors import UserError
from insightface_mx.formats.atomic import atomic_path, find_numbers, report_write_errors, save_text


def params_path(prefix, epoch):
    """Path of a checkpoint's parameters, PREFIX-NNNN.params."""
    return f"{prefix}-{epoch:04d}.params"


def symbol_path(prefix):
    """Path of a checkpoint's graph, PREFIX-symbol.json."""
    return f"{prefix}-symbol.json"


def manifest_path(prefix, epoch):
    """Path of the facts about a checkpoint, PREFIX-NNNN.json."""
    return f"{prefix}-{epoch:04d}.json"


def parse(text):
    """Split 'PREFIX,EPOCH' into the prefix and the epoch's number; the prefix itself may hold commas."""
    prefix, _, epoch = text.rpartition(",")
    if not prefix or not epoch.isdigit():
        raise UserError(f"'{text}' is not a checkpoint: write PREFIX,EPOCH, for example ../model/model,1")
    return prefix, int(epoch)


def epochs(prefix):
    """Numbers of all checkpoints saved under a prefix, in rising order."""
    return find_numbers(prefix, r"-(\d{4,})\.params")


def save(prefix, epoch, symbol, arg_params, aux_params):
    """Write a checkpoint; a reader sees the old files or the new ones, never half of one.

    Raises UserError, with the earlier files untouched, when the folder cannot be written.
    """
    params = {f"arg:{name}": array for name, array in arg_params.items()}
    params.update((f"aux:{name}", array) for name, array in aux_params.items())
    path = params_path(prefix, epoch)
    with report_write_errors(path):
        save_text(symbol_path(prefix), symbol.tojson())
        save_arrays(path, params)


def save_arrays(path, arrays):
    """Write a dict name -> NDArray in MXNet's format, whole or not at all."""
    from insightface_mx.base.compat import mx

    with atomic_path(path) as temporary:
        try:
            mx.nd.save(temporary, arrays)
            mx.nd.load(temporary)  # on a full disk `save` may leave out the end of the file without an error
        except mx.base.MXNetError as error:
            raise OSError(errno.EIO, _reason(error)) from error


def load(prefix, epoch):
    """Read a checkpoint: the symbol and two dicts name -> NDArray, arguments and auxiliary states.

    Raises UserError for a missing, truncated or foreign file.
    """
    for path in (symbol_path(prefix), params_path(prefix, epoch)):
        if not os.path.isfile(path):
            raise UserError(f"checkpoint file {path} does not exist; {_what_exists(prefix)}")
    symbol = load_symbol(symbol_path(prefix))
    arrays = load_arrays(params_path(prefix, epoch))
    if not isinstance(arrays, dict) or not all(name.startswith(("arg:", "aux:")) for name in arrays):
        raise UserError(f"{params_path(prefix, epoch)} holds no named parameters: it is not an MXNet checkpoint")
    return symbol, named(arrays, "arg:"), named(arrays, "aux:")


def load_arrays(path):
    """Read what `save_arrays` wrote. Raises UserError for a truncated or foreign file."""
    from insightface_mx.base.compat import mx

    return _read(mx.nd.load, path)


def load_symbol(path):
    """Read a graph in MXNet's JSON format. Raises UserError for a damaged or foreign file."""
    from insightface_mx.base.compat import mx

    return _read(mx.sym.load, path)


def named(arrays, start):
    """The entries of a dict whose names begin with `start`, without it."""
    return {name[len(start) :]: array for name, array in arrays.items() if name.startswith(start)}


def _read(reader, path):
    from insightface_mx.base.compat import mx

    try:
        return reader(path)
    except (mx.base.MXNetError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: not an MXNet file, or damaged ({_reason(error)})") from error


def _reason(error):
    """The part of an error that tells something: MXNet puts it last, behind the lines of a C++ trace."""
    if isinstance(error, OSError):
        return error.strerror
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].replace("MXNetError: ", "") if lines else "no reason given"


def _what_exists(prefix):
    folder = os.path.dirname(prefix) or "."
    found = epochs(prefix) if os.path.isdir(folder) else []
    return f"epochs found under this prefix: {', '.join(map(str, found))}" if found else "none found under this prefix"
