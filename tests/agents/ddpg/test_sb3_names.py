"""What a person who knows Stable-Baselines3 reaches for, or is told about."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.ddpg import MlpPolicy

from agents.ddpg import DDPG, DDPGConfig


def config(**settings: Any) -> DDPGConfig:
    return DDPGConfig(**{"width": 16, "seed": 0, **settings})


def weights(agent: DDPG) -> torch.Tensor:
    """The actor's weights as one vector."""
    return torch.nn.utils.parameters_to_vector(agent.actor.parameters()).detach().clone()


# --- the constructor ------------------------------------------------------------------------------


def test_an_id_and_settings(score_env: Any) -> None:
    assert DDPG("Pendulum-v1", buffer_size=10, width=16).action_space.shape == (1,)
    settings = {"learning_rate": 1e-4, "width": 16, "seed": 3}
    one, other = DDPG(score_env(), **settings), DDPG(score_env(), DDPGConfig(**settings))
    assert one.config == other.config
    assert torch.equal(weights(one), weights(other))


def test_settings_in_both_places(score_env: Any) -> None:
    message = r"not both: config=dataclasses.replace\(config, width=8, seed=1\)"
    with pytest.raises(TypeError, match=message):
        DDPG(score_env(), config(), width=8, seed=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learnig_rate": 1}, "DDPG has no setting 'learnig_rate'; did you mean 'learning_rate'?"),
        ({"policy_kwargs": {}}, "'policy_kwargs': .* width"),
        ({"action_noise": None}, "'action_noise': .* noise_sigma"),
        ({"train_freq": 1}, "'train_freq': .* gradient_steps"),
        ({"verbose": 1}, "'verbose': use .*progress_bar"),
        ({"tensorboard_log": "x"}, "'tensorboard_log': use log_dir"),
    ],
)
def test_unknown_settings(score_env: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        DDPG(score_env(), **settings)


@pytest.mark.parametrize("policy", ["MlpPolicy", MlpPolicy])
def test_a_policy_first(score_env: Any, policy: Any) -> None:
    with pytest.raises(TypeError, match=r"begin with the environment: DDPG\(env"):
        DDPG(policy, score_env())


def test_attributes_that_sb3_has(score_env: Any) -> None:
    agent = DDPG(score_env(), config())
    with pytest.raises(AttributeError, match="'get_parameters': use state_dict()"):
        agent.get_parameters()
    with pytest.raises(AttributeError, match="'learning_rate': see config.learning_rate"):
        _ = agent.learning_rate
    with pytest.raises(AttributeError, match="no attribute 'polcy'$"):
        _ = agent.polcy
    assert not hasattr(agent, "policy")


# --- the environment ------------------------------------------------------------------------------


def test_get_env_is_the_environment_and_leaves_it_alone(score_env: Any) -> None:
    env = score_env()
    agent = DDPG(env, config())
    view = agent.get_env()
    assert view is agent.get_env()
    assert view.num_envs == 1
    assert view.envs == [env]
    assert (env.seeds, env.life) == ([], 0)
    alone = DDPG(score_env(), config()).learn(7)
    assert torch.equal(weights(agent.learn(7)), weights(alone))


def test_an_evaluation_on_its_own_environment_ends_the_episode(score_env: Any) -> None:
    """Mistake: going on from a state that the environment is no longer in."""
    env = score_env(max_steps=4)
    agent = DDPG(env, config())
    view = agent.get_env()
    agent.learn(3, EvalCallback(view, n_eval_episodes=1, eval_freq=2, verbose=0, warn=False))
    assert env.life == 2 + 4 + 1
    # observed: reset, 2 steps, reset, 4 steps, reset by the view; then the agent's reset
    first = env.observations[3 + 5 + 1]
    stored = agent.buffer._gather(torch.arange(3)).observations
    np.testing.assert_array_equal(stored[2], first.ravel())
    assert agent.episode_return == pytest.approx(1 - np.abs(env.actions[-1] - 0.8).mean())


def test_set_env(score_env: Any) -> None:
    first, second = score_env(max_steps=3), score_env(max_steps=3)
    agent = DDPG(first, config()).learn(5)
    agent.set_env(second)
    agent.learn(3, reset_num_timesteps=False)
    assert (first.life, second.life) == (5, 3)
    assert agent.get_env().envs == [second]
    # the second goes on where the randomness of the first was: 6 draws after its start
    draws = np.random.default_rng(0).random((8, 6, 1), dtype=np.float32)
    np.testing.assert_array_equal(second.observations[-4][:, :1], draws[7])


@pytest.mark.parametrize(
    ("settings", "message"), [({"n": 7}, "observation_space"), ({"high": 2.0}, "action_space")]
)
def test_set_env_with_other_spaces(score_env: Any, settings: Any, message: str) -> None:
    env = score_env()
    agent = DDPG(env, config())
    with pytest.raises(ValueError, match=message):
        agent.set_env(score_env(**settings))
    with pytest.raises(TypeError, match="not a vector"):
        agent.set_env(make_vec_env(score_env))
    assert agent.env is env


# --- without an environment -----------------------------------------------------------------------


class Odd(gym.Env[Any, Any]):
    """Bounds that differ between coordinates, and infinite ones."""

    observation_space = gym.spaces.Box(-np.inf, np.array([[1.0, np.inf, 3.0]]), dtype=np.float64)
    action_space = gym.spaces.Box(np.float32([-1, 0]), np.float32([1, 5]))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.np_random.random((1, 3)), {}

    def step(self, action: Any) -> Any:
        return self.np_random.random((1, 3)), float(action[0]), False, False, {}


def test_a_loaded_agent_predicts_without_an_environment(score_env: Any, tmp_path: Path) -> None:
    for kind in (score_env, Odd):
        agent = DDPG(kind(), config(buffer_size=10)).learn(4)
        loaded = DDPG.load(agent.save(tmp_path / kind.__name__))
        assert loaded.observation_space == agent.observation_space
        assert loaded.action_space == agent.action_space
        assert loaded.get_env() is None
        observation, _ = kind().reset(seed=5)
        expected, _ = agent.predict(observation)
        np.testing.assert_array_equal(loaded.predict(observation)[0], expected)


def test_it_learns_once_it_has_one(score_env: Any, tmp_path: Path) -> None:
    """Also after it was saved once more; with what an agent loaded with an environment learns."""
    path = DDPG(score_env(max_steps=3), config()).learn(6).save(tmp_path / "agent")
    expected = DDPG.load(path, score_env(max_steps=3)).learn(4, reset_num_timesteps=False)
    loaded = DDPG.load(DDPG.load(path).save(tmp_path / "again"))
    with pytest.raises(RuntimeError, match=r"set_env\(env\)"):
        loaded.learn(4)
    assert loaded.num_timesteps == 6
    loaded.set_env(score_env(max_steps=3))
    loaded.learn(4, reset_num_timesteps=False)
    assert torch.equal(weights(loaded), weights(expected))
    assert loaded.num_timesteps == 10


# --- randomness -----------------------------------------------------------------------------------


def test_set_random_seed(score_env: Any) -> None:
    def learned(*seeds: int) -> tuple[DDPG, Any]:
        env = score_env(max_steps=3)
        agent = DDPG(env, config(learning_starts=1)).learn(4)
        for seed in seeds:
            agent.set_random_seed(seed)
        return agent.learn(5, reset_num_timesteps=False), env

    (one, env), (same, _), (other, _), (none, _) = (learned(*s) for s in ((7,), (3, 7), (3,), ()))
    assert torch.equal(weights(one), weights(same))
    assert not torch.equal(weights(one), weights(other))
    assert not torch.equal(weights(one), weights(none))
    assert one.config == config(learning_starts=1, seed=7)
    # the episode that had begun ends after 6 steps; the next begins as a reset with the seed would
    np.testing.assert_array_equal(env.observations[-4], score_env().reset(seed=7)[0])


def test_set_random_seed_before_learning(score_env: Any) -> None:
    env, other = score_env(), score_env()
    agent, fresh = DDPG(env, config(seed=1)), DDPG(other, config(seed=7))
    agent.set_random_seed(7)
    agent.set_random_seed(None)  # changes nothing
    agent.actor.load_state_dict(fresh.actor.state_dict())
    agent.learn(1), fresh.learn(1)
    assert env.seeds == other.seeds == [7]
    np.testing.assert_array_equal(env.actions, other.actions)
    with pytest.raises(ValueError, match="seed is out of range"):
        agent.set_random_seed(-1)
    assert agent.config.seed == 7


# --- the replay buffer ----------------------------------------------------------------------------


def test_the_replay_buffer_in_a_file(score_env: Any, tmp_path: Path) -> None:
    agent = DDPG(score_env(max_steps=4), config(buffer_size=5)).learn(7)
    path = agent.save_replay_buffer(tmp_path / "buffer.pkl")
    assert path == tmp_path / "buffer.safetensors"
    assert agent.replay_buffer is agent.buffer
    other = DDPG(score_env(), config(buffer_size=20, seed=1))
    other.load_replay_buffer(tmp_path / "buffer")
    assert other.buffer.capacity == 5
    for mine, theirs in zip(agent.buffer.batches(2), other.buffer.batches(2), strict=True):
        for part, expected in zip(mine, theirs, strict=True):
            assert torch.equal(part, expected)


def test_a_replay_buffer_within_an_episode(score_env: Any, tmp_path: Path) -> None:
    """Mistake: a transition from the file's last state to the agent's next one."""
    path = DDPG(score_env(), config()).learn(3).save_replay_buffer(tmp_path / "buffer")
    env = score_env(max_steps=9)
    agent = DDPG(env, config(seed=1)).learn(2)
    agent.load_replay_buffer(path)
    agent.learn(1, reset_num_timesteps=False)
    last = agent.buffer._gather(torch.tensor([3]))
    np.testing.assert_array_equal(last.observations[0], env.observations[2].ravel())
    np.testing.assert_array_equal(last.next_observations[0], env.observations[3].ravel())


def test_a_replay_buffer_that_does_not_fit(score_env: Any, tmp_path: Path) -> None:
    agent = DDPG(score_env(), config()).learn(2)
    buffer = agent.buffer
    other = DDPG(score_env(n=7), config()).learn(2).save_replay_buffer(tmp_path / "other")
    with pytest.raises(ValueError, match=r"\[14, 7\] numbers, the agent's have \[12, 6\]"):
        agent.load_replay_buffer(other)
    with pytest.raises(ValueError, match="no replay buffer"):
        agent.load_replay_buffer(agent.save(tmp_path / "agent"))
    with pytest.raises(FileNotFoundError):
        agent.load_replay_buffer(tmp_path / "nothing")
    assert agent.buffer is buffer
    assert asdict(agent.config) == asdict(config())
