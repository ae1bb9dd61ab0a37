"""DDPG that knows what a coordinate of its action is: a sample of the pool, there or gone."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from agents.ddpg import DDPG, DDPGConfig
from agents.ddpg.spaces import find_attribute
from agents.sets.encoders import PoolEncoder, RowsEncoder, SetEncoder
from agents.sets.networks import SetActor, SetCritic


@dataclass(frozen=True)
class PoolConfig(DDPGConfig):
    """Settings of ``PoolDDPG``: the paper's, and what it may do with the pool.

    Raises:
        ValueError: a setting is out of its range; the message names it.
    """

    mask: bool = False
    """Whether samples that have left the pool are kept out of noise, targets and critic: their
    score is 0 everywhere. For observations (n_u, M) with rows of zeros, and for sets."""
    noise_scale: Literal["fixed", "spread"] = "fixed"
    """Noise as it is drawn; or times the standard deviation, over the samples still in the pool, of
    what it is added to: scores that differ by little are then not drowned by it."""
    networks: Literal["mlp", "set"] = "mlp"
    """The paper's fully connected layers over the whole observation; or networks that see a set of
    samples, for observations of ``al_gym.wrappers.ContextObservation`` (``agents.sets.networks``),
    which have a width of their own."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        super().__post_init__()
        if self.networks == "set" and self.squash != "sigmoid":
            raise ValueError("networks='set' end in a sigmoid: leave squash as it is")


class PoolDDPG(DDPG):
    """``DDPG`` with masks, noise in proportion to the scores, and networks that see a set.

    With ``networks="set"`` observations are those of ``al_gym.wrappers.ContextObservation``;
    otherwise they are (n_u, M), with rows of zeros where a sample has left the pool.

    Args:
        env: a single environment, or its id; with set networks one that has a ``query_size``.
        config: settings.
        **settings: or the fields of ``config`` one by one.

    Raises:
        TypeError: as for ``DDPG``, or observations that lack what set networks need.
        ValueError: as for ``DDPG``, observations without a row for every coordinate of the action,
            or no ``query_size``.
    """

    Config = PoolConfig
    """Its settings."""
    config: PoolConfig
    """Settings."""
    encode: PoolEncoder
    """From an observation to what the networks see of it."""

    def _make_encoder(self) -> PoolEncoder:
        c = self.config
        if c.networks == "set":
            return SetEncoder(self.observation_space, self.device)
        encoder = RowsEncoder(self.observation_space, self.device)
        rows, scores = encoder.space.shape, self.action_space.shape
        if (c.mask or c.noise_scale == "spread") and rows[:-1] != (int(np.prod(scores)),):
            raise ValueError(
                f"mask and noise_scale='spread' need observations (n_u, M) and actions (n_u,), got "
                f"{rows} and {scores}"
            )
        return encoder

    def _make_networks(self, weights: torch.Generator) -> tuple[Any, Any]:
        if self.config.networks == "mlp":
            return super()._make_networks(weights)
        query_size = find_attribute(self.env, "query_size", None)
        if query_size is None:
            raise ValueError("networks='set' is for active-learning environments: no query_size")
        critic = SetCritic(query_size, weights)  # the first to draw, as it has always been
        return SetActor(weights), critic

    def _in_play(self, actions: Tensor, states: Tensor) -> Tensor:
        if not self.config.mask:
            return actions
        return torch.where(self.encode.in_pool(states), actions, self.actor.low)

    def _scaled(self, noise: Tensor, scores: Tensor, state: Tensor) -> Tensor:
        if self.config.noise_scale == "fixed":
            return noise
        return noise * scores[self.encode.in_pool(state)].std(correction=0)
