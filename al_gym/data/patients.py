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


def group(
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


def pattern_of_folders(
    root: Path, sides: Mapping[str, str], depths: Mapping[str, int]
) -> str | None:
    """A ``group_pattern`` for folders of patients that this tree can be read with, if any can.

    Args:
        root: for errors.
        sides: path below the root -> side of the split.
        depths: path below the root -> how many of its folders name class and split.
    """
    for pattern in OF_FOLDERS:
        sides_of = defaultdict(set)
        try:
            for name, side in sides.items():
                sides_of[matched_group(pattern, root, name, depths[name])].add(side)
        except ValueError:
            continue
        if len(sides_of) > 1 and all(len(found) == 1 for found in sides_of.values()):
            return pattern
    return None
