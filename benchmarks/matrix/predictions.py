"""What a cell's classifier predicted of the test images, beside its curve.

``predictions.bin`` has a row for every line of ``curve.csv``: the class that each test image was
given at the last look at them, a byte an image, or two (int16) of more than 256 classes.
``test_images.npz`` has their true classes ``labels``, in the same type, and ``groups``, int32:
images with the same number are of one scan or patient.
"""

import functools
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from al_gym import durable
from benchmarks.matrix.layout import PREDICTIONS, TEST_IMAGES

if TYPE_CHECKING:
    from al_gym.data.dataset import ImageDataset


@dataclass(frozen=True, eq=False)
class Truth:
    """What the test images are."""

    labels: np.ndarray
    """(n,) uint8 or int16, true classes."""
    groups: np.ndarray
    """(n,) int32, the scan or patient of each, numbered from 0."""

    @classmethod
    def of(cls, dataset: "ImageDataset") -> "Truth":
        """That of a data set."""
        kind = np.uint8 if dataset.n_classes <= 256 else np.int16
        _, groups = np.unique(dataset.groups[dataset.test], return_inverse=True)
        return cls(dataset.labels[dataset.test].astype(kind), groups.astype(np.int32))

    def is_of(self, other: "Truth") -> bool:
        """Whether it is of the same images, in the same groups."""
        return np.array_equal(self.labels, other.labels) and np.array_equal(
            self.groups, other.groups
        )


class Writer:
    """Writes the files of a cell.

    Args:
        folder: of the cell.
        truth: of the test images.
    """

    def __init__(self, folder: Path, truth: Truth) -> None:
        self._path, self._truth = folder / PREDICTIONS, truth
        self._is_on = False

    def begin(self) -> None:
        """Write a file without rows, and what is needed to read it."""
        self._write_truth()
        self._path.write_bytes(b"")
        self._is_on = True

    def _write_truth(self) -> None:
        with durable.writing(self._path.with_name(TEST_IMAGES)) as unfinished:
            np.savez_compressed(unfinished, labels=self._truth.labels, groups=self._truth.groups)

    def has(self, n_rows: int) -> bool:
        """Whether ``n_rows`` are there, or more."""
        size = n_rows * self._truth.labels.nbytes
        return self._path.exists() and self._path.stat().st_size >= size

    def sync(self) -> None:
        """Wait until all rows are on disk."""
        if self._is_on:
            durable.sync(self._path)

    def go_on(self, n_rows: int) -> None:
        """Be where ``n_rows`` had been written; if fewer are there, do without the file.

        A cell that an older program began has none.
        """
        self._is_on = self.has(n_rows)
        if self._is_on:
            self._write_truth()
            with self._path.open("r+b") as file:
                file.truncate(n_rows * self._truth.labels.nbytes)
        else:
            self._path.unlink(missing_ok=True)

    def append(self, predicted: np.ndarray | None) -> None:
        """Write a row, (n,) classes."""
        if not self._is_on:
            return
        assert predicted is not None and predicted.dtype == self._truth.labels.dtype
        with self._path.open("ab") as file:  # closed, so flushed, before the next step
            file.write(predicted.tobytes())


@dataclass(frozen=True, eq=False)
class Predictions:
    """Those of a cell, in its file."""

    path: Path
    truth: Truth

    def of_lines(self, lines: np.ndarray) -> np.ndarray:
        """Predicted classes at some lines of the curve, counted from 0, (len(lines), n)."""
        labels = self.truth.labels
        return np.fromfile(self.path, labels.dtype).reshape(-1, len(labels))[lines]


def read(folder: Path, n_lines: int) -> Predictions | None:
    """The predictions of a cell whose curve has ``n_lines``; None if it has not kept them all."""
    path = folder / PREDICTIONS
    if not path.exists():
        return None
    truth = _truth((folder / TEST_IMAGES).read_bytes())
    is_whole = path.stat().st_size == n_lines * truth.labels.nbytes
    return Predictions(path, truth) if is_whole else None


@functools.lru_cache(maxsize=8)  # the cells of an experiment have the same, which is held once
def _truth(content: bytes) -> Truth:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return Truth(file["labels"], file["groups"])
