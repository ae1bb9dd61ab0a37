"""chestCT: lesions of the Tianchi lung-disease competition (231724), one cubic patch each.

Layout of the root::

    chestCT_round1_annotation.csv
    train_part1/636990.mhd, 636990.raw ...      (or any folder below the root)
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from al_gym.data import cache, files
from al_gym.data.dataset import ImageDataset, split_groups

ANNOTATIONS = "chestCT_round1_annotation.csv"
CLASSES = {
    1: "pulmonary nodule",
    5: "pulmonary cord",
    31: "arteriosclerosis",
    32: "lymph-node calcification",
}
"""Label code in the csv -> class name; the order is the order of the classes."""
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
    """Class index, 0 to 3."""
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
    verify: bool = False,
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
        verify: know cached files by their content, see ``cache.cache_key``.

    Returns:
        Images (n_train + n_test, len(windows), p, p, p) uint8; groups are the scans.

    Raises:
        FileNotFoundError: no root, no annotation file, or a volume it names is not there.
        ValueError: a line of the annotation file, or a volume, is not as it should be.
    """
    folder = files.resolve_root(
        "chestCT", root, f"It holds {ANNOTATIONS} and the volumes of the Tianchi competition 231724"
    )
    _check_settings(patch_size, margin, windows)
    lesions, _ = read_annotations(folder / ANNOTATIONS)
    volumes = find_volumes(folder, lesions)
    series = np.array([lesion.series for lesion in lesions])
    train, test = split_groups(series, n_train, n_test, np.random.default_rng(split_seed))
    drawn = np.concatenate([train, test])

    def decode(i: int) -> np.ndarray:
        lesion = lesions[drawn[i]]
        return apply_windows(
            read_patch(volumes[lesion.series], lesion, patch_size, margin), windows
        )

    headers = [volumes[name] for name in dict.fromkeys(series[drawn].tolist())]
    settings = {
        "version": VERSION,
        "patch": [patch_size, margin, [list(map(float, window)) for window in windows]],
        "lesions": [[lesions[i].series, *lesions[i].centre, *lesions[i].extent] for i in drawn],
    }
    paths = [path for header in headers for path in (header, data_file(header))]
    images, n_decoded = cache.decoded(
        cache.cache_key("chestCT", folder, paths, settings, verify),
        len(drawn),
        (len(windows), *[patch_size] * 3),
        decode,
    )
    return ImageDataset(
        images=images,
        labels=np.array([lesions[i].label for i in drawn], np.int64),
        class_names=tuple(CLASSES.values()),
        groups=series[drawn],
        train=np.arange(n_train),
        test=np.arange(n_train, n_train + n_test),
        source=f"chestCT, {folder}",
        files_decoded=n_decoded,
    )


def read_annotations(path: Path) -> tuple[list[Lesion], bytes]:
    """The lesions of an annotation file, in its order, and the file's content.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a missing column, a value that is no number, an unknown label code, a box
            without extent; names the line.
    """
    columns = [
        "seriesuid", "coordX", "coordY", "coordZ", "diameterX", "diameterY", "diameterZ", "label",
    ]  # fmt: skip
    rows, content = files.read_table(path, columns)
    codes = list(CLASSES)
    lesions = []
    for row in rows:
        code = row.get("label", int)
        if code not in CLASSES:
            raise row.error(f"unknown label code {code}; known are {codes}")
        numbers = np.array([row.get(column, float) for column in columns[1:7]])
        if not np.isfinite(numbers).all() or (numbers[3:] <= 0).any():
            raise row.error(f"a lesion needs finite coordinates and positive diameters: {numbers}")
        series = row.get("seriesuid", str)
        lesions.append(Lesion(series, numbers[:3], numbers[3:], codes.index(code), row))
    return lesions, content


