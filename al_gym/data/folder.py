"""The user's own images: one folder a class, or an npz file.

Layout of the root, with one file an image, 2-D or 3-D alike::

    healthy/p001_a.png ...          train/healthy/... , test/healthy/...       images.npz
    sick/p007_a.dcm ...       or    train/sick/...    , test/sick/...    or

``images.npz`` holds ``images`` (N, H, W), (N, H, W, 3) or (N, D, H, W) in uint8, ``labels`` (N,),
and may hold ``groups`` (N,).
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from PIL import Image
from torch.nn import functional as F

from al_gym.data import cache, files
from al_gym.data.dataset import ImageDataset
from al_gym.data.medmnist import channels_first, read_npz

PHOTOGRAPHS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
"""Endings that Pillow reads; everything else goes to SimpleITK."""
SCANS = (".dcm", ".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")
DECODE_ERRORS = (OSError, SyntaxError, RuntimeError, Image.DecompressionBombError)
"""What Pillow and SimpleITK raise on a file they cannot read."""
VERSION = 1  # of the images in the cache; raise it when the same settings give other pixels


@dataclass(frozen=True)
class _File:
    path: Path
    label: int
    side: str  # "train", "test", or "" where a split is to be drawn


def load(
    root: str | Path | None = None,
    *,
    image_size: int | None = None,
    window: tuple[float, float] | None = None,
    group_pattern: str | None = None,
    test_fraction: float = 0.3,
    split_seed: int = 0,
) -> ImageDataset:
    r"""Read images of any size to one size.

    Args:
        root: the folder, or the npz file itself; None: ``$AL_GYM_DATA/Folder``.
        image_size: pixels or voxels along each edge; None: 64 for images, 32 for volumes. An npz
            file's images keep their size.
        window: (low, high) intensities that become 0 and 255, such as (-1000, 400) HU for CT; None:
            8-bit images keep their values, others are scaled between their own 0.5 and 99.5
            percentiles.
        group_pattern: regular expression for the file name whose first group is the patient, such
            as ``(p\d+)_``, so that a patient lies on one side of the split; None: every file is a
            patient of its own.
        test_fraction: share of the groups held for the test, drawn class by class. Not used with
            train/ and test/ folders.
        split_seed: decides that draw.

    Returns:
        Images (N, 1 or 3, [D,] H, W) uint8; class names are the folders' names in order.

    Raises:
        FileNotFoundError: no root, or no images in it.
        ValueError: a file that cannot be decoded, 2-D and 3-D files together, a class without
            enough images, a ``group_pattern`` that does not match.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must lie between 0 and 1, not {test_fraction}")
    path = _resolve(root)
    rng = np.random.default_rng(split_seed)
    if path.is_file():
        return _load_npz(path, test_fraction, rng)
    found, names = _find(path)
    groups = np.array([_group(file.path, group_pattern) for file in found])
    labels = np.array([file.label for file in found], np.int64)
    shape = _common_shape([file.path for file in found], image_size)

    def decode(i: int) -> np.ndarray:
        return read_image(found[i].path, shape, window)

    settings = {"version": VERSION, "shape": shape, "window": window}
    key = cache.cache_key("Folder", path, [file.path for file in found], settings)
    images, n_decoded = cache.decoded(key, len(found), shape, decode)
    sides = np.array([file.side for file in found])
    if (sides == "").any():
        test = _draw_test_groups(labels, groups, test_fraction, rng)
    else:
        test = sides == "test"
    return ImageDataset(
        images=images,
        labels=labels,
        class_names=names,
        groups=groups,
        train=np.flatnonzero(~test),
        test=np.flatnonzero(test),
        source=f"Folder, {path}",
        files_decoded=n_decoded,
    )


def read_image(
    path: Path, shape: tuple[int, ...], window: tuple[float, float] | None = None
) -> np.ndarray:
    """One file, scaled to 8 bits and resampled to ``shape``, its whole extent kept.

    Args:
        path: image or volume.
        shape: (C, H, W) or (C, D, H, W) of the result.
        window: see ``load``.

    Returns:
        uint8 of ``shape``.

    Raises:
        ValueError: the file cannot be decoded, or has another number of dimensions.
    """
    try:
        array = _read(path, n_channels=shape[0])
    except DECODE_ERRORS as error:
        raise ValueError(f"{path} cannot be decoded: {error}") from error
    if array.ndim != len(shape):
        raise ValueError(
            f"{path} has {array.ndim - 1} dimensions, other files {len(shape) - 1}; "
            "a folder holds either images or volumes"
        )
    if array.dtype != np.uint8 or window is not None:
        low, high = np.percentile(array, (0.5, 99.5)) if window is None else window
        array = (array.astype(np.float32) - low) / max(high - low, 1e-6) * 255
    resized = _resize(torch.from_numpy(array.astype(np.float32)), shape[1:])
    return resized.clamp(0, 255).round().to(torch.uint8).expand(shape).contiguous().numpy()


def _read(path: Path, n_channels: int) -> np.ndarray:
    """(C, [D,] H, W) in the file's own type and size; C is 1, or 3 for a coloured file."""
    if _is_photograph(path):
        with Image.open(path) as file:
            deep = file.mode.startswith(("I", "F"))
            array = np.asarray(file if deep else file.convert("L" if n_channels == 1 else "RGB"))
        return np.moveaxis(array, -1, 0) if array.ndim == 3 else array[None]
    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)
    channels_first = (
        np.moveaxis(array, -1, 0) if image.GetNumberOfComponentsPerPixel() > 1 else array[None]
    )
    if channels_first.ndim == 4 and channels_first.shape[1] == 1:
        return channels_first[:, 0]  # a single slice, as DICOM keeps it
    return channels_first


