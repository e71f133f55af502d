"""Batch norms folded into the layers next to them, against MXNet."""

import numpy as np
import pytest
from onnx_networks import conv, data, dense, exported, inner, norm, prelu

from insightface_mx.base.compat import mx
from insightface_mx.conversion.fold_norms import change_epsilon


def used_twice(body):
    return dense(mx.sym.Concat(body, body * 2))


def summed_with_its_norm(body):
    return mx.sym.elemwise_add(norm(body), body)


FOLDED = {  # a symbol, and the number of its norms that stay
    "after a convolution": (norm(conv(data, num_group=3)), 0),
    "after a padded one without bias": (norm(conv(data, no_bias=True, pad=(1, 1))), 0),
    "two after another": (norm(norm(conv(data)), "second"), 0),
    "before a convolution": (conv(norm(inner), num_group=3), 0),
    "before a padded one": (conv(norm(inner), pad=(1, 1)), 1),
    "around a dense layer": (norm(dense(mx.sym.Dropout(norm(inner))), "last"), 0),
    "before an activation": (dense(prelu(norm(inner))), 1),
    "used twice": (used_twice(norm(conv(data))), 0),
    "whose input is used twice": (summed_with_its_norm(conv(data)), 1),
}


@pytest.mark.parametrize("name", FOLDED)
def test_norms_go_where_a_layer_can_do_their_work(name, tmp_path):
    symbol, staying = FOLDED[name]
    plain, operators = exported(symbol, tmp_path / "plain.onnx")
    difference, folded = exported(symbol, tmp_path / "folded.onnx", fold=True)
    assert max(plain, difference) < 1e-5
    assert folded.count("BatchNormalization") == staying < operators.count("BatchNormalization") + (staying > 0)


@pytest.mark.parametrize("fixed", [False, True])
def test_a_norm_of_another_epsilon_computes_the_same(fixed):
    gamma, variance, values = np.array([0.5, -2.0]), np.array([0.0, 0.3]), np.array([0.7, 0.1])
    new_gamma, new_variance = change_epsilon(gamma, variance, 1e-5, 2e-5, fixed)
    before, after = gamma * values / np.sqrt(variance + 1e-5), new_gamma * values / np.sqrt(new_variance + 2e-5)
    np.testing.assert_allclose(after, before, rtol=1e-12)
    assert np.array_equal(new_gamma, gamma) == fixed
