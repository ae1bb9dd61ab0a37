"""DDPG that knows what a coordinate of its action is: a sample of the pool, there or gone."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from agents.ddpg import DDPG, DDPGConfig
from agents.ddpg.spaces import find_attribute
from agents.sets import repairs
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
    small_output: bool = False
    """Whether the last layers begin with weights near 0, as in the DDPG paper."""
    bounds: Literal["sigmoid", "penalty", "inverting"] = "sigmoid"
    """What keeps scores off 0 and 1: nothing but the sigmoid, whose slope vanishes there; a penalty
    on the squares of the logits beside Eq. 4; or inverting gradients in place of that slope."""
    largest_reward: float | None = None
    """What no reward exceeds in size, 1 for Eq. 3: then Q' of Eq. 6 is kept within what such
    rewards can sum to, largest_reward / (1 - gamma). None: it is taken as it is."""
    critics: Literal[1, 2] = 1
    """With two, the smaller Q' counts in Eq. 6, the first Q in Eq. 4: TD3's clipped double Q."""
    layer_norm: bool = False
    """Whether both hidden layers of both networks are normalised."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        super().__post_init__()
        if self.networks == "set" and self.squash != "sigmoid":
            raise ValueError("networks='set' end in a sigmoid: leave squash as it is")
        if self.bounds == "inverting" and self.squash != "sigmoid":
            raise ValueError("bounds='inverting' is for scores in [0, 1]: leave squash as it is")
        layers = {"small_output": self.small_output, "layer_norm": self.layer_norm}
        for name in (name for name, wanted in layers.items() if wanted and self.networks == "set"):
            raise ValueError(f"{name} is for the paper's layers: leave it, or networks='mlp'")
        largest = self.largest_reward
        if largest is not None and not (largest > 0 and self.gamma < 1):
            raise ValueError(
                f"largest_reward must be positive, and gamma below 1 for a bound to follow, got "
                f"{largest} and {self.gamma}"
            )


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
        c = self.config
        if c.networks == "mlp":
            networks = [*super()._make_networks(weights)]
            if c.critics == 2:
                networks.append(super()._make_networks(weights)[1])
            for network in networks:
                if c.layer_norm:
                    repairs.with_layer_norm(network)
                if c.small_output:
                    repairs.with_small_output(network, weights)
            actor, *critics = networks
            return actor, critics[0] if c.critics == 1 else repairs.Critics(*critics)
        query_size = find_attribute(self.env, "query_size", None)
        if query_size is None:
            raise ValueError("networks='set' is for active-learning environments: no query_size")
        assert isinstance(self.encode, SetEncoder)
        sizes = self.encode.sizes
        critic: nn.Module = SetCritic(query_size, weights, sizes)  # first to draw, as ever
        actor = SetActor(weights, sizes)
        if c.critics == 2:
            critic = repairs.Critics(critic, SetCritic(query_size, weights, sizes))
        return actor, critic

    def _next_q(self, states: Tensor) -> Tensor:
        c, q = self.config, super()._next_q(states).amin(1, keepdim=True)
        if c.largest_reward is None:
            return q
        limit = c.largest_reward / (1 - c.gamma)
        return q.clamp(-limit, limit)

    def _actor_loss(self, states: Tensor) -> Tensor:
        c, logits = self.config, self.actor.logits(states)
        actions = self.actor.squash(logits)
        if c.bounds == "inverting":
            actions = actions.detach().requires_grad_()
        loss = -self.critic(states, self._in_play(actions, states))[:, 0].mean()
        if c.bounds == "inverting":
            return repairs.inverted(loss, actions, logits)
        return loss + repairs.PENALTY * logits.square().mean() if c.bounds == "penalty" else loss

    def _in_play(self, actions: Tensor, states: Tensor) -> Tensor:
        if not self.config.mask:
            return actions
        return torch.where(self.encode.in_pool(states), actions, self.actor.low)

    def _scaled(self, noise: Tensor, scores: Tensor, state: Tensor) -> Tensor:
        if self.config.noise_scale == "fixed":
            return noise
        return noise * scores[self.encode.in_pool(state)].std(correction=0)
