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
        observation_size: length d of the flattened observation.
        action_size: length k of the action.
        width: units in each of the two hidden layers.
        squash: "sigmoid", the paper's, with scores in (0, 1); or "tanh", in (-1, 1).
        generator: source of the initial weights; the global generator is never touched.

    Attributes:
        low: lower end of the squashed range.
        high: upper end of the squashed range.
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
        observation_size: length d of the flattened observation.
        action_size: length k of the action.
        width: units in each of the two hidden layers.
        generator: source of the initial weights; the global generator is never touched.
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
        return self.net[1:](self.net[0](observation, action))


class Linear(nn.Linear):
    """``nn.Linear`` for wide inputs and small batches, with the same numbers."""

    def forward(self, *parts: Tensor) -> Tensor:
        """Parts (B, n_1), (B, n_2), ... of an input -> (B, out)."""
        return _WideLinear.apply(self.weight, self.bias, *parts)


class _WideLinear(torch.autograd.Function):
    """A linear layer over concatenated inputs, whose backward pass is fast where it is large.

    Only the inputs that need a gradient get one: of the critic's 16,625 inputs, in Eq. 4, the
    3,325 actions. And on the CPU the gradient of the weights, (out, B) @ (B, in), is computed in
    blocks of rows: as a whole it misses the cache and took MKL four times as long, with equal bits.
    """

    LARGE = 2**19
    """Weights from which this pays; smaller products are PyTorch's own."""
    BLOCK = 2**18
    """Weights of a block."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, *parts: Tensor) -> Tensor:
        inputs = torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]
        ctx.save_for_backward(inputs, weight)
        ctx.widths = [part.shape[-1] for part in parts]
        return F.linear(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        of_weight, _, *of_parts = ctx.needs_input_grad
        large = weight.numel() >= _WideLinear.LARGE
        grad_parts: list[Tensor | None] = [None] * len(of_parts)
        if any(of_parts):
            columns = weight.split(ctx.widths, dim=1)
            whole = None if large else (grad @ weight).split(ctx.widths, dim=1)
            for i, needed in enumerate(of_parts):
                if needed:
                    grad_parts[i] = grad @ columns[i] if whole is None else whole[i]
        if not of_weight:
            return None, None, *grad_parts
        blocks = large and not grad.is_cuda
        grad_weight = _in_blocks(grad, inputs, weight) if blocks else grad.T @ inputs
        return grad_weight, grad.sum(0), *grad_parts


def _in_blocks(grad: Tensor, inputs: Tensor, weight: Tensor) -> Tensor:
    """The gradient of the weights, (out, in), from (B, out) and (B, in)."""
    result = torch.empty_like(weight)
    n_rows = max(1, _WideLinear.BLOCK // weight.shape[1])
    for rows, block in zip(grad.T.split(n_rows), result.split(n_rows), strict=True):
        torch.mm(rows, inputs, out=block)
    return result


def three_layers(
    inputs: int, width: int, outputs: int, generator: torch.Generator | None = None
) -> nn.Sequential:
    """Build linear, ReLU, linear, ReLU, linear on the CPU with PyTorch's usual initial weights.

    Weights and biases are uniform in +-1/sqrt(fan in), which is what ``nn.Linear`` draws, but from
    ``generator`` instead of the global one.
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
