r"""The user's own images: a folder in one of several layouts, or an npz file.

One folder a class; the usual names of splits may stand above the classes or right below them, and
a folder of images without labels beside them::

    healthy/p001_a.png          train/healthy/...          healthy/train/...
    sick/p007/scan.nii.gz       val/sick/...               sick/test/...
    unlabelled/...              test/sick/...

or images in any folders with ``labels.csv`` of the columns file, label and, if there is more to
say, patient and split; or ``images.npz``, see ``packed``.

``layouts`` says which files are images and what is known of them, ``splits`` divides them, and this
module decodes them to one size.
"""

import functools
import re
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from al_gym.config import check_at_least, check_between, check_one_of
from al_gym.data import cache, files, formats, layouts, packed, places, skipping, splits
from al_gym.data.dataset import ImageDataset
from al_gym.data.walk import find_files, is_excluded, listed
from al_gym.errors import DataError

PACKED = "images.npz"
LEAST_SIZE = 4
"""Of an edge, in pixels."""
VERSION = 3  # of the images in the cache; raise it when the same settings give other pixels


def load(
    root: str | Path | None = None,
    *,
    image_size: int | Sequence[int] | None = None,
    window: tuple[float, float] | None = None,
    group_pattern: str | None = None,
    labels: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    exclude: str | Sequence[str] = (),
    duplicates: str = "keep",
    join_series: bool = True,
    test_fraction: float = 0.3,
    split_seed: int = 0,
    verify: bool = False,
    on_error: str = "raise",
    max_skipped: float = 0.05,
) -> ImageDataset:
    r"""Read images of any size to one size.

    Args:
        root: the folder, or the npz file itself; None: ``$AL_GYM_DATA/Folder``.
        image_size: pixels or voxels along each edge, or one number an axis, (H, W) or (D, H, W);
            None: 64 for images, 32 for volumes, and what it is for an npz file.
        window: (low, high) intensities that become 0 and 255, such as (-1000, 400) HU for CT; None:
            8-bit images keep their values, others are scaled between their own 0.5 and 99.5
            percentiles (least and largest value if these are equal, as in an image that is all
            background but for a few pixels); both kinds together need a window.
        group_pattern: regular expression whose first group is the patient, such as ``(p\d+)_``, so
            that a patient lies on one side of the split. It is searched in the path below the
            folders of class and split; if it is not there, in the path below the root, with
            slashes. None: the label csv's column patient, else a DICOM file's PatientID or series,
            else every file is a patient of its own.
        labels: path of the label csv; None: ``labels.csv`` in the root, if there. With a csv, the
            names of folders say nothing.
        class_names: M names, in their order, where they are known before any image is labelled:
            images below a folder of the root that is called so are of that class, or as the csv
            says; all others may lie anywhere, and are unlabelled. None: the classes are those of
            the images.
        exclude: patterns of files and folders to leave out, such as ``*_mask.png``, for their path
            below the root or their name.
        duplicates: "drop" leaves out training images that are copies, to the byte, of validation or
            test images, and validation images that are copies of test images; "keep" only says how
            many there are.
        join_series: the slices of a DICOM series are one volume; False: every file is an image.
        test_fraction: share of the groups drawn for the test, class by class, from the training
            images; 0: no test images. Not used where the split names test images.
        split_seed: decides that draw.
        verify: know files that were decoded before by their content, not by size and time alone.
        on_error: "skip" leaves out images that cannot be decoded, after the draw of the test
            images; they are decoded in processes that may crash. An npz file is read as a whole.
        max_skipped: share of the images that may be left out.

    Returns:
        Images (N, 1 or 3, [D,] H, W) uint8; class names in order; names are paths below the root,
        of a series that of its folder or, where others share it, of its first file.

    Raises:
        FileNotFoundError: no root, no images in it, or nothing that names their classes.
        ValueError: a setting that cannot be; says which, and what to do.
        DataError: a file that cannot be decoded; images and volumes, or 8-bit and deeper ones
            without a window, together; a layout that could mean two things; a class without enough
            images; says which, and what to do.
    """
    exclude = (exclude,) if isinstance(exclude, str) else exclude
    _check_settings(
        image_size, window, group_pattern, exclude, duplicates, test_fraction, split_seed
    )
    skipping.check_settings(on_error, max_skipped)
    path, notes = _resolve(root, exclude)
    divide = functools.partial(
        splits.divide,
        drop=duplicates == "drop",
        test_fraction=test_fraction,
        rng=np.random.default_rng(split_seed),
    )
    if path.is_file():
        if class_names is not None:
            raise ValueError(f"class_names is for folders, and {path} has its own: leave it out")
        if labels is not None:
            raise ValueError(
                f"labels is for folders, and {path} has its own: leave it out; or, if it is about "
                f"images beside the file, leave this out with exclude={PACKED!r}"
            )
        images, rows, class_names, of_file = packed.read(path, exclude, group_pattern)
        rows, kept, more = divide(rows, class_names, packed.copies(images))
        images = _fitted_all(path, images[kept], image_size, window)
        whole = skipping.Kept(images, np.arange(len(images)), 0)
        return _dataset(path, whole, rows, class_names, [*notes, *of_file, *more])
    layout = layouts.read(
        path,
        labels_csv=None if labels is None else files.user_path("labels", labels),
        exclude=exclude,
        group_pattern=group_pattern,
        join_series=join_series,
        class_names=class_names,
        skip=on_error == "skip",
    )
    copies = splits.identical_files(layout.contents())
    rows, kept, more = divide(layout.rows(), layout.class_names, copies)
    records = [layout.records[i] for i in kept]
    problems = {i: record.problem for i, record in enumerate(records) if record.problem}
    names = rows.names.tolist()
    usable = [record for record in records if not record.problem]
    if not usable:
        raise DataError(f"{path}: not one of {len(names)} images can be used: {problems[0]}")
    shape = _common_shape(usable, image_size)
    if window is None:
        _check_depths(usable)
    settings = {
        "version": VERSION,
        "shape": shape,
        "window": None if window is None else [float(bound) for bound in window],
        **({"problems": [names[i] for i in problems]} if problems else {}),
    }
    paths = [*(path for record in usable for path in record.paths), *layout.beside]
    decoded = skipping.decoded(
        cache.cache_key("Folder", path, paths, settings, verify),
        names,
        shape,
        functools.partial(_read_nth, [record.paths for record in records], shape, window),
        on_error=on_error,
        max_skipped=max_skipped,
        problems=problems,
    )
    if decoded.skipped:
        gone = np.setdiff1d(rows.labels, rows.labels[decoded.rows])
        if len(gone):
            raise DataError(
                f"{path}: no image of class {layout.class_names[gone[0]]!r} can be used; "
                f"{decoded.skipped[0][0]}, for one: {decoded.skipped[0][1]}"
            )
        rows = rows.at(decoded.rows)
        splits.refuse_empty_classes(rows, layout.class_names)
    return _dataset(path, decoded, rows, layout.class_names, [*layout.notes, *more])


