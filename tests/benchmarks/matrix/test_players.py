"""Methods in the middle of an episode whose length nobody knows: the annotator skips images."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

from al_gym import ActiveLearningEnv, EnvConfig
from benchmarks.matrix import methods
from tests.samples import FAST, make_dataset

HEAD = replace(FAST, trainable="head", optimizer="newton", weight_decay=0.1)


class Hesitant:
    """Cannot tell every third image."""

    def __init__(self, labels):
        self.labels = labels

    def annotate(self, indices):
        return np.where(indices % 3 == 0, -1, self.labels[indices])


class Counted(gym.Wrapper):
    """Counts the steps of all episodes."""

    n_steps = 0

    def step(self, action):
        self.n_steps += 1
        return self.env.step(action)


@pytest.mark.parametrize("skip_cost", [0.0, pytest.param(0.5, marks=pytest.mark.slow), 1.0, 2.0])
@pytest.mark.parametrize("name", ["ms", "drla", "drla-set", "sb3-td3", "sb3-ppo"])
def test_a_method_plays_one_episode_to_its_end_whatever_is_skipped(name, skip_cost):
    dataset = make_dataset()
    task = EnvConfig(initial_fraction=0.1, query_size=4, budget=0.4, skip_cost=skip_cost)
    env = Counted(ActiveLearningEnv(dataset, task, FAST, annotator=Hesitant(dataset.labels)))
    method = methods.find(name)
    changes = {"width": 16} if method.learns else {}
    player = method.make(env, 0, method.settings(env, 0, changes))
    player.reset()
    player.play(lambda: None)
    if skip_cost == 1:
        assert env.n_steps == env.get_wrapper_attr("max_steps")
    else:  # cheap skips make an episode longer
        assert (env.n_steps > env.get_wrapper_attr("max_steps")) == (skip_cost < 1)


def test_the_look_ahead_oracle_takes_what_raises_the_test_score_most(monkeypatch):
    """Each of a query's images is the best of all that are left, found by a loop of one's own."""
    monkeypatch.setattr("benchmarks.matrix.players.N_TRIED", 10**6)
    dataset = make_dataset(n_train=50)
    task = EnvConfig(initial_fraction=0.1, query_size=2, budget=0.5)
    env = ActiveLearningEnv(dataset, task, HEAD)  # which is trained some two hundred times
    player = methods.find("look-ahead").make(env, 0, {})
    observation, _ = env.reset(seed=0)
    scores, _ = player.agent.predict(observation)
    run = env.run
    order = np.argsort(-scores)[: (scores > 0).sum()]
    assert len(order) == 2
    pool = run.episode.pool
    for chosen in order:
        found = {}
        for row in np.flatnonzero(pool.available):
            labels = dataset.labels[pool.indices[[row]]]
            outcome = run.evaluate_retrained(pool.annotated(np.array([row]), labels))
            found[row] = outcome.macro_f1, -outcome.cross_entropy
        assert found[chosen] == max(found.values())
        pool = pool.annotated(np.array([chosen]), dataset.labels[pool.indices[[chosen]]])
