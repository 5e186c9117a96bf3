"""Linear probes: scikit-learn's fit is the one that L-BFGS on the same objective finds."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lhrs.models.logistic_regression import DECAYS, fit, fit_logistic_regression


def minimize(x, targets, num_classes, decay, weights=None):
    """Mean cross-entropy and decay, to the end."""
    x, targets = torch.from_numpy(x).double(), torch.from_numpy(targets)
    weights = torch.ones(len(x)) if weights is None else torch.from_numpy(weights)
    layer = nn.Linear(x.shape[1], num_classes).double()
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.LBFGS(
        layer.parameters(), max_iter=2000, line_search_fn="strong_wolfe", tolerance_grad=1e-9, tolerance_change=1e-14
    )

    def closure():
        optimizer.zero_grad()
        loss = (F.cross_entropy(layer(x), targets, reduction="none") * weights).sum() / weights.sum()
        loss = loss + decay * layer.weight.square().sum() / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


def clusters(rng, count, num_classes, width=6):
    targets = rng.permutation(np.arange(count) % num_classes)
    return (rng.normal(0, 1, (num_classes, width))[targets] + rng.normal(0, 1, (count, width))), targets


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 99), num_classes=st.integers(2, 5), decay=st.sampled_from((1e-3, 1e-2)), weighted=st.booleans()
)
def test_the_fit_is_that_of_the_stated_objective(seed, num_classes, decay, weighted):
    rng = np.random.default_rng(seed)
    x, targets = clusters(rng, 80, num_classes)
    weights = rng.uniform(0.1, 1, 80) if weighted else None
    weight, bias = fit(x, targets, num_classes, decay, weights)
    wanted, wanted_bias = minimize(x, targets, num_classes, decay, weights)
    ours, theirs = x @ weight.T + bias, x @ wanted.T + wanted_bias
    np.testing.assert_allclose(ours - ours.mean(1, keepdims=True), theirs - theirs.mean(1, keepdims=True), atol=0.05)
    np.testing.assert_allclose(weight - weight.mean(0), wanted - wanted.mean(0), atol=0.02)


def test_the_decay_is_the_best_on_a_fifth_and_features_are_taken_as_they_are():
    rng = np.random.default_rng(0)
    x, targets = clusters(rng, 200, 3)
    x = (x * rng.uniform(1, 50, 6) + 100).astype(np.float32)
    weight, bias = fit_logistic_regression(x, targets, 3)
    assert weight.dtype == bias.dtype == np.float32
    mean, std = x.mean(0), x.std(0, ddof=1)
    scaled = (x - mean) / std
    by_decay = [fit(scaled, targets, 3, decay) for decay in DECAYS]
    distance = [np.abs((x @ weight.T + bias) - (scaled @ w.T + b)).max() for w, b in by_decay]
    assert min(distance) < 0.01
    assert ((x @ weight.T + bias).argmax(1) == targets).mean() > 0.8


@pytest.mark.parametrize("present", [(0, 2), (1,), (0, 1, 3)])
def test_a_class_that_does_not_occur_is_never_predicted(present):
    rng = np.random.default_rng(0)
    targets = rng.choice(present, 40)
    weight, bias = fit(rng.normal(0, 1, (40, 3)) + targets[:, None], targets, 4, 1e-3)
    predicted = (rng.normal(0, 5, (500, 3)) @ weight.T + bias).argmax(1)
    assert set(predicted) <= set(present)
