"""Checkpoints in MXNet's own format: PREFIX-symbol.json and PREFIX-NNNN.params, written whole or not at all."""

import contextlib
import os
import re

from insightface_mx.compat import mx
from insightface_mx.errors import UserError


def params_path(prefix, epoch):
    """Path of a checkpoint's parameters, PREFIX-NNNN.params."""
    return f"{prefix}-{epoch:04d}.params"


def symbol_path(prefix):
    """Path of a checkpoint's graph, PREFIX-symbol.json."""
    return f"{prefix}-symbol.json"


def parse(text):
    """Split 'PREFIX,EPOCH' into the prefix and the epoch's number; the prefix itself may hold commas."""
    prefix, _, epoch = text.rpartition(",")
    if not prefix or not epoch.isdigit():
        raise UserError(f"'{text}' is not a checkpoint: write PREFIX,EPOCH, for example ../model/model,1")
    return prefix, int(epoch)


def epochs(prefix):
    """Numbers of all checkpoints saved under a prefix, in rising order."""
    folder, name = os.path.split(prefix)
    pattern = re.compile(re.escape(name) + r"-(\d{4,})\.params")
    try:
        matches = [pattern.fullmatch(entry) for entry in os.listdir(folder or ".")]
    except OSError as error:
        raise UserError(f"cannot look for checkpoints of {prefix}: {error.strerror}") from error
    return sorted(int(match.group(1)) for match in matches if match)


@contextlib.contextmanager
def replacing(path):
    """Give a temporary name beside `path`; when the block ends well, flush the file to disk and rename it to `path`."""
    temporary = f"{path}.tmp{os.getpid()}"
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def save(prefix, epoch, symbol, arg_params, aux_params):
    """Write a checkpoint; a reader sees the old files or the new ones, never half of one.

    Raises UserError, with the earlier files untouched, when the folder cannot be written.
    """
    params = {f"arg:{name}": array for name, array in arg_params.items()}
    params.update((f"aux:{name}", array) for name, array in aux_params.items())
    try:
        os.makedirs(os.path.dirname(prefix) or ".", exist_ok=True)
        with replacing(symbol_path(prefix)) as temporary:
            symbol.save(temporary)
        with replacing(params_path(prefix, epoch)) as temporary:
            mx.nd.save(temporary, params)
    except (OSError, mx.base.MXNetError) as error:
        raise UserError(f"cannot save {params_path(prefix, epoch)}: {_reason(error)}") from error


def load(prefix, epoch):
    """Read a checkpoint: the symbol and two dicts name -> NDArray, arguments and auxiliary states.

    Raises UserError for a missing, truncated or foreign file.
    """
    for path in (symbol_path(prefix), params_path(prefix, epoch)):
        if not os.path.isfile(path):
            raise UserError(f"checkpoint file {path} does not exist; {_what_exists(prefix)}")
    symbol = _read(mx.sym.load, symbol_path(prefix))
    arrays = _read(mx.nd.load, params_path(prefix, epoch))
    if not isinstance(arrays, dict) or not all(name.startswith(("arg:", "aux:")) for name in arrays):
        raise UserError(f"{params_path(prefix, epoch)} holds no named parameters: it is not an MXNet checkpoint")
    arg_params = {name[4:]: array for name, array in arrays.items() if name.startswith("arg:")}
    aux_params = {name[4:]: array for name, array in arrays.items() if name.startswith("aux:")}
    return symbol, arg_params, aux_params


def module_params(module):
    """Parameters of a bound Module, waiting for the batch norms' moving averages, which get_params alone does not."""
    mx.nd.waitall()
    return module.get_params()


def _read(reader, path):
    try:
        return reader(path)
    except (mx.base.MXNetError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: not an MXNet file, or damaged ({_reason(error)})") from error


def _reason(error):
    """The part of an error that tells something: MXNet puts it last, behind the lines of a C++ trace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].replace("MXNetError: ", "") if lines else "no reason given"


def _what_exists(prefix):
    folder = os.path.dirname(prefix) or "."
    found = epochs(prefix) if os.path.isdir(folder) else []
    return f"epochs found under this prefix: {', '.join(map(str, found))}" if found else "none found under this prefix"
