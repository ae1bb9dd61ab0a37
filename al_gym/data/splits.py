"""Which side of the split each image is on: copies on two sides, and the draw of test images."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from al_gym.data.dataset import UNKNOWN
from al_gym.data.files import content_hash
from al_gym.errors import DataError

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""The usual names of splits, in lower case -> ours."""

SIDES = ("train", "validation", "test")
"""In this order an image is the more to be kept from the ones before."""


@dataclass(frozen=True, eq=False)
class Rows:
    """What is known of N images before they are decoded."""

    names: np.ndarray
    """(N,) str."""
    labels: np.ndarray
    """(N,) int64, ``UNKNOWN`` for some."""
    groups: np.ndarray
    """(N,) the patient of each."""
    sides: np.ndarray
    """(N,) str: train, validation or test."""

    def at(self, rows: np.ndarray) -> "Rows":
        """These rows, (n,) int, of all."""
        return Rows(self.names[rows], self.labels[rows], self.groups[rows], self.sides[rows])


def split_name(text: str) -> str | None:
    """train, validation or test, if ``text`` is one of the usual names in any case."""
    return SPLITS.get(text.strip().lower())


def identical(n: int, *keys: Callable[[int], Hashable]) -> list[np.ndarray]:
    """Sets of two or more of the items 0 .. n - 1 that agree in every key.

    The first keys should be cheap, since a later one is asked only where the earlier agree.
    """
    sets = [list(range(n))]
    for key in keys:
        finer = []
        for items in sets:
            by_key = defaultdict(list)
            for item in items:
                by_key[key(item)].append(item)
            finer += [same for same in by_key.values() if len(same) > 1]
        sets = finer
    return [np.array(items) for items in sets]


def identical_files(files: Sequence[Sequence[Path]]) -> list[np.ndarray]:
    """Sets of images whose files, in any order, are equal to the byte; an image may have none.

    Few files are read: those of one size whose four kilobytes in the middle are the same.
    """
    by: list[Callable[[Path], Hashable]] = [_size, _middle, content_hash]
    rows = np.array([row for row, own in enumerate(files) if own], np.int64)
    keys = [lambda i, key=key: tuple(sorted(map(key, files[rows[i]]))) for key in by]
    return [rows[items] for items in identical(len(rows), *keys)]


def _size(path: Path) -> int:
    return path.stat().st_size


