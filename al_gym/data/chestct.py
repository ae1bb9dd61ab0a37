"""chestCT: lesions of the Tianchi lung-disease competition (231724), one cubic patch each.

Layout of the root::

    chestCT_round1_annotation.csv
    train_part1/636990.mhd, 636990.raw ...      (or any folder below the root)

A volume may be compressed (``.zraw``). Hidden folders and ``__MACOSX`` are passed over.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from al_gym import config
from al_gym.data import cache, files, metaimage, skipping, volumes, walk
from al_gym.data.dataset import UNKNOWN, ImageDataset, split_groups
from al_gym.errors import DataError

ANNOTATIONS = "chestCT_round1_annotation.csv"
CLASSES = {
    1: "pulmonary nodule",
    5: "pulmonary cord",
    31: "arteriosclerosis",
    32: "lymph-node calcification",
}
"""Label code in the csv -> class name; the order is the order of the classes."""
COLUMNS = (
    "seriesuid", "coordX", "coordY", "coordZ", "diameterX", "diameterY", "diameterZ", "label",
)  # fmt: skip
"""Of the csv; the first seven say which lesion it is."""
WINDOWS = ((-1000.0, 400.0), (-200.0, 1200.0))
"""Lung and wide, in HU. The calcified classes differ above the 400 HU where a lung window ends."""
AIR = -1000
VERSION = 1  # of the patches in the cache; raise it when the same settings give other voxels


@dataclass(frozen=True)
class Lesion:
    """One line of the annotation file."""

    series: str
    """seriesuid: the scan."""
    centre: np.ndarray
    """(3,) x, y, z in world mm."""
    extent: np.ndarray
    """(3,) full size along x, y, z in mm."""
    label: int
    """Class index, 0 to 3; ``UNKNOWN`` where the cell is empty."""
    row: files.Row
    """Where it stands, for error messages."""


def load(
    root: str | Path | None = None,
    *,
    n_train: int = 3500,
    n_test: int = 3500,
    patch_size: int = 32,
    margin: float = 1.5,
    windows: tuple[tuple[float, float], ...] = WINDOWS,
    split_seed: int = 0,
    unlabelled: bool = False,
    verify: bool = False,
    on_error: str = "raise",
    max_skipped: float = 0.05,
) -> ImageDataset:
    """Read the patches: scans are drawn for either side, then lesions, as in the paper (3.1).

    Args:
        root: folder with the annotation file; None: ``$AL_GYM_DATA/chestCT``.
        n_train: training lesions.
        n_test: test lesions, from other scans.
        patch_size: voxels along an edge of the patch.
        margin: edge of the cube over the longest side of the lesion's box.
        windows: (low, high) in HU for each channel, mapped to 0..255.
        split_seed: decides scans and lesions.
        unlabelled: take lesions whose label is an empty cell as lesions to be annotated; they can
            be training lesions only. Otherwise such a cell is an error.
        verify: know cached files by their content, see ``cache.cache_key``.
        on_error: "skip" leaves out lesions whose volume is missing or cannot be read, or that lie
            outside it, after the draw, so that a side may have fewer; volumes are read in processes
            that may crash.
        max_skipped: share of the lesions drawn that may be left out.

    Returns:
        Images (n_train + n_test, len(windows), p, p, p) uint8; groups are the scans.

    Raises:
        FileNotFoundError: no root, no annotation file, or a volume it names is not there.
        DataError: a line of the annotation file, or a volume, is not as it should be; too many
            lesions cannot be used.
    """
    skipping.check_settings(on_error, max_skipped)
    config.check_at_least("n_train", n_train, 1)
    config.check_at_least("n_test", n_test, 0)
    config.check_at_least("patch_size", patch_size, 8)
    config.check_between("margin", margin, 0, math.inf)
    config.check_at_least("split_seed", split_seed, 0)
    channels = _checked_windows(windows)
    folder = files.resolve_root(
        "chestCT", root, f"It holds {ANNOTATIONS} and the volumes of the Tianchi competition 231724"
    )
    lesions, notes = read_annotations(folder / ANNOTATIONS, unlabelled)
    headers, more_notes = find_volumes(folder, lesions, on_error == "skip")
    series = np.array([lesion.series for lesion in lesions])
    train, test = split_groups(series, n_train, n_test, np.random.default_rng(split_seed))
    drawn = [lesions[i] for i in np.concatenate([train, test])]
    scans, problems = _scans(folder, drawn, headers, on_error == "skip")
    settings = {
        "version": VERSION,
        "patch": [int(patch_size), float(margin), channels],
        "lesions": [[lesion.series, *lesion.centre, *lesion.extent] for lesion in drawn],
    }
    paths = [path for scan in scans.values() for path in (scan.header, scan.voxels)]
    names = [name_of(lesion) for lesion in drawn]
    kept = skipping.decoded(
        cache.cache_key("chestCT", folder, paths, settings, verify),
        names,
        (len(channels), *[patch_size] * 3),
        _Patches(drawn, scans, patch_size, margin, channels),
        on_error=on_error,
        max_skipped=max_skipped,
        problems=problems,
    )
    drawn = [drawn[i] for i in kept.rows]
    return ImageDataset(
        images=kept.images,
        labels=np.array([lesion.label for lesion in drawn], np.int64),
        class_names=tuple(CLASSES.values()),
        groups=np.array([lesion.series for lesion in drawn]),
        train=np.flatnonzero(kept.rows < n_train),
        test=np.flatnonzero(kept.rows >= n_train),
        source=f"chestCT, {folder}",
        files_decoded=kept.n_files,
        names=np.array(names)[kept.rows],
        notes=(*notes, *more_notes, *kept.notes),
        skipped=kept.skipped,
    )


def name_of(lesion: Lesion) -> str:
    """What ``ImageDataset.names`` calls a lesion."""
    return f"{lesion.series}, lesion of line {lesion.row.line}"


def read_annotations(path: Path, unlabelled: bool = False) -> tuple[list[Lesion], tuple[str, ...]]:
    """The lesions of an annotation file, in its order, and notes on what a person should know.

    Args:
        path: the file.
        unlabelled: whether a label may be an empty cell, or the column missing.

    Raises:
        FileNotFoundError: no such file.
        DataError: a missing column, a value that is no number, an unknown label code, a box
            without extent; names the line.
    """
    rows, notes = files.read_table(path, COLUMNS[:-1] if unlabelled else COLUMNS)
    codes = list(CLASSES)
    lesions = []
    labels_of_box: dict[tuple[str, ...], set[str]] = {}
    for row in rows:
        label, name = UNKNOWN, "no label"
        if row.values.get("label") or not unlabelled:
            code = row.get("label", files.whole_number)
            if code not in CLASSES:
                raise row.error(f"unknown label code {code}; known are {codes}")
            label, name = codes.index(code), CLASSES[code]
        numbers = np.array([row.get(column, files.number) for column in COLUMNS[1:7]])
        if not np.isfinite(numbers).all() or (numbers[3:] <= 0).any():
            raise row.error(f"a lesion needs finite coordinates and positive diameters: {numbers}")
        series = row.get("seriesuid", files.identifier)
        lesions.append(Lesion(series, numbers[:3], numbers[3:], label, row))
        box = (series, *map(str, numbers))
        labels_of_box.setdefault(box, set()).add(name)
    n_unclear = sum(len(labels) > 1 for labels in labels_of_box.values())
    if n_unclear:
        notes += (f"{path.name}: boxes of several labels, each kept as a lesion: {n_unclear}",)
    n_unlabelled = sum(lesion.label == UNKNOWN for lesion in lesions)
    if n_unlabelled:
        notes += (f"{path.name}: lesions without a label, to be annotated: {n_unlabelled}",)
    return lesions, notes


def find_volumes(
    root: Path, lesions: list[Lesion], skip: bool = False
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The ``.mhd`` file of every scan that has a lesion, wherever it lies below ``root``; notes.

    Args:
        root: of the data set.
        lesions: of the annotation file.
        skip: whether scans may be missing.

    Raises:
        FileNotFoundError: a scan is not there.
        DataError: see ``volumes_below``.
    """
    found = volumes_below(root)
    for lesion in lesions:
        if lesion.series not in found and not skip:
            raise missing_volume(root, lesion)
    used = {lesion.series: found[lesion.series] for lesion in lesions if lesion.series in found}
    unused = sorted(found.keys() - used.keys())
    if not unused:
        return used, ()
    return used, (
        f"volumes without a line in the annotation file, not used: {len(unused)}, "
        f"{found[unused[0]].relative_to(root)} for one",
    )


