"""UHerding: uncertainty-weighted coverage of the pool, on features."""

import numpy as np
from scipy.special import log_softmax, softmax

from agents.strategies import margin

TEMPERATURES = np.logspace(-1, 1, 21)
"""From which UHerding chooses, 1 among them."""
BINS = 15
"""Of the expected calibration error (Guo et al., On calibration, ICML 2017)."""

TOO_NEAR = 1e-6
"""Squared distances up to this are those of equal features, to the rounding of float32."""


def choose(
    features: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, n: int, seed: int
) -> np.ndarray:
    """UHerding: the greedy maximum of uncertainty coverage, sum_x U(x) max_x' k(x, x').

    x' are the labelled and the chosen, k is Gaussian on features of length 1, U is 1 minus the
    margin of the two most probable classes (Bae, Oliveira and Sutherland, Uncertainty Herding: one
    active learning method for all label budgets, ICLR 2025). As there, the temperature of the
    softmax is that of the best calibration on labelled images held out, and the radius of the
    kernel is the least distance between two labelled images, so that it shrinks as they become
    many. They are held out by cross-validation, as a start may have a few of each class; what is
    calibrated on them is a logistic regression on the features, as an agent cannot train the
    environment's classifier.

    It takes the memory of a matrix of float32 with a row and a column for each candidate.

    Args:
        features: (n_l + n_c, F), of the labelled images and then of the candidates.
        labels: (n_l,) int.
        probabilities: (n_c, M), softmax of the candidates.
        n: how many to choose.
        seed: of what is held out.

    Returns:
        (n,) int, candidates by position, best first.
    """
    length = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.maximum(length, 1e-12)
    labelled, candidates = unit[: len(labels)], unit[len(labels) :]
    temperature = calibrated_temperature(labelled, labels, seed)
    logits = np.log(np.maximum(probabilities, 1e-12)) / temperature
    uncertainty = margin(softmax(logits, axis=1))

    apart = _squared_distances(labelled, labelled)
    positive = apart[apart > TOO_NEAR]
    radius = positive.min() if len(positive) else 1.0  # squared
    covered = np.exp(-_squared_distances(candidates, labelled) / radius).max(axis=1, initial=0)
    kernel = np.exp(-_squared_distances(candidates, candidates) / radius)
    chosen: list[int] = []
    for _ in range(n):
        gains = uncertainty @ np.maximum(kernel - covered[:, None], 0)
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
        covered = np.maximum(covered, kernel[:, chosen[-1]])
    return np.array(chosen)


def calibrated_temperature(features: np.ndarray, labels: np.ndarray, seed: int) -> float:
    """The temperature of the least calibration error of held-out logistic regressions.

    Args:
        features: (n_l, F), of the labelled images.
        labels: (n_l,) int.
        seed: of the folds.

    Returns:
        One of ``TEMPERATURES``; 1 where a class has too few images to hold some out.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    classes, positions, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2 or counts.min() < 2:
        return 1.0
    folds = StratifiedKFold(min(5, int(counts.min())), shuffle=True, random_state=seed)
    log_odds = np.zeros((len(labels), len(classes)))
    for train, held_out in folds.split(features, labels):
        model = LogisticRegression(max_iter=1000).fit(features[train], labels[train])
        log_odds[held_out] = model.predict_log_proba(features[held_out])
    errors = [
        calibration_error(np.exp(log_softmax(log_odds / temperature, axis=1)), positions)
        for temperature in TEMPERATURES
    ]
    return float(TEMPERATURES[int(np.argmin(errors))])


def calibration_error(probabilities: np.ndarray, classes: np.ndarray) -> float:
    """Expected calibration error: |accuracy - confidence| of ``BINS`` bins, by their images."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == classes
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, right - confidence, BINS)
    return float(np.abs(gaps).sum() / len(classes))


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(len(a), len(b)), between rows of length 1."""
    return np.maximum(2 - 2 * a @ b.T, 0)
