"""How networks are compared, and the images on which they are."""

import cv2
import numpy as np
import pytest

from insightface_mx.conversion import proof
from insightface_mx.formats.verification_set import write_bin


@pytest.mark.parametrize(
    ("relative", "cosine", "small"),
    [(1e-4, 0.99999, True), (1.01e-4, 1, False), (0, 0.999989, False), (np.nan, 1, False), (0, np.nan, False)],
)
def test_what_counts_as_a_small_difference(relative, cosine, small):
    assert proof.Difference(relative, cosine).is_small == small


def test_the_difference_is_that_of_the_worst_output_and_image():
    one = [np.array([[3.0, 4.0], [0.0, 10.0]]), np.array([[1.0]])]
    other = [np.array([[4.0, 3.0], [0.0, 10.0]]), np.array([[1.5]])]
    assert proof.compare(one, other) == pytest.approx((0.5, 0.96))


def test_real_images_are_compared_on_too(tmp_path):
    image = np.full((120, 112, 3), (200, 100, 50), np.uint8)
    encoded = cv2.imencode(".png", image)[1].tobytes()
    (tmp_path / "faces").mkdir()
    for i in range(4):
        (tmp_path / "faces" / f"{i}.png").write_bytes(encoded)
    (tmp_path / "faces" / "notes.txt").write_text("no image")
    others = [cv2.imencode(".png", image + np.uint8(i))[1].tobytes() for i in range(40)]
    write_bin(str(tmp_path / "set.bin"), others, [True] * 20)
    made = proof.make_images((112, 112))
    folder, verification = (proof.make_images((112, 112), str(tmp_path / name)) for name in ("faces", "set.bin"))
    assert [len(images) for images in (made, folder, verification)] == [6, 9, 36]
    assert folder[8, :, 0, 0].tolist() == [50, 100, 200]
    assert np.array_equal(folder[:6], made)
    assert made.min() >= 0
    assert made.max() == 255
