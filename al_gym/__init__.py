"""Active learning on medical images as a Gymnasium environment. Importing it registers the ids.

What is heavy, PyTorch above all, is imported when it is first used.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from envs_registry import register_envs

if TYPE_CHECKING:
    from al_gym.config import ClassifierConfig, EnvConfig
    from al_gym.data.dataset import ImageDataset
    from al_gym.env import ActiveLearningEnv
    from al_gym.make import make_env
    from al_gym.vector import ActiveLearningVectorEnv

__all__ = [
    "ActiveLearningEnv",
    "ActiveLearningVectorEnv",
    "ClassifierConfig",
    "EnvConfig",
    "ImageDataset",
    "make_env",
]
_HOMES = {
    "ActiveLearningEnv": "env",
    "ActiveLearningVectorEnv": "vector",
    "ClassifierConfig": "config",
    "EnvConfig": "config",
    "ImageDataset": "data.dataset",
    "make_env": "make",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name == "__version__":
        return version("al-gym")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names, imported or not."""
    return sorted({*globals(), *__all__})


register_envs()
