"""Actor and critic: three fully connected layers each, as DRLA describes them (section 3.2)."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SQUASH = {"sigmoid": (torch.sigmoid, 0.0, 1.0), "tanh": (torch.tanh, -1.0, 1.0)}
"""Squashing function and its range, by name."""


class Actor(nn.Module):
    """The policy a = pi(S; theta_a): linear, ReLU, linear, ReLU, linear, squash.

    Args:
        observation_size: Length d of the flattened observation.
        action_size: Length k of the action.
        width: Units in each of the two hidden layers.
        squash: "sigmoid", the paper's, with scores in (0, 1); or "tanh", in (-1, 1).
        generator: Source of the initial weights; the global generator is never touched.

    Attributes:
        low: Lower end of the squashed range.
        high: Upper end of the squashed range.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        width: int = 256,
        squash: str = "sigmoid",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.net = three_layers(observation_size, width, action_size, generator)
        self.squash, self.low, self.high = SQUASH[squash]

    def logits(self, observation: Tensor) -> Tensor:
        """Scores before squashing, (B, d) -> (B, k)."""
        return self.net(observation)

    def forward(self, observation: Tensor) -> Tensor:
        """Action in the squashed range, (B, d) -> (B, k)."""
        return self.squash(self.logits(observation))


class Critic(nn.Module):
    """The value Q(S, a; theta_c), of any sign: linear, ReLU, linear, ReLU, linear.

    Args:
        observation_size: Length d of the flattened observation.
        action_size: Length k of the action.
        width: Units in each of the two hidden layers.
        generator: Source of the initial weights; the global generator is never touched.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        width: int = 256,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.net = three_layers(observation_size + action_size, width, 1, generator)

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Q of observations (B, d) and squashed actions (B, k), shape (B, 1)."""
        return self.net(torch.cat([observation, action], dim=1))


class Linear(nn.Linear):
    """``nn.Linear`` whose backward pass suits wide layers and small batches; the same numbers."""

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, in) -> (B, out)."""
        return _WideLinear.apply(inputs, self.weight, self.bias)


class _WideLinear(torch.autograd.Function):
    """The gradient of the weights, (out, B) @ (B, in), is computed in blocks of rows on the CPU.

    With B = 16 and 16,625 inputs the whole product misses the cache: in one call it took MKL four
    times as long as in blocks of 16 rows, with equal bits. Small layers gain nothing.
    """

    ROWS = 16
    LARGE = 2**19  # weights

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return F.linear(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        inputs, weight = ctx.saved_tensors
        of_inputs, of_weight, _ = ctx.needs_input_grad
        grad_inputs = grad @ weight if of_inputs else None
        if not of_weight:
            return grad_inputs, None, None
        if grad.is_cuda or weight.numel() < _WideLinear.LARGE:
            return grad_inputs, grad.T @ inputs, grad.sum(0)
        grad_weight = torch.empty_like(weight)
        for start in range(0, len(weight), _WideLinear.ROWS):
            rows = slice(start, start + _WideLinear.ROWS)
            torch.mm(grad[:, rows].T, inputs, out=grad_weight[rows])
        return grad_inputs, grad_weight, grad.sum(0)


def three_layers(
    inputs: int, width: int, outputs: int, generator: torch.Generator | None = None
) -> nn.Sequential:
    """Build linear, ReLU, linear, ReLU, linear on the CPU with PyTorch's usual initial weights.

    Weights and biases are uniform in +-1/sqrt(fan in), which is what `nn.Linear` draws, but from
    `generator` instead of the global one.
    """
    layers = [
        nn.utils.skip_init(Linear, inputs, width),
        nn.utils.skip_init(Linear, width, width),
        nn.utils.skip_init(Linear, width, outputs),
    ]
    for layer in layers:
        bound = 1.0 / math.sqrt(layer.in_features)
        nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
        nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
