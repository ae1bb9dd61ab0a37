"""The record of a running episode; a step makes a new one, and keeps the old one if it fails."""

from dataclasses import dataclass

import numpy as np

from al_gym.metrics import Scores
from al_gym.pool import Pool


@dataclass(frozen=True)
class Query:
    """What the last step asked for, and what came of it."""

    rows: np.ndarray
    """(n_s,) pool rows, best score first."""
    labels: np.ndarray
    """(n_s,) int64, the annotator's answers."""
    softmax: np.ndarray
    """(n_s, M) float32, the predictions that ``sample_rewards`` judges."""
    sample_rewards: np.ndarray
    """(n_s,) float32, the summands of Eq. 3."""


@dataclass(frozen=True)
class Episode:
    """Everything that changes from step to step, but for the classifier's weights."""

    pool: Pool
    step: int
    softmax: np.ndarray
    """(n_u, M) float32, the state S."""
    query: Query
    validation: Scores | None
    test: Scores
    evaluated_at: int
    """The step after which ``test`` was measured."""
    curve: tuple[tuple[int, float, float], ...]
    """(n_labelled, macro F1, micro F1) of every look at the test set."""
    reward: float = 0.0
    """Of the last step; 0 at the start."""