def volumes_below(root: Path) -> dict[str, Path]:
    """All ``.mhd`` files below ``root`` by the seriesuid that is their name.

    A seriesuid of the csv is only ever compared with the names of files found there, so that one
    like ``../../x`` leads nowhere.

    Raises:
        DataError: two files have the name of one scan, or a link leads out of the root.
    """
    found: dict[str, Path] = {}
    names = [name for name in walk.find_files(root).files if name.lower().endswith(".mhd")]
    for path in [root / name for name in names]:
        series = files.identifier(path.stem)
        if series in found and not path.samefile(found[series]):
            raise DataError(f"two volumes have one name: {found[series]} and {path}")
        found.setdefault(series, path)
    return found


def missing_volume(root: Path, lesion: Lesion) -> FileNotFoundError:
    """The error of a lesion whose scan is not there; to be raised by the caller."""
    return FileNotFoundError(
        f"{lesion.row.path}, line {lesion.row.line}: there is no volume {lesion.series}.mhd below "
        f"{root}. Unpack the part that holds it, or take the scan's lines out of the annotation "
        "file"
    )


def read_patch(
    volume: metaimage.Volume, lesion: Lesion, patch_size: int, margin: float
) -> np.ndarray:
    """The isotropic cube around a lesion, resampled linearly in world coordinates.

    Only the region that the cube touches is read from the file; what lies outside the volume is
    air. Axes of the patch are z, y, x of the world, whatever the orientation of the volume.

    Args:
        volume: one that ``volumes.check`` lets pass.
        lesion: box in world mm.
        patch_size: voxels along an edge.
        margin: edge of the cube over the longest side of the box.

    Returns:
        (p, p, p) float32, HU.

    Raises:
        DataError: the lesion lies outside the volume, or this is no grey volume.
        RuntimeError: SimpleITK cannot read it.
    """
    edge = margin * lesion.extent.max()
    spacing = edge / patch_size
    first_voxel = lesion.centre - edge / 2 + spacing / 2
    reader = volumes.reader(volume.header, "MetaImage")
    if len(reader.GetSize()) != 3 or reader.GetNumberOfComponents() != 1:
        raise DataError(f"a scan has three dimensions and one component, not {reader.GetSize()}")
    start, size = _region(reader, lesion.centre, edge)
    if (size <= 0).any():
        raise DataError("the lesion's box lies outside the volume")
    reader.SetExtractIndex(start.tolist())
    reader.SetExtractSize(size.tolist())
    region = reader.Execute()
    patch = sitk.Resample(
        region,
        [patch_size] * 3,
        sitk.Transform(),
        sitk.sitkLinear,
        first_voxel.tolist(),
        [spacing] * 3,
        np.eye(3).ravel().tolist(),
        AIR,
        sitk.sitkFloat32,  # as int16, SimpleITK would cut fractions off
    )
    return sitk.GetArrayFromImage(patch)


