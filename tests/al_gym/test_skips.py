"""Annotators who cannot tell: -1 is a skip."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

from al_gym import ActiveLearningVectorEnv, EnvConfig
from al_gym.data.dataset import UNKNOWN
from tests.al_gym.episodes import TASK, Clerk, assert_equal, make, scores_for
from tests.samples import FAST, One


def skipping(dataset, skips):
    """An annotator who cannot tell the images for which ``skips`` is true."""
    return Clerk(lambda indices: np.where(skips(indices), UNKNOWN, dataset.labels[indices]))


def everything(indices):
    return np.ones(len(indices), bool)


def to_the_end(env):
    """Query sizes, and the last info."""
    sizes, terminated = [], False
    while not terminated:
        *_, terminated, _, info = env.step(np.ones(env.action_space.shape))
        sizes.append(int((info["selected"] >= 0).sum()))
    return sizes, info


def test_a_skipped_image_leaves_the_pool_unlabelled_and_earns_nothing(dataset):
    env = make(dataset)
    env.reset(seed=0)
    rows = [7, 2, 30, 11]
    unclear = env.run.episode.pool.indices[[2, 11]]
    env = make(dataset, annotator=skipping(dataset, lambda indices: np.isin(indices, unclear)))
    before, start = env.reset(seed=0)
    observation, reward, _, _, info = env.step(scores_for(env, rows))
    pool = env.run.episode.pool
    np.testing.assert_array_equal(pool.skipped, unclear)
    np.testing.assert_array_equal(pool.labelled[-2:], pool.indices[[7, 30]])
    assert len(pool.labels) == len(pool.labelled) == info["n_labelled"] == start["n_labelled"] + 2
    assert info["n_skipped"] == 2 and start["n_skipped"] == 0
    assert (observation[rows] == 0).all() and not info["available"][rows].any()
    assert info["selected"].tolist() == rows
    truth = dataset.labels[pool.indices[[7, 30]]]
    by_hand = [before[i].max() - before[i][k] for i, k in zip([7, 30], truth, strict=True)]
    np.testing.assert_allclose(info["sample_rewards"], [by_hand[0], 0, by_hand[1], 0], atol=1e-6)
    assert reward == pytest.approx(sum(by_hand) / 4, abs=1e-6)


def test_skipped_images_are_not_trained_on_and_the_update_runs_all_the_same(dataset):
    env = make(dataset, annotator=skipping(dataset, everything))
    before, start = env.reset(seed=0)
    classifier = One(env.run.classifiers, seed=None)
    weights = {name: value.clone() for name, value in classifier.weights.items()}
    observation, reward, _, _, info = env.step(np.ones(env.action_space.shape))
    assert info["n_labelled"] == start["n_labelled"] == env.run.counters.samples_trained
    assert reward == 0 and not info["sample_rewards"].any() and info["n_skipped"] == 4
    assert any((classifier.weights[name] != weights[name]).any() for name in weights)
    left = observation.any(1)
    assert not np.array_equal(observation[left], before[left])


@pytest.mark.parametrize("update", ["warm", "scratch"])
def test_where_nothing_is_ever_labelled_the_classifier_stays_untrained(dataset, update):
    env = make(
        dataset, replace(FAST, update=update), initial_size=0, budget=12,
        annotator=skipping(dataset, everything),
    )  # fmt: skip
    env.reset(seed=0)
    sizes, info = to_the_end(env)
    assert sizes == [4, 4, 4] and info["n_labelled"] == 0 and info["n_skipped"] == 12
    assert env.run.counters.samples_trained == 0
    assert 0 <= env.run.evaluate_retrained().macro_f1 <= 1


# --- what a skip costs ----------------------------------------------------------------------------


def test_a_skip_costs_as_much_as_a_label_unless_told_otherwise(dataset):
    env = make(dataset, budget=0.5, annotator=skipping(dataset, lambda indices: indices % 2 == 0))
    env.reset(seed=0)
    sizes, info = to_the_end(env)
    assert info["n_labelled"] + info["n_skipped"] == 40 and info["n_skipped"] > 5
    assert len(sizes) == env.max_steps
    with pytest.raises(gym.error.ResetNeeded, match="the episode is over"):
        env.step(np.ones(env.action_space.shape))


def test_dear_and_cheap_skips_by_hand(dataset):
    """10 labels at the start, a budget of 20, queries of 4, and all images skipped."""
    expected = {
        2.0: [4, 2],  # 8 of the 10 are spent, so 2 may be asked about; they cost 4
        2.5: [4],  # all 10
        0.5: [4, 4, 4, 4, 2, 1],  # 2, 4, 6, 8, 9, 9.5: the half that is left pays for nothing
        0.0: [4] * 17 + [2],  # until the pool of 70 is empty
    }
    for skip_cost, sizes in expected.items():
        env = make(
            dataset, initial_size=10, budget=20, skip_cost=skip_cost,
            annotator=skipping(dataset, everything),
        )  # fmt: skip
        env.reset(seed=0)
        assert to_the_end(env)[0] == sizes


def test_costs_that_are_no_binary_fractions_add_up(dataset):
    """Thirty skips at 0.1 are 3 labels, not 3.0000000000000004."""
    env = make(
        dataset, initial_size=10, budget=14, skip_cost=0.1, query_size=30,
        annotator=skipping(dataset, everything),
    )  # fmt: skip
    env.reset(seed=0)
    sizes, info = to_the_end(env)
    assert sizes[:7] == [4, 3, 3, 3, 2, 2, 2] and info["n_skipped"] == sum(sizes) == 31


# --- several at once, noise, and full supervision -------------------------------------------------


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_environments_side_by_side_skip_as_single_ones(dataset, trainable):
    task = replace(TASK, budget=0.4, skip_cost=0.5)
    trained = replace(FAST, trainable=trainable)
    clerk = skipping(dataset, lambda indices: indices % 3 == 0)
    envs = ActiveLearningVectorEnv(3, dataset, task, trained, annotator=clerk)
    singles = [make(dataset, trained, annotator=clerk, budget=0.4, skip_cost=0.5) for _ in range(3)]
    envs.reset(seed=5)
    for k, env in enumerate(singles):
        env.reset(seed=5 + k)
    rng = np.random.default_rng(0)
    for _ in range(envs.max_steps):
        actions = rng.random(envs.action_space.shape)
        observations, rewards, over, _, infos = envs.step(actions)
        for k, env in enumerate(singles):
            observation, reward, terminated, _, info = env.step(actions[k])
            np.testing.assert_allclose(observations[k], observation, rtol=0, atol=1e-5)
            assert rewards[k] == pytest.approx(reward, abs=1e-5) and over[k] == terminated
            assert_equal(
                [infos["selected"][k], infos["n_skipped"][k]], [info["selected"], info["n_skipped"]]
            )
        if over.any():
            break
    assert infos["n_skipped"].min() > 0


def test_full_supervision_leaves_out_what_nobody_can_tell(dataset, monkeypatch):
    env = make(dataset, annotator=skipping(dataset, lambda indices: indices % 2 == 0))
    env.reset(seed=0)
    start = env.run.episode.pool
    lessons = []
    fit = env.run.classifiers.fit
    monkeypatch.setattr(
        env.run.classifiers, "fit", lambda some, passes: lessons.extend(some) or fit(some, passes)
    )
    env.run.evaluate_fully_supervised()
    (lesson,) = lessons
    told = start.indices[start.indices % 2 == 1]
    np.testing.assert_array_equal(lesson.indices, np.concatenate([start.labelled, told]))


@pytest.mark.parametrize("cost", [-1, float("inf"), float("nan"), True, "1"])
def test_a_cost_that_is_none_is_refused(cost):
    with pytest.raises(ValueError, match="skip_cost"):
        EnvConfig(skip_cost=cost)
