"""MedMNIST: any single-label data set of the collection, 2-D or 3-D, from its npz file.

Yang et al., "MedMNIST v2", Scientific Data 10:41 (2023). The official training and test splits are
kept; the validation split is left aside unless it is asked for. Download is the business of the
collection's own package. Any other npz file of the same arrays will do: its name without the size
is the flag, and ``<split>_image_ids`` may say which patient, scan or photograph each image comes
from.
"""

import math
import re
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from al_gym import config
from al_gym.data import files
from al_gym.data.dataset import ImageDataset
from al_gym.errors import DataError

DAMAGED = (
    ValueError, OSError, EOFError, RuntimeError, NotImplementedError,
    zipfile.BadZipFile, zlib.error, tokenize.TokenError,
)  # fmt: skip
"""What NumPy and zipfile raise over files of other bytes than they should have."""


def load(
    root: str | Path | None = None,
    *,
    flag: str | None = None,
    size: int = 28,
    download: bool = False,
    validation: bool = False,
) -> ImageDataset:
    """Read ``<flag>.npz`` (28 pixels) or ``<flag>_<size>.npz``.

    Args:
        root: folder of the npz file; None: ``$AL_GYM_DATA/MedMNIST``.
        flag: the collection's name of the data set, such as "retinamnist" or "organmnist3d".
        size: 28, or one of the larger sizes of MedMNIST+.
        download: fetch the file through the ``medmnist`` package if it is not there.
        validation: read the validation split, too, into the last rows.

    Returns:
        Images (N, 1 or 3, [D,] H, W) uint8, grouped by ``<split>_image_ids`` if the file has them;
        otherwise every image is a group of its own.

    Raises:
        FileNotFoundError: the file is not there and ``download`` is off.
        ModuleNotFoundError: ``download`` is on and the package is not installed.
        ValueError: no flag, or one that the collection does not have.
        DataError: a file that is not a single-label set of the collection.
    """
    if flag is None:
        raise ValueError('MedMNIST needs flag=, the name of a data set, such as "retinamnist"')
    if not re.fullmatch(r"\w+", str(flag)):  # it becomes a file's name
        raise ValueError(f"flag {flag!r} is no name of a data set, such as 'retinamnist'")
    config.check_at_least("size", size, 1)
    file_name = npz_name(flag, size)
    hint = f"It holds {file_name}; or pass download=True with the extra al-gym[medmnist] installed"
    folder = files.data_folder("MedMNIST") if root is None else files.user_path("root", root)
    if download and folder is not None and not (folder / file_name).exists():
        _download(flag, size, folder)
    folder = files.resolve_root("MedMNIST", root, hint)
    path = folder / file_name
    if not path.is_file():
        raise FileNotFoundError(f"MedMNIST: there is no file {path}. {hint}")
    files.check_inside(folder, path)
    splits = ("train", "test", "val") if validation else ("train", "test")
    arrays = read_npz(
        path,
        [f"{split}_{what}" for split in splits for what in ("images", "labels")],
        optional=tuple(f"{split}_image_ids" for split in splits),
    )
    parts = [_part(path, split, arrays) for split in splits]
    shapes = {split: images.shape[1:] for split, (images, _) in zip(splits, parts, strict=True)}
    if len(set(shapes.values())) > 1:
        raise DataError(f"{path}: images must have one shape in all splits, not {shapes}")
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    sizes = [len(images) for images, _ in parts]
    rows = np.split(np.arange(len(images)), np.cumsum(sizes)[:-1])
    return ImageDataset(
        images=images,
        labels=labels,
        class_names=tuple(str(i) for i in range(max(labels.max(initial=0) + 1, 2))),
        groups=_groups(path, arrays, splits, sizes),
        train=rows[0],
        test=rows[1],
        validation=rows[2] if validation else np.array([], np.int64),
        source=f"MedMNIST {path.stem}, {path}",
        names=np.array(
            [
                f"{path.name}, {split} {i}"
                for split, n in zip(splits, sizes, strict=True)
                for i in range(n)
            ]
        ),
    )


def npz_name(flag: str, size: int) -> str:
    """What the collection calls the file of a data set."""
    return f"{flag}.npz" if size == 28 else f"{flag}_{size}.npz"


def _groups(
    path: Path, arrays: dict[str, np.ndarray], splits: tuple[str, ...], sizes: list[int]
) -> np.ndarray:
    """(n,) int64 by image ids, or a group for every image."""
    names = [f"{split}_image_ids" for split in splits]
    parts = [arrays[name] for name in names if name in arrays]
    if not parts:
        return np.arange(sum(sizes))
    if [each.shape for each in parts] != [(n,) for n in sizes]:
        raise DataError(
            f"{path}: {', '.join(names)} must all be there and name the origin of all "
            f"{', '.join(map(str, sizes))} images, not {[each.shape for each in parts]}"
        )
    return np.unique(np.concatenate(parts), return_inverse=True)[1].astype(np.int64)