def _resize(image: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """(C, [D,] H, W) to ``size``: means over areas where it shrinks, linear where it grows."""
    if image.shape[1:] == size:
        return image
    shrinks = any(old > new for old, new in zip(image.shape[1:], size, strict=True))
    linear = "bilinear" if len(size) == 2 else "trilinear"
    return F.interpolate(image[None], size=size, mode="area" if shrinks else linear)[0]


def _common_shape(paths: list[Path], size: int | None) -> tuple[int, ...]:
    """(C, [D,] H, W) of every decoded image, from the first file's dimensions and all colours."""
    headers = [_header(path) for path in paths]
    n_dims = headers[0][0]
    return (
        max(channels for _, channels in headers),
        *[size or (64 if n_dims == 2 else 32)] * n_dims,
    )


def _header(path: Path) -> tuple[int, int]:
    """Dimensions and channels (1 or 3) of a file, without its pixels."""
    try:
        if _is_photograph(path):
            with Image.open(path) as file:
                grey = file.mode in ("1", "L", "LA") or file.mode.startswith(("I", "F"))
                return 2, 1 if grey else 3
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
    except DECODE_ERRORS as error:
        raise ValueError(f"{path} cannot be decoded: {error}") from error
    dims = sum(extent > 1 for extent in reader.GetSize())
    if dims not in (2, 3) or reader.GetNumberOfComponents() not in (1, 3):
        raise ValueError(
            f"{path}: {reader.GetSize()} with {reader.GetNumberOfComponents()} components is "
            "neither an image nor a volume, in grey or RGB"
        )
    return dims, reader.GetNumberOfComponents()


def _find(root: Path) -> tuple[list[_File], tuple[str, ...]]:
    """Files of every class; classes are sorted by name."""
    sides = ("train", "test") if (root / "train").is_dir() and (root / "test").is_dir() else ("",)
    names = sorted(
        {folder.name for side in sides for folder in (root / side).iterdir() if _visible(folder)}
    )
    if len(names) < 2:
        raise FileNotFoundError(
            f"{root} needs one folder a class, at least two; it has {names}. "
            "Or pass root= an npz file with images and labels"
        )
    files = [
        _File(path, label, side)
        for side in sides
        for label, name in enumerate(names)
        for path in sorted((root / side / name).rglob("*"))
        if path.name.lower().endswith((*PHOTOGRAPHS, *SCANS)) and not path.name.startswith(".")
    ]
    if not files:
        raise FileNotFoundError(f"no images below {root}; read are {PHOTOGRAPHS + SCANS}")
    return files, tuple(names)


def _visible(folder: Path) -> bool:
    return folder.is_dir() and not folder.name.startswith(".")


def _group(path: Path, pattern: str | None) -> str:
    if pattern is None:
        return str(path)
    match = re.search(pattern, path.name)
    if match is None or not match.groups():
        raise ValueError(
            f"group_pattern {pattern!r} finds no group in the file name {path.name!r}; it needs "
            "parentheses around the patient, such as (p\\d+)_"
        )
    return match.group(1)


def _draw_test_groups(
    labels: np.ndarray, groups: np.ndarray, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Mask of the test images: whole groups, drawn class by class.

    A group with images of several classes counts for the class of its first one.
    """
    _, first, group_of = np.unique(groups, return_index=True, return_inverse=True)
    on_test_side = np.zeros(len(first), bool)
    for label in np.unique(labels[first]):
        candidates = np.flatnonzero(labels[first] == label)
        if len(candidates) < 2:
            raise ValueError(
                f"class {label} has images of {len(candidates)} group; a split needs two at least"
            )
        n_test = min(max(1, round(fraction * len(candidates))), len(candidates) - 1)
        on_test_side[rng.choice(candidates, n_test, replace=False)] = True
    return on_test_side[group_of]


def _load_npz(path: Path, test_fraction: float, rng: np.random.Generator) -> ImageDataset:
    arrays = read_npz(path, ["images", "labels"], optional=("groups",))
    images = channels_first(f"{path}: images", arrays["images"])
    labels = arrays["labels"]
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{path}: labels must be ({len(images)},) integers, not {labels.shape}")
    groups = arrays.get("groups", np.arange(len(images)))
    if groups.shape != labels.shape:
        raise ValueError(f"{path}: groups must be ({len(images)},), not {groups.shape}")
    labels = labels.astype(np.int64)
    test = _draw_test_groups(labels, groups, test_fraction, rng)
    return ImageDataset(
        images=images,
        labels=labels,
        class_names=tuple(str(i) for i in range(max(labels.max() + 1, 2))),
        groups=groups,
        train=np.flatnonzero(~test),
        test=np.flatnonzero(test),
        source=f"Folder, {path}",
    )


def _resolve(root: str | Path | None) -> Path:
    if root is not None and Path(root).is_file():
        return Path(root)
    folder = files.resolve_root("Folder", root, "It holds one folder of images a class")
    packed = folder / "images.npz"
    return packed if packed.is_file() else folder


def _is_photograph(path: Path) -> bool:
    return path.name.lower().endswith(PHOTOGRAPHS)
