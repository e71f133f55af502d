"""get_contexts understands every text of a device option, and does not change MXNet's threads."""

import logging
import subprocess
import sys

import pytest

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.engine import devices
from insightface_mx.engine.cpu_rewrite import OnceLog


@pytest.fixture
def gpus(monkeypatch):
    """Return a function that sets the number of GPUs that MXNet seems to see, and what CUDA_VISIBLE_DEVICES says."""

    def see(count, visible=None):
        monkeypatch.setattr(mx.context, "num_gpus", lambda: count)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return see


@pytest.mark.parametrize(
    ("device", "present", "visible", "expected"),
    [
        ("cpu", 0, None, "cpu(0)"),
        ("cpu:3", 0, None, "cpu(0) cpu(1) cpu(2)"),
        ("gpu:1", 2, None, "gpu(1)"),
        ("gpu:0,1", 2, None, "gpu(0) gpu(1)"),
        ("gpu-or-cpu:1", 2, None, "gpu(1)"),
        ("gpu-or-cpu:1", 1, None, "cpu(0)"),
        ("gpu-or-cpu:0", 0, None, "cpu(0)"),
        ("", 2, None, "cpu(0)"),
        ("", 2, "", "cpu(0)"),
        ("", 2, "-1", "cpu(0)"),
        ("", 2, "5,7", "gpu(0) gpu(1)"),
    ],
)
def test_devices(gpus, device, present, visible, expected):
    gpus(present, visible)
    assert " ".join(map(str, devices.get_contexts(device))) == expected


@pytest.mark.parametrize(
    "device", ["tpu", "cpu:0", "cpu:two", "gpu", "gpu:", "gpu:a", "gpu:0,", "gpu-or-cpu", "gpu-or-cpu:0,1"]
)
def test_texts_that_are_not_known(gpus, device):
    gpus(4)
    with pytest.raises(UserError, match=f"^device {device} is not known; device: cpu, cpu:N for N CPU contexts, gpu:"):
        devices.get_contexts(device)


@pytest.mark.parametrize(
    ("device", "visible", "message"),
    [
        ("gpu:0,1", None, "device gpu:0,1: MXNet sees 1 GPUs; use --ctx cpu"),
        ("", "0,1", "CUDA_VISIBLE_DEVICES=0,1: MXNet sees 1 GPUs; use --ctx cpu"),
    ],
)
def test_gpus_that_are_missing(gpus, device, visible, message):
    gpus(1, visible)
    with pytest.raises(UserError) as error:
        devices.get_contexts(device)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("device", "lines"),
    [
        ("cpu", []),
        ("", ["no GPU asked for: on the CPU"]),
        ("gpu-or-cpu:2", ["no GPU 2: on the CPU"]),
    ],
)
def test_what_is_logged_for_the_cpu(gpus, caplog, monkeypatch, device, lines):
    gpus(0)
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(devices, "once_log", OnceLog())
    for _ in range(2):
        devices.get_contexts(device)
    assert caplog.messages == lines


CHOOSE_THEN_FLUSH = """
from insightface_mx.base.compat import mx
from insightface_mx.engine import denormals, devices

contexts = devices.get_contexts("cpu:2")
if {flush}:
    denormals.flush_in_threads(contexts)
print([bool((mx.nd.full((1 << 16,), 1e-30, ctx=context) * 1e-10).asnumpy().any()) for context in contexts])
"""


@pytest.mark.slow
@pytest.mark.skipif((sys.platform, mx.runtime.Features().is_enabled("CPU_SSE")) != ("linux", True), reason="not x86-64")
@pytest.mark.parametrize(("flush", "denormals_left"), [(False, [True, True]), (True, [False, False])])
def test_choosing_contexts_leaves_the_threads_as_they_are(flush, denormals_left):
    code = CHOOSE_THEN_FLUSH.format(flush=flush)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{denormals_left}\n"