def read_npz(path: Path, names: list[str], optional: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Arrays of an npz file, which is untrusted: pickled objects are refused.

    Args:
        path: the file.
        names: arrays it must have.
        optional: arrays it may have.

    Raises:
        DataError: not an npz file, a damaged one, an array missing, or one of objects.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DataError("it is a single array")
            assert file.zip is not None  # it is open
            _check_members(path, file.zip, [*names, *optional])
            missing = [name for name in names if name not in file.files]
            if missing:
                raise DataError(f"it has no array {missing[0]!r}, but {sorted(file.files)}")
            return {name: file[name] for name in [*names, *optional] if name in file.files}
    except DAMAGED as error:
        raise DataError(
            f"{path} cannot be used: {error}. It must be an npz file of plain arrays with "
            f"{', '.join(names)}"
        ) from error


def _check_members(path: Path, archive: zipfile.ZipFile, names: list[str]) -> None:
    """Whether arrays are of the sizes that their headers say, before there is room made for them.

    Raises:
        DataError: one has a header for more or less than it holds, or unpacks to far more.
    """
    for member in archive.infolist():
        if member.filename.removesuffix(".npy") not in names:
            continue
        packed = min(member.compress_size, path.stat().st_size)
        files.check_growth(packed, member.file_size)
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0}.get(
                version, np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read_header(file)
            there = member.file_size - file.tell()
            promised = math.prod(shape) * dtype.itemsize
        if not dtype.hasobject and there != promised:
            raise DataError(
                f"the array {member.filename} holds {there} bytes, and is to be {shape} {dtype}"
            )


def _part(path: Path, split: str, arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, C, [D,] H, W) and labels (n,) of one split."""
    labels = arrays[f"{split}_labels"]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{path}: {split}_labels is {labels.shape} {labels.dtype}; one class an image is "
            "needed (multi-label sets such as chestmnist are not supported)"
        )
    return channels_first(f"{path}: {split}_images", arrays[f"{split}_images"]), labels.astype(
        np.int64
    )


def channels_first(name: str, images: np.ndarray) -> np.ndarray:
    """Images or volumes with their channels, if any, first or last, as (N, C, [D,] H, W).

    Read are (N, H, W), (N, D, H, W), and either with channels: (N, C, [D,] H, W) or
    (N, [D,] H, W, C), where C is 1 or 3, or 4 at the end of images (RGBA, with no pixel that can be
    seen through). An axis of 1 or 3 in either place is channels, so volumes of one or three slices
    need their channels; and where both places have such an axis, nobody knows.

    Args:
        name: of the array, for error messages.
        images: uint8.

    Returns:
        (N, C, [D,] H, W) uint8, contiguous.

    Raises:
        DataError: another type or shape, one that has two readings, or transparent pixels.
    """
    n_dims = images.ndim - 2  # of an image with channels
    first = n_dims > 1 and images.shape[1] in (1, 3)
    last = n_dims > 1 and images.shape[-1] in ((1, 3, 4) if n_dims == 2 else (1, 3))
    readable = n_dims in (1, 2) or (n_dims == 3 and (first or last))
    if images.dtype != np.uint8 or not readable:
        raise DataError(
            f"{name} must be uint8 (N, H, W) or (N, D, H, W), or these with 1 or 3 channels after "
            f"N or at the end, not {images.dtype} {images.shape}"
        )
    if first and last:
        raise DataError(
            f"{name} {images.shape} could be {images.shape[1]} channels after N, or "
            f"{images.shape[-1]} at the end. Leave the axis of one channel out, "
            "or write another size"
        )
    if first:
        return np.ascontiguousarray(images)
    if not last:
        return np.ascontiguousarray(images[:, None])
    if images.shape[-1] == 4:
        if (images[..., 3] != 255).any():
            raise DataError(f"{name} has transparent pixels; put the images on a background")
        images = images[..., :3]
    return np.ascontiguousarray(np.moveaxis(images, -1, 1))


def _download(flag: str, size: int, folder: Path) -> None:
    try:
        import medmnist
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "download=True needs the package medmnist: pip install 'al-gym[medmnist]'"
        ) from None
    if flag not in medmnist.INFO:
        raise ValueError(f"MedMNIST has no data set {flag!r}; known are {sorted(medmnist.INFO)}")
    folder.mkdir(parents=True, exist_ok=True)
    dataset_class = getattr(medmnist, medmnist.INFO[flag]["python_class"])
    dataset_class(split="train", root=str(folder), size=size, download=True)
