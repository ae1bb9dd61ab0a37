"""What folders, or a label csv, say of an image: its class, side of the split, patient.

Paths alone are looked at. Nothing is guessed: what could mean two things is refused, with both.
"""

import posixpath
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from al_gym.data import labels
from al_gym.data.labels import UNLABELLED
from al_gym.data.splits import split_name
from al_gym.data.walk import folders_above, listed
from al_gym.errors import DataError

LABELS = "labels.csv"
MASKS = re.compile(
    r"(?i)(masks?|seg(mentation)?s?|annotations?|labels?|gt|ground[ _-]?truths?)(Tr|Ts)?"
)
"""Names of folders that hold masks more likely than a class."""
LAYOUTS = (
    "one folder of images a class, at least two; these in folders train and test, or train, val "
    f"and test; or images with a {LABELS} of the columns {', '.join(labels.COLUMNS)}"
)


@dataclass(frozen=True)
class Place:
    """What is said of a file."""

    class_name: str | None
    """None: unlabelled."""
    side: str = "train"
    """train, validation or test. Where nothing is said it is train, from which a test is drawn."""
    patient: str | None = None
    """None: the csv does not say."""
    depth: int = 0
    """How many of the file's folders name class and split."""


def by_folder(root: Path, images: Sequence[str]) -> dict[str, Place]:
    """The place of each image, by the names of its folders.

    Args:
        root: for errors.
        images: paths below it.

    Raises:
        FileNotFoundError: no image is in a folder.
        DataError: a layout that could mean two things, or an image without a class.
    """
    folders = {image: image.split("/")[:-1] for image in images}
    loose = [image for image, above in folders.items() if not above]
    if len(loose) == len(images):
        raise FileNotFoundError(f"{root} has images in no folder. It must hold {LAYOUTS}")
    if loose:
        raise DataError(
            f"{root / loose[0]} lies beside the folders of the classes, in none of them: move it "
            f"into one, or leave it out, as with exclude={loose[0]!r}"
        )
    labelled = [above for above in folders.values() if above[0].lower() not in UNLABELLED]
    level = _split_level(root, labelled)
    places = {image: _place(root / image, above, level) for image, above in folders.items()}
    _refuse_doubtful_classes(root, {place.class_name for place in places.values()} - {None})
    _refuse_nested_copies(root, places)
    return places


def by_class_names(images: Sequence[str], class_names: Collection[str]) -> dict[str, Place]:
    """The place of each image where the classes are known before any image is labelled.

    Images below a folder of the root that is called as a class are of it; all others, wherever they
    lie, are unlabelled.
    """
    places = {}
    for image in images:
        folder, slash, _ = image.partition("/")
        places[image] = Place(folder, depth=1) if slash and folder in class_names else Place(None)
    return places


def check_given_classes(places: Mapping[str, Place], class_names: Sequence[str]) -> None:
    """Two classes at least, none by two spellings, and no image of another.

    Raises:
        ValueError: the names are otherwise.
        DataError: an image is of another class; names it.
    """
    if len({name.casefold() for name in class_names}) < max(2, len(class_names)):
        raise ValueError(
            f"class_names must be two names at least, all different, not {list(class_names)}"
        )
    for image, place in places.items():
        if place.class_name is not None and place.class_name not in class_names:
            raise DataError(
                f"{image} is labelled {place.class_name!r}, which is none of class_names, "
                f"{list(class_names)}: add it, or mend the label"
            )


