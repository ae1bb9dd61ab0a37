"""The environment that the clients drive, and what it does when nobody stands between."""

import functools
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

ID = "al_gym:ActiveLearning-chestCT-v0"
"""With what registers it, since some clients make it in processes of their own."""
SETTINGS: dict[str, Any] = {
    "profile": "embedded", "trainable": "head", "n_phantoms": 8, "n_train": 40, "n_test": 20,
    "query_size": 4, "pretrain_passes": 2, "budget": 20, "device": "cpu",
}  # fmt: skip
"""A pool of 36 images of 4 classes, and episodes of 4 steps."""
N_STEPS, N_POOL, N_CLASSES = 4, 36, 4


def make(**settings: Any) -> gym.Env[Any, Any]:
    """An environment, other settings apart as ``SETTINGS`` say."""
    return gym.make(ID, **{**SETTINGS, **settings})


def maker(**settings: Any) -> functools.partial[gym.Env[Any, Any]]:
    """What makes one, and can be sent to another process."""
    return functools.partial(gym.make, ID, **{**SETTINGS, **settings})


class Walk(NamedTuple):
    """What a number of steps showed; the first observation and info are those of ``reset``."""

    observations: list[np.ndarray]
    rewards: list[float]
    terminated: list[bool]
    infos: list[dict[str, Any]]


def walk(env: gym.Env[Any, Any], actions: Any, seed: int | None = 0) -> Walk:
    """Reset with the seed, and take the actions; a new episode begins where one ends."""
    observation, info = env.reset(seed=seed)
    seen = Walk([observation], [], [], [info])
    for action in actions:
        observation, reward, terminated, _, info = env.step(action)
        seen.observations.append(observation)
        seen.rewards.append(float(reward))
        seen.terminated.append(terminated)
        seen.infos.append(info)
        if terminated:
            env.reset()
    return seen


def actions(n: int, seed: int = 0) -> np.ndarray:
    """Random scores, (n, n_u) float32."""
    return np.random.default_rng(seed).random((n, N_POOL), np.float32)


def learned(agent: Any, steps: int) -> dict[str, float]:
    """Let an agent of SB3's kind learn; the losses that it logged. Its policy must have changed."""
    before = parameters(agent.policy)
    agent.learn(steps, log_interval=100)
    after = parameters(agent.policy)
    assert np.isfinite(after).all() and (before != after).any()
    names = agent.logger.name_to_value
    return {name: value for name, value in names.items() if "loss" in name}


def parameters(module: Any) -> np.ndarray:
    """All parameters of a module, copied into one vector."""
    return np.concatenate([p.detach().cpu().numpy().ravel().copy() for p in module.parameters()])
