"""How a network moves: Adam down its own loss, and its target after it (Eq. 7).

Both kinds give the same step. ``FusedOptimizer`` never waits for the device; ``DefaultOptimizer``
is equal to Stable-Baselines3's bit for bit on the CPU.
"""

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor, nn


class Optimizer(ABC):
    """Adam on one network, and Polyak averaging of its target.

    Args:
        network: what is trained.
        target: its target; the same layers.
        learning_rate: of Adam.
        tau: share of the online weights in a target update; lambda in Eq. 7.

    Attributes:
        adam: PyTorch's optimizer.
    """

    fused: bool | None
    """What PyTorch's Adam is told."""

    def __init__(
        self, network: nn.Module, target: nn.Module, learning_rate: float, tau: float
    ) -> None:
        self.weights: list[Tensor] = list(network.parameters())
        self.averages: list[Tensor] = list(target.parameters())
        self.tau = tau
        self.adam = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=self.fused)

    def minimize(self, loss: Tensor, finite: Tensor) -> None:
        """Move the network alone, if ``finite`` is not 0: no gradient reaches any other network."""
        self.adam.zero_grad()
        loss.backward(inputs=self.weights)
        self._step(finite)
        self.adam.zero_grad()  # the other network's gradients take the memory of these

    @torch.no_grad()
    def mean_gradient(self) -> Tensor:
        """Length of the mean gradient that Adam keeps, over about ten steps; NaN before the first.

        Unlike the gradient of a step it is at hand whenever it is asked for.
        """
        found = map(self.adam.state.get, self.weights)  # [] would make empty entries
        moments = [each for each in found if each]
        if not moments:
            return torch.tensor(torch.nan)
        beta, _ = self.adam.param_groups[0]["betas"]
        lengths = torch.stack(torch._foreach_norm([each["exp_avg"] for each in moments]))
        return torch.linalg.vector_norm(lengths) / (1 - beta ** moments[0]["step"])

    @abstractmethod
    def update_target(self, finite: Tensor) -> None:
        """Theta' := tau theta + (1 - tau) theta' (Eq. 7), if ``finite`` is not 0."""

    @abstractmethod
    def _step(self, finite: Tensor) -> None:
        """Adam's step by the gradients that are there, if ``finite`` is not 0."""

    def state_dict(self) -> dict[int, Any]:
        """Moments and number of steps of every parameter, by its position."""
        moments: dict[int, Any] = self.adam.state_dict()["state"]
        return moments

    def load_state_dict(self, state: dict[int, Any]) -> None:
        """Continue from a ``state_dict`` of either kind."""
        self.adam.load_state_dict(self.adam.state_dict() | {"state": state})


class FusedOptimizer(Optimizer):
    """Adam in one kernel and averaging in one pass, which read ``finite`` on the device."""

    fused = True

    @torch.no_grad()
    def update_target(self, finite: Tensor) -> None:
        """See ``Optimizer``."""
        torch._foreach_lerp_(self.averages, self.weights, [self.tau * finite] * len(self.weights))

    def _step(self, finite: Tensor) -> None:
        # The flag of PyTorch's GradScaler: the kernel reads it on the device and does nothing.
        self.adam.found_inf = 1 - finite  # type: ignore[attr-defined]
        self.adam.step()


class DefaultOptimizer(Optimizer):
    """PyTorch's default Adam, and averaging in two passes, as Stable-Baselines3 does it."""

    fused = None

    @torch.no_grad()
    def update_target(self, finite: Tensor) -> None:
        """See ``Optimizer``."""
        if finite:
            torch._foreach_mul_(self.averages, 1 - self.tau)
            torch._foreach_add_(self.averages, self.weights, alpha=self.tau)

    def _step(self, finite: Tensor) -> None:
        if finite:
            self.adam.step()


OPTIMIZERS: dict[Literal["fused", "default"], type[Optimizer]] = {
    "fused": FusedOptimizer,
    "default": DefaultOptimizer,
}
"""By the name that ``DDPGConfig.optimizer_impl`` has for them."""
