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


def make(dataset, embeddings=False, labelled=False, **change):
    env = ActiveLearningEnv(dataset, TASK, replace(FAST, **change))
    return ContextObservation(env, embeddings=embeddings, labelled=labelled)


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
@pytest.mark.filterwarnings("ignore:.*value is (-)?infinity")
@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("embeddings", [False, True])
def test_gymnasiums_checker_is_content(dataset, embeddings, labelled):
    check_env(make(dataset, embeddings, labelled), skip_render_check=True)


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


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_what_is_labelled_stands_in_the_order_of_its_annotation(dataset, trainable):
    """24 labels at the end, the initial 8 first; what is not there yet is 0, of class -1."""
    env = make(dataset, labelled=True, trainable=trainable)
    observation, info = env.reset(seed=0)
    run, terminated = env.get_wrapper_attr("run"), False
    initial = observation["labelled_classes"][: info["n_labelled"]]
    while True:
        n, pool = info["n_labelled"], run.episode.pool
        vectors, classes = observation["labelled_embeddings"], observation["labelled_classes"]
        assert env.observation_space.contains(observation) and "embeddings" not in observation
        assert vectors.shape == (24, run.n_features) and classes.shape == (24,)
        assert vectors.dtype == classes.dtype == np.float32
        np.testing.assert_array_equal(vectors[:n], run.embed(pool.labelled))
        np.testing.assert_array_equal(classes[:n], dataset.labels[pool.labelled])
        np.testing.assert_array_equal(classes[: len(initial)], initial)
        assert (vectors[n:] == 0).all() and (classes[n:] == -1).all()
        if terminated:
            break
        observation, _, terminated, _, info = env.step(env.action_space.sample())
    assert n == 24 and len(initial) == 8


def test_a_start_without_labels_and_skips_have_no_class(dataset):
    """Of the first four two cannot be told."""
    config = replace(TASK, initial_size=0)

    class Forgetful:
        def annotate(self, indices):
            labels = dataset.labels[indices].copy()
            labels[::2] = -1
            return labels

    env = ActiveLearningEnv(dataset, config, FAST, annotator=Forgetful())
    env = ContextObservation(env, labelled=True)
    observation, _ = env.reset(seed=0)
    assert (observation["labelled_classes"] == -1).all()
    assert (observation["labelled_embeddings"] == 0).all()
    observation, _, _, _, info = env.step(env.action_space.sample())
    told = info["selected"][1::2]
    expected = dataset.labels[env.get_wrapper_attr("run").episode.pool.indices[told]]
    assert observation["labelled_classes"].tolist() == [*expected, *[-1] * 22]


@pytest.mark.parametrize("kind", [gym.vector.SyncVectorEnv, gym.vector.AsyncVectorEnv])
def test_vectors_of_environments_stack_it(dataset, kind):
    envs = kind([lambda: make(dataset, embeddings=True, labelled=True)] * 2)
    observations, _ = envs.reset(seed=[0, 1])
    observations, *_ = envs.step(np.ones(envs.action_space.shape, np.float32))
    envs.close()
    single = make(dataset, embeddings=True, labelled=True)
    single.reset(seed=1)
    observation, *_ = single.step(np.ones(single.action_space.shape, np.float32))
    for key, part in observation.items():
        np.testing.assert_allclose(observations[key][1], part, rtol=0, atol=1e-5)


@pytest.mark.parametrize("labelled", [False, True])
def test_stable_baselines3_learns_from_it(dataset, labelled):
    env = make(dataset, labelled=labelled)
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
    given = {"embeddings": True, "labelled": True}
    assert make(dataset, **given)._saved_kwargs == given
