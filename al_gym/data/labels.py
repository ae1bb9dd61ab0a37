"""The label csv of a folder of images: columns file, label, and perhaps patient and split."""

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from al_gym.data import files
from al_gym.data.splits import SPLITS, split_name
from al_gym.data.walk import folders_above, listed, without_ending
from al_gym.errors import DataError

COLUMNS = ("file", "label", "patient", "split")
ALIKE = {
    "patient": (
        "patientid", "patientname", "patients", "pid", "subject", "subjectid", "participant",
        "participantid", "case", "caseid",
    ),
    "split": ("splits", "set", "fold", "partition", "subset", "dataset"),
}  # fmt: skip
"""What others call our columns, in lower case, letters and digits alone."""
UNLABELLED = ("unlabelled", "unlabeled")
EMPTY = ("nan", "na", "n/a", "null")
"""What programs write into empty cells."""


@dataclass(frozen=True)
class Labelled:
    """One line of the csv."""

    label: str | None
    """None: not known."""
    patient: str | None
    """None: there is no such column."""
    split: str | None
    """train, validation or test; None: there is no such column."""
    row: files.Row


def read(
    path: Path, root: Path, images: Sequence[str], excluded: Collection[str]
) -> tuple[dict[str, Labelled], tuple[str, ...]]:
    """The lines of a label csv by the image they speak of, and notes on what was left out.

    Args:
        path: the csv.
        root: folder of the images.
        images: paths below the root. A line names one by its path, with or without the ending, or
            many by the folder that they are in. Letters may be in another case or, as umlauts of
            Mac, in another form of Unicode; folders may be missing; where that fits one image only.
        excluded: paths that a line may name too, without effect.

    Raises:
        DataError: names the line: a file that is not there, is outside the root, could be one of
            two or stands on two lines; a patient or split left out; a test image without a label.
            Or names a column that may be the patient or split and is not called so.
    """
    rows, notes = _rows(path)
    notes += _notes_of_columns(path, list(rows[0].values))
    known, left_out = _Names(images), _Names(excluded)
    found: dict[str, Labelled] = {}
    elsewhere = []
    for row in rows:
        name = _below_root(row, root)
        named = known.find(name)
        if not named and (left_out.find(name) or left_out.has_folder_above(name)):
            continue
        _check_named(row, name, named, known)
        labelled = _labelled(row)
        for image in named:
            if image in found:
                raise row.error(f"{image} stands on line {found[image].row.line}, too; remove one")
            found[image] = labelled
        if _lacks_folders(name, named[0]):
            elsewhere.append(named[0])
    if elsewhere:
        notes += (f"{path.name}: named without their folders: {listed(elsewhere)}",)
    return found, notes


def class_names(labels: Collection[str]) -> tuple[str, ...]:
    """The classes in order: numbers as numbers, else by the alphabet."""
    return tuple(sorted(set(labels), key=float if all(map(_is_number, labels)) else None))


def _rows(path: Path) -> tuple[list[files.Row], tuple[str, ...]]:
    try:
        return files.read_table(path, COLUMNS[:2])
    except ValueError as error:
        raise DataError(
            f"{error}. A label csv has the columns {', '.join(COLUMNS)}, the last two as you like; "
            f"if this is none, leave it out with exclude={path.name!r}"
        ) from None


def _notes_of_columns(path: Path, columns: Sequence[str]) -> tuple[str, ...]:
    """A note of those that are not read; what looks like one of ours that is missing is refused."""
    unread = [column for column in columns if column not in COLUMNS]
    for ours, others in ALIKE.items():
        for column in unread:
            if ours not in columns and re.sub(r"[\W_]", "", column) in others:
                raise DataError(
                    f"{path}: the column {column!r} may be the {ours}, and is not read under "
                    f"that name. Rename it to {ours}; or take it out, if it is something else"
                )
    if not unread:
        return ()
    return (f"{path.name}: columns that are not read: {', '.join(unread)}",)


class _Names:
    """What a line may call an image."""

    def __init__(self, images: Collection[str]) -> None:
        """By paths as they are, by paths, by these without ending or their folders, by last parts.

        What comes first wins.
        """
        self._exact = {image: [image] for image in images}
        self._paths = defaultdict[str, list[str]](list)
        self._shorter = defaultdict[str, list[str]](list)
        self._bare = defaultdict[str, list[str]](list)
        for image in images:
            self._paths[_key(image)].append(image)
            for name in {without_ending(image), *folders_above(image)}:
                self._shorter[_key(name)].append(image)
            last = posixpath.basename(image)
            for name in {last, without_ending(last)}:
                self._bare[_key(name)].append(image)

    def find(self, name: str) -> list[str]:
        if name in self._exact:
            return self._exact[name]
        for table in (self._paths, self._shorter, self._bare):
            if _key(name) in table:
                return table[_key(name)]
        return []

    def has_folder_above(self, name: str) -> bool:
        return any(_key(folder) in self._paths for folder in folders_above(name))


def _check_named(row: files.Row, name: str, named: Sequence[str], known: _Names) -> None:
    """One image at least, and several only if ``name`` is their folder."""
    if not named:
        near = known.find(posixpath.basename(without_ending(name)))
        but = f", but {listed(near)}" if near else ""
        raise row.error(
            f"there is no image {name} below the folder{but}. Correct the path, or take the line "
            "out"
        )
    depth = name.count("/") + 1
    folders = {"/".join(image.split("/")[:depth]) for image in named}
    if len(named) > 1 and (len(folders) > 1 or _key(folders.pop()) != _key(name)):
        raise row.error(f"{name} may be {' or '.join(named[:3])}: write the path and ending")


def _lacks_folders(name: str, image: str) -> bool:
    is_folder = _key(name) in map(_key, folders_above(image))
    return "/" in image and "/" not in name and not is_folder


def _key(name: str) -> str:
    """Equal for the spellings that systems take for one."""
    return unicodedata.normalize("NFC", name).casefold()


def _below_root(row: files.Row, root: Path) -> str:
    name = row.get("file", str)
    for base in (root.absolute(), root.resolve()):
        if name and Path(name).is_relative_to(base):
            name = Path(name).relative_to(base).as_posix()
    name = name.replace("\\", "/")
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", name):
        raise row.error(f"file must be a path below the folder of the images, not {name!r}")
    return str(path)


def _labelled(row: files.Row) -> Labelled:
    label = _label(row)
    patient = row.get("patient", files.identifier) if "patient" in row.values else None
    split = row.get("split", str) if "split" in row.values else None
    if split is not None:
        split = split_name(split) or ("train" if split == "" and label is None else None)
        if split is None:
            raise row.error(f"split is {row.values['split']!r}; it may be {', '.join(SPLITS)}")
    if label is None and split in ("validation", "test"):
        raise row.error(f"a {split} image needs a label; only training images may be without")
    return Labelled(label, patient, split, row)


def _label(row: files.Row) -> str | None:
    text = row.get("label", str)
    if text.lower() in (*UNLABELLED, *EMPTY):
        raise row.error(f"label {text!r} may be a class or none; leave the cell empty if none")
    if re.fullmatch(r"[+-]?\d*,\d+", text):
        raise row.error(f"label {text} may be a number or the name of a class; write it otherwise")
    if not _is_number(text):
        return text or None
    if float(text) < 0:
        raise row.error(f"label {text} is no class; leave the cell empty if it is not known")
    return str(int(float(text))) if float(text).is_integer() else text


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+(\.\d*)?", text) is not None
