"""Small things that tests make for themselves."""

import numpy as np

from al_gym import ClassifierConfig, ImageDataset

FAST = ClassifierConfig(learning_rate=0.02, momentum=0.9, pretrain_passes=2, device="cpu")


def make_dataset(
    n_train: int = 80, n_test: int = 30, n_classes: int = 3, size: int = 12, seed: int = 0
) -> ImageDataset:
    """Images whose brightness tells the class, with noise; unequal classes."""
    rng = np.random.default_rng(seed)
    n = n_train + n_test
    labels = np.concatenate([np.arange(n_classes), rng.choice(n_classes, n - n_classes)])
    labels = rng.permutation(labels).astype(np.int64)
    labels[n_train : n_train + n_classes] = np.arange(n_classes)
    labels[:n_classes] = np.arange(n_classes)
    images = 60 + 50 * labels[:, None, None, None] + rng.normal(0, 40, (n, 2, size, size))
    return ImageDataset(
        images=np.clip(images, 0, 255).astype(np.uint8),
        labels=labels,
        class_names=tuple(f"class {j}" for j in range(n_classes)),
        groups=np.arange(n),
        train=np.arange(n_train),
        test=np.arange(n_train, n),
        source="generated",
    )
