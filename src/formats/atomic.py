"""Write files completely or not at all, and report errors of writing."""

from __future__ import annotations

import contextlib
import os
from typing import Iterator

from insightface_mx.base.errors import UserError


@contextlib.contextmanager
def atomic_path(path: str) -> Iterator[str]:
    """Give a temporary path next to `path`; when the block ends without an error, flush the file and rename it.

    Args:
        path: The file to write. A reader sees the old file or the complete new one, also after a crash.

    Raises:
        OSError: The file cannot be flushed or renamed.
    """
    temporary = f"{path}.tmp{os.getpid()}"
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
        _flush(os.path.dirname(path) or ".")  # without this a crash may lose the new name
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def _flush(path: str) -> None:
    """Wait until a file or a folder is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def report_write_errors(path: str) -> Iterator[None]:
    """Make the folder of `path`, and turn an OSError of the block into a UserError that names `path`."""
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        yield
    except OSError as error:
        raise UserError(
            f"cannot save {path}: {error.strerror or error}; what was saved before is untouched. Is the disk full?"
        ) from error


def save_text(path: str, text: str) -> None:
    """Write a text file, completely or not at all."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
