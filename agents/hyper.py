"""The hyper-policy: coverage while labels are few, uncertainty once they are many."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from agents.policy import ScoringPolicy
from agents.sets import coverage
from agents.transfer import N_RANKED, CoveragePolicy


class HyperPolicy(ScoringPolicy):
    """Picks by MaxHerding first and by the margin later; always deterministic.

    Hacohen and Weinshall (How to select which active learning strategy is best suited for your
    specific problem and budget, NeurIPS 2023) choose a strategy by the budget; Doucet et al.
    (Bridging diversity and uncertainty in active learning with self-supervised pre-training, 2024)
    change once from one to the other, as here.

    Args:
        threshold: labels per class, on average, from which on the margin decides.
    """

    wants: ClassVar[dict[str, bool]] = {"embeddings": True, "labelled": True}
    """Keywords of the ``al_gym.wrappers.ContextObservation`` that it is for."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._coverage = CoveragePolicy.of({"coverage, far": 1.0}, embeddings=True)
        self._uncertainty = CoveragePolicy.of({"margin": 1.0}, embeddings=True)
        self._uncertainty.memory = self._coverage.memory  # they play the same episodes

    def scores(self, observation: Any) -> np.ndarray:
        """As ``CoveragePolicy.scores``, which says what is raised, too."""
        keys = observation if isinstance(observation, Mapping) else ()
        coverage.require(keys, embeddings=True)
        return self.act(observation, N_RANKED)

    def act(self, observation: Mapping[str, np.ndarray], n_ranked: int) -> np.ndarray:
        """``scores`` with only so many picked, which is enough if a query takes no more."""
        few = float(np.mean(observation["class_counts"])) < self.threshold
        return (self._coverage if few else self._uncertainty).act(observation, n_ranked)
