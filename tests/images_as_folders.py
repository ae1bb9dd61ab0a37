"""Images of an npz file written out as people keep them, in three layouts, and as the equal npz.

    python -m tests.images_as_folders ../shared/data/wbc/wbc_64.npz /tmp/wbc

The rows of the npz are in the order in which folders are read, and the patients are made up, so
that all that is measured on folders and on their npz must be equal to the last bit.
"""

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SIDES = ("train", "val", "test")
PATIENT = r"(p\d+)/"
"""The ``group_pattern`` of ``write_patients``."""


@dataclass(frozen=True)
class Images:
    """N images in the order in which folders are read: by side, class and number."""

    images: np.ndarray
    """(N, H, W) or (N, H, W, 3) uint8."""
    labels: np.ndarray
    """(N,) int64, at most ten classes."""
    sides: np.ndarray
    """(N,) of ``SIDES``."""

    @property
    def names(self) -> list[str]:
        """File names."""
        return [f"{row:05}.png" for row in range(len(self.images))]

    @property
    def patients(self) -> np.ndarray:
        """(N,) str: three images, or the last few, of a class and side each."""
        row = np.arange(len(self.images))
        begins = (np.diff(self.labels, prepend=-1) != 0) | (self.sides != np.roll(self.sides, 1))
        first = np.maximum.accumulate(np.where(begins, row, 0))
        return np.array([f"p{n:03}" for n in np.cumsum((row - first) % 3 == 0)])

    def of(self, side: str) -> "Images":
        """The images of a side."""
        rows = self.sides == side
        return Images(self.images[rows], self.labels[rows], self.sides[rows])


def read(path: Path) -> Images:
    """Those of a file like MedMNIST's."""
    with np.load(path) as file:
        parts = [(file[f"{side}_images"], file[f"{side}_labels"].ravel()) for side in SIDES]
    return ordered(
        np.concatenate([images for images, _ in parts]),
        np.concatenate([labels for _, labels in parts]),
        np.repeat(SIDES, [len(labels) for _, labels in parts]),
    )


def drawn(n: int, size: int = 12, seed: int = 0) -> Images:
    """Images whose brightness tells one of three classes; two thirds, a sixth, a sixth a side."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    images = 60 + 60 * labels[:, None, None] + rng.normal(0, 40, (n, size, size))
    sides = np.array(["train", "train", "train", "train", "val", "test"])[np.arange(n) // 3 % 6]
    return ordered(np.clip(images, 0, 255).astype(np.uint8), labels, sides)


def ordered(images: np.ndarray, labels: np.ndarray, sides: np.ndarray) -> Images:
    """In the order in which folders are read."""
    order = np.lexsort([labels, [SIDES.index(side) for side in sides]])
    return Images(images[order], labels[order].astype(np.int64), sides[order])


def write_patients(data: Images, root: Path) -> None:
    """A folder a class, and in it a folder a patient: ``2/p012/00036.png``."""
    for image, label, patient, name in zip(
        data.images, data.labels, data.patients, data.names, strict=True
    ):
        _save(image, root / str(label) / patient / name)


def write_splits(data: Images, root: Path) -> None:
    """A folder a side, and in it a folder a class: ``val/2/00036.png``."""
    for image, label, side, name in zip(
        data.images, data.labels, data.sides, data.names, strict=True
    ):
        _save(image, root / side / str(label) / name)


def write_csv(data: Images, root: Path, unlabelled: frozenset[int] = frozenset()) -> None:
    """All images in one folder, beside ``labels.csv``; some rows of it may have no label."""
    lines = [("file", "label", "patient", "split")]
    for row, name in enumerate(data.names):
        _save(data.images[row], root / name)
        label = "" if row in unlabelled else str(data.labels[row])
        lines.append((name, label, data.patients[row], data.sides[row]))
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)


def write_npz(data: Images, root: Path) -> None:
    """``images.npz``, which equals ``write_splits`` and ``write_csv``."""
    _save_npz(data, root, np.arange(len(data.images)), split=data.sides)


def write_npz_of_patients(data: Images, root: Path) -> None:
    """``images.npz`` without sides, which equals ``write_patients``: by class, then by patient."""
    _save_npz(data, root, np.argsort(data.labels, kind="stable"))


def _save_npz(data: Images, root: Path, order: np.ndarray, **more: np.ndarray) -> None:
    root.mkdir(parents=True, exist_ok=True)
    np.savez(
        root / "images.npz",
        images=data.images[order], labels=data.labels[order], groups=data.patients[order],
        names=np.array(data.names)[order], **more,
    )  # fmt: skip


def _save(image: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def main(source: Path, out: Path) -> None:
    """Write all of them below ``out``."""
    data = read(source)
    write_patients(data, out / "patients")
    write_npz_of_patients(data, out / "patients-npz")
    write_splits(data, out / "splits")
    write_csv(data, out / "csv")
    write_npz(data, out / "npz")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