def _read_nth(
    paths: Sequence[Sequence[Path]],
    shape: tuple[int, ...],
    window: tuple[float, float] | None,
    i: int,
) -> np.ndarray:
    """One of the images; can be pickled."""
    return read_image(paths[i], shape, window)


def read_image(
    paths: Sequence[Path], shape: tuple[int, ...], window: tuple[float, float] | None = None
) -> np.ndarray:
    """One image, scaled to 8 bits and resampled to ``shape``, its whole extent kept.

    Args:
        paths: the file, or the slices of a DICOM series.
        shape: (C, H, W) or (C, D, H, W) of the result.
        window: see ``load``.

    Returns:
        uint8 of ``shape``.

    Raises:
        DataError: a file cannot be decoded, or has another number of dimensions; names it.
    """
    if len(paths) == 1:
        return fitted(str(paths[0]), formats.read(paths[0], shape[0]), shape, window)
    try:
        volume = formats.read_series(paths)
    except ValueError as error:
        raise DataError(
            f"{error}. Its series of {len(paths)} files is read as one volume: leave out what is "
            "no slice of it, such as a localiser, with exclude; or pass join_series=False, which "
            "takes every file as an image"
        ) from error
    return fitted(str(paths[0]), volume, shape, window)


def fitted(
    name: str,
    array: np.ndarray,
    shape: tuple[int, ...],
    window: tuple[float, float] | None = None,
) -> np.ndarray:
    """An image scaled to 8 bits and resampled.

    Args:
        name: for errors.
        array: (C or 1, [D,] H, W) of any type of numbers.
        shape: (C, [D,] H, W) of the result.
        window: see ``load``.

    Returns:
        uint8 of ``shape``.

    Raises:
        DataError: another number of dimensions.
    """
    if array.ndim != len(shape):
        raise DataError(
            f"{name} has {array.ndim - 1} dimensions, other files {len(shape) - 1}; "
            "a folder holds either images or volumes"
        )
    if array.dtype != np.uint8 or window is not None:
        low, high = _range(array) if window is None else window
        array = (array.astype(np.float32) - low) / (high - low if high > low else 1) * 255
    resized = _resize(torch.from_numpy(array.astype(np.float32)), shape[1:])
    return resized.clamp(0, 255).round().to(torch.uint8).expand(shape).contiguous().numpy()


