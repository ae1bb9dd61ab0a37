"""Stable-Baselines3's agents and vector environments."""

import numpy as np
import pytest

from tests.clients.tasks import (
    N_CLASSES,
    N_POOL,
    N_STEPS,
    actions,
    learned,
    make,
    maker,
    parameters,
    walk,
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["DDPG", "TD3", "SAC", "PPO", "A2C"])
def test_agents(name):
    """DDPG, TD3, SAC, PPO and A2C learn without a wrapper, and predict admissible scores."""
    import stable_baselines3

    off_policy = name in ("DDPG", "TD3", "SAC")
    settings = {"learning_starts": 8, "batch_size": 8} if off_policy else {"n_steps": 8}
    settings |= {"batch_size": 8} if name == "PPO" else {}
    env = make()
    agent = getattr(stable_baselines3, name)(
        "MlpPolicy", env, seed=0, device="cpu", **settings, policy_kwargs={"net_arch": [16, 16]}
    )
    losses = learned(agent, 25)
    assert losses and np.isfinite(list(losses.values())).all()
    assert len(agent.ep_info_buffer) == agent.num_timesteps // N_STEPS >= 6
    assert all(episode["l"] == N_STEPS for episode in agent.ep_info_buffer)
    observation, _ = env.reset(seed=0)
    action, _ = agent.predict(observation, deterministic=True)
    assert env.action_space.contains(action)


@pytest.mark.parametrize("name", ["ddpg", "td3", "sac", "ppo", "a2c"])
def test_our_settings(name):
    """`agents.sb3` makes all five, and another agent takes over a state to the bit."""
    from agents import sb3

    agent = sb3.make(name, make(), seed=0)
    learned(agent, 20)
    other = sb3.make(name, make(), seed=1)
    sb3.load_state_dict(other, sb3.state_dict(agent))
    np.testing.assert_array_equal(parameters(other.policy), parameters(agent.policy))
    assert other.num_timesteps == agent.num_timesteps >= 20
    observation, _ = make().reset(seed=0)
    chosen = [each.predict(observation, deterministic=True)[0] for each in (agent, other)]
    np.testing.assert_array_equal(*chosen)


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_subproc_vec_env(start_method):
    """`SubprocVecEnv` by fork and spawn gives the trajectories of single environments."""
    from stable_baselines3.common.vec_env import SubprocVecEnv

    expected = [walk(make(), actions(N_STEPS), seed=seed) for seed in (3, 4)]
    envs = SubprocVecEnv([maker(), maker()], start_method=start_method)
    envs.seed(3)
    observations = envs.reset()
    for k, one in enumerate(expected):
        np.testing.assert_array_equal(observations[k], one.observations[0])
    for t, action in enumerate(actions(N_STEPS)):
        observations, rewards, done, infos = envs.step(np.stack([action, action]))
        for k, one in enumerate(expected):
            assert rewards[k] == np.float32(one.rewards[t])
            assert done[k] == one.terminated[t]
            np.testing.assert_array_equal(infos[k]["selected"], one.infos[t + 1]["selected"])
            seen = infos[k]["terminal_observation"] if done[k] else observations[k]
            np.testing.assert_array_equal(seen, one.observations[t + 1])
    assert done.all()
    envs.close()


def test_vec_normalize_and_monitor():
    """`VecMonitor` counts episodes, `VecNormalize` can be undone, PPO learns upon both."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

    expected = walk(make(), actions(N_STEPS), seed=0)
    envs = VecNormalize(VecMonitor(DummyVecEnv([maker(), maker()])), clip_obs=np.inf)
    envs.seed(0)
    envs.reset()
    np.testing.assert_array_equal(envs.get_original_obs()[0], expected.observations[0])
    for t, action in enumerate(actions(N_STEPS)):
        observations, _, done, infos = envs.step(np.stack([action, action]))
        assert observations.shape == (2, N_POOL, N_CLASSES)
        assert envs.get_original_reward()[0] == np.float32(expected.rewards[t])
    assert done.all() and infos[0]["episode"]["l"] == N_STEPS
    assert infos[0]["episode"]["r"] == pytest.approx(sum(expected.rewards), abs=1e-5)
    agent = PPO("MlpPolicy", envs, n_steps=8, batch_size=8, seed=0, device="cpu")
    assert np.isfinite(list(learned(agent, 32).values())).all()


def test_checker_and_evaluation():
    """`check_env` finds no error, and `evaluate_policy` sums the rewards of episodes."""
    from stable_baselines3 import DDPG
    from stable_baselines3.common.env_checker import check_env
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor

    check_env(make())
    env = Monitor(make())
    agent = DDPG("MlpPolicy", env, seed=0, device="cpu", buffer_size=10)
    env.reset(seed=0)
    returns, lengths = evaluate_policy(agent, env, 2, return_episode_rewards=True)
    env.reset(seed=0)
    expected = []
    for _ in range(2):  # both from the state that a reset without a seed restores
        observation, total, terminated = env.reset()[0], 0.0, False
        while not terminated:
            action = agent.predict(observation, deterministic=True)[0]
            observation, reward, terminated, _, _ = env.step(action)
            total += float(reward)
        expected.append(total)
    assert lengths == [N_STEPS, N_STEPS]
    assert returns == pytest.approx(expected, abs=1e-5)
