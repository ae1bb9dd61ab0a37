"""Small things that tests make for themselves."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from al_gym import ClassifierConfig, ImageDataset
from al_gym.classifiers import Classifiers, Lesson, Networks
from al_gym.classifiers.counters import Counters
from al_gym.classifiers.devices import to_host
from al_gym.classifiers.networks import NetworkClassifier

SINCE_GYMNASIUM_1_1 = pytest.mark.skipif(
    not hasattr(gym.vector, "AutoresetMode"), reason="Gymnasium 1.0 ends episodes in one way only"
)
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


def draw_folder(root: Path) -> Path:
    """Write 40 images of 12 pixels, dark and light ones, a folder each; returns the root."""
    rng = np.random.default_rng(0)
    for i in range(40):
        folder = root / ("dark", "light")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 100, (12, 12)) + 100 * (i % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return root


class One:
    """One of several classifiers, as tests speak to it."""

    def __init__(self, classifiers: Classifiers, k: int = 0, seed: int | None = 0) -> None:
        self.classifiers, self.k = classifiers, k
        if seed is not None:
            self.initialize(np.random.default_rng(seed))

    @property
    def network(self) -> Any:
        """The module of a whole network."""
        return self.member.network

    @property
    def member(self) -> NetworkClassifier:
        """The whole network's classifier."""
        assert isinstance(self.classifiers, Networks)
        return self.classifiers.members[self.k]

    @property
    def counters(self) -> Counters:
        return self.classifiers.counters[self.k]

    @property
    def weights(self) -> dict[str, Tensor]:
        return self.classifiers.weights(self.state_dict())

    def initialize(self, rng: np.random.Generator) -> None:
        self.classifiers.initialize(self.k, rng)

    def fit(self, indices: Any, labels: Any, passes: int, rng: np.random.Generator) -> None:
        self.classifiers.fit([Lesson(self.k, indices, labels, rng)], passes)

    def predict(self, indices: Any) -> np.ndarray:
        (softmax,) = self.classifiers.predict([self.k], [indices])
        return to_host(softmax, self.counters)

    def predict_with_dropout(self, indices: Any, n: int, rng: np.random.Generator) -> np.ndarray:
        return self.classifiers.predict_with_dropout(self.k, indices, n, rng)

    def embed(self, indices: Any) -> np.ndarray:
        return self.classifiers.embed(self.k, indices)

    def state_dict(self) -> dict[str, Any]:
        return self.classifiers.state_dict(self.k)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.classifiers.load_state_dict(self.k, state)
