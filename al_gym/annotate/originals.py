"""The samples as people see them: from their files, in the resolution that these have."""

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from al_gym.annotate.project import Project
from al_gym.data import chestct, files, folder, formats, layouts, walk
from al_gym.data.dataset import ImageDataset

KEPT = 6
"""Decoded samples that are kept: those of the people who label now, and their next."""
PERCENTILES = (0.5, 99.5)
"""Between which grey values are shown, where nothing else is known of them."""


@dataclass(frozen=True, eq=False)
class Original:
    """One sample."""

    pixels: np.ndarray
    """(D, H, W) of a volume, to Superior, Posterior and Left; (H, W) or (H, W, 3) of an image."""
    spacing: tuple[float, ...]
    """mm along the axes, or ones."""
    box: tuple[tuple[float, float], ...] | None
    """From where to where a lesion's box reaches along each axis, in voxels; None: no box."""
    window: tuple[float, float]
    """Values that are black and white at first."""
    is_ct: bool
    """Whether values are Hounsfield units, as far as can be told."""
    is_volume: bool
    """Whether it has three planes to look at."""
    is_oriented: bool = False
    """Whether it is known where head, front and right are, and what a voxel measures."""

    @property
    def centre(self) -> tuple[int, ...]:
        """The voxel to look at first: the middle of the box, or of the volume."""
        if self.box is None:
            return tuple(n // 2 for n in self.pixels.shape)
        return tuple(
            int(np.clip(round((low + high) / 2), 0, n - 1))
            for (low, high), n in zip(self.box, self.pixels.shape, strict=True)
        )


class Originals:
    """All samples of a project by their row in the data set, decoded when they are asked for.

    Rows alone come from outside; which files these are was found out before.

    Args:
        project: whose images.

    Raises:
        ValueError: images that cannot be read, or have changed since the project began.
        FileNotFoundError: they are not there.
    """

    def __init__(self, project: Project) -> None:
        dataset = project.plan.dataset
        self.n = len(dataset.labels)
        finders = {"Folder": _of_folder, "chestCT": _of_chestct, "MedMNIST": _of_arrays}
        self._decode = finders[project.settings.dataset](project, dataset)
        self._kept = functools.lru_cache(KEPT)(self._decode)
        self._turns = [threading.Lock() for _ in range(self.n)]

    def __getitem__(self, row: int) -> Original:
        """A sample.

        Raises:
            KeyError: there is no such row.
            ValueError: its file cannot be decoded (any more); names it.
            FileNotFoundError: it is not there any more.
        """
        if not 0 <= row < self.n:
            raise KeyError(row)
        with self._turns[row]:  # who asks meanwhile waits for it, and does not decode it too
            return self._kept(row)


def _of_folder(project: Project, dataset: ImageDataset) -> Callable[[int], Original]:
    keywords: dict[str, Any] = project.reader_settings["keywords"]
    root = files.user_path("root", project.settings.root)
    exclude = keywords.get("exclude", ())
    exclude = (exclude,) if isinstance(exclude, str) else exclude
    packed = (root / folder.PACKED).is_file() and not walk.is_excluded(folder.PACKED, exclude)
    if packed or root.is_file():
        return _of_arrays(project, dataset)
    layout = layouts.read(
        root,
        labels_csv=_labels_csv(project),
        exclude=exclude,
        group_pattern=keywords.get("group_pattern"),
        join_series=keywords.get("join_series", True),
        class_names=project.settings.classes or None,
        skip=_skips(project),
    )
    paths = {record.name: record.paths for record in layout.records}
    names = dataset.names.tolist()
    gone = next((name for name in names if name not in paths), None)
    if gone is not None:
        raise ValueError(f"{root / gone} has gone, or has changed since the project began")

    def decode(row: int) -> Original:
        own = paths[names[row]]
        scan = formats.read_scan(own)
        if scan is not None:
            return of_scan(scan)
        pixels = formats.read(own[0], 3)
        return of_pixels(pixels)

    return decode


def _labels_csv(project: Project) -> Path | None:
    given = project.settings.settings.get("labels")
    return None if given is None else files.user_path("labels", given)


def _skips(project: Project) -> bool:
    """Whether bad files were left out, so that no row is theirs."""
    return project.settings.settings.get("on_error") == "skip"


def _of_chestct(project: Project, dataset: ImageDataset) -> Callable[[int], Original]:
    root = files.resolve_root("chestCT", project.settings.root, "")
    lesions, _ = chestct.read_annotations(root / chestct.ANNOTATIONS, unlabelled=True)
    volumes, _ = chestct.find_volumes(root, lesions, _skips(project))
    by_name = {chestct.name_of(lesion): lesion for lesion in lesions}
    names = dataset.names.tolist()

    @functools.lru_cache(KEPT)
    def scan_of(series: str) -> sitk.Image:
        scan = formats.read_scan([volumes[series]])
        if scan is None:
            raise ValueError(f"{volumes[series]} is no grey volume")
        return scan

    def decode(row: int) -> Original:
        lesion = by_name[names[row]]
        return of_scan(scan_of(lesion.series), lesion.centre, lesion.extent)

    return decode


def _of_arrays(project: Project, dataset: ImageDataset) -> Callable[[int], Original]:
    return lambda row: of_pixels(dataset.images[row])


def of_pixels(pixels: np.ndarray) -> Original:
    """An image or a volume of which nothing but its pixels is known.

    Args:
        pixels: (C, H, W) or (C, D, H, W); of a volume with several channels the first is shown.
    """
    if pixels.ndim == 4:
        shown = pixels[0]
    else:
        shown = np.moveaxis(pixels, 0, -1) if len(pixels) == 3 else pixels[0]
    return Original(shown, (1.0,) * 3, None, _window(shown, False), False, pixels.ndim == 4)


def of_scan(
    scan: sitk.Image, centre: np.ndarray | None = None, extent: np.ndarray | None = None
) -> Original:
    """A volume, and the box of a lesion in it.

    Args:
        scan: of three axes, grey.
        centre: (3,) x, y, z in world mm.
        extent: (3,) full size along x, y, z in mm.
    """
    pixels = formats.plain(sitk.GetArrayFromImage(scan))
    spacing = np.array(scan.GetSpacing())
    box = None
    if centre is not None and extent is not None:
        at = np.array(scan.TransformPhysicalPointToContinuousIndex(centre.tolist()))
        low, high = at - extent / spacing / 2, at + extent / spacing / 2
        box = tuple((float(a), float(b)) for a, b in zip(low[::-1], high[::-1], strict=True))
    is_ct = pixels.dtype.kind == "i" and pixels.min() <= -500
    z, y, x = spacing[::-1].tolist()
    return Original(pixels, (z, y, x), box, _window(pixels, is_ct), is_ct, True, True)


def _window(pixels: np.ndarray, is_ct: bool) -> tuple[float, float]:
    if pixels.dtype == np.uint8:
        return 0.0, 255.0
    if is_ct:
        return chestct.WINDOWS[0]
    low, high = np.percentile(pixels[:: max(1, len(pixels) // 32)], PERCENTILES)
    return float(low), float(high if high > low else low + 1)


def plane(
    original: Original, axis: int, index: int, window: tuple[float, float] | None = None
) -> np.ndarray:
    """One slice as it is shown, (h, w) or (h, w, 3) uint8.

    Axial slices (axis 0) lie as seen from the feet, the patient's left at the right; coronal and
    sagittal ones (axes 1 and 2) have the head above.

    Args:
        original: a volume, or an image, of which there is one plane.
        axis: across which, for volumes.
        index: which slice; the nearest that there is.
        window: values that are black and white; None: those of the sample.
    """
    pixels = original.pixels
    if original.is_volume:
        index = min(max(index, 0), pixels.shape[axis] - 1)
        pixels = pixels.take(index, axis)
        if axis > 0:
            pixels = pixels[::-1]
    low, high = window or original.window
    if pixels.dtype == np.uint8 and (low, high) == (0, 255):
        return np.ascontiguousarray(pixels)
    scaled = (pixels.astype(np.float32) - low) * (255 / max(high - low, 1e-6))
    return np.ascontiguousarray(np.clip(scaled + 0.5, 0, 255).astype(np.uint8))
