"""Readers with ``on_error="skip"``: a bad file is left out, counted and listed, and the rest read.

Which side of the split an image is on is drawn before, of all files, bad ones among them: that one
is left out moves no other.
"""

import csv
import functools
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock

from al_gym import durable
from al_gym.config import check_between, check_one_of
from al_gym.data import cache, decoder, files
from al_gym.errors import DataError

ON_ERROR = ("raise", "skip")
IMAGES, LIST = "images.npy", "skipped.csv"
"""In a folder of the cache; the second says what was left out."""
COLUMNS = ("file", "reason")
"""Of the list."""
REASON = 500
"""Letters of a reason that are kept; a file may have a say in them."""
NAMED = 3
"""Files that an error names of too many."""


class Kept(NamedTuple):
    """Images that could be decoded, and what of the others."""

    images: np.ndarray
    """(n, C, [D,] H, W) uint8."""
    rows: np.ndarray
    """(n,) which of all they are, ascending."""
    n_files: int
    """Files decoded now; 0 if an earlier run has done so."""
    skipped: tuple[tuple[str, str], ...] = ()
    """Name and reason of the others."""
    notes: tuple[str, ...] = ()


class Skipped:
    """The files that are left out, by row, and why; no more than a share of all.

    Args:
        source: what is read, for errors.
        names: (N,) of all files.
        most: share of them that may be left out.
    """

    def __init__(self, source: str, names: Sequence[str], most: float) -> None:
        self.names, self.reasons = names, dict[int, str]()
        self._source, self._most, self._lock = source, most, threading.Lock()

    def add(self, row: int, reason: str) -> None:
        """Leave out a file; may be called from several threads.

        Raises:
            DataError: there are too many.
        """
        told = " ".join(reason.split())[:REASON].encode(errors="backslashreplace").decode()
        with self._lock:
            self.reasons[row] = told
            if len(self.reasons) <= self._most * len(self.names):
                return
            first = [f"{self.names[i]}: {self.reasons[i]}" for i in sorted(self.reasons)[:NAMED]]
        raise DataError(
            f"{self._source}: more than max_skipped={self._most:g} of {len(self.names)} files "
            f"cannot be used. The first found: {'; '.join(first)}. Mend or remove them, or allow "
            "more"
        )

    def attempted(self, work: Callable[[int], Any], title: str) -> list[Any]:
        """The results of ``work`` for every row that is not left out; None for those that are.

        They are done in processes that may crash, see ``decoder``, where the system can do it.

        Args:
            work: can be pickled; gives what JSON can say.
            title: of the progress bar.

        Raises:
            DataError: too many cannot be done.
        """

        def attempt(row: int, call: Callable[[int], Any]) -> Any:
            if row in self.reasons:
                return None
            try:
                return call(row)
            except decoder.Ended:
                raise
            except Exception as error:  # decoders raise anything on a broken file
                self.add(row, str(error) or type(error).__name__)
                return None

        n = len(self.names)
        if not decoder.AVAILABLE:
            return cache.in_threads(lambda row: attempt(row, work), n, title)
        with decoder.Decoders(work, self.names) as call:
            return cache.in_threads(lambda row: attempt(row, call), n, title, stop=call.kill)


def check_settings(on_error: str, max_skipped: float) -> None:
    """Refuse what cannot be.

    Raises:
        ValueError: a value that is none; names it.
    """
    check_one_of("on_error", on_error, ON_ERROR)
    check_between("max_skipped", max_skipped, 0, 1, True, True)


