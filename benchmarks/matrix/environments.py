"""The environments that a ``config.json`` or a command line asks for."""

from typing import TYPE_CHECKING, Any

import gymnasium as gym

import al_gym  # noqa: F401  (registers the ids)
import envs_registry

if TYPE_CHECKING:
    from al_gym.data.dataset import ImageDataset
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


def check_comparable(dataset: "ImageDataset") -> None:
    """Methods are compared by F1 on test images, and all that they may ask for has an answer.

    Raises:
        ValueError: there are no test images, or training images whose label is not known.
    """
    from al_gym.data.dataset import UNKNOWN  # here, as readers import all that is heavy

    instead = (
        "so methods cannot be compared on it. Which images to label next, "
        "python -m benchmarks.query says"
    )
    if not len(dataset.test):
        raise ValueError(f"{dataset.source} has no test images, {instead}")
    unknown = dataset.train[dataset.labels[dataset.train] == UNKNOWN]
    if len(unknown):
        raise ValueError(
            f"{dataset.source}: the labels of {len(unknown)} of {len(dataset.train)} training "
            f"images are not known, that of {dataset.names[unknown[0]]} for one, {instead}"
        )


def _id(config: dict[str, Any]) -> str:
    envs_registry.profiles(config["dataset"])  # raises for a data set that is not known
    if config["settings"].get("flatten"):
        raise ValueError("methods take the softmax matrix: leave out flatten, which is for RLlib")
    return envs_registry.env_id(config["dataset"])
