"""Files that are written whole or not at all, and the errors of those that cannot be written."""

import contextlib
import os
import re

from insightface_mx.base.errors import UserError


def find_numbers(prefix, pattern):
    """The number in every file name that is the prefix followed by `pattern`, which has one group; in rising order."""
    folder, name = os.path.split(prefix)
    pattern = re.compile(re.escape(name) + pattern)
    try:
        matches = [pattern.fullmatch(entry) for entry in os.listdir(folder or ".")]
    except OSError as error:
        raise UserError(f"cannot look for checkpoints of {prefix}: {error.strerror}") from error
    return sorted(int(match.group(1)) for match in matches if match)


@contextlib.contextmanager
def atomic_path(path):
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
def report_write_errors(path):
    """Make a folder for `path`, and turn a failure to write there into a UserError."""
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        yield
    except OSError as error:
        raise UserError(
            f"cannot save {path}: {error.strerror or error}; what was saved before is untouched. Is the disk full?"
        ) from error


def save_text(path, text):
    """Write a text file, whole or not at all."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(text)


def _flush(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
