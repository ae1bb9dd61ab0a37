"""What is labelled and what is not, and the ranking that moves samples from one to the other."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Pool:
    """The labelled set (X_l, Y_l) and the unlabelled pool X_u; a new object after every query.

    A pool row is a position in ``indices``: its row in the observation, its entry in the action.
    """

    indices: np.ndarray
    """(n_u,) data-set row of every pool row, ascending; fixed for the episode."""
    available: np.ndarray
    """(n_u,) bool, what has not been annotated."""
    tie_order: np.ndarray
    """(n_u,) the pool rows in random order: equal scores are ranked by it."""
    labelled: np.ndarray
    """(n_l,) data-set rows in the order of their annotation."""
    labels: np.ndarray
    """(n_l,) int64, the classes the annotator gave them."""

    @classmethod
    def start(
        cls,
        training_rows: np.ndarray,
        labelled: np.ndarray,
        labels: np.ndarray,
        rng: np.random.Generator,
    ) -> "Pool":
        """The pool of an episode's beginning.

        Args:
            training_rows: (n,) data-set rows that the episode is about.
            labelled: (n_l,) those of them that are labelled at the start.
            labels: (n_l,) their classes.
            rng: draws the order of ties.
        """
        indices = np.setdiff1d(training_rows, labelled)
        return cls(
            indices=indices,
            available=np.ones(len(indices), bool),
            tie_order=rng.permutation(len(indices)),
            labelled=labelled,
            labels=labels,
        )

    def top(self, scores: np.ndarray, n: int) -> np.ndarray:
        """The n available pool rows with the highest scores, best first.

        Fewer if fewer are left. Equal scores are taken in ``tie_order``.

        Args:
            scores: (n_u,) finite.
            n: how many.
        """
        candidates = self.tie_order[self.available[self.tie_order]]
        values = scores[candidates]
        n = min(n, len(values))
        if n == 0:
            return candidates[:0]
        least = np.partition(values, len(values) - n)[len(values) - n]
        best = np.flatnonzero(values >= least)  # all that tie for the last place included
        return candidates[best[np.argsort(-values[best], kind="stable")[:n]]]

    def annotated(self, rows: np.ndarray, labels: np.ndarray) -> "Pool":
        """(X_l, Y_l) := (X_l, Y_l) and the pool rows ``rows`` with their ``labels``."""
        available = self.available.copy()
        available[rows] = False
        return replace(
            self,
            available=available,
            labelled=np.concatenate([self.labelled, self.indices[rows]]),
            labels=np.concatenate([self.labels, labels]),
        )


def per_class_counts(
    labels: np.ndarray, class_names: tuple[str, ...], fraction: float
) -> list[int]:
    """How many samples of each class a stratified draw of ``fraction`` takes, at least one.

    Raises:
        ValueError: a class without a sample.
    """
    counts = np.bincount(labels, minlength=len(class_names))
    if (counts == 0).any():
        name = class_names[int(np.argmin(counts))]
        raise ValueError(
            f"class {name!r} has no sample to draw from; every class needs one in the training set"
        )
    return [max(1, round(fraction * int(count))) for count in counts]


def stratified_draw(
    rows: np.ndarray, labels: np.ndarray, counts: list[int], rng: np.random.Generator
) -> np.ndarray:
    """Draw ``counts[j]`` of the rows whose label is j, for every class j.

    Args:
        rows: (n,) data-set rows.
        labels: (n,) their classes.
        counts: M numbers, as from ``per_class_counts``.
        rng: decides the draw.

    Returns:
        Ascending data-set rows.
    """
    drawn = [
        rng.choice(rows[labels == label], count, replace=False)
        for label, count in enumerate(counts)
    ]
    return np.sort(np.concatenate(drawn))
