"""Images of one's own in an npz file, for the reader of folders.

``images`` (N, H, W), (N, H, W, 3), (N, D, H, W) and the like in uint8; ``labels`` (N,) or (N, 1)
integers 0 .. M - 1, -1 for unknown; perhaps ``groups`` (N,), the patients, ``names`` (N,) str and
``split`` (N,) str.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from al_gym.data import splits
from al_gym.data.dataset import UNKNOWN
from al_gym.data.labels import ALIKE
from al_gym.data.medmnist import channels_first, read_npz
from al_gym.data.patients import matched_group
from al_gym.data.walk import is_excluded
from al_gym.errors import DataError

REQUIRED = ("images", "labels")
OPTIONAL = ("groups", "names", "split")
SPLIT = re.compile(
    "(is)?(train(ing)?|test(ing)?|val(id(ation)?)?)"
    "(sets?|masks?|rows?|idx|index|indices|ids?|images|labels)?"
)
"""Arrays that may say the split, in lower case, letters alone."""


def read(
    path: Path, exclude: Sequence[str] = (), group_pattern: str | None = None
) -> tuple[np.ndarray, splits.Rows, tuple[str, ...], list[str]]:
    """Images (N, C, [D,] H, W) uint8, what is known of them, the names of the classes, and notes.

    Raises:
        ValueError: a setting that needs an array that is not there.
        DataError: an array that cannot be used, or that may be the groups or split by another
            name; a class without images.
    """
    arrays = read_npz(path, list(REQUIRED), optional=OPTIONAL)
    images = channels_first(f"{path}: images", arrays["images"])
    labels = arrays["labels"]
    if labels.shape == (len(images), 1):
        labels = labels[:, 0]
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{path}: labels must be ({len(images)},) integers, not {labels.shape} {labels.dtype}"
        )
    for name in OPTIONAL:
        array = arrays.get(name, labels)
        if array.shape != labels.shape or (
            name != "groups" and name in arrays and array.dtype.kind != "U"
        ):
            kind = "" if name == "groups" else " str"
            raise DataError(
                f"{path}: {name} must be ({len(images)},){kind}, not {array.shape} {array.dtype}"
            )
    _check_classes(path, labels)
    rows = splits.Rows(
        names=arrays.get("names", np.arange(len(images)).astype(str)),
        labels=labels.astype(np.int64),
        groups=_groups(path, arrays, group_pattern),
        sides=_sides(path, arrays),
    )
    _check_rows(path, rows)
    kept = _kept(path, arrays, exclude)
    class_names = tuple(str(i) for i in range(max(labels.max(initial=0) + 1, 2)))
    unread = _unread(path)
    notes = [f"{path.name}: arrays that are not read: {', '.join(unread)}"] if unread else []
    return images[kept], rows.at(kept), class_names, notes


def copies(images: np.ndarray) -> list[np.ndarray]:
    """Sets of images that are equal to the byte."""
    return splits.identical(len(images), lambda i: hashlib.sha256(images[i].data).digest())


def _unread(path: Path) -> list[str]:
    """Names of arrays that are not read.

    Raises:
        DataError: one may be the groups or the split.
    """
    with np.load(path, allow_pickle=False) as file:
        names = list(file.files)
    for name in names:
        word = re.sub(r"[\W_]", "", name.lower())
        is_patient = word in ("group", *ALIKE["patient"], *(f"{w}s" for w in ALIKE["patient"]))
        is_split = word in ALIKE["split"] or SPLIT.fullmatch(word)
        for ours, may_be in (("groups", is_patient), ("split", is_split)):
            if may_be and ours not in names:
                raise DataError(
                    f"{path}: the array {name!r} may be the {ours}, and is not read under that "
                    f"name. Rename it to {ours}, or take it out"
                )
    return [name for name in names if name not in (*REQUIRED, *OPTIONAL)]


def _check_classes(path: Path, labels: np.ndarray) -> None:
    """Every number from 0 to the largest is the class of some image."""
    known = np.unique(labels[labels >= 0])
    gaps = np.flatnonzero(known != np.arange(len(known)))
    if len(gaps):
        largest = known.max()
        was_negative = labels.dtype.kind == "u" and largest == np.iinfo(labels.dtype).max
        hint = f"; if {largest} was -1, not known, save labels as int64" if was_negative else ""
        raise DataError(
            f"{path}: labels go up to {largest}, and no image has the label {gaps[0]}. Number the "
            f"classes from 0 without gaps{hint}"
        )


def _groups(path: Path, arrays: dict[str, np.ndarray], pattern: str | None) -> np.ndarray:
    if pattern is None:
        return arrays.get("groups", np.arange(len(arrays["labels"])))
    if "names" not in arrays or "groups" in arrays:
        raise ValueError(
            f"group_pattern is searched in the array names, and {path} has "
            f"{'groups already' if 'groups' in arrays else 'none'}: leave group_pattern out"
        )
    return np.array([matched_group(pattern, path, name, 0) for name in arrays["names"]])


def _sides(path: Path, arrays: dict[str, np.ndarray]) -> np.ndarray:
    given = arrays.get("split")
    if given is None:
        return np.full(len(arrays["labels"]), "train")
    sides = [splits.split_name(name) for name in given.tolist()]
    if None in sides:
        raise DataError(
            f"{path}: split {str(given[sides.index(None)])!r} of image {sides.index(None)}; it may "
            f"be {', '.join(splits.SPLITS)}"
        )
    return np.array(sides)


def _check_rows(path: Path, rows: splits.Rows) -> None:
    wrong = np.flatnonzero(rows.labels < UNKNOWN)
    if len(wrong):
        raise DataError(
            f"{path}: label {rows.labels[wrong[0]]} of image {rows.names[wrong[0]]}; classes are 0 "
            "and up, and -1 is a label that is not known"
        )
    names, counts = np.unique(rows.names, return_counts=True)
    if (counts > 1).any():
        raise DataError(f"{path}: {str(names[counts.argmax()])!r} stands twice in names")


def _kept(path: Path, arrays: dict[str, np.ndarray], exclude: Sequence[str]) -> np.ndarray:
    """Rows that no pattern leaves out."""
    if exclude and "names" not in arrays:
        raise ValueError(
            f"exclude is matched with the array names, and {path} has none: leave exclude out"
        )
    n = len(arrays["labels"])
    names = arrays.get("names", np.full(n, ""))
    return np.flatnonzero([not is_excluded(name, exclude) for name in names])
