"""The project's own agent as the trainer: DDPG over many episodes of tasks, by credit a sample.

An episode is a new task, and a query is one sample, so that what a step pays is what that sample
has been worth: the rise of a signal on the validation images. The actor is the set network of
``agents.sets``, one for all pools and numbers of classes.
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from agents.sets import PoolConfig, PoolDDPG, coverage
from agents.sets.encoders import SetEncoder
from agents.sets.networks import SetActor
from agents.sets.pool_features import FEATURES, PoolState, flatten
from benchmarks.training.families import Features
from benchmarks.training.search import FEATURES_HERE, Job
from benchmarks.training.tasks import Episodes, Signal, draw_task

N_POOL = 300
"""Rows of a described pool, the most that a task has; the last are samples that have left it."""
SCALE = 10.0
"""Of what a step pays, so that values are of the order of 1."""
SETTINGS = PoolConfig(
    networks="set", mask=True, noise_space="logit", noise_scale="spread", gamma=0.9,
    gradient_steps=1, learning_starts=500, buffer_size=20_000, critics=2,
)  # fmt: skip
"""Of the agent, but for its seed."""


class Tasks(gym.Env[np.ndarray, np.ndarray]):
    """Tasks to learn on, one an episode, as an environment.

    | | space |
    |---|---|
    | observation | `Box(-inf, inf, (C + K * N_POOL,))`, a pool as `coverage.survey` describes it |
    | action | `Box(0, 1, (N_POOL,))`, scores; the sample with the highest is labelled |

    A step pays the rise of the signal, times ``SCALE``.

    Args:
        features: the training sides of the families that tasks are drawn from.
        signal: whose rise is paid.
    """

    query_size = 1

    def __init__(self, features: Mapping[str, tuple[Features, ...]], signal: Signal) -> None:
        self._features, self._signal = features, signal
        k, c = coverage.SIZES
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (c + k * N_POOL,), np.float32)
        self.action_space = gym.spaces.Box(0.0, 1.0, (N_POOL,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Draw a task and begin it."""
        super().reset(seed=seed)
        family = str(self.np_random.choice([*self._features]))
        task = draw_task(family, self._features[family], 1, self.np_random, N_POOL)
        task = replace(task, config=replace(task.config, query_size=1))
        self._episodes = Episodes(
            task, self._features[family][task.draw], [0], {"embeddings": True, "labelled": True}
        )
        self._memory, self._level = coverage.Memory(1), self._worth()
        return self._described(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Label the sample with the highest score."""
        self._episodes.step([action[: self._n]])
        before, self._level = self._level, self._worth()
        reward = SCALE * (self._level - before)
        return self._described(), reward, self._episodes.is_over, False, {}

    def _worth(self) -> float:
        return float(self._episodes.worth(self._signal)[0])

    def _described(self) -> np.ndarray:
        (observation,) = self._episodes.observations()
        state, _ = coverage.survey(observation, self._memory.of(observation))
        self._n = state.features.shape[1]
        padding = (0, N_POOL - self._n)
        padded = PoolState(torch.nn.functional.pad(state.features, padding), state.context)
        return flatten(padded).numpy()


class _Described(SetEncoder):
    """Observations of ``Tasks`` are states already."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.sizes = device, coverage.SIZES
        self.size = coverage.SIZES.n_context + coverage.SIZES.n_features * N_POOL

    def __call__(self, observation: Any) -> tuple[Tensor, bool]:
        states = torch.as_tensor(observation, device=self.device).view(-1, self.size)
        return states, np.ndim(observation) == 1


class Learner(PoolDDPG):
    """The agent, on ``Tasks``."""

    def _make_encoder(self) -> SetEncoder:
        return _Described(self.device)


class Learned:
    """A trained actor as a policy: each next sample of a query counts those before as labelled.

    Args:
        actor: the agent's.
    """

    wants: ClassVar[dict[str, bool]] = {"embeddings": True, "labelled": True}

    def __init__(self, actor: SetActor) -> None:
        self._actor = copy.deepcopy(actor).requires_grad_(False)
        self._memory = coverage.Memory()

    def act(self, observation: Mapping[str, np.ndarray], n_ranked: int) -> np.ndarray:
        """Scores, (n_u,): those of the query above all others, which have 0."""
        pool, covered = coverage.survey(observation, self._memory.of(observation))
        in_pool = pool.features[FEATURES.index("p1")] > 0
        action = np.zeros(len(in_pool), np.float32)
        n = min(n_ranked, int(in_pool.sum()))
        for score in np.linspace(1, 0.5, n):
            scores = self._actor.scores(pool).masked_fill(~in_pool, -torch.inf)
            row = int(scores.argmax())
            action[row], in_pool[row] = score, False
            covered.pick(row)
            pool.features[len(coverage.FIXED) :] = covered.features * in_pool
            pool.features[:, row] = 0
        return action


def reinforce(job: Job, episodes: int) -> Learned:
    """``train`` on the families of a job, in a worker process."""
    features = {family: FEATURES_HERE[family] for family in job.families}
    return train(features, job.config.signal, episodes, job.config.seed)


def train(
    features: Mapping[str, tuple[Features, ...]], signal: Signal, episodes: int, seed: int
) -> Learned:
    """A policy from so many episodes of tasks of some families."""
    env = Tasks(features, signal)
    agent = Learner(env, replace(SETTINGS, seed=seed))
    bar = tqdm(total=episodes, desc=f"DDPG, {signal}", unit="episode")

    def goes_on(*_: Any) -> bool:
        bar.update(agent.episodes - bar.n)
        return agent.episodes < episodes

    agent.learn(episodes * N_POOL, goes_on, log_interval=None)  # no episode has more steps
    return Learned(agent.actor)
