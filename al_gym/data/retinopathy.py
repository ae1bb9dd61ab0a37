"""Retinopathy: fundus photographs in five grades, of the Kaggle competitions of 2015 and 2019.

Layout of the root, of EyePACS (2015) or of APTOS (2019), which names no patients::

    trainLabels.csv                             train.csv
    train/10_left.jpeg, 10_right.jpeg ...       train_images/000c1434d8d7.png ...

Photographs may be JPEG or PNG in either, in any folder below ``train``.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from al_gym import config
from al_gym.data import cache, files, photographs, skipping, walk
from al_gym.data.dataset import ImageDataset, split_groups
from al_gym.errors import DataError

CLASSES = ("no DR", "mild", "moderate", "severe", "proliferative DR")
ENDINGS = (".jpeg", ".jpg", ".png")
BLACK = 12
"""Grey value up to which a pixel belongs to the border around the photograph."""
VERSION = 3  # of the images in the cache; raise it when the same settings give other pixels


@dataclass(frozen=True)
class Layout:
    """Where a competition keeps what."""

    labels: str
    """The label file; its capitals and underscores may differ."""
    images: str
    """The folder of photographs; its capitals may differ."""
    columns: tuple[str, str]
    """Of the photograph's name and of its grade."""
    patients: bool
    """Whether names are <patient>_left and <patient>_right; if not, each is a patient."""


EYEPACS = Layout("trainLabels.csv", "train", ("image", "level"), patients=True)
APTOS = Layout("train.csv", "train_images", ("id_code", "diagnosis"), patients=False)


@dataclass(frozen=True)
class Photograph:
    """One line of a label file."""

    name: str
    """Without an ending."""
    patient: str
    level: int
    row: files.Row
    """Where it stands, for error messages."""


def load(
    root: str | Path | None = None,
    *,
    n_train: int = 2230,
    n_test: int = 2230,
    image_size: int = 224,
    split_seed: int = 0,
    verify: bool = False,
    on_error: str = "raise",
    max_skipped: float = 0.05,
) -> ImageDataset:
    """Read the photographs; patients are drawn for either side, then images (3.1).

    Args:
        root: folder with the label file; None: ``$AL_GYM_DATA/Retinopathy``.
        n_train: training images.
        n_test: test images, of other patients.
        image_size: pixels along an edge.
        split_seed: decides patients and images.
        verify: know cached files by their content, see ``cache.cache_key``.
        on_error: "skip" leaves out photographs that are missing or cannot be decoded, after the
            draw, so that a side may have fewer; they are decoded in processes that may crash.
        max_skipped: share of the images drawn that may be left out.

    Returns:
        Images (n_train + n_test, 3, size, size) uint8; groups are the patients.

    Raises:
        FileNotFoundError: no root, no label file, or an image it names is not there.
        DataError: a line of the label file, or an image, is not as it should be; the root could be
            either competition's; too many images cannot be used.
    """
    skipping.check_settings(on_error, max_skipped)
    config.check_at_least("n_train", n_train, 1)
    config.check_at_least("n_test", n_test, 0)
    config.check_at_least("image_size", image_size, 8)
    config.check_at_least("split_seed", split_seed, 0)
    folder = files.resolve_root(
        "Retinopathy", root, f"It holds {EYEPACS.labels} and train/ of the Kaggle competition"
    )
    layout, label_file = find_layout(folder)
    labelled, notes = read_labels(label_file, layout)
    found, more_notes = find_photographs(folder, layout, labelled, on_error == "skip")
    patients = np.array([photograph.patient for photograph in labelled])
    train, test = split_groups(patients, n_train, n_test, np.random.default_rng(split_seed))
    drawn = [labelled[i] for i in np.concatenate([train, test])]
    paths = [found.get(photograph.name) for photograph in drawn]
    there = [path for path in paths if path is not None]
    names = [
        photograph.name if path is None else path.relative_to(folder).as_posix()
        for photograph, path in zip(drawn, paths, strict=True)
    ]
    settings = {"version": VERSION, "image_size": int(image_size)}
    kept = skipping.decoded(
        cache.cache_key("Retinopathy", folder, there, settings, verify),
        names,
        (3, image_size, image_size),
        functools.partial(_read_nth, paths, image_size),
        on_error=on_error,
        max_skipped=max_skipped,
        problems={
            i: str(_missing(folder, layout, drawn[i]))
            for i, path in enumerate(paths)
            if path is None
        },
    )
    drawn = [drawn[i] for i in kept.rows]
    return ImageDataset(
        images=kept.images,
        labels=np.array([photograph.level for photograph in drawn], np.int64),
        class_names=CLASSES,
        groups=np.array([photograph.patient for photograph in drawn]),
        train=np.flatnonzero(kept.rows < n_train),
        test=np.flatnonzero(kept.rows >= n_train),
        source=f"Retinopathy, {folder}",
        files_decoded=kept.n_files,
        names=np.array(names)[kept.rows],
        notes=(*notes, *more_notes, *kept.notes),
        skipped=kept.skipped,
    )


