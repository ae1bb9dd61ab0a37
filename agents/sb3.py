"""Stable-Baselines3's agents with settings that make sense for one run over a pool of images."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise

from agents.ddpg.spaces import check_actions, find_attribute
from agents.names import lookup

BATCH = 16
"""Transitions in a gradient step: the paper's."""
Arguments = Callable[[tuple[int, ...], int], dict[str, Any]]
"""From the shape of an action and the steps of an episode to arguments of a constructor."""
ActionNoise = OrnsteinUhlenbeckActionNoise | NormalActionNoise | None


@dataclass(frozen=True)
class Algorithm:
    """An algorithm of Stable-Baselines3 for a Box action space."""

    agent: type[BaseAlgorithm]
    """Its class."""
    arguments: Arguments
    """What suits one run over a pool, beside what all algorithms have; see ``make``."""


def _off_policy(noise: Callable[[np.ndarray], ActionNoise]) -> Arguments:
    """Arguments of an algorithm with a replay buffer; ``noise`` makes its noise around zeros."""

    def arguments(shape: tuple[int, ...], steps: int) -> dict[str, Any]:
        return {
            "buffer_size": steps,
            "batch_size": BATCH,
            "tau": 0.005,
            "learning_starts": min(BATCH, steps // 4),
            "gradient_steps": max(1, round(steps / (2 * BATCH))),
            "action_noise": noise(np.zeros(shape, dtype=np.float32)),
        }

    return arguments


def _on_policy(rollout: int) -> Arguments:
    """Arguments of an algorithm that learns from rollouts of so many steps."""

    def arguments(shape: tuple[int, ...], steps: int) -> dict[str, Any]:
        # PPO normalises advantages over the rollout and so needs two steps at least.
        networks = {**NETWORKS, "log_std_init": float(np.log(0.2))}
        return {"n_steps": max(2, min(rollout, steps)), "policy_kwargs": networks}

    return arguments


def _ppo(shape: tuple[int, ...], steps: int) -> dict[str, Any]:
    """Those of ``_on_policy``, with a rollout for a batch."""
    arguments = _on_policy(BATCH)(shape, steps)
    return arguments | {"batch_size": arguments["n_steps"], "target_kl": 0.02}


def _ornstein_uhlenbeck(zero: np.ndarray) -> ActionNoise:
    return OrnsteinUhlenbeckActionNoise(zero, np.full_like(zero, 0.4), theta=0.15, dt=1.0)


def _gaussian(zero: np.ndarray) -> ActionNoise:
    return NormalActionNoise(zero, np.full_like(zero, 0.4))


NETWORKS: dict[str, Any] = {"net_arch": [256, 256]}
ALGORITHMS = {
    "ddpg": Algorithm(sb3.DDPG, _off_policy(_ornstein_uhlenbeck)),
    "td3": Algorithm(sb3.TD3, _off_policy(_gaussian)),
    "sac": Algorithm(sb3.SAC, _off_policy(lambda zero: None)),
    "ppo": Algorithm(sb3.PPO, _ppo),
    "a2c": Algorithm(sb3.A2C, _on_policy(5)),
}
"""Algorithms for a Box action space, by name."""
DISCRETE_ONLY = ("dqn",)
"""Algorithms of SB3 that cannot take a Box action."""


def make(
    name: str,
    env: gym.Env[Any, Any],
    seed: int | None,
    max_steps: int | None = None,
    **overrides: Any,
) -> BaseAlgorithm:
    """Build an agent of Stable-Baselines3 for ``env``, ready for ``learn``.

    SB3's defaults are made for millions of cheap steps. Here an episode is one run over a pool and
    every step costs annotations and a training of the classifier. So, with T the steps of an
    episode:

    - all: ``MlpPolicy``, for dictionaries ``MultiInputPolicy``, with two hidden layers of 256,
      gamma 0.99;
    - ddpg, td3, sac: a replay buffer of T transitions (SB3 allocates it at once, with S and S'),
      batches of 16, tau 0.005, learning_starts 16 or T / 4 if that is less, and T / 32 gradient
      steps after each step, which over an episode is as many as one pass over the buffer after
      each step makes (Algorithm 1, line 8);
    - ddpg: Ornstein-Uhlenbeck noise, theta 0.15, dt 1; td3: Gaussian noise; independent in each
      coordinate. SB3 adds it to actions in [-1, 1], twice as wide as scores in [0, 1], so sigma is
      0.4 where the scores' is 0.2. sac explores by itself;
    - ppo, a2c: rollouts of 16 and 5 steps, or T if that is less, so that a policy is updated many
      times in an episode; an initial standard deviation of 0.2, since SB3's of 1 would clip nearly
      every score to 0 or 1. Rollouts are whole: ``learn(n)`` goes on to a multiple of their length.
      ppo leaves a rollout once the policy has moved by ``target_kl`` 0.02: over hundreds of
      coordinates the ratio of probabilities, an exponential of a sum over them, overflows
      otherwise and the weights become NaN.

    SB3 draws noise and batches from the global generators of NumPy and PyTorch and seeds both.

    Args:
        name: one of ddpg, td3, sac, ppo, a2c; case does not matter.
        env: environment with a bounded Box action space.
        seed: seed of everything, or None.
        max_steps: T. None: the environment's attribute of that name, and 1000 where it has none.
        **overrides: arguments of the algorithm's constructor, in place of the above.

    Raises:
        ValueError: there is no such algorithm, or it cannot take a Box action.
        TypeError: the action space of ``env`` is not a Box.
    """
    algorithm = find_algorithm(name)
    actions = check_actions(env)
    steps = max_steps or int(find_attribute(env, "max_steps", 1000))
    arguments = settings(name, actions.shape, steps)
    if isinstance(env.observation_space, gym.spaces.Dict):
        arguments["policy"] = "MultiInputPolicy"
    return algorithm.agent(env=env, seed=seed, **(arguments | overrides))


def find_algorithm(name: str) -> Algorithm:
    """Return the algorithm of that name; raises as ``make`` does."""
    if name.lower() in DISCRETE_ONLY:
        raise ValueError(
            f"{name} chooses among discrete actions and cannot take a Box action; use "
            + ", ".join(ALGORITHMS)
        )
    return lookup("algorithm", name.lower(), ALGORITHMS)


def settings(name: str, shape: tuple[int, ...], steps: int) -> dict[str, Any]:
    """Arguments of a constructor for actions of ``shape`` and ``steps`` steps; see ``make``."""
    common = {"policy": "MlpPolicy", "policy_kwargs": dict(NETWORKS), "gamma": 0.99}
    return common | find_algorithm(name).arguments(shape, steps)


# --- exact continuation, which SB3's own save does not give ---------------------------------------

COUNTERS = ("num_timesteps", "_n_updates", "_episode_num")
BUFFER = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def state_dict(model: BaseAlgorithm) -> dict[str, Any]:
    """Everything that decides how ``model`` goes on, between two of its rollouts.

    SB3's ``save`` leaves out the replay buffer, the noise, the last observation and the global
    generators that it draws from. Take this where a callback's ``_on_rollout_start`` is called:
    what went before has then been stored and learned from.

    Returns:
        A tree that ``agents.checkpoint`` can write.
    """
    _, variables = model._get_torch_save_params()
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002
    buffer = getattr(model, "replay_buffer", None)
    stored = None
    if buffer is not None:
        stored = {name: getattr(buffer, name)[: buffer.size()] for name in BUFFER}
        stored |= {"pos": buffer.pos, "full": buffer.full}
    return {
        "parameters": model.get_parameters(),
        "variables": {name: getattr(model, name).detach() for name in variables},
        "counters": {name: getattr(model, name) for name in COUNTERS},
        "last_obs": model._last_obs,
        "last_episode_starts": model._last_episode_starts,
        "noise": getattr(model.action_noise, "noise_prev", None),
        "buffer": stored,
        "random": {
            "numpy": numpy | {"state": {**numpy["state"], "key": numpy["state"]["key"].tolist()}},
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "actions": model.action_space.np_random.bit_generator.state,
        },
    }


def load_state_dict(model: BaseAlgorithm, state: dict[str, Any]) -> None:
    """Set ``model``, made with the same settings, to a ``state_dict``.

    ``learn(..., reset_num_timesteps=False)`` then continues, the environment being at the same
    point. As it resets the noise first, give it an ``EachRollout`` with ``state["noise"]``.

    Raises:
        ValueError: it has no parameters.
    """
    if not isinstance(state["parameters"], dict):  # SB3 would read a path as one of its files
        raise ValueError(f"the parameters must be tensors by name, not {state['parameters']!r}")
    model.set_parameters(state["parameters"], exact_match=True, device=model.device)
    with torch.no_grad():
        for name, value in state["variables"].items():
            getattr(model, name).copy_(value)
    for name in COUNTERS:
        setattr(model, name, state["counters"][name])
    model._last_obs = state["last_obs"]
    model._last_episode_starts = state["last_episode_starts"]
    if state["buffer"] is not None:
        buffer = model.replay_buffer  # type: ignore[attr-defined]
        for name in BUFFER:
            getattr(buffer, name)[: len(state["buffer"][name])] = state["buffer"][name]
        buffer.pos, buffer.full = state["buffer"]["pos"], state["buffer"]["full"]
    np.random.set_state(state["random"]["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["random"]["torch"])
    if state["random"]["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["random"]["cuda"])
    model.action_space.np_random.bit_generator.state = state["random"]["actions"]


class EachRollout(BaseCallback):
    """Calls a function where ``state_dict`` may be taken, and stops when an episode is over.

    Args:
        between: called before each rollout but the first.
        noise: a ``state_dict``'s "noise", put back after ``learn`` has reset it.
    """

    def __init__(self, between: Callable[[], None], noise: Any = None) -> None:
        super().__init__()
        self._between, self._noise = between, noise
        self._first = True

    def _on_training_start(self) -> None:
        if self._noise is not None:
            assert isinstance(self.model.action_noise, OrnsteinUhlenbeckActionNoise)
            self.model.action_noise.noise_prev = self._noise

    def _on_rollout_start(self) -> None:
        if not self._first:
            self._between()
        self._first = False

    def _on_step(self) -> bool:
        return not self.locals["dones"].any()
