"""BAIT against plain loops over its definition, and its algebra against inverses."""

import numpy as np
import pytest

from agents import bait, diversity
from tests.agents.test_diversity import N_LABELLED, N_POOL, FeatureEnv, chosen


def test_fisher_information_is_that_of_the_softmax():
    """The sum over classes of p g g' is (diag p - p p') x z z'."""
    rng = np.random.default_rng(0)
    features, probabilities = rng.normal(size=(5, 4)), rng.dirichlet(np.ones(3), 5)
    factors = bait.fisher_factors(features, probabilities)
    assert factors.shape == (5, 3, 12)
    for factor, z, p in zip(factors, features, probabilities, strict=True):
        expected = np.kron(np.diag(p) - np.outer(p, p), np.outer(z, z))
        np.testing.assert_allclose(factor.T @ factor, expected, atol=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_gains_and_updates_are_those_of_the_inverse(sign):
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(5, 2, 6)) * 0.3
    root = rng.normal(size=(6, 6))
    matrix, fisher = root @ root.T + 3 * np.eye(6), np.diag(rng.uniform(1, 2, 6))
    inverse = np.linalg.inv(matrix)
    gains = bait.trace_gains(factors, inverse, fisher, sign)
    for factor, gain in zip(factors, gains, strict=True):
        after = np.linalg.inv(matrix + sign * factor.T @ factor)
        np.testing.assert_allclose(bait.updated_inverse(inverse, factor, sign), after)
        assert gain == pytest.approx(np.trace(inverse @ fisher) - np.trace(after @ fisher))


def test_bait_is_forward_and_backward_greedy():
    """Against plain loops over the definition, without Woodbury's identity."""
    env = FeatureEnv()
    found, _ = diversity.FeatureStrategy("bait", env, 3, seed=0).predict(env.observation)
    logits = np.exp(env.features[:N_LABELLED])
    softmax = np.concatenate([logits / logits.sum(axis=1, keepdims=True), env.observation])
    information = [
        np.kron(np.diag(p) - np.outer(p, p), np.outer(z, z))
        for p, z in zip(softmax.astype(float), env.features, strict=True)
    ]
    fisher = sum(information) / len(information)
    start = np.eye(9) + sum(information[:N_LABELLED]) / (N_LABELLED + 3)
    pool = [3 / (N_LABELLED + 3) * each for each in information[N_LABELLED:]]

    def error(rows):
        return np.trace(np.linalg.inv(start + sum(pool[row] for row in rows)) @ fisher)

    rows = []
    for _ in range(6):
        rest = [row for row in range(N_POOL) if row not in rows]
        rows.append(min(rest, key=lambda row: error([*rows, row])))
    for _ in range(3):
        rows.remove(min(rows, key=lambda row: error([other for other in rows if other != row])))
    assert set(chosen(found, 3)) == set(rows)
