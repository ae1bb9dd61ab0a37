"""The context beside the softmax matrix: values, spaces, and agents that take dictionaries."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
from gymnasium.utils.env_checker import check_env

from al_gym import ActiveLearningEnv, EnvConfig
from al_gym.wrappers import ContextObservation
from tests.samples import FAST

TASK = EnvConfig(initial_fraction=0.1, query_size=4, budget=0.3)


def make(dataset, embeddings=False, **change):
    env = ActiveLearningEnv(dataset, TASK, replace(FAST, **change))
    return ContextObservation(env, embeddings=embeddings)


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
@pytest.mark.filterwarnings("ignore:.*value is (-)?infinity")
@pytest.mark.parametrize("embeddings", [False, True])
def test_gymnasiums_checker_is_content(dataset, embeddings):
    check_env(make(dataset, embeddings), skip_render_check=True)


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_the_context_is_that_of_the_episode(dataset, trainable):
    env = make(dataset, embeddings=True, trainable=trainable)
    plain = ActiveLearningEnv(dataset, TASK, replace(FAST, trainable=trainable))
    observation, _ = env.reset(seed=0)
    softmax, info = plain.reset(seed=0)
    terminated = False
    while True:
        np.testing.assert_array_equal(observation["softmax"], softmax)
        labels = plain.run.episode.pool.labels
        expected = [int((labels == j).sum()) for j in range(3)]
        assert observation["class_counts"].tolist() == expected
        assert observation["labelled_fraction"] == np.float32(info["labelled_fraction"])
        np.testing.assert_array_equal(
            observation["embeddings"], plain.run.embed(plain.run.episode.pool.indices)
        )
        assert env.observation_space.contains(observation)
        if terminated:
            break
        action = 1 - softmax.max(axis=1)
        observation, reward, terminated, _, _ = env.step(action)
        softmax, same_reward, _, _, info = plain.step(action)
        assert reward == same_reward


def test_stable_baselines3_learns_from_it(dataset):
    env = make(dataset)
    model = sb3.PPO("MultiInputPolicy", env, n_steps=4, batch_size=4, seed=0, device="cpu")
    model.learn(8)
    observation, _ = env.reset(seed=0)
    action, _ = model.predict(observation)
    assert env.action_space.contains(action)


def test_other_environments_are_refused():
    with pytest.raises(ValueError, match="is for active-learning environments"):
        ContextObservation(gym.make("CartPole-v1"))


def test_over_another_observation_it_says_what_to_do(dataset):
    flat = gym.wrappers.FlattenObservation(ActiveLearningEnv(dataset, TASK, FAST))
    with pytest.raises(ValueError, match="put it before wrappers that change observations"):
        ContextObservation(flat)
    around = gym.wrappers.FlattenObservation(make(dataset))
    assert around.reset(seed=0)[0].shape == around.observation_space.shape


def test_it_can_be_recorded_in_a_specification(dataset):
    assert make(dataset, embeddings=True)._saved_kwargs == {"embeddings": True, "labelled": False}
