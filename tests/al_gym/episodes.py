"""Small environments, and everything that an episode shows, for tests that compare episodes."""

from dataclasses import replace

import numpy as np

from al_gym import ActiveLearningEnv, EnvConfig
from tests.samples import FAST, One

TASK = EnvConfig(initial_fraction=0.1, query_size=4)


def make(dataset, classifier=FAST, annotator=None, render_mode=None, **task) -> ActiveLearningEnv:
    return ActiveLearningEnv(
        dataset,
        replace(TASK, **task),
        classifier,
        annotator=annotator,
        render_mode=render_mode,
    )


def scores_for(env, rows):
    action = np.zeros(env.action_space.shape, np.float32)
    action[list(rows)] = np.linspace(1, 0.5, len(rows))
    return action


def run(env, n_steps=3, seed=0, action_seed=0):
    """Everything an episode shows, for comparing two of them."""
    rng = np.random.default_rng(action_seed)
    observation, info = env.reset(seed=seed)
    seen = [observation, info["macro_f1"], info["available"]]
    for _ in range(n_steps):
        action = rng.random(env.action_space.shape, np.float32)
        observation, reward, terminated, truncated, info = env.step(action)
        seen += [observation, reward, terminated, truncated, info["macro_f1"], info["selected"]]
    return seen


def assert_equal(a, b):
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one, other)


class Clerk:
    """Answers with what it is told to, or fails."""

    def __init__(self, answer):
        self.answer = answer

    def annotate(self, indices):
        return self.answer(indices)


def state_of(env):
    weights = {k: v.clone() for k, v in One(env.run.classifiers, seed=None).weights.items()}
    return env.run.episode, weights, env.np_random.bit_generator.state


def assert_unchanged(env, before):
    episode, weights, generator = before
    assert env.run.episode is episode
    for name, value in One(env.run.classifiers, seed=None).weights.items():
        assert (value == weights[name]).all()
    assert env.np_random.bit_generator.state == generator
