"""What is labelled and what is not, and the ranking that moves samples from one to the other."""

from dataclasses import dataclass, field, replace

import numpy as np

from al_gym.data.dataset import UNKNOWN


@dataclass(frozen=True)
class Pool:
    """The labelled set (X_l, Y_l) and the unlabelled pool X_u; a new object after every query.

    A pool row is a position in ``indices``: its row in the observation, its entry in the action.
    """

    indices: np.ndarray
    """(n_u,) data-set row of every pool row, ascending; fixed for the episode."""
    available: np.ndarray
    """(n_u,) bool, what has not been asked about."""
    tie_order: np.ndarray
    """(n_u,) the pool rows in random order: equal scores are ranked by it."""
    labelled: np.ndarray
    """(n_l,) data-set rows in the order of their annotation."""
    labels: np.ndarray
    """(n_l,) int64, the classes the annotator gave them."""
    skipped: np.ndarray = field(default_factory=lambda: np.array([], np.int64))
    """(n_k,) data-set rows of which the annotator could not tell the class, in their order."""

    @classmethod
    def start(
        cls,
        training_rows: np.ndarray,
        initial: np.ndarray,
        labels: np.ndarray,
        rng: np.random.Generator,
    ) -> "Pool":
        """The pool of an episode's beginning.

        Args:
            training_rows: (n,) data-set rows that the episode is about.
            initial: those of them that are asked about at the start.
            labels: their classes, -1 where they could not be told.
            rng: draws the order of ties.
        """
        indices = np.setdiff1d(training_rows, initial)
        told = labels != UNKNOWN
        return cls(
            indices=indices,
            available=np.ones(len(indices), bool),
            tie_order=rng.permutation(len(indices)),
            labelled=initial[told],
            labels=labels[told],
            skipped=initial[~told],
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
        """(X_l, Y_l) := (X_l, Y_l) and the pool rows ``rows`` with their ``labels``.

        Rows whose label is -1 leave the pool without one.
        """
        available = self.available.copy()
        available[rows] = False
        told = labels != UNKNOWN
        return replace(
            self,
            available=available,
            labelled=np.concatenate([self.labelled, self.indices[rows[told]]]),
            labels=np.concatenate([self.labels, labels[told]]),
            skipped=np.concatenate([self.skipped, self.indices[rows[~told]]]),
        )

    def corrected(self, indices: np.ndarray, labels: np.ndarray) -> "Pool":
        """The pool in which images that were asked about have other labels.

        Args:
            indices: (n,) different data-set rows, labelled or skipped.
            labels: (n,) int64, their classes; -1 takes an image out of the labelled set.

        Raises:
            ValueError: an image that was not asked about.
        """
        asked = np.concatenate([self.labelled, self.skipped])
        before = np.concatenate([self.labels, np.full(len(self.skipped), UNKNOWN)])
        foreign = np.setdiff1d(indices, asked)
        if len(foreign):
            raise ValueError(f"image {foreign[0]} was not asked about: it has no label to correct")
        place = {int(row): i for i, row in enumerate(asked)}
        before[[place[int(row)] for row in indices]] = labels
        told = before != UNKNOWN
        return replace(self, labelled=asked[told], labels=before[told], skipped=asked[~told])


def per_class_counts(
    labels: np.ndarray, class_names: tuple[str, ...], fraction: float
) -> list[int]:
    """How many samples of each class a stratified draw of ``fraction`` takes, at least one.

    Labels that are not known do not count.

    Raises:
        ValueError: a class without a sample.
    """
    counts = np.bincount(labels[labels != UNKNOWN], minlength=len(class_names))
    if (counts == 0).any():
        name = class_names[int(np.argmin(counts))]
        raise ValueError(
            f"class {name!r} has no sample to draw from; every class needs one with a known label "
            "in the training set. (initial_size, and every initial_set but 'stratified', do "
            "without; validation_fraction does not)"
        )
    return [max(1, round(fraction * int(count))) for count in counts]


def proportional_counts(labels: np.ndarray, n_classes: int, size: int) -> list[int]:
    """How many samples of each class a stratified draw of ``size`` samples takes.

    In proportion to the classes, by largest remainders (Hamilton's method); equal ones go to the
    earlier class. Then every class that got none takes one from the class that got most, as long as
    there is one with more than one. Labels that are not known do not count; classes without a
    sample get none.

    Raises:
        ValueError: there are fewer samples.
    """
    counts = np.bincount(labels[labels != UNKNOWN], minlength=n_classes)
    total = int(counts.sum())
    if size > total:
        raise ValueError(
            f"initial_size={size} is more than the {total} training images with a known label"
        )
    shares, remainders = np.divmod(size * counts, max(total, 1))
    by_remainder = np.argsort(-remainders, kind="stable")
    shares[by_remainder[: size - shares.sum()]] += 1
    for label in np.flatnonzero((shares == 0) & (counts > 0)):
        richest = np.argmax(shares)
        if shares[richest] > 1:
            shares[[richest, label]] += -1, 1
    return shares.tolist()


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
