"""Stable-Baselines3's agents with settings that make sense for one run over a pool of images."""

from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3 as sb3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise

from agents.spaces import check_spaces, find_attribute
from agents.spelling import hint

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {
    "ddpg": sb3.DDPG,
    "td3": sb3.TD3,
    "sac": sb3.SAC,
    "ppo": sb3.PPO,
    "a2c": sb3.A2C,
}
"""Algorithms for a Box action space, by name."""
DISCRETE_ONLY = ("dqn",)
"""Algorithms of SB3 that cannot take a Box action."""
BATCH = 16
"""Transitions in a gradient step: the paper's."""


def make(
    name: str,
    env: gym.Env[Any, Any],
    seed: int | None,
    max_steps: int | None = None,
    **overrides: Any,
) -> BaseAlgorithm:
    """Build an agent of Stable-Baselines3 for `env`, ready for `learn`.

    SB3's defaults are made for millions of cheap steps. Here an episode is one run over a pool and
    every step costs annotations and a training of the classifier. So, with T the steps of an
    episode:

    - all: `MlpPolicy` with two hidden layers of 256, gamma 0.99;
    - ddpg, td3, sac: a replay buffer of T transitions (SB3 allocates it at once, with S and S'),
      batches of 16, tau 0.005, learning_starts 16 or T / 4 if that is less, and T / 32 gradient
      steps after each step, which over an episode is as many as one pass over the buffer after
      each step makes (Algorithm 1, line 8);
    - ddpg: Ornstein-Uhlenbeck noise, theta 0.15, dt 1; td3: Gaussian noise; independent in each
      coordinate. SB3 adds it to actions in [-1, 1], twice as wide as scores in [0, 1], so sigma is
      0.4 where the scores' is 0.2. sac explores by itself;
    - ppo, a2c: rollouts of 16 and 5 steps, or T if that is less, so that a policy is updated many
      times in an episode; an initial standard deviation of 0.2, since SB3's of 1 would clip nearly
      every score to 0 or 1. Rollouts are whole: `learn(n)` goes on to a multiple of their length.

    SB3 draws noise and batches from the global generators of NumPy and PyTorch and seeds both.

    Args:
        name: One of ddpg, td3, sac, ppo, a2c; case does not matter.
        env: Environment with a bounded Box action space.
        seed: Seed of everything, or None.
        max_steps: T. None: the environment's attribute of that name, and 1000 where it has none.
        **overrides: Arguments of the algorithm's constructor, in place of the above.

    Raises:
        ValueError: There is no such algorithm, or it cannot take a Box action.
        TypeError: A space of `env` is not a Box.
    """
    algorithm = find_algorithm(name)
    _, actions = check_spaces(env)
    steps = max_steps or int(find_attribute(env, "max_steps", 1000))
    arguments = settings(name.lower(), actions.shape, steps)
    return algorithm(env=env, seed=seed, **(arguments | overrides))


def find_algorithm(name: str) -> type[BaseAlgorithm]:
    """Return SB3's class of that name; raises as `make` does."""
    if name.lower() in ALGORITHMS:
        return ALGORITHMS[name.lower()]
    known = ", ".join(ALGORITHMS)
    if name.lower() in DISCRETE_ONLY:
        raise ValueError(
            f"{name} chooses among discrete actions and cannot take a Box action; use {known}"
        )
    raise ValueError(f"no algorithm {name!r}, choose from {known}{hint(name.lower(), ALGORITHMS)}")


def settings(name: str, shape: tuple[int, ...], steps: int) -> dict[str, Any]:
    """Constructor arguments for actions of `shape` and episodes of `steps` steps; see `make`."""
    common: dict[str, Any] = {
        "policy": "MlpPolicy",
        "policy_kwargs": {"net_arch": [256, 256]},
        "gamma": 0.99,
    }
    if name in ("ppo", "a2c"):
        common["policy_kwargs"]["log_std_init"] = float(np.log(0.2))
        # PPO normalises advantages over the rollout and so needs two steps at least.
        rollout = max(2, min(BATCH if name == "ppo" else 5, steps))
        return common | {"n_steps": rollout} | ({"batch_size": rollout} if name == "ppo" else {})
    zero = np.zeros(shape, dtype=np.float32)
    noise = {
        "ddpg": OrnsteinUhlenbeckActionNoise(zero, np.full_like(zero, 0.4), theta=0.15, dt=1.0),
        "td3": NormalActionNoise(zero, np.full_like(zero, 0.4)),
        "sac": None,
    }
    return common | {
        "buffer_size": steps,
        "batch_size": BATCH,
        "tau": 0.005,
        "learning_starts": min(BATCH, steps // 4),
        "gradient_steps": max(1, round(steps / (2 * BATCH))),
        "action_noise": noise[name],
    }
