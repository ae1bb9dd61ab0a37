"""Between the spaces of an environment and the flat, squashed vectors of an agent."""

from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor


def check_actions(env: gym.Env[Any, Any]) -> gym.spaces.Box:
    """Return the action space of an environment for continuous actions.

    Raises:
        TypeError: ``env`` is a vector of environments, or its action space is not a Box.
        ValueError: the action space is unbounded or integer.
    """
    actions = env.action_space
    if hasattr(env, "num_envs"):
        raise TypeError("the agent takes a single environment, not a vector of them")
    if not isinstance(actions, gym.spaces.Box):
        raise TypeError(
            f"the agent needs a Box action space, got {actions}: choose an environment with "
            "continuous actions, or an agent for discrete ones"
        )
    if not actions.is_bounded():
        raise ValueError(f"the action space must be bounded on both sides, got {actions}")
    if not np.issubdtype(actions.dtype, np.floating):
        raise ValueError(f"the action space must hold floating-point numbers, got {actions}")
    return actions


def check_box(space: gym.Space[Any]) -> gym.spaces.Box:
    """Return an observation space that is a Box.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(space, gym.spaces.Box):
        raise TypeError(
            f"the agent needs a Box observation space, got {space}: wrap the environment "
            "in gymnasium.wrappers.FlattenObservation"
        )
    return space


def check_reward(reward: Any, step: int) -> float:
    """Return a reward as a number that float32 can hold; another would spoil the replay buffer.

    Raises:
        ValueError: it is not; the message has the environment step.
    """
    if not abs(float(reward)) <= float(np.finfo(np.float32).max):
        raise ValueError(
            f"the environment returned the reward {reward} at environment step {step}: correct it "
            "there, or replace it in a wrapper"
        )
    return float(reward)


def find_attribute(env: gym.Env[Any, Any], name: str, default: Any) -> Any:
    """Return the attribute of the environment below its wrappers, or ``default``."""
    try:
        return env.get_wrapper_attr(name)
    except AttributeError:
        return default


def space_record(space: gym.Space[Any]) -> dict[str, Any]:
    """A Box or a dictionary of them as a tree that ``agents.checkpoint`` can write.

    Other parts of a dictionary are left out: no network here sees them.
    """
    if isinstance(space, gym.spaces.Dict):
        boxes = {name: s for name, s in space.spaces.items() if isinstance(s, gym.spaces.Box)}
        return {"dict": {name: space_record(part) for name, part in boxes.items()}}
    box = check_box(space)
    bounds = {"low": _uniform(box.low), "high": _uniform(box.high)}
    return bounds | {"shape": list(box.shape), "dtype": np.dtype(box.dtype).name}


def _uniform(bound: NDArray[Any]) -> Any:
    """The one number of a bound that is the same everywhere, as most are; else the bound."""
    return bound.flat[0].item() if bound.size and (bound == bound.flat[0]).all() else bound


def space_from_record(record: dict[str, Any]) -> gym.Space[Any]:
    """Undo ``space_record``."""
    if "dict" in record:
        parts = {name: space_from_record(part) for name, part in record["dict"].items()}
        return gym.spaces.Dict(parts)
    dtype = np.dtype(record["dtype"])
    low, high = (np.full(record["shape"], record[name], dtype=dtype) for name in ("low", "high"))
    return gym.spaces.Box(low, high, dtype=dtype.type)


def flatten_observations(observation: ArrayLike, space: gym.spaces.Box) -> NDArray[np.float32]:
    """Flatten one observation of shape ``space.shape``, or n of them stacked, to (1, d) or (n, d).

    Raises:
        ValueError: ``observation`` has another shape, or NaN or infinity in it.
    """
    if isinstance(observation, (tuple, dict)):
        raise ValueError("pass the observation's array alone: `observation, info = env.reset()`")
    states, shape = np.asarray(observation, dtype=np.float32), space.shape
    if states.shape != shape and states.shape[1:] != shape:
        raise ValueError(f"an observation has shape {shape}, got {states.shape}")
    if not np.isfinite(states).all():
        raise ValueError(
            "the observation has NaN or infinity in it: correct the environment, or replace them "
            "in a wrapper"
        )
    return states.reshape(-1, int(np.prod(shape)))


class Encoder(Protocol):
    """What the agent asks of whatever makes states of observations."""

    size: int
    """d, the length of a state."""

    def __call__(self, observation: Any) -> tuple[Tensor, bool]:
        """States (m, d) float32 of one observation or of m stacked, and whether it was one.

        Raises:
            ValueError: another shape, or NaN or infinity in it.
        """


class FlatEncoder:
    """From observations of a Box of any shape to states, their d numbers in a row.

    Args:
        space: of the observations.
        device: where states lie.

    Attributes:
        size: d, the length of a state.

    Raises:
        TypeError: ``space`` is not a Box.
    """

    def __init__(self, space: gym.Space[Any], device: torch.device) -> None:
        self.space, self.device = check_box(space), device
        self.size = int(np.prod(self.space.shape))

    def __call__(self, observation: ArrayLike) -> tuple[Tensor, bool]:
        """See ``Encoder``."""
        states = flatten_observations(observation, self.space)
        return torch.tensor(states, device=self.device), np.shape(observation) == self.space.shape


def scale_actions(unit: NDArray[np.floating[Any]], space: gym.spaces.Box) -> NDArray[Any]:
    """Map n actions from [0, 1], (n, k), affinely to the bounds of ``space``, (n, *space.shape)."""
    scaled = space.low + unit.reshape(-1, *space.shape) * (space.high - space.low)
    # The last bit of a rounding must not leave the space.
    return np.clip(scaled, space.low, space.high).astype(space.dtype)
