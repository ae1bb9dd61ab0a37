"""A small environment with the shape of the active-learning one, and what many tests need."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from agents.ddpg.replay_buffer import Batch


class ScoreEnv(gym.Env[Any, Any]):
    """Random probability matrices, scores as actions; the reward favours scores near 0.8.

    Args:
        n: Rows of the observation and coordinates of the action.
        max_steps: Length of an episode.
        low: Lower bound of the actions.
        high: Upper bound of the actions.
        truncate: End episodes by truncation in place of termination.
        rewards: Rewards by step of the environment's life in place of its own.
        bad_observation_at: Step of the environment's life at which the observation is NaN.
    """

    def __init__(
        self,
        n: int = 6,
        max_steps: int = 5,
        low: float = 0.0,
        high: float = 1.0,
        truncate: bool = False,
        rewards: dict[int, float] | None = None,
        bad_observation_at: int | None = None,
    ) -> None:
        self.n = n
        self.observation_space = gym.spaces.Box(0, 1, (n, 2), np.float32)
        self.action_space = gym.spaces.Box(low, high, (n,), np.float32)
        self.max_steps, self.truncate = max_steps, truncate
        self.rewards, self.bad_observation_at = rewards or {}, bad_observation_at
        self.life = 0
        self.seeds: list[int | None] = []
        self.actions: list[np.ndarray] = []
        self.observations: list[np.ndarray] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.t = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self.actions.append(action.copy())
        self.t += 1
        self.life += 1
        observation = self._observe()
        if self.life == self.bad_observation_at:
            observation[0, 0] = np.nan
        reward = self.rewards.get(self.life, float(1 - np.abs(action - 0.8).mean()))
        ends = self.t == self.max_steps
        info = {"macro_f1": 0.5 + 0.01 * self.life, "micro_f1": 0.25}
        return observation, reward, ends and not self.truncate, ends and self.truncate, info

    def _observe(self) -> np.ndarray:
        first = self.np_random.random((self.n, 1), dtype=np.float32)
        self.observations.append(np.hstack([first, 1 - first]))
        return self.observations[-1].copy()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks as small as these are fastest on one thread, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def score_env() -> type[ScoreEnv]:
    return ScoreEnv


@pytest.fixture
def random_batch() -> Any:
    def make(d: int, k: int, size: int = 8, seed: int = 0) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        return Batch(
            observations=torch.rand(size, d, generator=generator),
            actions=torch.rand(size, k, generator=generator),
            rewards=torch.randn(size, 1, generator=generator),
            next_observations=torch.rand(size, d, generator=generator),
            terminated=(torch.rand(size, 1, generator=generator) < 0.3).float(),
        )

    return make


@pytest.fixture
def untouched_globals() -> Iterator[None]:
    """Fail if a test's code draws from, or seeds, a global generator."""
    before, torch_before = np.random.get_state(legacy=False), torch.get_rng_state()  # noqa: NPY002
    yield
    np.testing.assert_equal(np.random.get_state(legacy=False), before)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_before)
