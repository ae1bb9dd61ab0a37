"""MedMNIST: any single-label data set of the collection, 2-D or 3-D, from its npz file.

Yang et al., "MedMNIST v2", Scientific Data 10:41 (2023). The official training and test splits are
kept; the validation split is left aside. Download is the business of the collection's own package.
Any other npz file of the same arrays will do: its name without the size is the flag, and
``<split>_image_ids`` may say which patient, scan or photograph each image comes from.
"""

import re
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from al_gym.data import files
from al_gym.data.dataset import ImageDataset

SPLITS = ("train", "test")
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
) -> ImageDataset:
    """Read ``<flag>.npz`` (28 pixels) or ``<flag>_<size>.npz``.

    Args:
        root: folder of the npz file; None: ``$AL_GYM_DATA/MedMNIST``.
        flag: the collection's name of the data set, such as "retinamnist" or "organmnist3d".
        size: 28, or one of the larger sizes of MedMNIST+.
        download: fetch the file through the ``medmnist`` package if it is not there.

    Returns:
        Images (N, 1 or 3, [D,] H, W) uint8, grouped by ``<split>_image_ids`` if the file has them;
        otherwise every image is a group of its own.

    Raises:
        FileNotFoundError: the file is not there and ``download`` is off.
        ModuleNotFoundError: ``download`` is on and the package is not installed.
        ValueError: no flag, or a file that is not a single-label set of the collection.
    """
    if flag is None:
        raise ValueError('MedMNIST needs flag=, the name of a data set, such as "retinamnist"')
    if not re.fullmatch(r"\w+", flag):  # it becomes a file's name
        raise ValueError(f"flag {flag!r} is no name of a data set, such as 'retinamnist'")
    file_name = npz_name(flag, size)
    hint = f"It holds {file_name}; or pass download=True with the extra al-gym[medmnist] installed"
    folder = files.data_folder("MedMNIST") if root is None else Path(root)
    if download and folder is not None and not (folder / file_name).exists():
        _download(flag, size, folder)
    path = files.resolve_root("MedMNIST", root, hint) / file_name
    if not path.is_file():
        raise FileNotFoundError(f"MedMNIST: there is no file {path}. {hint}")
    arrays = read_npz(
        path,
        [f"{split}_{what}" for split in SPLITS for what in ("images", "labels")],
        optional=tuple(f"{split}_image_ids" for split in SPLITS),
    )
    parts = [_part(path, split, arrays) for split in SPLITS]
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    n_train = len(parts[0][1])
    return ImageDataset(
        images=images,
        labels=labels,
        class_names=tuple(str(i) for i in range(max(labels.max(initial=0) + 1, 2))),
        groups=_groups(path, arrays, n_train, len(images)),
        train=np.arange(n_train),
        test=np.arange(n_train, len(images)),
        source=f"MedMNIST {path.stem}, {path}",
    )


def npz_name(flag: str, size: int) -> str:
    """What the collection calls the file of a data set."""
    return f"{flag}.npz" if size == 28 else f"{flag}_{size}.npz"


def _groups(path: Path, arrays: dict[str, np.ndarray], n_train: int, n: int) -> np.ndarray:
    """(n,) int64 by image ids, or a group for every image."""
    parts = [arrays[name] for split in SPLITS if (name := f"{split}_image_ids") in arrays]
    if not parts:
        return np.arange(n)
    if [each.shape for each in parts] != [(n_train,), (n - n_train,)]:
        raise ValueError(
            f"{path}: {' and '.join(f'{split}_image_ids' for split in SPLITS)} must both be there "
            f"and name the origin of all {n_train} and {n - n_train} images, not "
            f"{[each.shape for each in parts]}"
        )
    return np.unique(np.concatenate(parts), return_inverse=True)[1].astype(np.int64)


def read_npz(path: Path, names: list[str], optional: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Arrays of an npz file, which is untrusted: pickled objects are refused.

    Args:
        path: the file.
        names: arrays it must have.
        optional: arrays it may have.

    Raises:
        ValueError: not an npz file, a damaged one, an array missing, or one of objects.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array")
            missing = [name for name in names if name not in file.files]
            if missing:
                raise ValueError(f"it has no array {missing[0]!r}, but {sorted(file.files)}")
            return {name: file[name] for name in [*names, *optional] if name in file.files}
    except DAMAGED as error:
        raise ValueError(
            f"{path} cannot be used: {error}. It must be an npz file of plain arrays with "
            f"{', '.join(names)}"
        ) from error


def _part(path: Path, split: str, arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, C, [D,] H, W) and labels (n,) of one split."""
    labels = arrays[f"{split}_labels"]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{path}: {split}_labels is {labels.shape} {labels.dtype}; one class an image is "
            "needed (multi-label sets such as chestmnist are not supported)"
        )
    return channels_first(f"{path}: {split}_images", arrays[f"{split}_images"]), labels.astype(
        np.int64
    )


def channels_first(name: str, images: np.ndarray) -> np.ndarray:
    """(N, H, W), (N, D, H, W) or (N, H, W, 3) as (N, C, [D,] H, W), contiguous.

    Raises:
        ValueError: another shape, or another type than uint8.
    """
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise ValueError(
            f"{name} must be uint8 (N, H, W), (N, H, W, 3) or (N, D, H, W), "
            f"not {images.dtype} {images.shape}"
        )
    if images.ndim == 4 and images.shape[-1] == 3:
        return np.ascontiguousarray(np.moveaxis(images, -1, 1))
    return np.ascontiguousarray(images[:, None])


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
