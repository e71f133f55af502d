"""Start each command: what pyproject.toml installs, and what a command's file calls first when it is run as a script.

This module imports little. From its first line on, Ctrl-C and SIGTERM end a command with one line, also while the
command's own modules are imported.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
from typing import Callable, NoReturn


def _start(module: str) -> NoReturn:
    """Import a command's module, run its main(), and end the process."""
    status: int | str = 0
    for number in (signal.SIGINT, signal.SIGTERM):  # until the Watch takes over
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: os._exit(128 + number))
    from insightface_mx.cli import signals, streams

    streams.open_missing()
    watch = signals.Watch().__enter__()  # to the end of the process
    try:
        try:
            importlib.import_module(module).main()
        except SystemExit as end:
            status = end.code or 0
        finally:
            watch.let_go()
    except BaseException as error:
        if watch.signal is None:
            raise
        # what else was raised follows from the signal
        interrupt = error if isinstance(error, KeyboardInterrupt) else signals.Interrupted(watch.signal)
        line, status = signals.stop_line(interrupt)
        streams.write_error(line)
    sys.exit(streams.flush(status) if isinstance(status, int) else status)


def _command(module: str) -> Callable[[], NoReturn]:
    return functools.partial(_start, f"insightface_mx.{module}")


train = _command("train_softmax")
train_triplet = _command("train_triplet")
verify = _command("eval.verification")
ijb = _command("eval.template_sets.ijb")
identify = _command("eval.searches.identify")
build_set = _command("datasets.build")
make_pairs = _command("datasets.pairs")
check_set = _command("datasets.check")
set_info = _command("datasets.info")
unpack_set = _command("datasets.unpack")
edit_set = _command("datasets.edit")
demo_set = _command("datasets.orl")
demo = _command("datasets.demo")
networks = _command("symbols.table")
compare = _command("deploy.compare")
embed = _command("deploy.embed")
quantize = _command("deploy.quantize")
slim = _command("deploy.model_slim")
benchmark = _command("deploy.benchmark")
export_onnx = _command("deploy.export_onnx")
import_onnx = _command("deploy.import_onnx")
