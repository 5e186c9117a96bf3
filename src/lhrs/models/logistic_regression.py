"""Linear probes: multinomial logistic regression by scikit-learn, with the strength of regularization searched."""

import numpy as np

DECAYS = (1e-5, 1e-4, 1e-3)
_HELD_OUT = 5
"""One in this number of samples is used to select the decay."""
_MAX_ITERATIONS = 1000


def fit_logistic_regression(
    features: np.ndarray, targets: np.ndarray, num_classes: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 weights `(num_classes, C)` and biases `(num_classes,)` of logistic regression.

    The weights apply to the original features; standardization is folded into them. The decay is selected on a fifth of
    the samples.

    Args:
        features: `(N, C)`.
        targets: class indices `(N,)`.
        num_classes: of them.
        seed: of the fifth.
    """
    features = np.asarray(features, np.float32)
    mean, std = features.mean(0), features.std(0, ddof=1).clip(min=1e-6)
    x = (features - mean) / std
    order = np.random.default_rng(seed).permutation(len(x))
    held, rest = np.split(order, [len(order) // _HELD_OUT])
    accuracies = []
    for decay in DECAYS:
        weight, bias = fit(x[rest], targets[rest], num_classes, decay)
        accuracies.append(((x[held] @ weight.T + bias).argmax(1) == targets[held]).mean() if len(held) else 0.0)
    weight, bias = fit(x, targets, num_classes, DECAYS[int(np.argmax(accuracies))])
    weight = weight / std
    return weight.astype(np.float32), (bias - weight @ mean).astype(np.float32)


def fit(
    x: np.ndarray, targets: np.ndarray, num_classes: int, decay: float, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Minimize mean cross-entropy plus `decay` times half the squared weights.

    Args:
        x: `(N, C)`.
        targets: class indices `(N,)`.
        num_classes: of them; one that does not occur gets weights 0 and a bias of minus infinity.
        decay: of the weights; biases have none.
        weights: of samples; None is 1.
    """
    from sklearn.linear_model import LogisticRegression

    weight, bias = np.zeros((num_classes, x.shape[1])), np.full(num_classes, -np.inf)
    classes = np.unique(targets)
    if len(classes) == 1:
        bias[classes] = 0.0
        return weight, bias
    total = len(x) if weights is None else float(weights.sum())
    # scikit-learn sums the loss over samples. Of two classes it fits one vector, which is the difference of our two:
    # half of the penalty, so twice the strength.
    strength = (2 if len(classes) == 2 else 1) / (decay * total)
    model = LogisticRegression(C=strength, max_iter=_MAX_ITERATIONS, tol=1e-5).fit(x, targets, weights)
    if len(classes) == 2:
        weight[classes] = np.concatenate([-model.coef_, model.coef_]) / 2
        bias[classes] = np.concatenate([-model.intercept_, model.intercept_]) / 2
    else:
        weight[classes], bias[classes] = model.coef_, model.intercept_
    return weight, bias
