"""What acts: Stable-Baselines3's ``predict``, as a protocol and as what scoring policies share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np


class Policy(Protocol):
    """Anything that chooses actions; every agent and strategy here is one, and so are SB3's."""

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]:
        """The action for one observation, or actions for several stacked, and the next state."""


class ScoringPolicy(ABC):
    """A policy without memory, whose action is a score for every row of the pool."""

    @abstractmethod
    def scores(self, observation: Any) -> np.ndarray:
        """Scores of one observation, (n_u,) float32 in [0, 1]; 0 of what has left the pool.

        Args:
            observation: (n_u, M) softmax values with rows of zeros for what has left the pool, or
                a dictionary that has them as ``softmax``.
        """

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]:
        """The scores, with Stable-Baselines3's signature.

        Args:
            observation: one, or m of them: an array (m, n_u, M), or a dictionary of stacked arrays.
            state: passed through.
            episode_start: not used.
            deterministic: not used; what is random is random by nature, and seeded.

        Returns:
            (n_u,) or (m, n_u) float32 in [0, 1], and ``state``.

        Raises:
            TypeError: the observation comes with an info dictionary, or has no softmax values.
            ValueError: its softmax values are neither (n_u, M) nor (m, n_u, M).
        """
        if isinstance(observation, tuple):
            raise TypeError("pass the observation alone: `observation, info = env.reset()`")
        each, stacked = unstacked(observation)
        scores = [self.scores(one) for one in each]
        return (np.stack(scores) if stacked else scores[0]), state


def softmax_of(observation: Any) -> np.ndarray:
    """The softmax values of an observation, which is an array of them or a dictionary with them.

    Raises:
        TypeError: a dictionary without softmax values.
        ValueError: they are neither a matrix (n, M) nor stacked ones (m, n, M).
    """
    if isinstance(observation, Mapping) and "softmax" not in observation:
        raise TypeError(
            "the observation has no softmax: wrap the environment in "
            "al_gym.wrappers.ContextObservation(env)"
        )
    softmax = observation["softmax"] if isinstance(observation, Mapping) else observation
    if np.ndim(softmax) not in (2, 3):
        raise ValueError(
            f"softmax values must be (n, M) or (m, n, M), not {np.shape(softmax)}; strategies do "
            "without FlattenObservation and without flatten=True"
        )
    return np.asarray(softmax)


def unstacked(observation: Any) -> tuple[list[Any], bool]:
    """The observations of an array or a dictionary of arrays, and whether they were stacked.

    Raises:
        TypeError: a dictionary without softmax values.
        ValueError: the softmax values are neither (n, M) nor (m, n, M).
    """
    softmax = softmax_of(observation)
    if np.ndim(softmax) == 2:
        return [observation], False
    if not isinstance(observation, Mapping):
        return list(observation), True
    return [
        {key: parts[i] for key, parts in observation.items()} for i in range(len(softmax))
    ], True
