"""DICOM by SimpleITK: one file, or the slices of a series.

What SimpleITK is known to decode wrongly, or to join without a word, is refused.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from al_gym.data import elements, files
from al_gym.errors import DataError

SYNTAXES = {
    "1.2.840.10008.1.2": "Implicit VR Little Endian",
    "1.2.840.10008.1.2.1": "Explicit VR Little Endian",
    "1.2.840.10008.1.2.2": "Explicit VR Big Endian",
    "1.2.840.10008.1.2.5": "RLE Lossless",
    "1.2.840.10008.1.2.4.50": "JPEG Baseline",
    "1.2.840.10008.1.2.4.51": "JPEG Extended",
    "1.2.840.10008.1.2.4.57": "JPEG Lossless",
    "1.2.840.10008.1.2.4.70": "JPEG Lossless, first-order prediction",
    "1.2.840.10008.1.2.4.80": "JPEG-LS Lossless",
    "1.2.840.10008.1.2.4.81": "JPEG-LS Near-Lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 Lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
}
"""Transfer syntaxes that are read."""
COLOURS = (
    "MONOCHROME1", "MONOCHROME2", "RGB", "PALETTE COLOR",
    "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT",
)  # fmt: skip
"""Photometric interpretations that are read; all in colour become RGB."""
STORAGE = "1.2.840.10008.5.1.4.1.1."
NO_IMAGES = (
    "1.2.840.10008.1.3.10",  # DICOMDIR
    *[STORAGE + number for number in ("9.", "11.", "66", "67", "88.", "104.")],
    *[STORAGE + number for number in ("481.3", "481.4", "481.5", "481.6", "481.7", "481.8")],
)
"""How the SOP classes of waveforms, presentation states, reports, documents, plans, and of what is
about images (segmentations, registrations) begin."""
FILMS = tuple(
    STORAGE + number for number in ("3.1", "6.1", "7", "7.1", "7.2", "7.3", "7.4", "12.1", "12.2")
)
"""SOP classes whose frames follow each other in time, or have no place in the patient."""
SEQUENCES = {(0x0028, 0x3000): "a modality LUT", (0x5200, 0x9229): "frames of an enhanced object"}
"""Sequences that SimpleITK does not apply."""
FIRST = rb"(?:UL|OB|UI|CS|SH|LO|DA|TM|DT|UN|AE)"  # value representations of first elements


@dataclass(frozen=True)
class Slice:
    """One slice of a series."""

    path: Path
    pixels: np.ndarray
    """(H, W)."""
    position: np.ndarray
    """(3,) mm, of the first pixel's centre."""
    axes: np.ndarray
    """(2, 3) unit vectors along a row and down a column."""
    spacing: np.ndarray
    """(2,) mm along a row and down a column."""


def kind(start: bytes) -> str | None:
    """``"DICOM"`` for a file that starts so, or None.

    Raises:
        DataError: DICOM without the preamble.
    """
    if start[128:132] == b"DICM":
        return "DICOM"
    explicit = rb"(?:[\x02\x08]\0[\0-\x20]\0|\0[\x02\x08]\0[\0-\x20])%b" % FIRST
    implicit = rb"\x08\0[\x05\x08\x12-\x18]\0[\x02-\x40]\0\0\0[ -~]{2}"
    if re.match(explicit + b"|" + implicit, start):
        raise DataError("it is DICOM without its preamble; write it anew, with dcmconv say")
    return None


def header(path: Path) -> tuple[int, int, bool, str | None, str | None] | None:
    """What ``formats.Header`` holds, in its order; None: it is no image."""
    if elements.start(path)[0].get(0x0002, "").startswith(NO_IMAGES):
        return None
    reader = _open(path)
    n_frames, n_channels = reader.GetSize()[2], reader.GetNumberOfComponents()
    is_slice = n_frames == n_channels == 1 and bool(_text(reader, "0020|0032"))
    return (
        2 if n_frames == 1 else 3,
        n_channels,
        reader.GetPixelID() not in (sitk.sitkUInt8, sitk.sitkVectorUInt8),
        _text(reader, "0020|000e") or None if is_slice else None,
        _text(reader, "0010|0020") or None,
    )


def read(path: Path) -> np.ndarray:
    """(1 or 3, [frames,] H, W), rescaled."""
    reader = _open(path)
    array = sitk.GetArrayFromImage(reader.Execute())
    channels_first = np.moveaxis(array, -1, 0) if array.ndim == 4 else array[None]
    return channels_first[:, 0] if channels_first.shape[1] == 1 else channels_first


