"""Classifiers, their architectures, and the images as they meet them."""

from al_gym.classifiers import architectures, optimization
from al_gym.classifiers.devices import device_of
from al_gym.classifiers.features import frozen_features
from al_gym.classifiers.heads import LinearHeads
from al_gym.classifiers.images import DeviceImages
from al_gym.classifiers.interface import Classifiers, Lesson
from al_gym.classifiers.networks import NetworkClassifier, Networks
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
        ValueError: a network that is unknown, for other images, or none; a device that is not
            there; settings of training that do not fit the data set.
    """
    optimization.check_class_weights(config, dataset.class_names)
    validation = optimization.validation_of(dataset, config)
    architectures.checked(config.network, dataset.images.shape[1:])
    if config.trainable == "head":
        features, fresh_head = frozen_features(dataset, config)
        return LinearHeads(
            features, dataset.train, n, dataset.n_classes, config, fresh_head, validation
        )
    images = DeviceImages(dataset.images, device_of(config), config.images)
    statistics = images.channel_statistics(dataset.train)
    members = [
        NetworkClassifier(images, statistics, dataset.n_classes, config, validation)
        for _ in range(n)
    ]
    _ = members[0].n_features  # builds a network: what is wrong is said now, not at the first reset
    return Networks(members)