def find_layout(root: Path) -> tuple[Layout, Path]:
    """The layout of a root, and its label file.

    Raises:
        FileNotFoundError: there is no label file.
        DataError: there are several, or a link leads out of the root.
    """
    found = [
        (layout, path)
        for layout in (EYEPACS, APTOS)
        for path in sorted(root.iterdir())
        if _plain(path.name) == _plain(layout.labels)
    ]
    if not found:
        raise FileNotFoundError(
            f"Retinopathy: {root} holds neither {EYEPACS.labels} (EyePACS) nor {APTOS.labels} "
            "(APTOS). Put the label file there"
        )
    if len(found) > 1:
        readings = " or ".join(f"{path.name} with {layout.images}/" for layout, path in found)
        raise DataError(f"{root} could be read as {readings}. Move one of them elsewhere")
    files.check_inside(root, found[0][1])
    return found[0]


def read_labels(path: Path, layout: Layout = EYEPACS) -> tuple[list[Photograph], tuple[str, ...]]:
    """The lines of a label file, in its order, and notes on what a person should know.

    Raises:
        DataError: a missing column, a grade or a name that is none, a photograph twice; names the
            line.
    """
    rows, notes = files.read_table(path, layout.columns)
    labelled: dict[str, Photograph] = {}
    for row in rows:
        name = row.get(layout.columns[0], _without_ending)
        level = row.get(layout.columns[1], files.whole_number)
        if not 0 <= level < len(CLASSES):
            raise row.error(f"level {level} is not a grade; known are 0 to {len(CLASSES) - 1}")
        if name in labelled:
            raise row.error(f"image {name!r} is in line {labelled[name].row.line}, too")
        patient = _patient(row, name) if layout.patients else name
        labelled[name] = Photograph(name, patient, level, row)
    if not layout.patients:
        notes += (f"{path.name} names no patients; every photograph counts as one of its own",)
    return list(labelled.values()), notes


