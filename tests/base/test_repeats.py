"""Equal contents are found, whatever holds them."""

import numpy as np

from insightface_mx.base.repeats import first_places


def test_bytes_and_arrays():
    assert first_places([b"a", b"b", b"a", b"", b"b", b""]).tolist() == [0, 1, 0, 3, 1, 3]
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)[[0, 1, 1, 0]]
    assert first_places(images).tolist() == [0, 1, 1, 0]
    assert first_places(images[..., ::-1]).tolist() == [0, 1, 1, 0]
    nothing = first_places([])
    assert nothing.tolist() == [] and nothing.dtype == np.int64