def decoded(
    key: str,
    names: Sequence[str],
    shape: tuple[int, ...],
    decode: Callable[[int], np.ndarray],
    *,
    on_error: str,
    max_skipped: float,
    problems: Mapping[int, str] | None = None,
) -> Kept:
    """The images under ``key``, decoded now if no earlier run has done so: all, or those that can.

    Args:
        key: from ``cache.cache_key``.
        names: (N,) of the files.
        shape: (C, [D,] H, W) of each image.
        decode: makes image i, uint8; can be pickled.
        on_error: "raise": all or an error, by ``cache.decoded``. "skip": bad files are left out.
        max_skipped: share that may be.
        problems: rows that are known to be bad, and why.

    Raises:
        DataError: too many are bad.
        Exception: with "raise", whatever ``decode`` raises.
    """
    if on_error == "raise":
        images, n_files = cache.decoded(key, len(names), shape, decode)
        return Kept(images, np.arange(len(names)), n_files)
    skipped = Skipped(key.split("-")[0], names, max_skipped)
    for row, reason in (problems or {}).items():
        skipped.add(row, reason)
    folder = cache.cache_folder() / "decoded" / f"{key}-skip"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):  # whoever comes second finds what the first made
        stored, n_files = _stored(folder, shape, skipped), 0
        if stored is None:
            shutil.rmtree(folder, ignore_errors=True)
            with durable.writing(folder) as unfinished:
                unfinished.mkdir()
                _decode_into(unfinished, shape, decode, skipped)
            stored, n_files = _stored(folder, shape, skipped), len(names)
            assert stored is not None
    left_out = tuple((names[row], skipped.reasons[row]) for row in sorted(skipped.reasons))
    rows = np.setdiff1d(np.arange(len(names)), list(skipped.reasons))
    if not left_out:
        return Kept(stored, rows, n_files)
    note = (
        f"{len(left_out)} of {len(names)} files cannot be used and are left out; "
        f"{folder / LIST} says which, and why"
    )
    return Kept(stored, rows, n_files, left_out, (note,))


def write_list(path: Path, skipped: Sequence[tuple[str, str]]) -> None:
    """Names and reasons as csv."""
    files.write_table(path, COLUMNS, [[files.cell(text) for text in each] for each in skipped])


def _stored(folder: Path, shape: tuple[int, ...], skipped: Skipped) -> np.ndarray | None:
    """The images of an earlier run, whose bad files are added to ``skipped``."""
    if not (folder / LIST).is_file():
        return None
    row_of = {files.cell(name): row for row, name in enumerate(skipped.names)}
    with (folder / LIST).open(newline="", encoding="utf-8") as file:
        left_out = {line["file"]: line["reason"].strip() for line in csv.DictReader(file)}
    images = cache.loaded(folder / IMAGES)
    expected = (len(row_of) - len(left_out), *shape)
    if images is None or images.shape != expected or not left_out.keys() <= row_of.keys():
        return None
    for name, reason in left_out.items():
        skipped.add(row_of[name], reason)
    return images


def _decode_into(
    folder: Path, shape: tuple[int, ...], decode: Callable[[int], np.ndarray], skipped: Skipped
) -> None:
    """Write the images that can be decoded, and the list of the others."""
    title = f"decoding {folder.name.split('-')[0]}"
    everything = folder / f"all-{IMAGES}"
    rows = np.lib.format.open_memmap(everything, "w+", np.uint8, (len(skipped.names), *shape))
    skipped.attempted(functools.partial(_write, everything, rows.offset, shape, decode), title)
    kept = np.setdiff1d(np.arange(len(rows)), list(skipped.reasons))
    left = np.lib.format.open_memmap(folder / IMAGES, "w+", np.uint8, (len(kept), *shape))
    for new, old in enumerate(kept):
        left[new] = rows[old]
    left.flush()
    cache.note(folder / IMAGES)
    everything.unlink()
    write_list(
        folder / LIST,
        [(skipped.names[row], skipped.reasons[row]) for row in sorted(skipped.reasons)],
    )


def _write(
    path: Path, offset: int, shape: tuple[int, ...], decode: Callable[[int], np.ndarray], i: int
) -> None:
    """Decode an image into its place in a file; not by a map, which takes addresses."""
    image = np.ascontiguousarray(decode(i), np.uint8)
    if image.shape != shape:
        raise ValueError(f"it was decoded to {image.shape} and not to {shape}")
    with path.open("r+b") as file:
        file.seek(offset + i * image.nbytes)
        file.write(image.data)
