"""Decoding happens once: arrays made from image files, kept in the cache folder."""

import contextlib
import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import platformdirs
from tqdm import tqdm

from al_gym.data import files

T = TypeVar("T")

MAPPED_BYTES = 2**30
"""Arrays above this size stay on disk and are mapped into memory, where the system keeps as much of
them as it has room for."""


class Decoded(NamedTuple):
    """Images, and what it took to have them."""

    images: np.ndarray
    """(N, C, [D,] H, W) uint8."""
    n_files: int
    """Files decoded now; 0 if an earlier run has done so."""


def cache_folder() -> Path:
    """``$AL_GYM_CACHE``, where ~ is the home, else the system's place for caches."""
    folder = os.environ.get("AL_GYM_CACHE")
    if folder:
        return files.user_path("AL_GYM_CACHE", folder)
    return Path(platformdirs.user_cache_dir("al_gym"))


def cache_key(
    source: str,
    root: Path,
    paths: Sequence[Path],
    settings: dict[str, Any],
    verify: bool = False,
) -> str:
    """``source`` and a hash of everything that decides the pixels: the root, files and settings.

    A file is known by its place below the root, its size and the time of its last change. This does
    not see a file that was changed without either of the latter, as by a program that sets the old
    time again (``touch -r``, some repair tools) or within the clock tick of a file system with
    coarse times. ``verify`` sees it, at the cost of reading every file at every call.

    Args:
        source: what reads them, such as "chestCT".
        root: folder (or the file itself) of the data set; counts with its links resolved.
        paths: files that are read, at or below ``root``, in the order in which they are used.
        settings: of the reader; JSON's types.
        verify: know a file by a hash of its content instead of its time.

    Raises:
        FileNotFoundError: a file is not there.
    """
    if verify:
        identities: list[Any] = in_threads(
            lambda i: files.content_hash(paths[i]), len(paths), f"checking {source}"
        )
    else:
        identities = [path.stat().st_mtime_ns for path in paths]
    listing = [
        [path.relative_to(root).as_posix(), path.stat().st_size, identity]
        for path, identity in zip(paths, identities, strict=True)
    ]
    known = [source, str(root.resolve()), verify, listing, settings]
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode())
    return f"{source}-{digest.hexdigest()[:24]}"


def decoded(
    key: str,
    n_images: int,
    shape: tuple[int, ...],
    decode: Callable[[int], np.ndarray],
) -> Decoded:
    """The images under ``key``, decoded now if no earlier run has done so.

    They are decoded into a file, so that a pool larger than the memory can be had.

    Args:
        key: from ``cache_key``.
        n_images: N.
        shape: (C, [D,] H, W) of each image.
        decode: makes image i, uint8; called from several threads, as the image libraries leave
            Python's lock while they work.

    Raises:
        Exception: whatever ``decode`` raises; nothing is left in the cache then.
    """
    path = cache_folder() / "decoded" / f"{key}.npy"
    cached = _load(path, (n_images, *shape))
    if cached is not None:
        return Decoded(cached, 0)
    with atomic_path(path) as unfinished:
        _decode_into(unfinished, n_images, shape, decode, f"decoding {key.split('-')[0]}")
    cached = _load(path, (n_images, *shape))
    assert cached is not None
    return Decoded(cached, n_images)


def _decode_into(
    path: Path,
    n_images: int,
    shape: tuple[int, ...],
    decode: Callable[[int], np.ndarray],
    title: str,
) -> None:
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (n_images, *shape))

    def fill(i: int) -> None:
        images[i] = decode(i)

    in_threads(fill, n_images, title)
    images.flush()


def in_threads(
    work: Callable[[int], T], n_items: int, title: str, progress: bool = True
) -> list[T]:
    """The results of ``work(0 .. n_items - 1)``, done on a pool of threads under a progress bar.

    Threads, since numpy, SimpleITK and Pillow leave Python's lock while they work, and processes
    would break scripts without a main guard.

    Raises:
        Exception: the first that ``work`` raises; what has not begun by then is dropped.
    """
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        results = pool.map(work, range(n_items))
        return list(tqdm(results, total=n_items, desc=title, leave=False, disable=not progress))
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A path beside ``target`` to write a file or folder to; it becomes ``target`` at the end.

    If the block raises, or another process was faster, what was written is removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        unfinished = Path(scratch) / target.name
        yield unfinished
        try:
            unfinished.replace(target)
        except OSError:
            # a folder cannot replace a folder: another process has finished the same work
            if not target.is_dir():
                raise


def _load(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    if not path.exists():
        return None
    try:
        mapped = path.stat().st_size > MAPPED_BYTES
        # "c", copy on write: torch wants memory it may write to, and the file stays as it is
        images = np.load(path, "c" if mapped else None, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        warnings.warn(f"{path} is damaged ({error}); decoding the images again", stacklevel=4)
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None
