"""Exploration noise: one independent process for each coordinate of the action.

DRLA says that it adopts "the noise exploration mechanism used in [18]", Wawrzynski (2015), "Control
policy with autocorrelated noise in reinforcement learning for robotics". The DDPG paper,
Lillicrap et al. (2015), "Continuous control with deep reinforcement learning", cites the same work
for the same purpose and realises it as an Ornstein-Uhlenbeck process with theta = 0.15 and
sigma = 0.2. That process is the default here.

Each coordinate has its own process. DRLA ranks the coordinates of the action, so one scalar process
added to all of them would shift every score alike, change no ranking and explore nothing.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Noise(Protocol):
    """What the agent asks of a noise process."""

    def __call__(self) -> NDArray[np.float32]:
        """Draw the next sample, shape (size,)."""

    def reset(self) -> None:
        """Forget the past at the end of an episode; the generator moves on."""

    def state_dict(self) -> dict[str, Any]:
        """Return all that the following samples depend on, in JSON types."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what ``state_dict`` returned."""


class OrnsteinUhlenbeckNoise:
    """x += theta * (0 - x) * dt + sigma * sqrt(dt) * N(0, 1), independently in each coordinate.

    Samples of one coordinate are correlated in time, those of different coordinates are not. With
    dt = 1 this is an AR(1) process of coefficient 1 - theta, whose stationary standard deviation
    is sigma / sqrt(1 - (1 - theta)^2): 0.38 for the defaults, nearly twice sigma.

    Args:
        size: number of coordinates.
        sigma: scale of a step, in units of what it is added to (the squashed action or the logit).
        theta: rate at which the process returns to zero.
        dt: length of a step.
        seed: seed of the process's own generator.

    Source: Lillicrap et al. (2015), section 7, after Wawrzynski (2015).
    """

    def __init__(
        self,
        size: int,
        sigma: float = 0.2,
        theta: float = 0.15,
        dt: float = 1.0,
        seed: int | np.random.SeedSequence | None = None,
    ) -> None:
        self.sigma, self.theta, self.dt = sigma, theta, dt
        self.x = np.zeros(size)
        self.generator = np.random.default_rng(seed)

    def __call__(self) -> NDArray[np.float32]:
        """Advance every coordinate by one step; shape (size,), float32."""
        step = self.generator.standard_normal(self.x.shape)
        self.x = self.x - self.theta * self.x * self.dt + self.sigma * np.sqrt(self.dt) * step
        return self.x.astype(np.float32)

    def reset(self) -> None:
        """Return every coordinate to zero."""
        self.x = np.zeros_like(self.x)

    def state_dict(self) -> dict[str, Any]:
        """Position, ``size`` floats, and state of the generator."""
        return {"x": self.x.tolist(), "generator": self.generator.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a ``state_dict``."""
        self.x = np.array(state["x"], dtype=np.float64)
        self.generator.bit_generator.state = state["generator"]


class GaussianNoise:
    """sigma * N(0, 1), independent over coordinates and over time.

    Args:
        size: number of coordinates.
        sigma: standard deviation, in units of what it is added to.
        seed: seed of the process's own generator.

    Source: the exploration of TD3, Fujimoto et al. (2018), in place of autocorrelated noise.
    """

    def __init__(
        self, size: int, sigma: float = 0.2, seed: int | np.random.SeedSequence | None = None
    ) -> None:
        self.size, self.sigma = size, sigma
        self.generator = np.random.default_rng(seed)

    def __call__(self) -> NDArray[np.float32]:
        """Draw an independent sample; shape (size,), float32."""
        return (self.sigma * self.generator.standard_normal(self.size)).astype(np.float32)

    def reset(self) -> None:
        """Do nothing: the samples have no memory."""

    def state_dict(self) -> dict[str, Any]:
        """State of the generator."""
        return {"generator": self.generator.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a ``state_dict``."""
        self.generator.bit_generator.state = state["generator"]


class NoNoise:
    """Zeros of shape (size,), for an agent that does not explore."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self) -> NDArray[np.float32]:
        """Zeros of shape (size,), float32."""
        return np.zeros(self.size, dtype=np.float32)

    def reset(self) -> None:
        """Do nothing: there is nothing to forget."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: there is no state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing: there is nothing to continue."""


def make_noise(
    name: str,
    size: int,
    sigma: float,
    theta: float,
    dt: float,
    seed: int | np.random.SeedSequence | None = None,
) -> Noise:
    """Build the process called "ou", "gaussian" or "none" over ``size`` coordinates.

    Raises:
        KeyError: there is no noise of that name.
    """
    processes: dict[str, Noise] = {
        "ou": OrnsteinUhlenbeckNoise(size, sigma, theta, dt, seed),
        "gaussian": GaussianNoise(size, sigma, seed),
        "none": NoNoise(size),
    }
    return processes[name]