def find_volumes(root: Path, lesions: list[Lesion]) -> dict[str, Path]:
    """The ``.mhd`` file of every scan that has a lesion, wherever it lies below ``root``.

    A seriesuid is only ever compared with the names of files found there, so that one like
    ``../../x`` leads nowhere.

    Raises:
        FileNotFoundError: a scan is not there.
        ValueError: two files have the name of one scan.
    """
    found: dict[str, Path] = {}
    for path in sorted(root.rglob("*.mhd")):
        if path.stem in found:
            raise ValueError(f"two volumes have one name: {found[path.stem]} and {path}")
        found[path.stem] = path
    for lesion in lesions:
        if lesion.series not in found:
            raise FileNotFoundError(
                f"{lesion.row.path}, line {lesion.row.line}: there is no volume "
                f"{lesion.series}.mhd below {root}. Unpack the part that holds it, or take the "
                "scan's lines out of the annotation file"
            )
    return {lesion.series: found[lesion.series] for lesion in lesions}


def data_file(path: Path) -> Path:
    """The file beside a ``.mhd`` file that holds its voxels.

    Raises:
        ValueError: it is not there, or the header names a file elsewhere.
    """
    name = _header(path).get("ElementDataFile", "")
    if name != Path(name).name or name in ("", ".", "..", "LIST", "LOCAL") or "%" in name:
        raise ValueError(
            f"{path} cannot be read: ElementDataFile must be a file in its folder, not {name!r}"
        )
    data = path.parent / name
    if not data.is_file():
        raise ValueError(f"{path} cannot be read: the file {data} is missing")
    return data


def _header(path: Path) -> dict[str, str]:
    lines = [line.partition("=") for line in path.read_text("latin-1").splitlines()]
    return {name.strip(): value.strip() for name, _, value in lines}


def read_patch(path: Path, lesion: Lesion, patch_size: int, margin: float) -> np.ndarray:
    """The isotropic cube around a lesion, resampled linearly in world coordinates.

    Only the region that the cube touches is read from the file; what lies outside the volume is
    air. Axes of the patch are z, y, x of the world, whatever the orientation of the volume.

    Args:
        path: ``.mhd`` file.
        lesion: box in world mm.
        patch_size: voxels along an edge.
        margin: edge of the cube over the longest side of the box.

    Returns:
        (p, p, p) float32, HU.

    Raises:
        ValueError: the volume cannot be read, is truncated, or the lesion lies outside it.
    """
    edge = margin * lesion.extent.max()
    spacing = edge / patch_size
    first_voxel = lesion.centre - edge / 2 + spacing / 2
    try:
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        _check_volume(path, reader)
        start, size = _region(reader, lesion.centre, edge)
        if (size <= 0).any():
            raise ValueError(f"the lesion's box lies outside the volume {path}")
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
    except (RuntimeError, OSError, ValueError) as error:
        raise lesion.row.error(f"{path} cannot be read: {error}") from error
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


def _check_volume(path: Path, reader: sitk.ImageFileReader) -> None:
    """Refuse what MetaIO lets pass: files outside the folder, and fewer voxels than promised.

    MetaIO fills the missing voxels of a truncated file without an error.
    """
    if len(reader.GetSize()) != 3 or reader.GetNumberOfComponents() != 1:
        raise ValueError(f"a volume has three dimensions and one component, not {reader.GetSize()}")
    data = data_file(path)
    header = _header(path)
    voxel = np.dtype(sitk.GetArrayFromImage(sitk.Image(1, 1, 1, reader.GetPixelID())).dtype)
    promised = int(np.prod(reader.GetSize())) * voxel.itemsize
    if header.get("CompressedData", "False") != "True" and data.stat().st_size < promised:
        raise ValueError(
            f"{data} is truncated: {data.stat().st_size} bytes of {promised}. Unpack it again"
        )


def _check_settings(
    patch_size: int, margin: float, windows: tuple[tuple[float, float], ...]
) -> None:
    if patch_size < 8:
        raise ValueError(f"patch_size must be at least 8, not {patch_size}")
    if not margin > 0:
        raise ValueError(f"margin must be positive, not {margin}")
    if not windows or any(low >= high for low, high in windows):
        raise ValueError(f"windows must be pairs (low, high) with low < high, not {windows}")
