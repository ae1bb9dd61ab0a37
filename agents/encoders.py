"""From an environment's observations to the flat states that networks take and a buffer keeps."""

from collections.abc import Mapping
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from agents.pool_features import (
    FEATURES,
    context_size,
    describe,
    flatten,
    require,
    unflatten,
    unstacked,
)
from agents.spaces import check_box, flatten_observations


class Encoder(Protocol):
    """What the agent asks of it."""

    size: int
    """d, the length of a state."""

    def __call__(self, observation: Any) -> tuple[Tensor, bool]:
        """States (m, d) float32 of one observation or of m stacked, and whether it was one.

        Raises:
            ValueError: another shape, or NaN or infinity in it.
        """

    def in_pool(self, states: Tensor) -> Tensor:
        """Which coordinates of the action stand for a sample still in the pool, (..., k) bool."""


class FlatEncoder:
    """A Box of any shape, flattened.

    Args:
        space: of the observations.
        device: where states lie.
    """

    def __init__(self, space: gym.Space[Any], device: torch.device) -> None:
        self.space, self.device = check_box(space), device
        self.size = int(np.prod(self.space.shape))

    def __call__(self, observation: Any) -> tuple[Tensor, bool]:
        """See ``Encoder``."""
        states = flatten_observations(observation, self.space)
        return torch.tensor(states, device=self.device), np.shape(observation) == self.space.shape

    def in_pool(self, states: Tensor) -> Tensor:
        """Of an observation (n_u, M): the rows that are not zeros."""
        return states.unflatten(-1, self.space.shape).any(-1)


class SetEncoder:
    """The dictionary of ``al_gym.wrappers.ContextObservation``, as ``pool_features`` describes it.

    Args:
        space: of the observations.
        device: where states lie.
    """

    def __init__(self, space: gym.Space[Any], device: torch.device) -> None:
        require(space.spaces if isinstance(space, gym.spaces.Dict) else ())
        assert isinstance(space, gym.spaces.Dict)
        self.space, self.device = space, device
        n, _ = space["softmax"].shape or (0, 0)
        self.size = context_size(len(FEATURES)) + len(FEATURES) * n

    def __call__(self, observation: Mapping[str, np.ndarray]) -> tuple[Tensor, bool]:
        """See ``Encoder``."""
        if not isinstance(observation, Mapping):
            raise ValueError("pass the observation's dictionary alone: `observation, info = ...`")
        require(observation)
        shape, found = self.space["softmax"].shape, np.shape(observation["softmax"])
        if found != shape and found[1:] != shape:
            raise ValueError(f"the softmax of an observation has shape {shape}, got {found}")
        single = found == shape
        each = unstacked(observation)
        states = torch.stack([flatten(describe(one, device=self.device)) for one in each])
        if not states.isfinite().all():
            raise ValueError(
                "the observation has NaN or infinity in it: mend the environment, or clean its "
                "observations in a wrapper"
            )
        return states, single

    def in_pool(self, states: Tensor) -> Tensor:
        """The samples whose largest probability is not 0."""
        return unflatten(states, len(FEATURES)).features[..., FEATURES.index("p1"), :] > 0
