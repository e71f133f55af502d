from itertools import permutations

import numpy as np
import pytest

from insightface_mx import augment

SIZE = (8, 10)


def image(seed=0):
    return np.random.RandomState(seed).randint(0, 256, (*SIZE, 3)).astype(np.uint8)


def params(**values):
    """Random parameters of an image, some of them replaced."""
    return augment.sample(np.random.default_rng(0), 1, SIZE)[0]._replace(**values)


def written(image, params, **options):
    """Augment an image, and return the result as height x width x 3."""
    out = np.empty((3, *SIZE), np.float32)
    augment.Augmenter(SIZE, **options).write(image, params, out)
    return out.transpose(1, 2, 0)


def test_parameters_follow_from_the_seed():
    first, again = (augment.sample(np.random.default_rng([7, 1]), 50, SIZE) for _ in range(2))
    assert len(first) == len(again) == 50
    assert all(np.array_equal(a, b) for one, two in zip(first, again) for a, b in zip(one, two))
    other = augment.sample(np.random.default_rng([7, 2]), 50, SIZE)
    assert [p.mirror for p in first] != [p.mirror for p in other]


def test_parameter_ranges():
    sampled = augment.sample(np.random.default_rng(1), 4000, SIZE)
    for name in ("mirror", "cut"):
        assert 0.46 < np.mean([getattr(p, name) for p in sampled]) < 0.54
    qualities = [p.quality for p in sampled if p.quality]
    assert 0.46 < len(qualities) / 4000 < 0.54
    assert (min(qualities), max(qualities)) == (2, 20)
    centers = np.array([p.cut_center for p in sampled])
    assert centers.min(0).tolist() == [0, 0]
    assert centers.max(0).tolist() == [7, 9]
    factors = np.array([p.factors for p in sampled])
    assert 0.875 <= factors.min() < 0.88
    assert 1.12 < factors.max() <= 1.125


def test_nothing_asked_nothing_done():
    assert np.array_equal(written(image(), params(mirror=True, cut=True, quality=5)), image())
    everything = {"rand_mirror": True, "cutoff": 4, "color": 2}
    assert np.array_equal(written(image(), None, **everything), image())


@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64])
def test_mirror(kind):
    before = image().astype(kind)
    assert np.array_equal(written(before, params(mirror=True), rand_mirror=True), image()[:, ::-1])
    assert np.array_equal(written(before, params(mirror=False), rand_mirror=True), image())
    assert np.array_equal(before, image())


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.int32, np.int16])
@pytest.mark.parametrize("color", [1, 2])
def test_colors_of_images_of_other_types(kind, color):
    change = params(factors=np.array([1.1, 0.9, 1.05]), quality=10)
    expected = written(image(), change, color=color)
    assert np.abs(written(image().astype(kind), change, color=color) - expected).max() < 1e-3


def test_memory_holds_nothing_of_the_image_before():
    augmenter, out = augment.Augmenter(SIZE, rand_mirror=True, color=1, cutoff=4), np.empty((2, 3, *SIZE), np.float32)
    for seed in range(2):
        augmenter.write(image(seed), params(mirror=True, cut=False), out[seed])
    for seed in range(2):
        assert np.array_equal(
            out[seed].transpose(1, 2, 0),
            written(image(seed), params(mirror=True, cut=False), rand_mirror=True, color=1, cutoff=4),
        )


def test_image_of_another_size():
    with pytest.raises(ValueError, match=r"\(8, 9, 3\) where \(8, 10, 3\)"):
        written(image()[:, 1:], params())


def test_cut_off_is_a_square_clipped_to_the_image():
    before = image()
    result = written(before, params(cut=True, cut_center=np.array([1, 5])), cutoff=4)
    expected = image()
    expected[0:3, 3:7] = 128
    assert np.array_equal(result, expected)
    assert np.array_equal(before, image())


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_color_formulas_in_any_order(order):
    luma = [0.299, 0.587, 0.114]
    steps = (
        lambda x, f: x * f,
        lambda x, f: x * f + (1 - f) * (x @ luma).mean(),
        lambda x, f: x * f + (1 - f) * (x @ luma)[..., None],
    )
    factors = [1.1, 0.9, 1.05]
    expected = image().astype(np.float64)
    for step in order:
        expected = steps[step](expected, factors[step])
    result = written(image(), params(factors=np.array(factors), quality=0), color=1)
    assert np.abs(result - expected).max() < 1e-3


def test_extreme_factors():
    luma = image() @ [0.299, 0.587, 0.114]
    assert np.allclose(written(image(), params(factors=[1, 0, 1]), color=1), luma.mean(), atol=1e-3)
    assert np.allclose(written(image(), params(factors=[1, 1, 0]), color=1), luma[..., None], atol=1e-3)
    assert np.allclose(written(image(), params(factors=[0.5, 1, 1]), color=1), image() / 2, atol=1e-3)


def test_compression_only_with_color_2():
    neutral = {"factors": np.float32([1, 1, 1]), "quality": 3}
    assert np.abs(written(image(), params(**neutral), color=1) - image()).max() < 1e-3
    changed = np.abs(written(image(), params(**neutral), color=2) - image())
    assert changed.max() > 20
