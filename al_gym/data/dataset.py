"""What every reader returns: one frozen record of images, labels and the split."""

import hashlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Images with their labels, groups and split, all in memory.

    Raises:
        ValueError: shapes or types that do not belong together, labels outside the classes, a
            training and a test row that share a group.
    """

    images: np.ndarray
    """(N, C, H, W) or (N, C, D, H, W), uint8 or int16, contiguous; may be a memory map."""
    labels: np.ndarray
    """(N,) int64, index into ``class_names``."""
    class_names: tuple[str, ...]
    """M names."""
    groups: np.ndarray
    """(N,) the scan or patient of each image; a group lies on one side of the split."""
    train: np.ndarray
    """Rows to learn from: the initial labelled set and the pool come from these."""
    test: np.ndarray
    """Rows to report on, and for nothing else."""
    source: str
    """Where the images come from, for people."""
    files_decoded: int = 0
    """Image files read for it; 0 if they came from the cache, or from one array."""

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.ndim not in (4, 5) or images.dtype not in (np.uint8, np.int16):
            raise ValueError(
                f"{self.source}: images must be (N, C, [D,] H, W) in uint8 or int16, "
                f"not {images.shape} {images.dtype}"
            )
        if not images.flags.c_contiguous:
            raise ValueError(f"{self.source}: images must be contiguous")
        if labels.shape != (len(images),) or self.groups.shape != (len(images),):
            raise ValueError(
                f"{self.source}: {len(images)} images, but labels {labels.shape} and "
                f"groups {self.groups.shape}"
            )
        outside = np.flatnonzero((labels < 0) | (labels >= len(self.class_names)))
        if len(outside):
            raise ValueError(
                f"{self.source}: label {labels[outside[0]]} of image {outside[0]} is outside the "
                f"{len(self.class_names)} classes"
            )
        if not len(self.train) or not len(self.test):
            raise ValueError(
                f"{self.source}: {len(self.train)} training and {len(self.test)} test images; "
                "both are needed"
            )
        shared = np.intersect1d(self.groups[self.train], self.groups[self.test])
        if len(shared):
            raise ValueError(
                f"{self.source}: {len(shared)} groups (scans, patients) are on both sides of the "
                f"split, {shared[0]!s} for one"
            )

    @property
    def n_classes(self) -> int:
        """M."""
        return len(self.class_names)

    def fingerprint(self) -> str:
        """32 hexadecimal digits that change with any image, label, class name or the split."""
        digest = hashlib.blake2b(digest_size=16)
        for array in (self.images, self.labels, self.train, self.test):
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
