"""UHerding against plain loops over its definition."""

import numpy as np
import pytest

from agents import diversity, uherding
from tests.agents.test_diversity import N_LABELLED, FeatureEnv, chosen

pytest.importorskip("sklearn")


def test_uherding_is_the_greedy_maximum_of_uncertainty_coverage(monkeypatch):
    """Against plain loops over the definition."""
    monkeypatch.setattr(uherding, "calibrated_temperature", lambda *_: 2.0)
    env = FeatureEnv()
    found, _ = diversity.FeatureStrategy("uherding", env, 4, seed=0).predict(env.observation)
    points = [x / np.linalg.norm(x) for x in env.features]
    labelled, pool = points[:N_LABELLED], points[N_LABELLED:]
    apart = [sum((a - b) ** 2) for i, a in enumerate(labelled) for b in labelled[:i]]
    radius = min(apart)
    uncertainty = []
    for p in env.observation:
        warm = np.sqrt(p) / np.sqrt(p).sum()  # temperature 2
        second, first = np.sort(warm)[-2:]
        uncertainty.append(1 - (first - second))

    def coverage(centres):
        nearest = [max(np.exp(-sum((x - c) ** 2) / radius) for c in centres) for x in pool]
        return sum(u * k for u, k in zip(uncertainty, nearest, strict=True))

    centres = list(labelled)
    for row in chosen(found, 4):
        assert row == int(np.argmax([coverage([*centres, x]) for x in pool]))
        centres.append(pool[row])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_image_is_no_distance_from_itself_whatever_the_rounding(monkeypatch, dtype):
    """Its squared length is not always 1 in float32; that gave a radius of nothing, which is MS."""
    monkeypatch.setattr(uherding, "calibrated_temperature", lambda *_: 1.0)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 256)).astype(dtype)
    features[30:50] = features[30] + 0.01 * features[30:50]  # candidates 20 to 39 are of one kind
    probabilities = np.full((50, 2), 0.5)
    found = uherding.choose(features, np.arange(10) % 2, probabilities, 5, 0)
    assert [20 <= row < 40 for row in found] == [True, False, False, False, False]


def test_calibration_error_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.45, 0.55]])
    classes = np.array([0, 1, 1, 1])
    # bins of 1/15: twice 0.9, half right; 0.6 in [0.6, 0.667); 0.55 in [0.533, 0.6)
    expected = (2 * abs(0.5 - 0.9) + abs(1 - 0.6) + abs(1 - 0.55)) / 4
    assert uherding.calibration_error(probabilities, classes) == pytest.approx(expected)


def test_the_temperature_is_low_for_easy_classes_and_high_for_noise():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    easy = np.eye(3)[labels] + rng.normal(0, 0.1, (60, 3))
    noise = rng.normal(0, 3, (60, 3))
    low, high = (uherding.calibrated_temperature(x, labels, 0) for x in (easy, noise))
    assert low < 1 < high
    assert uherding.calibrated_temperature(easy[:4], labels[:4], 0) == 1  # two classes have one
    assert uherding.calibrated_temperature(easy[:1], labels[:1], 0) == 1
