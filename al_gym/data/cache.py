"""Decoding happens once: arrays made from image files, kept in the cache folder.

Beside ``NAME.npy`` stands ``NAME.json`` with its size, shape, type and checksum, by which a file
that was damaged on disk is known; ``NAME.lock`` is held by the process that fills it, for which
others wait. What is in the cache can be made again, and may be removed at any time.
"""

import hashlib
import json
import os
import warnings
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import platformdirs
from filelock import FileLock
from tqdm import tqdm

from al_gym import durable
from al_gym.data import files
from al_gym.errors import DataError

T = TypeVar("T")

MAPPED_BYTES = 2**30
"""Arrays above this size stay on disk and are mapped into memory, where the system keeps as much of
them as it has room for. Their checksum is not looked at, as this would read them whole at every
start: of them the size on disk must be right."""


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
    n_decoded = 0

    def fill(path: Path) -> None:
        nonlocal n_decoded
        images = np.lib.format.open_memmap(path, "w+", np.uint8, (n_images, *shape))

        def fill_one(i: int) -> None:
            images[i] = decode(i)

        in_threads(fill_one, n_images, f"decoding {key.split('-')[0]}")
        images.flush()
        n_decoded = n_images

    images = kept(cache_folder() / "decoded" / f"{key}.npy", fill)
    assert images.shape == (n_images, *shape) and images.dtype == np.uint8  # the key's
    return Decoded(images, n_decoded)


def kept(path: Path, make: Callable[[Path], None]) -> np.ndarray:
    """The array in a file of the cache, made now if it is not there or damaged.

    Of several processes one makes it, and the others wait.

    Args:
        path: of the file, .npy.
        make: writes it to the path that it is given.

    Raises:
        Exception: whatever ``make`` raises; nothing is left in the cache then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.sweep(path.parent)
    found = loaded(path)
    if found is not None:
        return found
    with FileLock(path.with_suffix(".lock")):
        found = loaded(path)
        if found is not None:
            return found  # another process has made it meanwhile
        path.with_suffix(".json").unlink(missing_ok=True)  # it is of the file that is replaced
        with durable.writing(path) as unfinished:
            make(unfinished)
        note(path)
    found = loaded(path)
    if found is None:
        raise DataError(
            f"{path} was written and cannot be read back: the disk may be failing; set "
            "AL_GYM_CACHE to a folder on another"
        )
    return found


def in_threads(
    work: Callable[[int], T],
    n_items: int,
    title: str,
    progress: bool = True,
    stop: Callable[[], None] | None = None,
) -> list[T]:
    """The results of ``work(0 .. n_items - 1)``, done on a pool of threads under a progress bar.

    Threads, since numpy, SimpleITK and Pillow leave Python's lock while they work. Processes, which
    cost more to begin and survive what threads do not, are those of ``decoder``.

    Args:
        work: done for each number.
        n_items: how many.
        title: of the progress bar.
        progress: whether there is one.
        stop: called at an error or Ctrl-C, to end what ``work`` waits for.

    Raises:
        Exception: the first that ``work`` raises; what has not begun by then is dropped.
    """
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        results = pool.map(work, range(n_items))
        return list(tqdm(results, total=n_items, desc=title, leave=False, disable=not progress))
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        if stop is not None:
            stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def note(path: Path) -> None:
    """Write beside a file what it holds, as ``kept`` does, so that ``loaded`` knows it."""
    facts = _facts(path, np.load(path, "r", allow_pickle=False))
    durable.write_text(path.with_suffix(".json"), json.dumps(facts))


def loaded(path: Path) -> np.ndarray | None:
    """The array of a file; None if it is not there, or not what was written."""
    try:
        facts = json.loads(path.with_suffix(".json").read_text())
        # mapped, so that a damaged header asks for no memory; "c", copy on write, as torch wants
        # memory it may write to, and the file stays as it is
        found: np.ndarray = np.load(path, "c", allow_pickle=False)
        if path.stat().st_size <= MAPPED_BYTES:
            found = np.array(found)
        if _facts(path, found, facts.get("checksum")) == facts:
            return found
        problem = "its content is not what was written"
    except FileNotFoundError:  # it has not been written to its end
        return None
    except (ValueError, OSError, EOFError, AttributeError) as error:
        problem = str(error)
    warnings.warn(f"{path} is damaged ({problem}); it is made again", stacklevel=4)
    return None


def _facts(path: Path, array: np.ndarray, of_large: int | None = None) -> dict[str, Any]:
    """What is noted of a file; of one that is too large to be read whole, the given checksum."""
    size, content = path.stat().st_size, np.ascontiguousarray(array).data
    return {
        "size": size,
        "shape": list(array.shape),
        "type": array.dtype.str,
        "checksum": of_large if size > MAPPED_BYTES else zlib.crc32(content),
    }
