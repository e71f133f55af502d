"""Class weights in shards against the graph with one dense head: loss, gradients and weights after several steps."""

from __future__ import annotations

import pytest
from shard_models import TWO, assert_equal_training, dense, sharded, train

from insightface_mx.options import LossOptions

LOSSES = {
    "softmax": LossOptions(loss_type=0),
    "softmax without bias": LossOptions(loss_type=0, fc7_no_bias=True),
    "SphereFace": LossOptions(loss_type=1, beta=7.0, beta_min=5.0),
    "CosFace": LossOptions(loss_type=2, margin_m=0.35),
    "ArcFace": LossOptions(),
    "easy margin": LossOptions(easy_margin=1),
    "combined": LossOptions(loss_type=5, margin_a=0.9, margin_m=0.4, margin_b=0.15),
    "intra": LossOptions(loss_type=6, margin_b=2.0),
    "inter": LossOptions(loss_type=7, margin_b=20.0),
    "multipliers": LossOptions(fc7_wd_mult=10.0, fc7_lr_mult=0.5),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_shards_train_as_the_dense_head(name):
    options = LOSSES[name]
    expected = train(dense(options, TWO), TWO, options)
    for count in (1, 2, 4):
        assert_equal_training(train(sharded(options, TWO, count), TWO, options), expected)


def test_shards_on_one_context_train_as_the_dense_head():
    options, one = LossOptions(), TWO[:1]
    expected = train(dense(options, one), one, options)
    assert_equal_training(train(sharded(options, one, 2), one, options), expected)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"clip_gradient": 1e-3}, {"momentum": 0.0}], ids=["clip", "no momentum"])
@pytest.mark.parametrize("name", ["ArcFace", "softmax"])
def test_settings_of_the_optimizer_act_as_on_the_dense_head(name, settings):
    options = LOSSES[name]
    expected = train(dense(options, TWO), TWO, options, **settings)
    assert_equal_training(train(sharded(options, TWO, 2), TWO, options, **settings), expected)


@pytest.mark.parametrize("frozen", [["fc7_weight", "fc7_bias"], ["fc1_weight"], ["fc7_bias"]])
def test_frozen_parameters_stay(frozen):
    options = LOSSES["softmax"]
    expected = train(dense(options, TWO, frozen), TWO, options)
    assert_equal_training(train(sharded(options, TWO, 2, frozen), TWO, options), expected)
