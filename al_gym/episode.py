"""Records of an episode; a step makes a new one and keeps the old one if it fails."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from al_gym.metrics import Evaluation
from al_gym.pool import Pool


@dataclass(frozen=True)
class Query:
    """What the last step asked for, and what came of it."""

    rows: np.ndarray
    """(n_s,) pool rows, best score first."""
    labels: np.ndarray
    """(n_s,) int64, the annotator's answers; -1: it could not tell."""
    softmax: np.ndarray
    """(n_s, M) float32, the predictions that ``sample_rewards`` judges."""
    sample_rewards: np.ndarray
    """(n_s,) float32, the summands of Eq. 3."""

    @classmethod
    def nothing(cls, n_classes: int) -> "Query":
        """The query of an episode's beginning."""
        none = np.array([], np.int64)
        return cls(none, none, np.zeros((0, n_classes), np.float32), np.array([], np.float32))


@dataclass(frozen=True)
class Episode:
    """Everything that changes from step to step, but for the classifier's weights.

    The arrays are the loop's own: do not write to them.
    """

    pool: Pool
    """What has been labelled, skipped and neither."""
    step: int
    """Steps so far."""
    softmax: np.ndarray
    """(n_u, M) float32, the state S."""
    query: Query
    """The last one."""
    validation: Evaluation | None
    """On the images held out for the reward; None if none are held out."""
    test: Evaluation
    """On the test set, when it was last looked at."""
    evaluated_at: int
    """The step after which ``test`` was measured."""
    curve: tuple[tuple[int, float, float], ...]
    """(n_labelled, macro F1, micro F1) of every look at the test set; without test images the start
    alone, with NaN."""
    reward: float = 0.0
    """Of the last step; 0 at the start."""

    @classmethod
    def from_tree(cls, tree: dict[str, Any]) -> "Episode":
        """Undo ``dataclasses.asdict``, after a checkpoint has made lists of tuples."""
        evaluations = {
            name: None if tree[name] is None else Evaluation(**tree[name])
            for name in ("validation", "test")
        }
        parts = {"pool": Pool(**tree["pool"]), "query": Query(**tree["query"])}
        curve = tuple(tuple(point) for point in tree["curve"])
        return cls(**{**tree, **evaluations, **parts, "curve": curve})


@dataclass(frozen=True)
class Start:
    """The beginning of an episode, kept so that the next one need not pretrain again."""

    seed: int
    """Of the initial weights."""
    rows: np.ndarray
    """Ascending images of the initial labelled set."""
    labels: np.ndarray
    """Their classes, int64; -1 where the annotator could not tell."""
    is_drawn: bool
    """Whether the seed decided the images; otherwise they were given."""
    classifier: dict[str, Any]
    """The ``state_dict`` of the pretrained classifier."""
    softmax: np.ndarray
    """(n_u, M) float32, the first state."""
    validation: Evaluation | None
    """See ``Episode``."""
    test: Evaluation
    """See ``Episode``."""

    def is_of(self, seed: int, rows: np.ndarray | None, labels: np.ndarray | None) -> bool:
        """Whether it is the start of a seed, and of images and classes where they are given."""
        same_rows = self.is_drawn if rows is None else np.array_equal(self.rows, rows)
        same_labels = labels is None or np.array_equal(self.labels, labels)
        return self.seed == seed and same_rows and same_labels
