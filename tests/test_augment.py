import numpy as np

from insightface_mx import augment

SIZE = (8, 10)


def image(seed=0):
    return np.random.RandomState(seed).randint(0, 256, (*SIZE, 3)).astype(np.uint8)


def drawn(**values):
    draw = augment.draw(np.random.default_rng(0), 1, SIZE)[0]
    return draw._replace(**values)


def test_draws_follow_from_the_seed():
    first, again = (augment.draw(np.random.default_rng([7, 1]), 50, SIZE) for _ in range(2))
    assert all(np.array_equal(a, b) for one, two in zip(first, again) for a, b in zip(one, two))
    other = augment.draw(np.random.default_rng([7, 2]), 50, SIZE)
    assert [d.mirror for d in first] != [d.mirror for d in other]


def test_draw_ranges():
    draws = augment.draw(np.random.default_rng(1), 4000, SIZE)
    for name in ("mirror", "cut"):
        assert 0.46 < np.mean([getattr(d, name) for d in draws]) < 0.54
    qualities = [d.quality for d in draws if d.quality]
    assert 0.46 < len(qualities) / 4000 < 0.54
    assert (min(qualities), max(qualities)) == (2, 20)
    centers = np.array([d.cut_center for d in draws])
    assert centers.min(0).tolist() == [0, 0]
    assert centers.max(0).tolist() == [7, 9]
    factors = np.array([d.factors for d in draws])
    assert 0.875 <= factors.min() < 0.88
    assert 1.12 < factors.max() <= 1.125
    assert len({tuple(d.order) for d in draws}) == 6


def test_nothing_asked_nothing_done():
    assert np.array_equal(augment.apply(image(), drawn(mirror=True, cut=True, quality=5)), image())


def test_mirror():
    result = augment.apply(image(), drawn(mirror=True), rand_mirror=True)
    assert np.array_equal(result, image()[:, ::-1])
    assert np.array_equal(augment.apply(image(), drawn(mirror=False), rand_mirror=True), image())


def test_cut_off_is_a_square_clipped_to_the_image():
    before = image()
    result = augment.apply(before, drawn(cut=True, cut_center=np.array([1, 5])), cutoff=4)
    expected = image()
    expected[0:3, 3:7] = 128
    assert np.array_equal(result, expected)
    assert np.array_equal(before, image())


def test_color_formulas():
    pixels = image().astype(np.float64)
    luma = pixels @ [0.299, 0.587, 0.114]
    steps = {
        0: lambda x, f: x * f,
        1: lambda x, f: x * f + (1 - f) * (x @ [0.299, 0.587, 0.114]).mean(),
        2: lambda x, f: x * f + (1 - f) * (x @ [0.299, 0.587, 0.114])[..., None],
    }
    assert np.allclose(augment.contrast(image().astype(np.float32), 0.0), luma.mean(), atol=1e-3)
    assert np.allclose(augment.saturation(image().astype(np.float32), 0.0), luma[..., None], atol=1e-3)
    factors = np.float32([1.1, 0.9, 1.05])
    for order in ([0, 1, 2], [2, 0, 1]):
        expected = pixels
        for step in order:
            expected = steps[step](expected, factors[step])
        result = augment.apply(image(), drawn(factors=factors, order=np.array(order), quality=0), color=1)
        assert np.abs(result - expected).max() < 1e-3


def test_compression_only_with_color_2():
    neutral = {"factors": np.float32([1, 1, 1]), "quality": 3}
    assert np.abs(augment.apply(image(), drawn(**neutral), color=1) - image()).max() < 1e-3
    changed = np.abs(augment.apply(image(), drawn(**neutral), color=2) - image())
    assert changed.max() > 20
