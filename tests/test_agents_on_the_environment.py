"""Agents and environment meet in the Gymnasium API: every agent trains and acts on a real id."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy

import al_gym  # noqa: F401  registers the ids
from agents import sb3
from agents.ddpg import DDPG, DDPGConfig


@pytest.fixture
def env():
    return gym.make("ActiveLearning-chestCT-v0", profile="embedded", budget=0.12, pretrain_passes=2)


def act(agent, env):
    """One episode; what was selected."""
    observation, _ = env.reset(seed=3)
    selected, terminated = [], False
    while not terminated:
        action, _ = agent.predict(observation, deterministic=True)
        assert env.action_space.contains(action)
        observation, reward, terminated, _, info = env.step(action)
        assert 0 <= reward < 1
        selected += info["selected"].tolist()
    return selected


@pytest.mark.parametrize("name", sb3.ALGORITHMS)
def test_stable_baselines3_trains_and_acts(env, name):
    agent = sb3.make(name, env, seed=0)
    before = [parameter.detach().clone() for parameter in agent.policy.parameters()]
    agent.learn(2 * env.get_wrapper_attr("max_steps"))
    assert any(
        (one != other).any() for one, other in zip(before, agent.policy.parameters(), strict=True)
    )
    selected = act(agent, env)
    assert len(selected) == len(set(selected)) > 20


def test_drla_trains_and_acts_and_is_taken_by_evaluate_policy(env):
    max_steps = env.get_wrapper_attr("max_steps")
    agent = DDPG(env, DDPGConfig(seed=0))
    agent.learn(max_steps)
    # one pass over the buffer after each step: a batch of 16 holds all of 1, 2, ... transitions
    assert (agent.num_timesteps, agent.n_updates) == (max_steps, max_steps)
    assert agent.buffer.capacity == len(agent.buffer) == max_steps
    selected = act(agent, env)
    assert len(selected) == len(set(selected)) > 20
    mean, _ = evaluate_policy(agent, env, n_eval_episodes=1, warn=False)
    assert 0 <= mean < max_steps


def test_drla_is_repeatable_and_chooses_otherwise_than_its_noise_free_actor(env):
    runs = []
    for noise in ("ou", "ou", "none"):
        picked = []
        agent = DDPG(env, DDPGConfig(seed=0, noise=noise))
        agent.learn(
            env.get_wrapper_attr("max_steps"),
            callback=lambda local, _, picked=picked: picked.append(local["info"]["selected"]),
        )
        runs.append(np.concatenate(picked).tolist())
    assert runs[0] == runs[1] != runs[2]
