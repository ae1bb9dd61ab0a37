"""Image files: what they are by their content, and their pixels in one orientation.

Photographs (``photographs.py``), DICOM (``dicom.py``) and volumes (``volumes.py``) are told apart
by their first bytes; the ending of a name does not matter. A file is decoded as the reference
readers Pillow, tifffile, pydicom and nibabel do it, or refused with its name; tests compare them.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from al_gym.data import dicom, photographs, volumes
from al_gym.errors import DataError

ENDINGS = (
    ".png", ".jpg", ".jpeg", ".jfif", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".jp2", ".j2k",
    ".pgm", ".ppm", ".pbm", ".pnm", ".dcm", ".dicom", ".ima", ".nii", ".nii.gz", ".hdr", ".mha",
    ".mhd", ".nrrd", ".nhdr", ".avif", ".heic", ".heif", ".mgh", ".mgz", ".mnc", ".svs", ".ndpi",
    ".czi", ".nd2", ".lif", ".psd",
)  # fmt: skip
"""What an image is called, of formats that are read and others: no such file is passed over."""
DATA_OF = {".raw": (".mhd", ".nhdr"), ".zraw": (".mhd",), ".img": (".hdr",)}
"""Endings of files that only hold the voxels of a header beside them."""


@dataclass(frozen=True)
class Header:
    """What a file holds, known without its pixels."""

    n_dims: int
    """2 or 3, of this file alone."""
    n_channels: int
    """1, or 3 for a coloured file."""
    is_deep: bool = False
    """Whether ``read`` gives another type than uint8, so that black and white are not known."""
    series: str | None = None
    """SeriesInstanceUID of a DICOM slice: one grey frame with a place in the patient."""
    patient: str | None = None
    """PatientID of a DICOM file."""


def header(path: Path) -> Header | None:
    """What a file holds; its pixels are not decoded.

    Returns:
        None: the file is no image, neither by its content nor by its name. That includes DICOM
        files that are no images, such as DICOMDIR, reports and segmentations, and the ``.raw`` of
        an ``.mhd``.

    Raises:
        DataError: an image that is not read here; names the file.
        FileNotFoundError: there is no such file.
    """
    kind = _kind(path)
    if kind is None:
        return None
    try:
        if kind == "DICOM":
            found = dicom.header(path)
            return None if found is None else Header(*found)
        if kind in volumes.READERS:
            return Header(*volumes.header(path, kind))
        return Header(*photographs.header(path, kind))
    except Exception as error:  # decoders raise anything on a broken file
        raise _refusal(path, error) from error


def read(path: Path, n_channels: int) -> np.ndarray:
    """The pixels of one file.

    Photographs are turned as their EXIF tag says; fewer than 8 bits are stretched to 0..255, and
    palettes and CMYK become RGB. Volumes run to Superior, Posterior and Left along D, H and W, by
    the nearest axes where they are oblique; an axis of one voxel is dropped. DICOM values are
    rescaled (slope and intercept), and MONOCHROME1 is inverted before, v to low + high - v of its
    stored bits, so that bright is bright. A single slice lies as it is stored, and so do the frames
    of a film. NaN and infinite voxels, which mark the background of maps, are 0.

    Args:
        path: the file.
        n_channels: 1 makes photographs grey (ITU-R 601); 3 keeps what the file has.

    Returns:
        (C, [D,] H, W) in the file's own type: unsigned or signed integers or float32. C is 1 or 3.

    Raises:
        DataError: the file is no image, is not whole, or is not read here; names the file.
        FileNotFoundError: there is no such file.
    """
    kind = _kind(path)
    if kind is None:
        raise DataError(f"{path} cannot be decoded: it is no image of a format that is read here")
    try:
        if kind == "DICOM":
            array = dicom.read(path)
        elif kind in volumes.READERS:
            array = volumes.read(path, kind)
        else:
            array = photographs.read(path, kind, n_channels)
        if len(array) > n_channels:
            raise DataError("it is in colour, other images are grey")
        return plain(array)
    except Exception as error:
        raise _refusal(path, error) from error


def read_series(paths: Sequence[Path]) -> np.ndarray:
    """The slices of one DICOM series as one volume, given in any order.

    They are put in order by their ImagePositionPatient along the normal of their planes.

    Args:
        paths: all slices of the series.

    Returns:
        (1, D, H, W), to Superior, Posterior and Left.

    Raises:
        DataError: slices that do not make a volume: of other sizes, spacings or orientations, two
            at one place, one missing, a tilted gantry; or one that cannot be decoded. Names a file.
    """
    return plain(dicom.stack(_slices(paths)))


def _slices(paths: Sequence[Path]) -> list[dicom.Slice]:
    slices = []
    for path in paths:
        if _kind(path) != "DICOM":
            raise DataError(f"{path} cannot be decoded: it is no DICOM file, as its series is")
        try:
            slices.append(dicom.read_slice(path))
        except Exception as error:
            raise _refusal(path, error) from error
    return slices


def read_scan(paths: Sequence[Path]) -> sitk.Image | None:
    """A grey volume with its spacing and origin in mm, its axes as ``read`` has them.

    Args:
        paths: the file, or all slices of a DICOM series.

    Returns:
        None: the file is no such volume, but an image, a film or in colour: ``read`` reads it.

    Raises:
        DataError: it cannot be decoded; names the file.
    """
    if len(paths) > 1:
        return dicom.joined(_slices(paths))
    (path,) = paths
    kind = _kind(path)
    if kind not in volumes.READERS:
        return None
    try:
        image = volumes.oriented(path, kind)
    except Exception as error:
        raise _refusal(path, error) from error
    flat = image.GetDimension() != 3 or min(image.GetSize()) == 1
    return None if flat or image.GetNumberOfComponentsPerPixel() > 1 else image


def check_volume(path: Path) -> None:
    """Hold the voxels of a volume file against what its header promises.

    Decoding libraries fill what a truncated file lacks with zeros. Compressed voxels are unpacked
    once to count them.

    Raises:
        DataError: the voxels are not all there, or lie in another folder; names the file.
        FileNotFoundError: there is no such file.
    """
    kind = _kind(path)
    if kind not in volumes.READERS:
        raise DataError(f"{path} is not one of {', '.join(volumes.READERS)}")
    try:
        volumes.check(path, kind)
    except Exception as error:
        raise _refusal(path, error) from error


def is_volume(path: Path) -> bool:
    """Whether a file is NIfTI, MetaImage or NRRD, by its first bytes."""
    return _kind(path) in volumes.READERS


def _kind(path: Path) -> str | None:
    """Name of the format, by content; None: no image.

    Raises:
        DataError: an image of a format that is not read here, or a file with an image's name.
    """
    headers = DATA_OF.get(path.suffix.lower(), ())
    if any(path.with_suffix(h).is_file() or path.with_suffix(h.upper()).is_file() for h in headers):
        return None
    with path.open("rb") as file:
        start = file.read(photographs.N_BYTES)
    packed = start.startswith(b"\x1f\x8b")
    if packed:
        start = _unpacked(start)
    for recognise in (dicom.kind, volumes.kind, photographs.kind):
        try:
            kind = recognise(start)
        except ValueError as error:
            raise _refusal(path, error) from None
        if kind is not None and packed and kind != "NIfTI":
            problem = f"it is packed {kind}; unpack it with gunzip"
            raise _refusal(path, DataError(problem))
        if kind is not None:
            return kind
    if path.name.lower().endswith(ENDINGS):
        problem = "by its content it is no format that is read here; convert it to PNG or NIfTI"
        raise _refusal(path, DataError(problem))
    return None


def _unpacked(start: bytes) -> bytes:
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(start, 512)
    except zlib.error:
        return b""


def plain(array: np.ndarray) -> np.ndarray:
    """Integers in this machine's byte order; floats as float32, with 0 for NaN and infinity."""
    if array.dtype.kind != "f":
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    with np.errstate(over="ignore"):
        return np.nan_to_num(array.astype(np.float32, copy=False), posinf=0, neginf=0)


def _refusal(path: Path, error: Exception) -> DataError:
    said = re.sub(r".*(ITK ERROR: \w+\(\w+\):|\.\w+:\d+ \(\):)", "", str(error), flags=re.DOTALL)
    said = " ".join(said.split())
    reason = said.replace(str(path), "it") or type(error).__name__
    repair = "Or" if isinstance(error, ValueError) else "Repair it, or"  # ours say what to do
    return DataError(f"{path} cannot be decoded: {reason}. {repair} leave it out with exclude")
