"""Between the spaces of an environment and the flat, squashed vectors of an agent."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray


def check_actions(env: gym.Env[Any, Any]) -> gym.spaces.Box:
    """Return the action space of an environment for continuous actions.

    Raises:
        TypeError: `env` is a vector of environments, or its action space is not a Box.
        ValueError: The action space is unbounded or integer.
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
        TypeError: It is not.
    """
    if not isinstance(space, gym.spaces.Box):
        raise TypeError(
            f"the agent needs a Box observation space, got {space}: wrap the environment "
            "in gymnasium.wrappers.FlattenObservation"
        )
    return space


def find_attribute(env: gym.Env[Any, Any], name: str, default: Any) -> Any:
    """Return the attribute of the environment below its wrappers, or `default`."""
    try:
        return env.get_wrapper_attr(name)
    except AttributeError:
        return default


def flatten_observations(observation: ArrayLike, space: gym.spaces.Box) -> NDArray[np.float32]:
    """Flatten one observation of shape `space.shape`, or n of them stacked, to (1, d) or (n, d).

    Raises:
        ValueError: `observation` has another shape, or NaN or infinity in it.
    """
    if isinstance(observation, (tuple, dict)):
        raise ValueError("pass the observation's array alone: `observation, info = env.reset()`")
    states, shape = np.asarray(observation, dtype=np.float32), space.shape
    if states.shape != shape and states.shape[1:] != shape:
        raise ValueError(f"an observation has shape {shape}, got {states.shape}")
    if not np.isfinite(states).all():
        raise ValueError(
            "the observation has NaN or infinity in it: mend the environment, or clean its "
            "observations in a wrapper"
        )
    return states.reshape(-1, int(np.prod(shape)))


def scale_actions(unit: NDArray[np.floating[Any]], space: gym.spaces.Box) -> NDArray[Any]:
    """Map n actions from [0, 1], (n, k), affinely to the bounds of `space`, (n, *space.shape)."""
    scaled = space.low + unit.reshape(-1, *space.shape) * (space.high - space.low)
    # The last bit of a rounding must not leave the space.
    return np.clip(scaled, space.low, space.high).astype(space.dtype)
