"""Retinopathy: fundus photographs of the Kaggle competition of 2015 (EyePACS), five grades.

Layout of the root::

    trainLabels.csv
    train/10_left.jpeg, 10_right.jpeg ...
"""

from pathlib import Path

import numpy as np
from PIL import Image

from al_gym.data import cache, files
from al_gym.data.dataset import ImageDataset, split_groups

LABELS = "trainLabels.csv"
CLASSES = ("no DR", "mild", "moderate", "severe", "proliferative DR")
BLACK = 12
"""Grey value up to which a pixel belongs to the border around the photograph."""
VERSION = 1  # of the images in the cache; raise it when the same settings give other pixels


def load(
    root: str | Path | None = None,
    *,
    n_train: int = 2230,
    n_test: int = 2230,
    image_size: int = 224,
    split_seed: int = 0,
    verify: bool = False,
) -> ImageDataset:
    """Read the photographs; patients are drawn for either side, then images (3.1).

    Args:
        root: folder with trainLabels.csv; None: ``$AL_GYM_DATA/Retinopathy``.
        n_train: training images.
        n_test: test images, of other patients.
        image_size: pixels along an edge.
        split_seed: decides patients and images.
        verify: know cached files by their content, see ``cache.cache_key``.

    Returns:
        Images (n_train + n_test, 3, size, size) uint8; groups are the patients.

    Raises:
        FileNotFoundError: no root, no label file, or an image it names is not there.
        ValueError: a line of the label file, or an image, is not as it should be.
    """
    folder = files.resolve_root(
        "Retinopathy", root, f"It holds {LABELS} and train/ of the Kaggle competition"
    )
    if image_size < 8:
        raise ValueError(f"image_size must be at least 8, not {image_size}")
    rows, _ = files.read_table(folder / LABELS, ["image", "level"])
    labels = np.array([_level(row) for row in rows], np.int64)
    patients = np.array([_patient(row) for row in rows])
    found = _find_images(folder / "train", rows)
    train, test = split_groups(patients, n_train, n_test, np.random.default_rng(split_seed))
    drawn = np.concatenate([train, test])
    paths = [found[i] for i in drawn]
    settings = {"version": VERSION, "image_size": image_size}
    images, n_decoded = cache.decoded(
        cache.cache_key("Retinopathy", folder, paths, settings, verify),
        len(paths),
        (3, image_size, image_size),
        lambda i: read_photograph(paths[i], image_size),
    )
    return ImageDataset(
        images=images,
        labels=labels[drawn],
        class_names=CLASSES,
        groups=patients[drawn],
        train=np.arange(n_train),
        test=np.arange(n_train, n_train + n_test),
        source=f"Retinopathy, {folder}",
        files_decoded=n_decoded,
    )


def read_photograph(path: Path, size: int) -> np.ndarray:
    """A photograph without its black border, padded to a square and resized.

    Args:
        path: JPEG.
        size: pixels along an edge of the result.

    Returns:
        (3, size, size) uint8, RGB.

    Raises:
        ValueError: the file cannot be decoded; names it.
    """
    try:
        with Image.open(path) as file:
            # decodes at a half, a quarter or an eighth where that still holds enough pixels
            file.draft("RGB", (2 * size, 2 * size))
            photograph = file.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be decoded: {error}. Fetch it again") from error
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


def _level(row: files.Row) -> int:
    level = row.get("level", int)
    if not 0 <= level < len(CLASSES):
        raise row.error(f"level {level} is not a grade; known are 0 to {len(CLASSES) - 1}")
    return level


def _patient(row: files.Row) -> str:
    name = row.get("image", str)
    patient, _, eye = name.rpartition("_")
    if not patient or eye not in ("left", "right"):
        raise row.error(f"image {name!r} is not named <patient>_left or <patient>_right")
    return patient


def _find_images(folder: Path, rows: list[files.Row]) -> list[Path]:
    """Files of the rows; a name is only compared with those in ``folder``, so it cannot leave."""
    if not folder.is_dir():
        raise FileNotFoundError(f"Retinopathy: there is no folder {folder}. Unpack train.zip there")
    found = {path.stem: path for path in folder.glob("*.jpeg")}
    for row in rows:
        if row.values["image"].strip() not in found:
            raise FileNotFoundError(
                f"{row.path}, line {row.line}: there is no image {row.values['image']}.jpeg in "
                f"{folder}. Unpack all parts of train.zip, or take the line out"
            )
    return [found[row.values["image"].strip()] for row in rows]
