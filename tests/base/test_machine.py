"""Memory of this process."""

from __future__ import annotations

import numpy as np

from insightface_mx.base.machine import peak_bytes, resident_bytes

MIB = 2**20


def test_resident_memory_grows_with_an_array_and_the_peak_remembers_it():
    before = resident_bytes()
    array = np.ones(200 * MIB, np.uint8)
    during = resident_bytes()
    assert 150 * MIB < during - before < 250 * MIB
    del array
    assert resident_bytes() < during - 100 * MIB
    assert peak_bytes() >= during - MIB  # the kernel counts in batches of pages
