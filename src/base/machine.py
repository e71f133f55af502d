"""What this process has of the machine: CPUs, and memory as Linux reports it in /proc."""

from __future__ import annotations

import os
import re
from pathlib import Path


def cpu_count() -> int:
    """Return the number of CPUs that this process may use (its affinity mask, not the machine's count)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resident_bytes() -> int:
    """Return the bytes of memory that this process occupies now."""
    return _status_bytes("VmRSS")


def peak_bytes() -> int:
    """Return the largest number of bytes of memory that this process has occupied so far."""
    return _status_bytes("VmHWM")


def _status_bytes(name: str) -> int:
    """Read a size from /proc/self/status, where it is in kB."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    if found is None:
        raise OSError(f"/proc/self/status has no {name}")
    return int(found.group(1)) << 10