def _split_level(root: Path, folders: Sequence[Sequence[str]]) -> int | None:
    """0 for ``train/healthy``, 1 for ``healthy/train``, None for ``healthy``."""
    for level in (0, 1):
        heads = {tuple(above[: level + 1]) for above in folders}
        splits = {head for head in heads if len(head) > level and split_name(head[level])}
        if splits and splits != heads:
            split, other = min(splits), min(heads - splits)
            raise DataError(
                f"{root} could mean two things. Either {'/'.join(split)} is the folder of a split, "
                f"and {'/'.join(other)} should be in one too; or it is as {'/'.join(other)} is, a "
                "folder of a class or patient, and should have a name that is not that of a split. "
                "Move, rename, or leave one out with exclude"
            )
        if splits:
            _refuse_two_spellings(root, splits, level)
            return level
        _refuse_like_splits(root, {above[level] for above in folders if len(above) > level})
    for name in sorted({above[0] for above in folders}):
        if any(split_name(word) for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", name)):
            raise DataError(
                f"{root} could mean two things: {name} may be the folder of a split or of a class. "
                "Name folders of splits train, val and test; rename it if it is a class"
            )
    return None


def _refuse_like_splits(root: Path, names: Collection[str]) -> None:
    """``trainset`` beside ``testset``."""
    like = {
        start: name
        for start in ("train", "test", "val")
        for name in sorted(names)
        if name.lower().startswith(start)
    }
    if "train" in like and len(like) > 1:
        train, other, *_ = like.values()
        raise DataError(
            f"{root} could mean two things: {train} and {other} may be folders of splits or of "
            "classes or patients. Name folders of splits train, val and test; rename one if they "
            "are something else"
        )


def _refuse_two_spellings(root: Path, splits: Collection[tuple[str, ...]], level: int) -> None:
    """``Test`` beside ``testing``."""
    seen: dict[tuple[str, ...], str] = {}
    for head in sorted(splits):
        name = "/".join(head)
        other = seen.setdefault((*head[:level], str(split_name(head[level]))), name)
        if other != name:
            raise DataError(
                f"{root} could mean two things: {other} and {name} are names of one split. Join "
                "the two, or leave one out with exclude"
            )


def _refuse_doubtful_classes(root: Path, names: Collection[str | None]) -> None:
    """``masks``, ``Unlabelled data``."""
    for name in sorted(filter(None, names)):
        if MASKS.fullmatch(name):
            raise DataError(
                f"{root} could mean two things: {name} may be a folder of masks of the images in "
                f"others, or a class. Leave masks out with exclude={name!r}; rename a class"
            )
        if "unlabel" in re.sub("[^a-z]", "", name.lower()):
            raise DataError(
                f"{root} could mean two things: {name} may be a folder of unlabelled images, or a "
                "class. Name it 'unlabelled' if the former; rename a class"
            )


def _refuse_nested_copies(root: Path, places: Mapping[str, Place]) -> None:
    """``data/yes`` and ``data/no`` beside ``yes`` and ``no``, as in archives that hold all twice.

    Numbers may be patients or series, if there are more of them than classes.
    """
    below = defaultdict(set)  # class -> folders in it
    for image, place in places.items():
        if place.class_name:
            below[place.class_name].update(image.split("/")[place.depth : -1])
    for name, folders in below.items():
        held = sorted(folders & (set(below) - {name}))
        if held and (folders == set(held) or not all(folder.isdecimal() for folder in held)):
            raise DataError(
                f"{root} could mean two things: {held[0]} in the folder {name} may be a copy of "
                f"the class {held[0]}, or a part of the class {name}. Leave a copy out, as with "
                f"exclude={name!r}; rename what is none"
            )


def _place(path: Path, above: Sequence[str], level: int | None) -> Place:
    """Of one image, from the folders above it."""
    folders, side = list(above), "train"
    if level is not None and folders[0].lower() not in UNLABELLED:
        side = str(split_name(folders.pop(level)))
    if not folders:
        raise DataError(
            f"{path} lies in the folder of a split, and in none of a class: move it into one, or "
            "to a folder 'unlabelled' beside the splits if its class is not known"
        )
    unlabelled = folders[0].lower() in UNLABELLED
    for folder in folders[0 if level == 0 else 1 :]:
        if split_name(folder):
            raise DataError(
                f"{path} could mean two things: {folder!r} may be a split, or a class or patient. "
                "Splits are folders above or right below those of the classes; rename or move this "
                "one"
            )
    if any(folder.lower() in UNLABELLED for folder in folders[1:]) or (
        unlabelled and side != "train"
    ):
        raise DataError(
            f"{path} is in a folder of unlabelled images and in one of the "
            f"{'class ' + folders[0] if not unlabelled else side + ' split'}; only training images "
            "may be unlabelled: move it"
        )
    return Place(None if unlabelled else folders[0], side, None, len(above) - len(folders) + 1)


def by_csv(
    root: Path, path: Path, images: Sequence[str], excluded: Collection[str]
) -> tuple[dict[str, Place], list[str]]:
    """The place of each image, by a label csv alone, and notes.

    Args:
        root: folder of the images, for errors.
        path: the csv.
        images: paths below the root; one that the csv does not name is unlabelled.
        excluded: paths that the csv may name nevertheless.

    Raises:
        FileNotFoundError: there is no such csv.
        DataError: see ``labels.read``; folders named like splits, and no column split.
    """
    lines, notes_of_csv = labels.read(path, root, images, excluded)
    notes = [*notes_of_csv]
    folders = {folder for image in images for folder in folders_above(image)}
    splits = [folder for folder in sorted(folders) if split_name(posixpath.basename(folder))]
    if splits and not any(line.split for line in lines.values()):
        raise DataError(
            f"{root} could mean two things: the folder {splits[0]} may be that of a split, and "
            f"{path} has no column split. Add the column, or rename the folder"
        )
    if folders:
        notes.append(
            f"labels come from {path} alone; folders whose names say nothing: "
            f"{listed(sorted(folders))}"
        )
    unnamed = [image for image in images if image not in lines]
    if unnamed:
        notes.append(f"not in {path.name}, so unlabelled training images: {listed(unnamed)}")
    return {
        image: Place(line.label, line.split or "train", line.patient)
        if (line := lines.get(image))
        else Place(None)
        for image in images
    }, notes


def check_classes(root: Path, places: Mapping[str, Place], class_names: Sequence[str]) -> None:
    """Two classes at least, none by two spellings or like a split, each with training images."""
    if len(class_names) < 2:
        below = [root / name for name in class_names if (root / name).is_dir()]
        raise FileNotFoundError(
            f"{root} has images of the classes {list(class_names)}, and two are needed at least. "
            f"It must hold {LAYOUTS}{f'. Or is the root {below[0]}?' if below else ''}"
        )
    by_spelling: dict[str, str] = {}
    for name in class_names:
        other = by_spelling.setdefault(name.casefold(), name)
        if other != name:
            raise DataError(f"{root}: are {other} and {name} one class? Give them one spelling")
    of_training = {place.class_name for place in places.values() if place.side == "train"}
    for image, place in places.items():
        if place.class_name not in of_training:
            raise DataError(
                f"{root / image} is a {place.side} image of the class {place.class_name!r}, of "
                f"which there are no training images, but of {sorted(filter(None, of_training))}. "
                "Mend the name of the class, or leave the image out with exclude"
            )
