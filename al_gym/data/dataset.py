"""What every reader returns: one frozen record of images, labels and the split."""

import hashlib
import itertools
from dataclasses import dataclass, field

import numpy as np

from al_gym.errors import DataError

UNKNOWN = -1
"""The label of an image that nobody has named yet; only training rows may have it."""


def _no_rows() -> np.ndarray:
    return np.array([], np.int64)


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Images with their labels, names, groups and split, all in memory.

    Raises:
        ValueError: shapes or types that do not belong together.
        DataError: labels outside the classes or unknown outside the training rows, a row on two
            sides of the split, two sides that share a group.
    """

    images: np.ndarray
    """(N, C, H, W) or (N, C, D, H, W), uint8 or int16, contiguous; may be a memory map."""
    labels: np.ndarray
    """(N,) int64, index into ``class_names``, or ``UNKNOWN``."""
    class_names: tuple[str, ...]
    """M names."""
    groups: np.ndarray
    """(N,) the scan or patient of each image; a group lies on one side of the split."""
    train: np.ndarray
    """Rows to learn from: the initial labelled set and the pool come from these."""
    test: np.ndarray
    """Rows to report on, and for nothing else; empty where nothing can be reported."""
    source: str
    """Where the images come from, for people."""
    files_decoded: int = 0
    """Image files read for it; 0 if they came from the cache, or from one array."""
    validation: np.ndarray = field(default_factory=_no_rows)
    """Rows of a validation split of the data set's own, for early stopping; mostly empty."""
    names: np.ndarray = field(default_factory=lambda: np.array([], str))
    """(N,) str, which file each image is: its path below the root, and what else it takes, such as
    the number of a lesion. Left out, the numbers of the rows."""
    notes: tuple[str, ...] = ()
    """What a person should know of how the files were read, a line each: files passed over, copies
    on both sides of the split."""
    skipped: tuple[tuple[str, str], ...] = ()
    """Name and reason of every file that cannot be used and was left out, where the reader was told
    to do so; it is in none of the arrays."""

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if not len(self.names):
            object.__setattr__(self, "names", np.arange(len(images)).astype(str))
        if images.ndim not in (4, 5) or images.dtype not in (np.uint8, np.int16):
            raise ValueError(
                f"{self.source}: images must be (N, C, [D,] H, W) in uint8 or int16, "
                f"not {images.shape} {images.dtype}. Scale other numbers to one of them, and put a "
                "number in place of NaN"
            )
        if not images.flags.c_contiguous:
            raise ValueError(f"{self.source}: images must be contiguous")
        each = {"labels": labels, "groups": self.groups, "names": self.names}
        if any(array.shape != (len(images),) for array in each.values()):
            shapes = ", ".join(f"{name} {array.shape}" for name, array in each.items())
            raise ValueError(f"{self.source}: {len(images)} images, but {shapes}")
        outside = np.flatnonzero((labels < UNKNOWN) | (labels >= len(self.class_names)))
        if len(outside):
            raise DataError(
                f"{self.source}: label {labels[outside[0]]} of image {self.names[outside[0]]} is "
                f"outside the {len(self.class_names)} classes"
            )
        if not len(self.train):
            raise DataError(f"{self.source}: there are no training images")
        self._check_sides()

    def _check_sides(self) -> None:
        """Every row is on one side, every group too, and what is judged by its label has one."""
        sides = {"training": self.train, "test": self.test, "validation": self.validation}
        for name in ("test", "validation"):
            unknown = sides[name][self.labels[sides[name]] == UNKNOWN]
            if len(unknown):
                raise DataError(
                    f"{self.source}: {self.names[unknown[0]]} is a {name} image, and its label is "
                    "not known; only training images may be without"
                )
        for one, other in itertools.combinations(sides, 2):
            shared = np.intersect1d(self.groups[sides[one]], self.groups[sides[other]])
            if len(shared):
                raise DataError(
                    f"{self.source}: {len(shared)} groups (scans, patients) are on both sides of "
                    f"the split, {one} and {other}, {shared[0]!s} for one"
                )

    @property
    def n_classes(self) -> int:
        """M."""
        return len(self.class_names)

    def fingerprint(self) -> str:
        """32 hexadecimal digits that change with any image, label, class name or the split."""
        digest = hashlib.blake2b(digest_size=16)
        sides = [self.train, self.test, *([self.validation] if len(self.validation) else [])]
        for array in (self.images, self.labels, *sides):
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
        digest.update("\0".join(self.class_names).encode())
        return digest.hexdigest()


def split_groups(
    groups: np.ndarray, n_train: int, n_test: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw groups for the two sides, then samples within them, as the paper draws scans.

    The groups are shuffled and divided so that the sides hold samples in the proportion
    ``n_train : n_test``; no group is on both.

    Args:
        groups: (N,) group of every sample.
        n_train: training samples to draw.
        n_test: test samples to draw.
        rng: decides both draws.

    Returns:
        Ascending indices (n_train,) and (n_test,).

    Raises:
        ValueError: a side has too few samples.
    """
    names, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = rng.permutation(len(names))
    wanted = len(groups) * n_train / (n_train + n_test)
    n_groups = int(np.searchsorted(np.cumsum(sizes[order]), wanted)) + 1
    on_train_side = np.isin(group_of, order[:n_groups])
    sides = []
    for name, mask, wanted_here in (
        ("n_train", on_train_side, n_train),
        ("n_test", ~on_train_side, n_test),
    ):
        candidates = np.flatnonzero(mask)
        if len(candidates) < wanted_here:
            raise ValueError(
                f"{name}={wanted_here} is more than there is: {len(groups)} samples of "
                f"{len(names)} groups leave {len(candidates)} on that side. Ask for fewer"
            )
        sides.append(np.sort(rng.choice(candidates, wanted_here, replace=False)))
    return sides[0], sides[1]
