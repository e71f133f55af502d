"""Worker processes: a killed one is reported, and none survives its parent."""

import os
import signal
import subprocess
import sys
import time

import pytest

from insightface_mx.base.errors import UserError
from insightface_mx.photos import workers


def test_a_killed_worker_is_told(tmp_path):
    with pytest.raises(UserError, match="a worker process was killed"):
        list(workers.unordered(os._exit, [(1,)] * 2, 2))


def test_no_worker_survives_its_parent(tmp_path):
    code = (
        "import os, time\nfrom insightface_mx.photos import workers\n"
        "def task(): print(os.getpid(), flush=True); time.sleep(100)\n"
        "if __name__ == '__main__': list(workers.unordered(task, [()] * 2, 2))\n"
    )
    (tmp_path / "parent.py").write_text(code)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py")], stdout=subprocess.PIPE, text=True)
    children = [int(parent.stdout.readline()) for _ in range(2)]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    for _ in range(100):
        if not any(map(alive, children)):
            return
        time.sleep(0.1)
    raise AssertionError(f"{children} still run")


def alive(process):
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