def find_photographs(
    root: Path, layout: Layout, labelled: list[Photograph], skip: bool = False
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The files of the photographs by their names; notes.

    A name is only ever compared with those of files found, so that none leads out of the root.

    Args:
        root: of the data set.
        layout: of the root.
        labelled: photographs of the label file.
        skip: whether photographs may be missing.

    Raises:
        FileNotFoundError: the folder or a photograph is not there.
        DataError: two files have the name of one photograph, or a link leads out of the root.
    """
    folders = [p for p in sorted(root.iterdir()) if p.name.lower() == layout.images and p.is_dir()]
    if not folders:
        others = [p.name for p in sorted(root.iterdir()) if p.is_dir()]
        raise FileNotFoundError(
            f"Retinopathy: there is no folder {root / layout.images}. Unpack the photographs "
            f"there, or rename their folder to {layout.images}; there are: "
            f"{walk.listed(others) or 'none'}"
        )
    if len(folders) > 1:
        raise DataError(f"two folders have one name: {folders[0]} and {folders[1]}")
    found: dict[str, Path] = {}
    for name in walk.find_files(root).files:
        path = root / name
        if not name.startswith(f"{folders[0].name}/") or path.suffix.lower() not in ENDINGS:
            continue
        if path.stem in found and not path.samefile(found[path.stem]):
            raise DataError(f"two files are of one photograph: {found[path.stem]} and {path}")
        found.setdefault(path.stem, path)
    for photograph in labelled:
        if photograph.name not in found and not skip:
            raise _missing(root, layout, photograph)
    unused = sorted(found.keys() - {photograph.name for photograph in labelled})
    if not unused:
        return found, ()
    return found, (
        f"photographs without a line in the label file, not used: {len(unused)}, "
        f"{found[unused[0]].relative_to(root)} for one",
    )


def _missing(root: Path, layout: Layout, photograph: Photograph) -> FileNotFoundError:
    return FileNotFoundError(
        f"{photograph.row.path}, line {photograph.row.line}: there is no image "
        f"{photograph.name}.jpeg, .jpg or .png in {layout.images}/ of {root}. Unpack all "
        "parts of the photographs, or take the line out"
    )


def _read_nth(paths: Sequence[Path | None], size: int, i: int) -> np.ndarray:
    """One of the photographs, which is there."""
    path = paths[i]
    assert path is not None
    return read_photograph(path, size)


def read_photograph(path: Path, size: int) -> np.ndarray:
    """A photograph turned as its EXIF says, without its black border, in a square, resized.

    Args:
        path: JPEG or PNG, of 8 bits a channel, without transparent pixels.
        size: pixels along an edge of the result.

    Returns:
        (3, size, size) uint8, RGB.

    Raises:
        DataError: the file cannot be decoded; names it.
    """
    try:
        with path.open("rb") as start:
            kind = photographs.kind(start.read(photographs.N_BYTES))
        if kind not in ("JPEG", "PNG"):
            raise DataError("it is neither JPEG nor PNG; fetch it again")
        with photographs.opened(path, kind) as file:
            if file.mode.startswith(("I", "F")):
                raise DataError(f"it has more than 8 bits a channel ({file.mode}); save it with 8")
            # decodes at a half, a quarter or an eighth where that still holds enough pixels
            file.draft("RGB", (2 * size, 2 * size))
            photographs.check_opaque(file)
            photograph = ImageOps.exif_transpose(file).convert("RGB")
        photographs.check_whole(path, kind)
    except Exception as error:  # Pillow raises whatever it stumbles over in a damaged file
        repair = "" if isinstance(error, ValueError) else ". Fetch it again"
        raise DataError(f"{path} cannot be decoded: {error}{repair}") from error
    photograph = crop_border(photograph)
    edge = max(photograph.size)
    square = Image.new("RGB", (edge, edge))
    corner = ((edge - photograph.width) // 2, (edge - photograph.height) // 2)
    square.paste(photograph, corner)
    resized = square.resize((size, size), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))


def crop_border(photograph: Image.Image) -> Image.Image:
    """Cut away the rows and columns that are black all along; an all-black image stays whole."""
    bright = np.asarray(photograph.convert("L")) > BLACK
    if not bright.any():
        return photograph
    rows = np.flatnonzero(bright.any(1))
    columns = np.flatnonzero(bright.any(0))
    return photograph.crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))


def _plain(name: str) -> str:
    """Without what spellings of a name differ in."""
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


def _without_ending(name: str) -> str:
    """The name of a photograph; copies of the label files have it with its ending."""
    stem, dot, ending = files.identifier(name).rpartition(".")
    return stem if dot and f".{ending.lower()}" in ENDINGS else files.identifier(name)


def _patient(row: files.Row, name: str) -> str:
    patient, _, eye = name.rpartition("_")
    if not patient or eye.lower() not in ("left", "right"):
        raise row.error(f"image {name!r} is not named <patient>_left or <patient>_right")
    return patient