def read_slice(path: Path) -> Slice:
    """A slice and where it lies.

    Raises:
        DataError: several frames, colour, or no place in the patient.
    """
    reader = _open(path)
    if reader.GetSize()[2] != 1 or reader.GetNumberOfComponents() != 1:
        raise DataError("it is no grey slice of a series: it has several frames, or colours")
    position = _numbers(reader, "0020|0032", 3)
    axes = _numbers(reader, "0020|0037", 6).reshape(2, 3)
    down, along = _numbers(reader, "0028|0030", 2)
    if not np.allclose(axes @ axes.T, np.eye(2), atol=1e-3) or min(along, down) <= 0:
        raise DataError(f"its axes {axes.tolist()} or spacings {[down, along]} cannot be")
    pixels = sitk.GetArrayFromImage(reader.Execute())[0]
    return Slice(path, pixels, position, axes, np.array([along, down]))


def stack(slices: Sequence[Slice]) -> np.ndarray:
    """(1, D, H, W) of slices, to Superior, Posterior and Left; see ``joined``, which raises."""
    return sitk.GetArrayFromImage(joined(slices))[None]


def joined(slices: Sequence[Slice]) -> sitk.Image:
    """The volume of slices in any order; its axes run to Left, Posterior and Superior.

    Raises:
        DataError: they do not make a volume; names a file.
    """
    first = slices[0]
    for other in slices[1:]:
        if other.pixels.shape != first.pixels.shape:
            raise _mismatch(other, first, "size")
        if not np.allclose(other.axes, first.axes, atol=1e-3):
            raise _mismatch(other, first, "orientation")
        if not np.allclose(other.spacing, first.spacing, rtol=1e-3):
            raise _mismatch(other, first, "spacing of pixels")
    normal = np.cross(*first.axes)
    places = np.array([one.position for one in slices]) @ normal
    order = np.argsort(places, kind="stable")
    ordered = [slices[i] for i in order]
    gap = _even_gap(ordered, places[order])
    _check_straight(ordered, normal)
    image = sitk.GetImageFromArray(np.stack([one.pixels for one in ordered]))
    image.SetSpacing([*first.spacing, gap])
    image.SetDirection(np.column_stack([*first.axes, normal]).ravel().tolist())
    image.SetOrigin(ordered[0].position.tolist())
    return sitk.DICOMOrient(image, "LPS")


def _even_gap(ordered: list[Slice], places: np.ndarray) -> float:
    """Distance of neighbours in mm, 1 for a lone slice.

    Positions are written with as little as one decimal, so gaps differ by up to 0.1 mm.
    """
    if len(ordered) == 1:
        return 1.0
    gaps = np.diff(places)
    usual = float(np.median(gaps))
    tolerance = min(0.01 * usual + 0.1, usual / 4)
    for i in np.flatnonzero((np.abs(gaps - usual) > tolerance) | (gaps < 1e-3)):
        before, after = ordered[i].path, ordered[i + 1].path
        if gaps[i] < 1e-3:
            raise DataError(
                f"{before} and {after} lie at one place in their series; keep one of them, or take "
                "the acquisitions apart"
            )
        raise DataError(
            f"{before} and {after} lie {gaps[i]:.4g} mm apart, other slices of their series "
            f"{usual:.4g} mm: a slice is missing, or the series is two"
        )
    return usual


def _check_straight(ordered: list[Slice], normal: np.ndarray) -> None:
    """Refuse slices that do not lie above each other, as with a tilted gantry."""
    offsets = np.array([one.position - ordered[0].position for one in ordered])
    sideways = offsets - np.outer(offsets @ normal, normal)
    worst = int(np.linalg.norm(sideways, axis=1).argmax())
    if np.linalg.norm(sideways[worst]) > ordered[0].spacing.max():
        raise DataError(
            f"{ordered[worst].path} does not lie above {ordered[0].path} but is shifted by "
            f"{np.linalg.norm(sideways[worst]):.4g} mm, as with a tilted gantry: straighten the "
            "series, with dcm2niix say"
        )


def _mismatch(one: Slice, other: Slice, what: str) -> DataError:
    return DataError(f"{one.path} has another {what} than {other.path} of the same series")


