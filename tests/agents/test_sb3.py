"""SB3's agents through `make`: they train, act, and fit the environment; errors help."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from agents import sb3


@pytest.mark.parametrize("name", sb3.ALGORITHMS)
def test_each_trains_and_acts(score_env: Any, name: str) -> None:
    env = score_env(max_steps=20)
    agent: Any = sb3.make(name, env, seed=0, device="cpu")
    agent.learn(24)
    action, _ = agent.predict(env.reset(seed=1)[0], deterministic=True)
    assert env.action_space.contains(action)
    assert agent.num_timesteps >= 24
    assert agent._n_updates > 0
    assert agent.gamma == 0.99
    assert agent.policy.net_arch in ([256, 256], {"pi": [256, 256], "vf": [256, 256]})


@pytest.mark.parametrize("name", ["ddpg", "td3", "sac"])
def test_buffers_fit_the_episode(score_env: Any, name: str) -> None:
    agent: Any = sb3.make(name, score_env(max_steps=320), seed=0, device="cpu")
    assert agent.replay_buffer.buffer_size == 320
    assert (agent.batch_size, agent.tau, agent.learning_starts) == (16, 0.005, 16)
    assert agent.gradient_steps == 10
    agent = sb3.make(name, score_env(max_steps=3), seed=0, device="cpu")
    assert (agent.learning_starts, agent.gradient_steps) == (0, 1)
    agent = sb3.make(name, score_env(max_steps=320), seed=0, max_steps=64, device="cpu")
    assert (agent.replay_buffer.buffer_size, agent.gradient_steps) == (64, 2)
    agent = sb3.make(name, gym.make("Pendulum-v1"), seed=0, device="cpu")
    assert agent.replay_buffer.buffer_size == 1000


@pytest.mark.parametrize("name", ["ddpg", "td3"])
def test_noise_is_independent_in_each_coordinate(score_env: Any, name: str) -> None:
    agent: Any = sb3.make(name, score_env(n=300), seed=0, device="cpu")
    sample = agent.action_noise()
    assert sample.shape == (300,)
    assert sample.std() == pytest.approx(0.4, rel=0.2)


@pytest.mark.parametrize("name", ["ppo", "a2c"])
def test_rollouts_fit_the_episode(score_env: Any, name: str) -> None:
    agent: Any = sb3.make(name, score_env(max_steps=100), seed=0, device="cpu")
    assert agent.n_steps == (16 if name == "ppo" else 5)
    assert np.exp(agent.policy.log_std.detach().numpy()) == pytest.approx(0.2)
    agent = sb3.make(name, score_env(max_steps=3), seed=0, device="cpu")
    assert agent.n_steps == 3


def test_overrides_win(score_env: Any) -> None:
    agent: Any = sb3.make(
        "TD3", score_env(), 0, learning_starts=7, gamma=0.5, device="cpu", buffer_size=99
    )
    assert (agent.learning_starts, agent.gamma) == (7, 0.5)
    assert agent.replay_buffer.buffer_size == 99


def test_equal_seeds_act_equally(score_env: Any) -> None:
    actions = []
    for _ in range(2):
        env = score_env(max_steps=10)
        sb3.make("td3", env, seed=4, device="cpu").learn(10)
        actions.append(np.array(env.actions))
    np.testing.assert_array_equal(actions[0], actions[1])


def test_unknown_names(score_env: Any) -> None:
    with pytest.raises(ValueError, match=r"choose from \['a2c', .*; did you mean 'ddpg'"):
        sb3.make("dpg", score_env(), 0)
    with pytest.raises(ValueError, match="unknown algorithm 'zzzzzz', choose from"):
        sb3.make("zzzzzz", score_env(), 0)


def test_algorithms_without_a_box_action(score_env: Any) -> None:
    with pytest.raises(ValueError, match=r"dqn chooses among discrete actions.*td3"):
        sb3.make("dqn", score_env(), 0)
    with pytest.raises(TypeError, match="Box action space, got Discrete"):
        sb3.make("ddpg", gym.make("CartPole-v1"), 0)


def test_ppo_stays_finite_over_hundreds_of_scores(score_env: Any) -> None:
    """Without target_kl the ratio of probabilities overflows and the weights become NaN."""
    model = sb3.make("ppo", score_env(n=500, max_steps=64), 0)
    model.learn(64)
    assert all(torch.isfinite(p).all() for p in model.policy.parameters())
    assert model.target_kl == 0.02


def test_a_checkpoint_leads_stable_baselines3_to_no_other_file(
    score_env: Any, tmp_path: Path
) -> None:
    model = sb3.make("ddpg", score_env(max_steps=4), seed=0)
    model.save(tmp_path / "other")
    state = sb3.state_dict(model) | {"parameters": str(tmp_path / "other.zip")}
    with pytest.raises(ValueError, match="the parameters must be tensors by name"):
        sb3.load_state_dict(model, state)
