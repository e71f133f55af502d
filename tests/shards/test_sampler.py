"""Sampled classes: which ones, how many, the same for any number of shards; what is not sampled stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
from shard_models import (
    BATCH,
    CLASSES,
    SEED,
    TWO,
    assert_close,
    assert_equal_training,
    batches,
    rows_of,
    sharded,
    train,
)

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.engine.module_state import attach_optimizer
from insightface_mx.engine.optimizer import SGD
from insightface_mx.options import LossOptions
from insightface_mx.shards.plan import blocks_of, check_count, place_blocks
from insightface_mx.shards.sampler import sample


@pytest.mark.parametrize(
    "own, ratio, count", [([], 0.1, 10), ([3], 0.1, 10), ([0, 5, 99], 0.015, 3), ([*range(30)], 0.1, 30), ([7], 1, 100)]
)
def test_own_classes_are_always_among_the_sample(own, ratio, count):
    chosen = sample(np.array(own, np.int64), 100, ratio, (1, 2, 3))
    assert len(chosen) == count
    assert set(own) <= set(chosen.tolist())
    assert (np.diff(chosen) > 0).all()
    assert chosen.min() >= 0 and chosen.max() < 100


def test_a_sample_follows_from_seed_batch_and_block():
    own = np.array([4])
    first = sample(own, 1000, 0.1, (1, 2, 3))
    assert np.array_equal(first, sample(own, 1000, 0.1, (1, 2, 3)))
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not np.array_equal(first, sample(own, 1000, 0.1, other))


def test_all_classes_are_drawn_equally_often():
    counts = np.bincount(
        np.concatenate([sample(np.array([], np.int64), 50, 0.2, (1, step, 0)) for step in range(2000)])
    )
    assert np.abs(counts - 400).max() < 5 * np.sqrt(400 * 0.8)


@pytest.mark.parametrize(
    "classes, blocks, size", [(4, 4, 1), (1001, 32, 32), (131_072, 32, 4096), (1_000_000, 245, 4096)]
)
def test_blocks_do_not_depend_on_shards(classes, blocks, size):
    ranges = blocks_of(classes)
    assert (len(ranges), len(ranges[0])) == (blocks, size)
    assert [number for block in ranges for number in (block.start, block.stop)][1:-1:2] == [b.start for b in ranges[1:]]
    assert ranges[-1].stop == classes


def test_shards_are_runs_of_blocks_dealt_out_to_the_contexts():
    placed = place_blocks(1001, 4, ["a", "b"])
    assert placed == ["a"] * 8 + ["b"] * 8 + ["a"] * 8 + ["b"] * 8
    with pytest.raises(UserError, match="--fc7-shards 33: 1001 classes can be cut into 32 shards at most"):
        check_count(33, 1001)


@pytest.mark.slow
@pytest.mark.parametrize("loss_type", [0, 4, 7])
def test_a_sample_is_the_same_for_any_number_of_shards(loss_type):
    options = LossOptions(loss_type=loss_type, margin_b=2.0)
    one = train(sharded(options, TWO, 1, sample_ratio=0.1), TWO, options)
    for count in (2, 4):
        assert_equal_training(train(sharded(options, TWO, count, sample_ratio=0.1), TWO, options), one)
    full = train(sharded(options, TWO, 1), TWO, options)
    assert (np.array(full[0]) > np.array(one[0])).all()  # more classes to be told apart


@pytest.mark.slow
def test_classes_that_are_not_sampled_keep_weights_and_momentum_bit_for_bit():
    model = sharded(LossOptions(), TWO, 2, sample_ratio=0.1)
    mx.random.seed(7)
    model.init_params(mx.init.Xavier(magnitude=2))
    attach_optimizer(model, SGD(learning_rate=0.1, momentum=0.9, wd=5e-4, rescale_grad=0.5))
    touched = np.zeros(CLASSES, bool)
    before = None
    for step, batch in enumerate(batches(), 1):
        model.head.step = step
        model.forward_backward(batch)
        own = batch.label[0].asnumpy().astype(int)
        chosen = np.zeros(CLASSES, bool)
        for index, block in enumerate(blocks_of(CLASSES)):
            places = np.unique(own[own // 32 == index] % 32)
            chosen[block.start + sample(places, len(block), 0.1, (SEED, step, index))] = True
        assert chosen[own].all()
        model.update()
        after = [rows_of(rows["fc7_weight"]) for rows in (model.head.params(), model.head.momenta())]
        if before:
            for kind in range(2):
                changed = (after[kind] != before[kind]).any(axis=1)
                assert np.array_equal(changed, chosen)
        before, touched = after, touched | chosen
    assert 0.1 < touched.mean() < 0.5
    assert not before[1][~touched].any()


@pytest.mark.slow
def test_a_step_is_that_of_the_sampled_classes_alone():
    """With all other class weights cut out, the dense formulas give the same loss and gradients."""
    options = LossOptions()
    model = sharded(options, TWO[:1], 2, sample_ratio=0.1)
    model.init_params(mx.init.Xavier(magnitude=2))
    batch = next(batches())
    model.head.step = 1
    model.forward_backward(batch)
    own = batch.label[0].asnumpy().astype(int)
    chosen = np.concatenate(
        [
            block.start + sample(np.unique(own[own // 32 == index] % 32), len(block), 0.1, (SEED, 1, index))
            for index, block in enumerate(blocks_of(CLASSES))
        ]
    )
    weight = rows_of(model.head.params()["fc7_weight"])[chosen].astype(np.float64)
    x = model.get_outputs()[0].asnumpy().astype(np.float64)
    cos = (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (weight / np.linalg.norm(weight, axis=1, keepdims=True)).T
    rows, places = np.arange(BATCH), np.searchsorted(chosen, own)
    cos[rows, places] = np.cos(np.arccos(cos[rows, places]) + 0.5)
    logits = 64 * cos
    loss = (
        np.log(np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1))
        + logits.max(axis=1)
        - logits[rows, places]
    )
    assert_close(model.get_outputs()[2].asnumpy(), loss, 1e-5)
