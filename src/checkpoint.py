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
    return numbers(prefix, r"-(\d{4,})\.params")


def numbers(prefix, pattern):
    """The number in every file name that is the prefix followed by `pattern`, which has one group; in rising order."""
    folder, name = os.path.split(prefix)
    pattern = re.compile(re.escape(name) + pattern)
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
        _flush(temporary)
        os.replace(temporary, path)
        _flush(os.path.dirname(path) or ".")  # the name, too, is on disk only then
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


@contextlib.contextmanager
def saving(path):
    """Make a folder for `path`, and turn a failure to write there into a UserError."""
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        yield
    except (OSError, mx.base.MXNetError) as error:
        raise UserError(
            f"cannot save {path}: {_reason(error)}; what was saved before is untouched. Is the disk full?"
        ) from error


def save(prefix, epoch, symbol, arg_params, aux_params):
    """Write a checkpoint; a reader sees the old files or the new ones, never half of one.

    Raises UserError, with the earlier files untouched, when the folder cannot be written.
    """
    params = {f"arg:{name}": array for name, array in arg_params.items()}
    params.update((f"aux:{name}", array) for name, array in aux_params.items())
    path = params_path(prefix, epoch)
    with saving(path):
        save_text(symbol_path(prefix), symbol.tojson())
        save_arrays(path, params)


def save_text(path, text):
    """Write a text file, whole or not at all."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(text)


def save_arrays(path, arrays):
    """Write a dict name -> NDArray in MXNet's format, whole or not at all."""
    with replacing(path) as temporary:
        mx.nd.save(temporary, arrays)
        mx.nd.load(temporary)  # on a full disk `save` may leave out the end of the file, and not say so


def load(prefix, epoch):
    """Read a checkpoint: the symbol and two dicts name -> NDArray, arguments and auxiliary states.

    Raises UserError for a missing, truncated or foreign file.
    """
    for path in (symbol_path(prefix), params_path(prefix, epoch)):
        if not os.path.isfile(path):
            raise UserError(f"checkpoint file {path} does not exist; {_what_exists(prefix)}")
    symbol = _read(mx.sym.load, symbol_path(prefix))
    arrays = load_arrays(params_path(prefix, epoch))
    if not isinstance(arrays, dict) or not all(name.startswith(("arg:", "aux:")) for name in arrays):
        raise UserError(f"{params_path(prefix, epoch)} holds no named parameters: it is not an MXNet checkpoint")
    return symbol, named(arrays, "arg:"), named(arrays, "aux:")


def load_arrays(path):
    """Read what `save_arrays` wrote. Raises UserError for a truncated or foreign file."""
    return _read(mx.nd.load, path)


def named(arrays, start):
    """The entries of a dict whose names begin with `start`, without it."""
    return {name[len(start) :]: array for name, array in arrays.items() if name.startswith(start)}


def module_params(module):
    """Parameters of a bound Module, waiting for the batch norms' moving averages, which get_params alone does not."""
    mx.nd.waitall()
    return module.get_params()


def _flush(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(reader, path):
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