def _open(path: Path) -> sitk.ImageFileReader:
    """A reader that knows the header.

    Raises:
        DataError: what SimpleITK decodes otherwise than pydicom, or is not known to decode.
    """
    meta, content, at = elements.start(path)
    syntax = SYNTAXES.get(meta.get(0x0010, ""))
    if syntax is None:
        raise DataError(
            f"its transfer syntax {meta.get(0x0010)!r} is not read; change it, with dcmconv say"
        )
    implicit, order = syntax == "Implicit VR Little Endian", ">" if "Big" in syntax else "<"
    encoding = elements.Encoding(implicit, order)
    found = elements.walk(content, at, encoding)
    if elements.PIXELS not in found:
        raise DataError("it has no pixels")
    for tag, name in SEQUENCES.items():
        if tag in found:
            raise DataError(f"it has {name}, which is not read; convert it to NIfTI")
    fragments = elements.fragments(path, *found[elements.PIXELS])
    elements.check_rest(path, found, fragments, encoding)
    n_segments = elements.rle_segments(path, fragments) if syntax.startswith("RLE") else set()
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    n_bytes = _check_values(reader, path, syntax)
    if not fragments:
        _check_length(path, *found[elements.PIXELS], n_bytes, n_bytes // reader.GetSize()[2])
    n_samples, n_bits = (int(_text(reader, "0028|" + key)) for key in ("0002", "0100"))
    if n_segments - {n_samples * n_bits // 8}:
        raise DataError(
            f"it has {n_segments} RLE segments for {n_samples} samples of {n_bits} bits"
        )
    return reader


def _check_values(reader: sitk.ImageFileReader, path: Path, syntax: str) -> int:
    """Refuse values that are not read; returns the bytes of the pixels, uncompressed."""
    bits, samples, colours = (_text(reader, "0028|" + key) for key in ("0100", "0002", "0004"))
    wrong = bits not in ("8", "16")
    wrong |= bits == "16" and samples != "1" and syntax.startswith("RLE")
    wrong |= bits == "16" and colours == "PALETTE COLOR"
    if wrong or colours not in COLOURS:
        raise DataError(
            f"{colours} of {bits} bits and {samples} samples a pixel in {syntax} is not read; save "
            "it with 8 or 16 bits, uncompressed"
        )
    slope, intercept = _text(reader, "0028|1053"), _text(reader, "0028|1052")
    if bool(slope) != bool(intercept):  # which one reader applies, and another does not
        raise DataError(f"its rescale slope is {slope or None}, its intercept {intercept or None}")
    if slope:  # GDCM applies 1 and 0 for what is no number, and 1 for 0
        _numbers(reader, "0028|1052", 1)
        if _numbers(reader, "0028|1053", 1)[0] == 0:
            raise DataError("its rescale slope is 0; save it with the one that is meant")
    n_frames = reader.GetSize()[2]
    if n_frames > 1 and _text(reader, "0008|0016") not in FILMS:
        raise DataError(
            f"it holds {n_frames} frames whose places are not read; convert it to NIfTI, or to one "
            "slice a file"
        )
    n_bytes = int(np.prod(reader.GetSize(), dtype=object)) * int(samples) * int(bits) // 8
    files.check_growth(path.stat().st_size, n_bytes)
    return n_bytes * 2 // 3 if colours == "YBR_FULL_422" else n_bytes  # two pixels share chroma


def _check_length(path: Path, at: int, length: int, n_bytes: int, n_frame: int) -> None:
    """Refuse pixels of other than ``n_bytes``: rows and columns are not theirs.

    Some writers add zeros, of fewer bytes than a frame has.
    """
    more = length - n_bytes
    padded = more in (0, n_bytes % 2)  # lengths are even
    if 0 < more < n_frame:
        with path.open("rb") as file:
            file.seek(at + n_bytes)
            padded |= not any(file.read(more))
    if not padded:
        raise DataError(
            f"its pixels take {length} bytes, of the {n_bytes} that its rows and columns ask for; "
            "get it anew"
        )


def _text(reader: sitk.ImageFileReader, key: str) -> str:
    return reader.GetMetaData(key).strip("\0 ") if reader.HasMetaDataKey(key) else ""


def _numbers(reader: sitk.ImageFileReader, key: str, n: int) -> np.ndarray:
    text = _text(reader, key)
    try:
        numbers = np.array([float(part) for part in text.split("\\") if part.strip()])
    except ValueError:
        numbers = np.array([])
    if len(numbers) != n or not np.isfinite(numbers).all():
        raise DataError(f"its tag ({key.replace('|', ',')}) must hold {n} numbers, not {text!r}")
    return numbers
