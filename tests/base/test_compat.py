"""What loading MXNet sets, and that it leaves nothing behind in the environment."""

import os
import subprocess
import sys

CODE = "import os\nfrom insightface_mx.compat import mx\nprint(sorted(name for name in os.environ if 'OMP' in name))"


def load(**environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", CODE]
    return subprocess.run(
        command, env={**clean, "OMP_DISPLAY_ENV": "VERBOSE", **environment}, capture_output=True, text=True
    )


def test_threads_wait_only_a_moment():
    loaded = load()
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in loaded.stderr
    assert "GOMP_SPINCOUNT = '10000'" in loaded.stderr
    assert loaded.stdout == "['OMP_DISPLAY_ENV']\n"


def test_the_users_settings_are_kept():
    loaded = load(OMP_WAIT_POLICY="PASSIVE", OMP_NUM_THREADS="1")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in loaded.stderr
    assert "GOMP_SPINCOUNT = '0'" in loaded.stderr
    assert "OMP_NUM_THREADS = '1'" in loaded.stderr
