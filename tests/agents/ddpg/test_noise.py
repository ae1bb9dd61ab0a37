"""Noise against its recurrence, its known moments, and the mistake of one process for all."""

import json
from typing import Any

import numpy as np
import pytest

from agents.ddpg.noise import GaussianNoise, NoNoise, OrnsteinUhlenbeckNoise, make_noise

KINDS = ("ou", "gaussian", "none")


def make(name: str, size: int = 7, seed: int | None = 3) -> Any:
    return make_noise(name, size, 0.2, 0.15, 1.0, seed)


def test_ornstein_uhlenbeck_follows_the_recurrence() -> None:
    noise = OrnsteinUhlenbeckNoise(3, sigma=0.3, theta=0.2, dt=0.25, seed=11)
    generator = np.random.default_rng(11)
    x = [0.0, 0.0, 0.0]
    for _ in range(20):
        draws = generator.standard_normal(3)
        for i in range(3):
            x[i] += 0.2 * (0.0 - x[i]) * 0.25 + 0.3 * 0.5 * draws[i]
        np.testing.assert_allclose(noise(), x, rtol=1e-6)


def test_ornstein_uhlenbeck_moments() -> None:
    noise = OrnsteinUhlenbeckNoise(4000, seed=0)
    for _ in range(100):
        noise()
    before, after = noise().copy(), noise().copy()
    assert before.std() == pytest.approx(0.2 / np.sqrt(1 - 0.85**2), rel=0.05)  # 0.38
    assert np.corrcoef(before, after)[0, 1] == pytest.approx(0.85, abs=0.02)


def test_gaussian_moments() -> None:
    noise = GaussianNoise(4000, sigma=0.2, seed=0)
    before, after = noise(), noise()
    assert before.std() == pytest.approx(0.2, rel=0.05)
    assert abs(before.mean()) < 0.02
    assert abs(np.corrcoef(before, after)[0, 1]) < 0.05


@pytest.mark.parametrize("name", ["ou", "gaussian"])
def test_every_coordinate_has_its_own_process(name: str) -> None:
    """Mistake: scalar noise broadcast over all scores."""
    noise = make(name, size=5)
    samples = np.array([noise() for _ in range(4000)])
    innovations = samples[1:] - (0.85 if name == "ou" else 0.0) * samples[:-1]
    correlations = np.asarray(np.corrcoef(innovations.T))[~np.eye(5, dtype=bool)]
    assert np.abs(correlations).max() < 0.08


def test_only_independent_noise_changes_a_ranking() -> None:
    scores = np.linspace(0.4, 0.6, 50)
    scalar = OrnsteinUhlenbeckNoise(1, seed=0)
    independent = OrnsteinUhlenbeckNoise(50, seed=0)
    rankings = {tuple(np.argsort(scores + scalar())) for _ in range(20)}
    assert rankings == {tuple(range(50))}
    rankings = {tuple(np.argsort(scores + independent())) for _ in range(20)}
    assert len(rankings) == 20


@pytest.mark.parametrize("name", KINDS)
def test_shape_and_dtype(name: str) -> None:
    sample = make(name)()
    assert sample.shape == (7,)
    assert sample.dtype == np.float32


def test_no_noise_is_zero() -> None:
    noise = NoNoise(4)
    noise.reset()
    assert not noise().any()


@pytest.mark.parametrize("name", ["ou", "gaussian"])
def test_seeds(name: str, untouched_globals: None) -> None:
    first, second, other = make(name, seed=3), make(name, seed=3), make(name, seed=4)
    for _ in range(3):
        sample = first()
        np.testing.assert_array_equal(sample, second())
        assert (sample != other()).any()


def test_reset_returns_to_zero_and_the_generator_moves_on() -> None:
    noise = OrnsteinUhlenbeckNoise(4, seed=0)
    first = noise()
    for _ in range(50):
        noise()
    noise.reset()
    np.testing.assert_array_equal(noise.x, np.zeros(4))
    assert (noise() != first).any()
    assert np.abs(noise()).max() < 1.5  # two steps from zero, not fifty


@pytest.mark.parametrize("name", KINDS)
def test_state_survives_json_exactly(name: str) -> None:
    noise, copy = make(name), make(name, seed=99)
    for _ in range(5):
        noise()
    copy.load_state_dict(json.loads(json.dumps(noise.state_dict())))
    for _ in range(5):
        np.testing.assert_array_equal(noise(), copy())


def test_a_saved_state_does_not_follow_the_process() -> None:
    noise = OrnsteinUhlenbeckNoise(4, seed=0)
    state = noise.state_dict()
    first = noise()
    noise.load_state_dict(state)
    np.testing.assert_array_equal(noise(), first)


def test_unknown_name() -> None:
    with pytest.raises(KeyError, match="pink"):
        make("pink")
