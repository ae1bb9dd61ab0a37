"""Active learning on medical images as a Gymnasium environment. Importing it registers the ids."""

from al_gym.classifier import ClassifierConfig
from al_gym.data.dataset import ImageDataset
from al_gym.env import ActiveLearningEnv, EnvConfig
from al_gym.make import make_env
from envs_registry import register_envs

register_envs()

__all__ = ["ActiveLearningEnv", "ClassifierConfig", "EnvConfig", "ImageDataset", "make_env"]
