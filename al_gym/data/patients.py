"""Who the patient of an image is, and whether folders may be those of patients."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from al_gym.data.formats import Header
from al_gym.data.places import Place
from al_gym.data.walk import listed

OF_FOLDERS = ("([^/]+)/", "([^/]+)")
"""Patterns for a folder a patient; the second takes an image in no such folder for a patient."""


def group_of(
    root: Path, files: Sequence[str], header: Header, place: Place, pattern: str | None
) -> str:
    """Who the patient is: by the csv, the pattern, the DICOM header; else the file itself.

    Args:
        root: for errors.
        files: paths below it, of one image.
        header: of the first of them.
        place: of the first of them.
        pattern: ``group_pattern`` of ``folder.load``.

    Raises:
        ValueError: the pattern finds nothing, or several patients.
    """
    if place.patient is not None:
        return place.patient
    if pattern is None:
        return header.patient or header.series or files[0]
    groups = {matched_group(pattern, root, file, place.depth) for file in files}
    if len(groups) > 1:
        raise ValueError(
            f"group_pattern {pattern!r} finds several groups, {listed(sorted(groups))}, in the "
            f"slices of one series, {root / files[0]}"
        )
    return groups.pop()


def matched_group(pattern: str, root: Path, name: str, depth: int) -> str:
    """What the pattern's first parentheses hold of a path below the root.

    It is searched behind the folders of split and class first, as these are no patients, then in
    the whole path, where it must not end in them.

    Raises:
        ValueError: it is not there.
    """
    below = name.split("/", depth)[-1]
    for text, start in ((below, 0), (name, len(name) - len(below))):
        for match in re.finditer(pattern, text):
            if match.groups() and match[1] and match.end(1) > start:
                return match[1]
    raise ValueError(
        f"group_pattern {pattern!r} finds no group in {name!r} below {root}; it needs parentheses "
        r"around the patient, such as (p\d+)_ for p07_1.png, or ([^/]+)/ for a folder a patient"
    )


def pattern_of_folders(root: Path, places: Mapping[str, Place]) -> str | None:
    """A ``group_pattern`` for folders of patients that this tree can be read with, if any can.

    No patient may be on two sides of the split, and a test can only be drawn from two a class.

    Args:
        root: for errors.
        places: path below the root -> what is said of the image.
    """
    is_drawn = all(place.side != "test" for place in places.values())
    for pattern in OF_FOLDERS:
        sides_of, groups_of = defaultdict(set), defaultdict(set)
        try:
            for name, place in places.items():
                group = matched_group(pattern, root, name, place.depth)
                sides_of[group].add(place.side)
                groups_of[place.class_name].add(group)
        except ValueError:
            continue
        of_classes = [groups for name, groups in groups_of.items() if name is not None]
        n_fewest = min(map(len, of_classes or groups_of.values()))
        if all(len(sides) == 1 for sides in sides_of.values()) and not (is_drawn and n_fewest < 2):
            return pattern
    return None
