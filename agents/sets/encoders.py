"""From observations of a pool to flat states that also tell which samples are still in it."""

from collections.abc import Mapping
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from agents.ddpg.spaces import Encoder, FlatEncoder
from agents.policy import unstacked
from agents.sets import coverage, pool_features
from agents.sets.pool_features import FEATURES, PoolState, describe, flatten, require, unflatten


class PoolEncoder(Encoder, Protocol):
    """What ``PoolDDPG`` asks of it beyond that."""

    def in_pool(self, states: Tensor) -> Tensor:
        """Which coordinates of the action stand for a sample still in the pool, (..., k) bool."""


class RowsEncoder(FlatEncoder):
    """Observations (n_u, M), flattened; a row of zeros is a sample that has left the pool."""

    def in_pool(self, states: Tensor) -> Tensor:
        """See ``PoolEncoder``."""
        return states.unflatten(-1, self.space.shape).any(-1)


class SetEncoder:
    """The dictionary of ``al_gym.wrappers.ContextObservation``, as ``pool_features`` describes it.

    With the embeddings of the pool and of the labelled samples in it, as ``coverage`` does.

    Args:
        space: of the observations.
        device: where states lie.

    Raises:
        TypeError: it lacks a part that is needed, or is no dictionary.
    """

    def __init__(self, space: gym.Space[Any], device: torch.device) -> None:
        require(space.spaces if isinstance(space, gym.spaces.Dict) else ())
        assert isinstance(space, gym.spaces.Dict)
        self.space, self.device = space, device
        n, _ = space["softmax"].shape or (0, 0)
        sees_labelled = all(key in space.spaces for key in coverage.LABELLED_KEYS)
        self.memory = coverage.Memory() if sees_labelled else None
        self.sizes = coverage.SIZES if sees_labelled else pool_features.SIZES
        self.size = self.sizes.n_context + self.sizes.n_features * n

    def __call__(self, observation: Mapping[str, np.ndarray]) -> tuple[Tensor, bool]:
        """See ``agents.ddpg.spaces.Encoder``."""
        if not isinstance(observation, Mapping):
            raise ValueError("pass the observation's dictionary alone: `observation, info = ...`")
        require(observation)
        shape, found = self.space["softmax"].shape, np.shape(observation["softmax"])
        if found != shape and found[1:] != shape:
            raise ValueError(f"the softmax of an observation has shape {shape}, got {found}")
        each, stacked = unstacked(observation)
        states = torch.stack([flatten(self._described(one)) for one in each])
        if not states.isfinite().all():
            raise ValueError(
                "the observation has NaN or infinity in it: correct the environment, or replace "
                "them in a wrapper"
            )
        return states, not stacked

    def _described(self, observation: Mapping[str, np.ndarray]) -> PoolState:
        if self.memory is None:
            return describe(observation, device=self.device)
        coverage.require(observation, embeddings=True)
        state, _ = coverage.survey(observation, self.memory.of(observation))
        return PoolState(*(part.to(self.device) for part in state))

    def in_pool(self, states: Tensor) -> Tensor:
        """The samples whose largest probability is not 0."""
        return unflatten(states, self.sizes).features[..., FEATURES.index("p1"), :] > 0
