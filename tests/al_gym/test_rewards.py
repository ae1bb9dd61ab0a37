"""Eq. 3 against numbers worked by hand, and the rewards measured on held-out images."""

import numpy as np
import pytest

from al_gym import rewards
from al_gym.metrics import Evaluation

SOFTMAX = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.4, 0.4, 0.2]], np.float32)


def outcome(before: Evaluation | None = None, after: Evaluation | None = None) -> rewards.Outcome:
    return rewards.Outcome(rewards.sample_rewards(SOFTMAX, np.array([0, 0, 1])), before, after)


def test_eq_3_by_hand():
    # right: 0.7 - 0.7; wrong: 0.6 - 0.1; a tie between prediction and truth: 0.4 - 0.4
    summands = rewards.sample_rewards(SOFTMAX, np.array([0, 0, 1]))
    np.testing.assert_allclose(summands, [0.0, 0.5, 0.0], atol=1e-7)
    assert rewards.misclassification(outcome()) == pytest.approx(0.5 / 3)


def test_a_sample_without_a_class_earns_nothing_and_counts():
    summands = rewards.sample_rewards(SOFTMAX, np.array([-1, 0, -1]))
    np.testing.assert_allclose(summands, [0.0, 0.5, 0.0], atol=1e-7)
    assert summands.dtype == np.float32
    outcome = rewards.Outcome(summands, None, None)
    assert rewards.misclassification(outcome) == pytest.approx(0.5 / 3)


def test_summands_are_never_negative_and_below_one():
    rng = np.random.default_rng(0)
    softmax = rng.dirichlet(np.full(4, 0.1), 500).astype(np.float32)
    summands = rewards.sample_rewards(softmax, rng.integers(0, 4, 500))
    assert summands.min() >= 0 and summands.max() <= 1


def test_gains_are_differences_of_the_validation_scores():
    before, after = Evaluation(0.5, 0.6, 1.25), Evaluation(0.75, 0.5, 1.0)
    assert rewards.f1_gain(outcome(before, after)) == 0.25
    assert rewards.loss_gain(outcome(before, after)) == 0.25


@pytest.mark.parametrize("name", ["f1_gain", "loss_gain"])
def test_gains_say_what_they_need(name):
    with pytest.raises(ValueError, match="validation_fraction"):
        rewards.REWARDS[name](outcome())


def test_names():
    assert rewards.by_name("f1_gain") is rewards.f1_gain
    assert rewards.by_name(len) is len
    with pytest.raises(ValueError, match="did you mean 'misclassification'"):
        rewards.by_name("misclasification")