def _range(array: np.ndarray) -> tuple[float, float]:
    """What becomes black and white: 0.5 and 99.5 percentiles, or all there is if they are equal."""
    low, high = np.percentile(array, (0.5, 99.5))
    return (low, high) if low < high else (array.min(), array.max())


def _resize(image: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """(C, [D,] H, W) to ``size``: means over areas where it shrinks, linear where it grows."""
    if image.shape[1:] == size:
        return image
    shrinks = any(old > new for old, new in zip(image.shape[1:], size, strict=True))
    linear = "bilinear" if len(size) == 2 else "trilinear"
    return F.interpolate(image[None], size=size, mode="area" if shrinks else linear)[0]


def _common_shape(
    records: Sequence[layouts.Record], size: int | Sequence[int] | None
) -> tuple[int, ...]:
    """(C, [D,] H, W) of every decoded image, from all dimensions and colours."""
    first = records[0]
    others = [record for record in records if record.n_dims != first.n_dims]
    if others:
        other, n = others[0], len(others)
        raise DataError(
            f"{other.paths[0]} has {other.n_dims} dimensions (one of {n} images), {first.paths[0]} "
            f"{first.n_dims} (one of {len(records) - n}); a folder holds either images or volumes. "
            "Leave one kind out with exclude; if slices of a DICOM series are meant to be images, "
            "join_series=False"
        )
    n_channels = max(record.n_channels for record in records)
    return (n_channels, *_edges(size, (64,) * 2 if first.n_dims == 2 else (32,) * 3))


def _check_depths(records: Sequence[layouts.Record]) -> None:
    """Without a window, a network could tell 8-bit files from deeper ones by their brightness."""
    shallow, deep = (
        next((r.paths[0] for r in records if r.is_deep == is_deep), None)
        for is_deep in (False, True)
    )
    if shallow is not None and deep is not None:
        raise DataError(
            f"{shallow} has 8 bits, which stay as they are, and {deep} has other values, which are "
            "scaled to its own range, so that equal values would look different. Pass "
            "window=(low, high) for all, save all alike, or leave one kind out with exclude"
        )


def _edges(size: int | Sequence[int] | None, default: tuple[int, ...]) -> tuple[int, ...]:
    """[D,] H, W that ``image_size`` stands for."""
    if size is None:
        return default
    if not isinstance(size, Sequence):
        return (int(size),) * len(default)
    edges = tuple(int(edge) for edge in size)
    if len(edges) != len(default):
        raise ValueError(
            f"image_size {edges} has {len(edges)} numbers, and the images have {len(default)} axes"
        )
    return edges


def _fitted_all(
    path: Path,
    images: np.ndarray,
    image_size: int | Sequence[int] | None,
    window: tuple[float, float] | None,
) -> np.ndarray:
    """(N, C, [D,] H, W) of an npz file, as the settings say."""
    shape = (images.shape[1], *_edges(image_size, images.shape[2:]))
    if shape == images.shape[1:] and window is None:
        return images
    return np.stack([fitted(str(path), image, shape, window) for image in images])


def _dataset(
    path: Path,
    decoded: skipping.Kept,
    rows: splits.Rows,
    class_names: tuple[str, ...],
    notes: Sequence[str],
) -> ImageDataset:
    sides = {side: np.flatnonzero(rows.sides == side) for side in splits.SIDES}
    return ImageDataset(
        images=decoded.images,
        labels=rows.labels,
        class_names=class_names,
        groups=rows.groups,
        source=f"Folder, {path}",
        files_decoded=decoded.n_files,
        names=rows.names,
        notes=(*notes, *decoded.notes),
        skipped=decoded.skipped,
        **sides,
    )


def _resolve(root: str | Path | None, exclude: Sequence[str]) -> tuple[Path, list[str]]:
    """The folder to read, or the npz file, and a note of what lies beside it."""
    if root is not None and (given := files.user_path("root", root)).is_file():
        return given, []
    folder = files.resolve_root("Folder", root, "It holds one folder of images a class")
    npz = folder / PACKED
    if not npz.is_file() or is_excluded(PACKED, exclude):
        return folder, []
    files.check_inside(folder, npz)
    found = find_files(folder, exclude)
    if found.folders or places.LABELS in found.files:
        other = (found.folders or [places.LABELS])[0]
        raise DataError(
            f"{folder} could mean two things: the images in {PACKED}, or those that {other} is "
            f"about. Pass root={str(npz)!r} for the first, exclude={PACKED!r} for the second"
        )
    others = [name for name in found.files if name != PACKED]
    return npz, [f"beside {PACKED}, not read: {listed(others)}"] if others else []


def _check_settings(
    image_size: Any,
    window: Any,
    group_pattern: str | None,
    exclude: Any,
    duplicates: str,
    test_fraction: float,
    split_seed: int,
) -> None:
    """Refuse what cannot be, before files are read."""
    for edge in image_size if isinstance(image_size, list | tuple) else (image_size,):
        if edge is not None:
            check_at_least("image_size", edge, LEAST_SIZE)
    if window is not None:
        is_pair = isinstance(window, list | tuple | np.ndarray) and len(window) == 2
        if not is_pair or not all(isinstance(bound, Real) for bound in window):
            raise ValueError(f"window must be two numbers, (low, high), not {window!r}")
        low, high = window
        if not -np.inf < low < high < np.inf:
            raise ValueError(f"window must be (low, high) with low < high, not {window!r}")
    if group_pattern is not None:
        try:
            re.compile(group_pattern)
        except (re.error, TypeError) as error:
            raise ValueError(
                f"group_pattern {group_pattern!r} is no regular expression: {error}"
            ) from None
    are_patterns = isinstance(exclude, list | tuple) and all(isinstance(p, str) for p in exclude)
    if not are_patterns:
        raise ValueError(f"exclude must be a pattern such as '*_mask.png', or several: {exclude}")
    check_one_of("duplicates", duplicates, ("keep", "drop"))
    check_between("test_fraction", test_fraction, 0, 1, lower_included=True)
    check_at_least("split_seed", split_seed, 0)
