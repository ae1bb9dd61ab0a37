"""What fails leaves the environment as it was."""

import numpy as np
import pytest

from al_gym.classifiers.networks import NetworkClassifier
from tests.al_gym.episodes import Clerk, assert_unchanged, make, run, state_of

# --- failures leave things as they were -----------------------------------------------------------


def failing(indices):
    raise ConnectionError("the annotator has gone home")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a[:-1], r"shape \(\d+,\); it must be"),
        (lambda a: a[None], r"shape \(1, \d+\)"),
        (lambda a: np.where(np.arange(len(a)) == 5, np.nan, a), "nan at pool row 5"),
        (lambda a: np.where(np.arange(len(a)) == 2, np.inf, a), "inf at pool row 2"),
    ],
)
def test_a_bad_action_changes_nothing(env, change, message):
    env.reset(seed=0)
    before = state_of(env)
    with pytest.raises(ValueError, match=message):
        env.step(change(np.ones(env.action_space.shape)))
    assert_unchanged(env, before)


@pytest.mark.parametrize(
    ("answer", "error"),
    [(failing, ConnectionError), (lambda i: np.full(len(i), 9), ValueError), (len, ValueError)],
)
def test_a_failing_annotator_changes_nothing(dataset, answer, error):
    clerk = Clerk(answer)
    env = make(dataset, annotator=clerk)
    env.reset(seed=0)
    before = state_of(env)
    with pytest.raises(error):
        env.step(np.ones(env.action_space.shape))
    assert_unchanged(env, before)


def test_a_failure_after_the_update_goes_back_and_the_step_can_be_taken_again(dataset, monkeypatch):
    expected = run(make(dataset), n_steps=1)
    env = make(dataset)
    env.reset(seed=0)
    before = state_of(env)
    fit = NetworkClassifier.fit

    def fit_and_fail(self, *args):
        fit(self, *args)
        raise MemoryError("out of memory")

    action = np.random.default_rng(0).random(env.action_space.shape, np.float32)
    with monkeypatch.context() as patch:
        patch.setattr(NetworkClassifier, "fit", fit_and_fail)
        with pytest.raises(MemoryError):
            env.step(action)
    assert_unchanged(env, before)
    np.testing.assert_array_equal(env.step(action)[0], expected[3])


def test_what_is_returned_is_the_callers_own(env):
    observation, info = env.reset(seed=0)
    reference = observation.copy()
    observation[:] = -1
    info["available"][:] = False
    _, reward, *_ = env.step(np.ones(env.action_space.shape))
    assert 0 <= reward < 1
    np.testing.assert_array_equal(env.reset()[0], reference)
