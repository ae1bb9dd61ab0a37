"""Classifiers, their architectures, and the images as they meet them."""

from al_gym.classifiers import architectures
from al_gym.classifiers.features import frozen_features
from al_gym.classifiers.heads import LinearHeads
from al_gym.classifiers.images import DeviceImages
from al_gym.classifiers.interface import Classifiers, Lesson
from al_gym.classifiers.networks import NetworkClassifier, Networks, find_device
from al_gym.config import ClassifierConfig
from al_gym.data.dataset import ImageDataset

__all__ = ["Classifiers", "Lesson", "LinearHeads", "Networks", "make_classifiers"]


def make_classifiers(dataset: ImageDataset, config: ClassifierConfig, n: int = 1) -> Classifiers:
    """Classifiers that share a data set's images, or the features of them.

    Args:
        dataset: the images; those of its training side normalise all of them.
        config: the settings; ``trainable`` decides which kind it is.
        n: K, how many.

    Raises:
        ValueError: a network that is unknown or for other images.
    """
    architectures.checked(config.network, dataset.images.shape[1:])
    if config.trainable == "head":
        features, fresh_head = frozen_features(dataset, config)
        return LinearHeads(features, dataset.train, n, dataset.n_classes, config, fresh_head)
    images = DeviceImages(dataset.images, find_device(config.device), config.images)
    statistics = images.channel_statistics(dataset.train)
    return Networks(
        [NetworkClassifier(images, statistics, dataset.n_classes, config) for _ in range(n)]
    )
