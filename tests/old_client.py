"""Clients on PyPI that no one here wrote, by themselves: without what else their packages need."""

import subprocess
import sys


def install(requirement, folder):
    """Put a package from PyPI into a folder."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
