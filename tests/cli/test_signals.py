"""Ctrl-C and SIGTERM: what a command says, how it ends, and what it leaves behind, at any moment."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from insightface_mx.cli import signals, start

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


def started(code: str, *argv: object) -> subprocess.Popen:
    """A process that runs `code` and has said 'ready'."""
    command = [sys.executable, "-c", code, *map(str, argv)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def end_of(process: subprocess.Popen) -> tuple[int, str, str]:
    """Its exit status, and what it has said since."""
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


COMMAND = """
import sys, time
from insightface_mx.cli import start
sys.path.insert(0, sys.argv[1])
start._start("command")
"""


@pytest.fixture
def command(tmp_path):
    """Starts the process of a command whose module has these lines."""

    def begin(lines: str) -> subprocess.Popen:
        (tmp_path / "command.py").write_text(lines)
        return started(COMMAND, tmp_path)

    return begin


READY = "print('ready', flush=True)"
MOMENTS = {
    "while its module is imported": f"import time\n{READY}\ntime.sleep(20)",
    "while it works": f"import time\ndef main():\n    {READY}\n    time.sleep(20)",
    "in the end of an object": (
        "import time\nclass Slow:\n    def __del__(self):\n"
        f"        {READY}\n        time.sleep(20)\ndef main():\n    Slow()\n    time.sleep(20)"
    ),
    "where a package catches all": (
        f"import time\ndef main():\n    {READY}\n    try:\n        time.sleep(20)\n    except BaseException:\n"
        "        pass\n    time.sleep(20)"
    ),
    "where an error follows": (
        f"import time\ndef main():\n    {READY}\n    try:\n        time.sleep(20)\n    except KeyboardInterrupt:\n"
        "        raise RuntimeError('lost')"
    ),
    "where C code prints it and raises another": (
        "import sys, time\nfrom insightface_mx.cli.main import make_parser, run_command\n"
        f"def work(args):\n    {READY}\n    try:\n        time.sleep(20)\n    except KeyboardInterrupt:\n"
        "        sys.excepthook(*sys.exc_info())\n        raise ImportError('numpy failed to import') from None\n"
        "def main():\n    run_command(work, make_parser('it', 'command'), [])"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("number", signals.SIGNALS)
def test_before_the_imports_of_the_watch(tmp_path, number):
    """Nothing is said yet, least of all a traceback."""
    room = tmp_path / "insightface_mx" / "cli"
    room.mkdir(parents=True)
    (tmp_path / "insightface_mx" / "__init__.py").touch()
    (room / "__init__.py").touch()
    (room / "signals.py").write_text(f"import time\n{READY}\ntime.sleep(20)")
    shutil.copy(start.__file__, room)
    process = started(
        "import sys\nsys.path.insert(0, sys.argv[1])\nfrom insightface_mx.cli import start\nstart.verify()", tmp_path
    )
    process.send_signal(number)
    assert end_of(process) == (128 + number, "", "")


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("number", signals.SIGNALS)
def test_one_line_and_the_status_of_a_shell(command, number, moment):
    process = command(MOMENTS[moment])
    process.send_signal(number)
    line = f"stopped by {NAMES[number]}; no file is left half written\n"
    assert end_of(process) == (128 + number, "", line)


@pytest.mark.slow
def test_a_command_that_does_not_end_is_ended(command):
    process = command(
        f"import time\ndef main():\n    {READY}\n    while True:\n        try:\n            time.sleep(20)\n"
        "        except BaseException: pass"
    )
    time.sleep(1)  # until it is inside the block that catches all
    process.send_signal(signal.SIGTERM)
    assert end_of(process) == (143, "", "stopped by SIGTERM, in the midst of its work\n")


@pytest.mark.slow
def test_a_second_signal_does_not_wait_for_c(command):
    """A call that does not come back to Python, as a batch of MXNet's that takes minutes."""
    process = command(
        f"import hashlib\ndef main():\n    {READY}\n    hashlib.pbkdf2_hmac('sha256', b'', b'', 200_000_000)"
    )
    time.sleep(2)  # until it is inside
    process.send_signal(signal.SIGINT)
    time.sleep(0.6)
    process.send_signal(signal.SIGINT)
    assert end_of(process) == (130, "", "stopped by a second Ctrl-C\n")


@pytest.mark.slow
def test_nothing_is_said_of_a_signal_after_the_end(command):
    process = command(
        f"import atexit, time\ndef main():\n    atexit.register(wait)\ndef wait():\n    {READY}\n    time.sleep(20)"
    )
    process.send_signal(signal.SIGINT)
    assert end_of(process) == (130, "", "")


@pytest.mark.slow
def test_an_ignored_signal_stays_ignored(tmp_path):
    code = f"import time\nfrom insightface_mx.cli.signals import Watch\nwith Watch():\n    {READY}\n    time.sleep(1)\n"
    ignoring = f"import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n{code}"
    process = started(ignoring)
    process.send_signal(signal.SIGINT)
    assert end_of(process) == (0, "", "")


SAVE = """
import ctypes, time
from insightface_mx.cli.signals import SaveFirst
with SaveFirst() as interruption:
    print("ready", flush=True)
    while not interruption.signal:
        time.sleep(0.05)
    time.sleep({batch})
    with interruption.saving():
        print("saving", flush=True)
        time.sleep({save})
        print("saved", flush=True)
"""


@pytest.mark.slow
def test_training_says_at_once_that_it_saves_then_saves():
    process = started(SAVE.format(batch=1, save=0))
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)  # the same one, as from `timeout`, which signals a process and its group
    began = time.monotonic()
    assert process.stderr.readline() == "Ctrl-C: saving after this batch; once more to give up\n"
    assert time.monotonic() - began < 0.8  # not after the batch
    assert end_of(process) == (0, "saving\nsaved\n", "")


@pytest.mark.slow
def test_a_second_signal_before_the_save_gives_up():
    process = started(SAVE.format(batch=20, save=0))
    process.send_signal(signal.SIGTERM)
    process.stderr.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    line = "given up by a second Ctrl-C: what was saved before is untouched\n"
    assert end_of(process) == (130, "", line)


@pytest.mark.slow
def test_a_second_signal_during_the_save_waits_and_a_third_does_not():
    for number_of_signals, out, status in ((2, "saved\n", 0), (3, "", 130)):
        process = started(SAVE.format(batch=0, save=2))
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "saving\n"
        for _ in range(number_of_signals - 1):
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
        ended, said, err = end_of(process)
        assert (ended, said) == (status, out)
        assert err.splitlines()[1] == "saving, please wait; once more to give up what this save would hold"


def test_in_another_thread_nothing_is_changed():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def use() -> None:
        with signals.Watch(), signals.held_back():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert seen == [before]


def test_all_is_as_before_behind_the_block():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook
    with pytest.raises(KeyboardInterrupt), signals.Watch() as watch:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert watch.signal is signal.SIGTERM
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook) == before


def test_held_back_signals_come_after_the_block():
    came = []
    with pytest.raises(KeyboardInterrupt), signals.Watch():
        with signals.held_back():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)  # longer than what counts as the same signal
            came.append("behind the signal")
        time.sleep(5)
    assert came == ["behind the signal"]
