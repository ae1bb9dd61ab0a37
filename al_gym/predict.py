"""Apply a saved classifier to images: one line an image, with the probability of every class.

    python -m al_gym.predict my_project new_scans --out predictions.csv

takes the model of a project of ``python -m al_gym.annotate`` and reads the images as those were
read that it was trained on: files of any kind below the folder, however they are arranged;
lesions of a chestCT annotation file, whose labels may be empty; or the images of an npz file. No
labels are needed, and none are looked at.

A file that cannot be read has a line too, with the reason in its last column; the exit status is 1
then. What could be a formula in a spreadsheet has a blank before it.
"""

import functools
import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from tqdm import tqdm

from al_gym import durable
from al_gym.annotate.model import SavedModel
from al_gym.data import READERS, cache, chestct, files, layouts, medmnist, metaimage, volumes
from al_gym.data.folder import PACKED, fitted, read_image
from al_gym.data.walk import is_excluded

BATCH = 64
"""Images that are read before they are predicted."""
UNREADABLE = (ValueError, OSError, RuntimeError)
"""What readers raise over a file."""


@dataclass(frozen=True)
class PredictConfig:
    """Say of which class images are."""

    model: tyro.conf.Positional[Path]
    """Folder of a project, or its file model.safetensors."""
    folder: tyro.conf.Positional[Path]
    """Folder of the images, or an npz file."""
    out: Path = Path("predictions.csv")
    """Where to write the predictions."""
    overwrite: bool = False
    """Replace a file that is there."""
    trust: bool = False
    """Run code that the model names, a network of somebody's own: see SECURITY.md."""


@dataclass(frozen=True, eq=False)
class Source:
    """Images to be read one at a time."""

    names: Sequence[str]
    """What each is called, as in ``ImageDataset.names``."""
    read: Callable[[int], np.ndarray]
    """Image i as the model takes it, (C, [D,] H, W) uint8; called from several threads. Raises one
    of ``UNREADABLE`` if it cannot be read."""
    problems: dict[str, str] = field(default_factory=dict)
    """Why others cannot be read, by name."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What is said of one image."""

    name: str
    """What it is called, see ``Source``."""
    softmax: np.ndarray | None
    """(M,) float32; None: it cannot be read."""
    problem: str = ""
    """Why."""


def main(config: PredictConfig) -> int:
    """Write the predictions, and say what they are; returns the exit status.

    Raises:
        ValueError: a model or a folder that cannot be used; a file that is there already.
        FileNotFoundError: there is no model, or there are no images.
    """
    if config.out.exists() and not config.overwrite:
        raise ValueError(f"{config.out} is there already: choose another --out, or --overwrite")
    model = SavedModel(config.model, config.trust)
    predictions = list(predicted(model, source_of(model, config.folder)))
    write(model.classes, predictions, config.out)
    print("\n".join(told(model.classes, predictions, config.out)))
    return int(any(each.softmax is None for each in predictions))


def predicted(model: SavedModel, source: Source) -> Iterator[Prediction]:
    """The predictions in the order of the source, under a progress bar; its problems at the end."""
    rows = range(len(source.names))
    with tqdm(total=len(rows), desc="predicting", leave=False) as bar:
        for start in rows[::BATCH]:
            batch = rows[start : start + BATCH]
            found = _read(source, batch)
            images = [each for each in found if not isinstance(each, str)]
            softmax = iter(model.predict(np.stack(images)) if images else ())
            for row, each in zip(batch, found, strict=True):
                name = source.names[row]
                if isinstance(each, str):
                    yield Prediction(name, None, each)
                else:
                    yield Prediction(name, next(softmax))
            bar.update(len(batch))
    for name, problem in source.problems.items():
        yield Prediction(name, None, problem)


def _read(source: Source, rows: Sequence[int]) -> list[np.ndarray | str]:
    """The images, or why they cannot be read."""

    def attempt(i: int) -> np.ndarray | str:
        try:
            return source.read(rows[i])
        except UNREADABLE as error:
            return str(error) or type(error).__name__

    return cache.in_threads(attempt, len(rows), "reading", progress=False)


def write(classes: Sequence[str], predictions: Sequence[Prediction], path: Path) -> None:
    """The predictions as csv, a line an image: file, class, a probability a class, problem.

    Args:
        classes: M names.
        predictions: (n,) of them.
        path: is there whole, or not at all.
    """
    columns = ["file", "class", *(f"probability of {name}" for name in classes), "problem"]
    with durable.writing(path) as unfinished:
        files.write_table(
            unfinished,
            columns,
            (
                [files.cell(each.name), *_said(classes, each.softmax), _line(each.problem)]
                for each in predictions
            ),
        )


def _said(classes: Sequence[str], softmax: np.ndarray | None) -> list[str]:
    if softmax is None:
        return [""] * (1 + len(classes))
    return [files.cell(classes[int(softmax.argmax())]), *(f"{p:.7f}" for p in softmax)]


def _line(text: str) -> str:
    return files.cell(" ".join(text.split()))


def told(classes: Sequence[str], predictions: Sequence[Prediction], out: Path) -> list[str]:
    """What was done, in plain words, a line each."""
    read = [each.softmax for each in predictions if each.softmax is not None]
    counts = Counter(classes[int(softmax.argmax())] for softmax in read)
    lines = [
        f"{len(read)} images: {', '.join(f'{name} {counts[name]}' for name in classes)}.",
        f"{out} has a line for each.",
    ]
    broken = [each for each in predictions if each.softmax is None]
    if broken:
        lines.append(
            f"{len(broken)} could not be read, see the column problem; the first: {broken[0].name}"
        )
    return lines


