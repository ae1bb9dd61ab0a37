"""The environments that a ``config.json`` asks for."""

from typing import TYPE_CHECKING, Any

import gymnasium as gym

import al_gym  # noqa: F401  (registers the ids)
import envs_registry

if TYPE_CHECKING:
    from al_gym.vector import ActiveLearningVectorEnv


def make_environment(config: dict[str, Any]) -> gym.Env[Any, Any]:
    """One environment."""
    return gym.make(_id(config), **config["settings"])


def make_vector_environment(config: dict[str, Any], n: int) -> "ActiveLearningVectorEnv":
    """As many of them, over one copy of the images."""
    from al_gym.vector import ActiveLearningVectorEnv

    vector = gym.make_vec(_id(config), n, "vector_entry_point", **config["settings"]).unwrapped
    assert isinstance(vector, ActiveLearningVectorEnv)
    return vector


def _id(config: dict[str, Any]) -> str:
    envs_registry.profiles(config["dataset"])  # raises for a data set that is not known
    return envs_registry.env_id(config["dataset"])
