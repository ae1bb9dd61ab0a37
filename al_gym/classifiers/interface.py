"""What the loop asks of classifiers: K of them, over one copy of the images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from al_gym.classifiers.counters import Counters
from al_gym.config import ClassifierConfig


@dataclass(frozen=True)
class Lesson:
    """What one of the classifiers is to learn."""

    k: int
    """Which one."""
    indices: np.ndarray
    """(n,) int, images of the data set; of none nothing is learned."""
    labels: np.ndarray
    """(n,) int, the annotated classes."""
    rng: np.random.Generator
    """Decides the order of the images, and dropout and augmentation where there is some."""


class Classifiers(Protocol):
    """K classifiers with the same settings and images, each with weights of its own.

    ``Networks`` trains whole networks, one after the other or in streams; ``LinearHeads`` trains
    linear layers over frozen features as batched products.
    """

    config: ClassifierConfig
    device: torch.device
    counters: list[Counters]
    """K records of the work done; the loop begins new ones with every step."""

    @property
    def n_features(self) -> int:
        """F, the size of the penultimate layer."""

    def initialize(self, k: int, rng: np.random.Generator) -> None:
        """Draw new weights for classifier k by ``rng``; its optimizer forgets."""

    def fit(self, lessons: Sequence[Lesson], passes: int) -> None:
        """Minimise the cross-entropy (Eq. 1), each classifier on its own lesson.

        Args:
            lessons: at most one for each classifier; one without an image changes nothing, its
                generator included.
            passes: shuffled passes over the images, fewer where ``early_stopping`` ends them.
        """

    def predict(self, ks: Sequence[int], indices: Sequence[np.ndarray]) -> list[Tensor]:
        """Softmax (Eq. 2) of each classifier's own images, (n, M) float32 on the device."""

    def embed(self, k: int, indices: np.ndarray) -> np.ndarray:
        """Features of the penultimate layer, (n, F) float32."""

    def last_layer(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Weight (M, F) and bias (M,) of the last layer, float32: logits = features W' + b."""

    def predict_with_dropout(
        self, k: int, indices: np.ndarray, n_draws: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Softmax under ``n_draws`` dropout masks, (n_draws, n, M) float32.

        Monte Carlo dropout (Gal and Ghahramani, Dropout as a Bayesian approximation, 2016): batch
        norm stays in evaluation mode, dropout is on.

        Raises:
            ValueError: the network has no dropout.
        """

    def weights(self, state: dict[str, Any]) -> dict[str, Tensor]:
        """The weights in a ``state_dict``, by name."""

    def state_dict(self, k: int) -> dict[str, Any]:
        """Everything that training changes of classifier k, copied: a tree of tensors, numbers."""

    def load_state_dict(self, k: int, state: dict[str, Any]) -> None:
        """Bring classifier k to a ``state_dict`` of one with the same settings and images.

        Raises:
            RuntimeError: the weights belong to another network.
        """