def apply_windows(
    patch: np.ndarray, windows: tuple[tuple[float, float], ...] = WINDOWS
) -> np.ndarray:
    """One channel a window: HU from low to high become 0 to 255.

    Args:
        patch: (D, H, W), HU.
        windows: (low, high) of each channel.

    Returns:
        (len(windows), D, H, W) uint8.
    """
    channels = [np.clip((patch - low) / (high - low), 0, 1) for low, high in windows]
    return np.rint(np.stack(channels) * 255).astype(np.uint8)


@dataclass(frozen=True)
class _Patches:
    """Reads the patch of a lesion; can be pickled."""

    drawn: list[Lesion]
    scans: dict[str, metaimage.Volume]
    patch_size: int
    margin: float
    channels: tuple[tuple[float, float], ...]

    @functools.cached_property
    def check(self) -> Callable[[Path, str], None]:
        """``volumes.check``, once a volume and not once a lesion."""
        return functools.cache(volumes.check)

    def __call__(self, i: int) -> np.ndarray:
        lesion = self.drawn[i]
        scan = self.scans[lesion.series]
        with _errors_of(lesion, scan.header):
            self.check(scan.header, "MetaImage")
            patch = read_patch(scan, lesion, self.patch_size, self.margin)
            return apply_windows(patch, self.channels)


def _scans(
    root: Path, drawn: list[Lesion], headers: dict[str, Path], skip: bool
) -> tuple[dict[str, metaimage.Volume], dict[int, str]]:
    """The volumes by series; if ``skip``, why lesions, by row, have none."""
    scans: dict[str, metaimage.Volume] = {}
    problems: dict[int, str] = {}
    for row, lesion in enumerate(drawn):
        try:
            if lesion.series not in headers:
                raise missing_volume(root, lesion)
            if lesion.series not in scans:
                with _errors_of(lesion, headers[lesion.series]):
                    scans[lesion.series] = metaimage.find(root, headers[lesion.series])
        except (ValueError, FileNotFoundError) as error:
            if not skip:
                raise
            problems[row] = str(error)
    return scans, problems


@contextlib.contextmanager
def _errors_of(lesion: Lesion, header: Path) -> Iterator[None]:
    """Say with which line and file a volume cannot be read."""
    try:
        yield
    except (RuntimeError, OSError, ValueError) as error:
        message = f"{header} cannot be read: {error}"
        raise lesion.row.error(message) from error


def _region(
    reader: sitk.ImageFileReader, centre: np.ndarray, edge: float
) -> tuple[np.ndarray, np.ndarray]:
    """Start and size, in voxels, of what a world cube touches, with a margin to interpolate."""
    n_voxels = np.array(reader.GetSize())
    direction = np.array(reader.GetDirection()).reshape(3, 3)
    corners = centre[:, None] + edge / 2 * np.indices((2, 2, 2)).reshape(3, 8) * 2 - edge / 2
    offset = corners - np.array(reader.GetOrigin())[:, None]
    index = np.linalg.solve(direction, offset) / np.array(reader.GetSpacing())[:, None]
    start = np.clip(np.floor(index.min(1)) - 1, 0, n_voxels).astype(int)
    stop = np.clip(np.ceil(index.max(1)) + 2, 0, n_voxels).astype(int)
    return start, stop - start


def _checked_windows(windows: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """The windows as pairs of floats."""
    try:
        pairs = tuple((float(low), float(high)) for low, high in windows)
    except (TypeError, ValueError):
        pairs = ()
    if not pairs or not all(-math.inf < low < high < math.inf for low, high in pairs):
        raise ValueError(f"windows must be pairs (low, high) with low < high, not {windows!r}")
    return pairs
