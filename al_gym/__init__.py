"""Active learning on medical images as a Gymnasium environment. Importing it registers the ids."""

from al_gym.classifier import ClassifierConfig
from al_gym.data.dataset import ImageDataset
from al_gym.env import ActiveLearningEnv, EnvConfig
from al_gym.make import make_env
from al_gym.vector import ActiveLearningVectorEnv
from envs_registry import register_envs

register_envs()

__all__ = [
    "ActiveLearningEnv",
    "ActiveLearningVectorEnv",
    "ClassifierConfig",
    "EnvConfig",
    "ImageDataset",
    "make_env",
]