# --- where images come from -----------------------------------------------------------------------


def source_of(model: SavedModel, folder: Path) -> Source:
    """The images of a folder as the model takes them.

    Args:
        model: says how files become images.
        folder: of the images, or an npz file.

    Raises:
        ValueError: a model of images that are not read here; an annotation file, an npz file or a
            link that cannot be used.
        FileNotFoundError: there are no images.
    """
    sources = {"Folder": _of_folder, "chestCT": _of_chestct, "MedMNIST": _of_medmnist}
    name, given = model.card["reader"]["dataset"], model.card["reader"]["keywords"]
    if name not in sources:
        raise ValueError(f"the model is for {name}, and images can be of {', '.join(sources)}")
    defaults = inspect.signature(READERS[name]).parameters
    keywords = {key: parameter.default for key, parameter in defaults.items()} | given
    source = sources[name](folder, model.shape, keywords)
    if not len(source.names) and not source.problems:
        raise FileNotFoundError(f"there are no images below {folder}")
    return source


def _of_folder(folder: Path, shape: tuple[int, ...], keywords: dict[str, Any]) -> Source:
    """Files of any kind, or those of ``images.npz``, as ``folder.load`` has it."""
    exclude = keywords["exclude"]
    exclude = (exclude,) if isinstance(exclude, str) else exclude
    path = files.user_path("folder", folder)
    if path.is_file():
        return _arrays(path, shape, keywords["window"])
    if (path / PACKED).is_file() and not is_excluded(PACKED, exclude):
        files.check_inside(path, path / PACKED)
        return _arrays(path / PACKED, shape, keywords["window"])
    root = files.resolve_root("images", path, "It holds them, in any arrangement")
    records, problems = layouts.unlabelled(root, exclude, keywords["join_series"])

    def read(i: int) -> np.ndarray:
        record = records[i]
        _check_dims(str(record.paths[0]), record.n_dims, shape)
        return read_image(record.paths, shape, keywords["window"])

    return Source([record.name for record in records], read, problems)


def _check_dims(name: str, n_dims: int, shape: tuple[int, ...]) -> None:
    kinds = {2: "images", 3: "volumes"}
    if n_dims != len(shape) - 1:
        raise ValueError(f"{name} has {n_dims} axes, and the model is for {kinds[len(shape) - 1]}")


def _of_chestct(folder: Path, shape: tuple[int, ...], keywords: dict[str, Any]) -> Source:
    root = files.resolve_root("chestCT", folder, f"It holds {chestct.ANNOTATIONS} and the volumes")
    lesions, _ = chestct.read_annotations(root / chestct.ANNOTATIONS, unlabelled=True)
    headers = chestct.volumes_below(root)

    @functools.cache  # once a volume, not once a lesion
    def volume(header: Path) -> metaimage.Volume:
        found = metaimage.find(root, header)
        volumes.check(header, "MetaImage")
        return found

    def read(i: int) -> np.ndarray:
        lesion = lesions[i]
        if lesion.series not in headers:
            raise chestct.missing_volume(root, lesion)
        try:
            scan = volume(headers[lesion.series])
            patch = chestct.read_patch(scan, lesion, shape[-1], keywords["margin"])
        except UNREADABLE as error:
            raise lesion.row.error(f"{headers[lesion.series]} cannot be read: {error}") from error
        return chestct.apply_windows(patch, keywords["windows"])

    return Source([chestct.name_of(lesion) for lesion in lesions], read)


def _of_medmnist(folder: Path, shape: tuple[int, ...], keywords: dict[str, Any]) -> Source:
    """All splits of an npz file: the one given, or in a folder that of the model's data set."""
    path = files.user_path("folder", folder)
    if not path.is_file():
        path = path / medmnist.npz_name(keywords["flag"], keywords["size"])
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; or name an npz file")
    return _arrays(path, shape, None, is_resized=False)


def _arrays(
    path: Path,
    shape: tuple[int, ...],
    window: tuple[float, float] | None,
    is_resized: bool = True,
) -> Source:
    """The array ``images``, see ``data.packed``, or ``<split>_images``, see ``data.medmnist``."""
    splits = {f"{split}_images": split for split in ("train", "test", "val")}
    arrays = medmnist.read_npz(path, [], optional=("images", "names", *splits))
    keys = [key for key in (["images"] if "images" in arrays else splits) if key in arrays]
    if not keys:
        raise ValueError(f"{path} has neither an array images nor any of {', '.join(splits)}")
    images: list[np.ndarray] = []
    names: list[str] = []
    for key in keys:
        part = medmnist.channels_first(f"{path}: {key}", arrays[key])
        _check_dims(f"{path}: {key}", part.ndim - 2, shape)
        if part.shape[1] > shape[0] or not (is_resized or part.shape[2:] == shape[1:]):
            raise ValueError(
                f"{path}: {key} are {part.shape[1:]} each, and the model is for {shape}"
            )
        images += list(part)
        names += [f"{path.name}, {splits.get(key)} {i}" for i in range(len(part))]
    if "images" in arrays:
        names = arrays.get("names", np.arange(len(images))).astype(str).tolist()
    if len(names) != len(images):
        raise ValueError(f"{path}: {len(images)} images, but {len(names)} names")
    return Source(names, lambda i: fitted(names[i], images[i], shape, window))


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(PredictConfig, description=__doc__)))
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"al_gym.predict: {error}")
