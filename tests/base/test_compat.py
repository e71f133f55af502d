"""MXNet is loaded only when `mx` is asked for, with settings that leave nothing behind in the environment."""

import os
import subprocess
import sys

import pytest

CODE = """
import os
from insightface_mx.base.compat import mx

print(sorted(name for name in os.environ if "OMP" in name))
"""


def load(**environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", CODE]
    return subprocess.run(
        command, env={**clean, "OMP_DISPLAY_ENV": "VERBOSE", **environment}, capture_output=True, text=True
    )


@pytest.mark.slow
def test_threads_wait_only_a_moment():
    loaded = load()
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in loaded.stderr
    assert "GOMP_SPINCOUNT = '10000'" in loaded.stderr
    assert loaded.stdout == "['OMP_DISPLAY_ENV']\n"


@pytest.mark.slow
def test_the_users_settings_are_kept():
    loaded = load(OMP_WAIT_POLICY="PASSIVE", OMP_NUM_THREADS="1")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in loaded.stderr
    assert "GOMP_SPINCOUNT = '0'" in loaded.stderr
    assert "OMP_NUM_THREADS = '1'" in loaded.stderr


IMPORT_A_ROOM = """
import importlib
import pkgutil
import sys

room = importlib.import_module("insightface_mx.{room}")
names = [module.name for module in pkgutil.iter_modules(room.__path__, room.__name__ + ".")]
loading = []
for name in names:
    before = "mxnet" in sys.modules
    importlib.import_module(name)
    if "mxnet" in sys.modules and not before:
        loading.append(name)
print(len(names), *loading)
"""


@pytest.mark.slow
@pytest.mark.parametrize("room", ["base", "cli", "files", "formats", "photos"])
def test_rooms_that_do_not_load_mxnet(room):
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_A_ROOM.format(room=room)], capture_output=True, text=True, check=True
    )
    count, *loading = done.stdout.split()
    assert loading == []
    folder = os.path.join(os.path.dirname(__file__), "..", "..", "src", room)
    modules = [name for name in os.listdir(folder) if name.endswith(".py") and name != "__init__.py"]
    assert int(count) == len(modules) > 1
