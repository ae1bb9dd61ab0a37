"""One way to predict: observations alone and stacked, as arrays and as dictionaries."""

import numpy as np
import pytest

from agents.policy import ScoringPolicy, softmax_of, unstacked


class First(ScoringPolicy):
    """Scores a sample by its first probability."""

    def scores(self, observation):
        softmax = observation["softmax"] if isinstance(observation, dict) else observation
        return softmax[:, 0].astype(np.float32)


def softmax(*shape):
    return np.random.default_rng(0).dirichlet(np.ones(shape[-1]), shape[:-1]).astype(np.float32)


def test_one_observation_and_several():
    several = softmax(4, 6, 3)
    scores, state = First().predict(several, state="mine", episode_start=np.ones(4))
    assert scores.shape == (4, 6) and state == "mine"
    for row, one in zip(scores, several, strict=True):
        alone, state = First().predict(one, deterministic=True)
        assert state is None
        np.testing.assert_array_equal(alone, row)


def test_dictionaries_alone_and_stacked():
    several = {"softmax": softmax(4, 6, 3), "class_counts": np.arange(12.0).reshape(4, 3)}
    each, stacked = unstacked(several)
    assert stacked and len(each) == 4
    for i, one in enumerate(each):
        assert one.keys() == several.keys()
        for name, values in one.items():
            np.testing.assert_array_equal(values, several[name][i])
    (alone,), stacked = unstacked(each[0])
    assert not stacked and alone is each[0]
    np.testing.assert_array_equal(
        First().predict(several)[0], First().predict(several["softmax"])[0]
    )


def test_a_stack_of_one_stays_a_stack():
    assert First().predict(softmax(1, 6, 3))[0].shape == (1, 6)


@pytest.mark.parametrize("shape", [(4,), (1, 2, 3, 4)])
def test_a_softmax_of_another_shape_is_refused(shape):
    for observation in (np.zeros(shape), {"softmax": np.zeros(shape)}):
        with pytest.raises(ValueError, match=r"must be \(n, M\) or \(m, n, M\), not"):
            First().predict(observation)


def test_what_reset_returns_is_no_observation():
    with pytest.raises(TypeError, match=r"observation, info = env.reset\(\)"):
        First().predict((softmax(6, 3), {}))


def test_softmax_values_in_a_row_are_refused_with_what_to_do():
    for flat in (np.ones(12), {"softmax": np.ones(12)}):
        with pytest.raises(ValueError, match=r"not \(12,\).*without flatten=True"):
            softmax_of(flat)
