"""What keeps the arithmetic of a ranking DDPG sound: scores off their bounds, values within theirs.

Each is a setting of ``PoolConfig`` and a change of the published agent that can be made alone.
"""

from typing import Any

import torch
from torch import Tensor, nn

SMALL = 3e-3
"""Bound of the initial weights of a last layer: Lillicrap et al. (2015), section 7."""
PENALTY = 0.1
"""Weight of the mean squared logit beside Eq. 4. At 0.01 more than half of the scores of an agent
with all repairs are saturated after 665 steps, at 0.1 none."""


class Critics(nn.Module):
    """Two critics, (B, d) and (B, k) -> (B, 2): TD3's, Fujimoto et al. (2018)."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        """Q of both."""
        return torch.cat([self.first(states, actions), self.second(states, actions)], dim=1)


def with_small_output(network: Any, weights: torch.Generator) -> None:
    """Draw the last layer anew, within +-``SMALL``: scores begin near 0.5, values near 0."""
    last = network.net[-1]
    nn.init.uniform_(last.weight, -SMALL, SMALL, generator=weights)
    nn.init.uniform_(last.bias, -SMALL, SMALL, generator=weights)


def with_layer_norm(network: Any) -> None:
    """Put a layer norm behind both hidden layers, before their ReLU (Ba et al., 2016)."""
    first, relu, second, _, last = network.net
    norms = [nn.LayerNorm(layer.out_features) for layer in (first, second)]
    network.net = nn.Sequential(first, norms[0], relu, second, norms[1], nn.ReLU(), last)


def inverted(loss: Tensor, actions: Tensor, logits: Tensor) -> Tensor:
    """``loss`` with inverting gradients (Hausknecht and Stone, 2016) where the sigmoid's slope was.

    A gradient that would raise a score in [0, 1] is scaled by what is left above it, one that would
    lower it by what is left below. The sigmoid scales by both at once, so that a score that has
    come near a bound hardly ever returns.

    Args:
        loss: of ``actions``, a scalar.
        actions: (B, k), detached from ``logits``, and part of the graph of ``loss``.
        logits: (B, k), whose sigmoid they are.

    Returns:
        A scalar with the value of ``loss``, and that gradient by ``logits``.
    """
    (gradient,) = torch.autograd.grad(loss, actions)
    room = torch.where(gradient < 0, 1 - actions.detach(), actions.detach())
    through = (gradient * room * logits).sum()
    return through - through.detach() + loss.detach()
