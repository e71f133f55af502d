"""Clients from PyPI that others wrote, without the packages that they depend on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def install(requirement: str, folder: Path) -> None:
    """Install a package from PyPI into a folder, without its dependencies."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