def _middle(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, _size(path) // 2 - 2048))
        return file.read(4096)


def divide(
    rows: Rows,
    class_names: Sequence[str],
    copies: Sequence[np.ndarray],
    *,
    drop: bool,
    test_fraction: float,
    rng: np.random.Generator,
) -> tuple[Rows, np.ndarray, list[str]]:
    """Draw a test side where there is none, and see to copies that are on two sides.

    Where the test side is drawn, images that are patients of their own stay with their copies.

    Args:
        rows: of all images.
        class_names: M names, for errors.
        copies: sets of identical images, from ``identical``.
        drop: leave out the training images that a test or validation image is a copy of, and the
            validation images that a test image is a copy of.
        test_fraction: share of the groups drawn for the test, class by class; 0: none.
        rng: decides the draw.

    Returns:
        The rows that are left, with their sides; which rows of all they are, (n,) ascending; notes.

    Raises:
        DataError: a patient on two sides of a split that is given, or classes too small to draw.
    """
    notes = _label_conflicts(rows, copies)
    if not (rows.sides == "test").any() and test_fraction > 0:
        rows, notes_of_draw = _with_test(rows, class_names, copies, test_fraction, rng)
        notes += notes_of_draw
    leaking, notes_of_copies = _copies_across(rows, copies, drop)
    kept = np.setdiff1d(np.arange(len(rows.names)), leaking if drop else [])
    rows = rows.at(kept)
    _refuse_patients_across(rows)
    refuse_empty_classes(rows, class_names)
    return rows, kept, notes + notes_of_copies


def _with_test(
    rows: Rows,
    class_names: Sequence[str],
    copies: Sequence[np.ndarray],
    fraction: float,
    rng: np.random.Generator,
) -> tuple[Rows, list[str]]:
    """The rows with test images drawn from the training ones, and notes of how."""
    train = np.flatnonzero(rows.sides == "train")
    copies = [copy[rows.sides[copy] == "train"] for copy in copies]
    groups, n_joined = _joined(rows.groups, [copy for copy in copies if len(copy) > 1])
    drawn = train[draw_test_groups(rows.at(train), groups[train], class_names, fraction, rng)]
    sides = rows.sides.copy()
    sides[drawn] = "test"
    notes = []
    if (rows.sides == "validation").any():
        notes.append(
            f"there are validation images and no test images: {len(drawn)} training images of "
            f"{len(np.unique(groups[drawn]))} groups were drawn for the test"
        )
    if n_joined:
        notes.append(
            f"{n_joined} images are copies, to the byte, of others, and were put on the side that "
            "was drawn for these"
        )
    for label, name in enumerate(class_names):
        of_class = rows.labels == label
        if of_class.any() and not (sides[of_class] == "test").any():
            notes.append(
                f"class {name!r} has no test image: its patients are among those of others"
            )
    return Rows(rows.names, rows.labels, groups, sides), notes


def _joined(groups: np.ndarray, copies: Sequence[np.ndarray]) -> tuple[np.ndarray, int]:
    """Groups, where a lone image has joined that of its copy; and how many images have.

    Patients with more images are not joined, as a blank slice would join them all.
    """
    names, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    n_joined = 0
    for rows in copies:
        largest = codes[rows[sizes[codes[rows]].argmax()]]
        joining = rows[(sizes[codes[rows]] == 1) & (codes[rows] != largest)]
        codes[joining] = largest
        n_joined += len(joining)
    return names[codes], n_joined


def draw_test_groups(
    rows: Rows,
    groups: np.ndarray,
    class_names: Sequence[str],
    fraction: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Mask (N,) of the test images: whole groups, drawn class by class.

    A group with images of several classes counts for the class of its first one. One with an image
    whose label is not known stays in training.

    Args:
        rows: of the images to draw from.
        groups: (N,) in place of those of ``rows``.
        class_names: M names, for errors.
        fraction: share of each class's groups, at least one, never all.
        rng: decides the draw.

    Raises:
        DataError: a class has fewer than two groups.
    """
    labels = rows.labels
    _, first, group_of = np.unique(groups, return_index=True, return_inverse=True)
    is_known = np.bincount(group_of, labels == UNKNOWN) == 0
    on_test_side = np.zeros(len(first), bool)
    for label in np.unique(labels[first][is_known]):
        candidates = np.flatnonzero((labels[first] == label) & is_known)
        if len(candidates) < 2:
            raise DataError(
                f"class {class_names[label]!r} has images of {len(candidates)} group (a patient, "
                f"or one image and its copies), {groups[first[candidates[0]]]}; a split that is "
                "drawn needs two at least. Add images, say with group_pattern who the patients "
                "are, give the split (folders train and test), or pass test_fraction=0 to have no "
                "test images"
            )
        n_test = min(max(1, round(fraction * len(candidates))), len(candidates) - 1)
        on_test_side[rng.choice(candidates, n_test, replace=False)] = True
    return on_test_side[group_of]


def _copies_across(
    rows: Rows, copies: Sequence[np.ndarray], drop: bool
) -> tuple[np.ndarray, list[str]]:
    """Rows that have a copy on a side more to be kept from them, and notes of how many."""
    ranks = np.array([SIDES.index(side) for side in rows.sides])
    leaking: list[int] = []
    notes = []
    for side, what, sources in (
        ("train", "training", "test or validation"),
        ("validation", "validation", "test"),
    ):
        here = [
            (row, copy[ranks[copy].argmax()])
            for copy in copies
            for row in copy[ranks[copy] < ranks[copy].max()]
            if rows.sides[row] == side
        ]
        if not here:
            continue
        leaking += [row for row, _ in here]
        a, b = (rows.names[row] for row in here[0])
        done = "are left out" if drop else "stay; duplicates='drop' leaves them out"
        notes.append(
            f"{len(here)} {what} images are copies, to the byte, of {sources} images, and {done}: "
            f"{a} of {b}, for one"
        )
    return np.array(leaking, np.int64), notes


def _label_conflicts(rows: Rows, copies: Sequence[np.ndarray]) -> list[str]:
    """A note of images that are there twice with two labels."""
    conflicts = [
        known for copy in copies
        if len(np.unique(rows.labels[known := copy[rows.labels[copy] != UNKNOWN]])) > 1
    ]  # fmt: skip
    if not conflicts:
        return []
    first = conflicts[0]
    other = first[rows.labels[first] != rows.labels[first[0]]][0]
    return [
        f"{len(conflicts)} images are there, equal to the byte, with different labels: "
        f"{rows.names[first[0]]} and {rows.names[other]}, for one"
    ]


def _refuse_patients_across(rows: Rows) -> None:
    """A given split may not have a patient on two sides."""
    seen: dict[Any, int] = {}
    for row, group in enumerate(rows.groups.tolist()):
        other = seen.setdefault(group, row)
        if rows.sides[other] != rows.sides[row]:
            raise DataError(
                f"{rows.names[other]} is a {rows.sides[other]} image and {rows.names[row]} a "
                f"{rows.sides[row]} image of one group (patient), {group}: move one to the side of "
                "the other, or say with group_pattern who the patients are; '(.+)' makes every "
                "file a patient of its own"
            )


def refuse_empty_classes(rows: Rows, class_names: Sequence[str]) -> None:
    """A class that has images has training images.

    Raises:
        ValueError: one has none; names it.
    """
    for label, name in enumerate(class_names):
        of_class = rows.sides[rows.labels == label]
        if len(of_class) and not (of_class == "train").any():
            raise DataError(
                f"class {name!r} has no training image left: all were drawn for the test, with "
                "patients who have images of other classes, or left out, as copies or bad files. "
                "Pass another split_seed or test_fraction, or duplicates='keep'"
            )
