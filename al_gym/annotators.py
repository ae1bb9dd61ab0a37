"""Who answers "which class is this?"."""

from typing import Protocol

import numpy as np

from al_gym.config import check_between
from al_gym.data.dataset import UNKNOWN


class Annotator(Protocol):
    """Anything that names the classes of images."""

    def annotate(self, indices: np.ndarray) -> np.ndarray:
        """Classes (n,) int of the images at ``indices`` (n,), rows of the data set.

        -1 is "I cannot tell": the image is skipped, it leaves the pool without a label. Asked about
        one image twice, an annotator should answer the same.
        """


class OracleAnnotator:
    """Answers with the data set's own labels.

    Args:
        labels: (N,) int.
        names: (N,) str, what errors call the images; None: by their rows.
    """

    def __init__(self, labels: np.ndarray, names: np.ndarray | None = None) -> None:
        self._labels, self._names = labels, names

    def annotate(self, indices: np.ndarray) -> np.ndarray:
        """The true classes.

        Raises:
            ValueError: one of them is not known.
        """
        return _known(self._labels, indices, self._names)


class NoisyAnnotator:
    """Errs at random, but always alike: every image's answer is drawn once.

    So all methods compared on one seed meet the same wrong labels.

    Args:
        labels: (N,) int, the true classes.
        n_classes: M.
        error_rate: probability of a wrong class, any of the others with equal chance.
        seed: decides the errors.
        names: as of ``OracleAnnotator``.

    Raises:
        ValueError: ``error_rate`` is no probability.
    """

    def __init__(
        self,
        labels: np.ndarray,
        n_classes: int,
        *,
        error_rate: float,
        seed: int | np.random.SeedSequence = 0,
        names: np.ndarray | None = None,
    ) -> None:
        check_between("error_rate", error_rate, 0, 1, True, True)
        answers = np.full((n_classes, n_classes), error_rate / (n_classes - 1))
        np.fill_diagonal(answers, 1 - error_rate)
        # inverse of the cumulative distribution of each image's row, at one uniform number
        uniform = np.random.default_rng(seed).random(len(labels))
        cumulative = answers.cumsum(axis=1)[np.maximum(labels, 0)]
        drawn = (uniform[:, None] >= cumulative[:, :-1]).sum(axis=1)
        self._answers, self._names = np.where(labels == UNKNOWN, UNKNOWN, drawn), names

    def annotate(self, indices: np.ndarray) -> np.ndarray:
        """The answers drawn at construction.

        Raises:
            ValueError: a true class is not known.
        """
        return _known(self._answers, indices, self._names)


def _known(answers: np.ndarray, indices: np.ndarray, names: np.ndarray | None) -> np.ndarray:
    """The answers for some images.

    Raises:
        ValueError: one of them is unknown.
    """
    unknown = indices[answers[indices] == UNKNOWN]
    if len(unknown):
        name = f"image {unknown[0]}" if names is None else names[unknown[0]]
        raise ValueError(
            f"the label of {name} is not known ({len(unknown)} of the {len(indices)} asked for), "
            "and the built-in annotator has none but the data set's: pass annotator=, or give the "
            "images labels"
        )
    return answers[indices]


def checked_annotation(annotator: Annotator, indices: np.ndarray, n_classes: int) -> np.ndarray:
    """Ask, and check what comes back.

    Returns:
        (n,) int64 in [0, n_classes), or -1 where the annotator cannot tell.

    Raises:
        ValueError: the annotator's answer has another shape or type, or names an unknown class.
    """
    return checked_answer(annotator.annotate(indices), indices, n_classes)


def checked_answer(answer: np.ndarray, indices: np.ndarray, n_classes: int) -> np.ndarray:
    """An annotator's answer as ``checked_annotation`` gives it, which raises what this does."""
    labels = np.asarray(answer)
    if labels.shape != indices.shape or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"the annotator answered {labels.shape} {labels.dtype} to {len(indices)} images; "
            "it must give one integer each"
        )
    outside = np.flatnonzero((labels < UNKNOWN) | (labels >= n_classes))
    if len(outside):
        raise ValueError(
            f"the annotator gave class {labels[outside[0]]} to image {indices[outside[0]]}; "
            f"there are {n_classes} classes, and -1 for what cannot be told"
        )
    return labels.astype(np.int64)
