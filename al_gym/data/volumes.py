"""NIfTI, MetaImage and NRRD by SimpleITK, whole and in one orientation.

SimpleITK fills what a truncated NIfTI file lacks with zeros, takes voxels from wherever a header
points to, and gives volumes without an orientation one of its own; all these are refused.
"""

import gzip
import re
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

KINDS = {"NIfTI": "NiftiImageIO", "MetaImage": "MetaImageIO", "NRRD": "NrrdImageIO"}
"""Formats and SimpleITK's name of what reads them."""
CHUNK = 1 << 20  # bytes unpacked at a time
SPACES = (
    "left-posterior-superior",
    "lps",
    "right-anterior-superior",
    "ras",
    "left-anterior-superior",
    "las",
)


def kind(start: bytes) -> str | None:
    """Name of the format of a file that starts so, or None.

    Raises:
        ValueError: Analyze 7.5.
    """
    if start[344:348] in (b"n+1\0", b"ni1\0") or start[4:8] in (b"n+2\0", b"ni2\0"):
        return "NIfTI"
    if start[:4] in (struct.pack("<i", 348), struct.pack(">i", 348)) and len(start) >= 348:
        raise ValueError(
            "it is Analyze 7.5, which does not say left from right; convert it to NIfTI"
        )
    if start.startswith(b"NRRD000"):
        return "NRRD"
    if re.match(rb"\s*\w+\s*=", start) and re.search(
        rb"^\s*(NDims|DimSize)\s*=", start, re.MULTILINE
    ):
        return "MetaImage"
    return None


def header(path: Path, kind: str) -> tuple[int, int]:
    """Dimensions and channels."""
    with tempfile.TemporaryDirectory() as folder:
        reader = _open(path, kind, Path(folder))
        return sum(extent > 1 for extent in reader.GetSize()), reader.GetNumberOfComponents()


def read(path: Path, kind: str) -> np.ndarray:
    """(1 or 3, [D,] H, W), to Superior, Posterior and Left; an axis of one voxel is dropped."""
    check(path, kind)
    with tempfile.TemporaryDirectory() as folder:
        image = _open(path, kind, Path(folder)).Execute()
    while image.GetDimension() > 3:
        image = image[..., 0]
    if image.GetDimension() == 3:
        image = sitk.DICOMOrient(image, "LPS")
    array = sitk.GetArrayFromImage(image)
    channels_first = (
        np.moveaxis(array, -1, 0) if image.GetNumberOfComponentsPerPixel() > 1 else array[None]
    )
    kept = [extent for extent in channels_first.shape[1:] if extent > 1]
    return channels_first.reshape(len(channels_first), *kept)


def check(path: Path, kind: str) -> None:
    """Hold the voxels that are there against what the header promises.

    Raises:
        ValueError: some are missing, or lie in another folder.
    """
    {"NIfTI": _check_nifti, "MetaImage": _check_meta, "NRRD": _check_nrrd}[kind](path)


def _open(path: Path, kind: str, folder: Path) -> sitk.ImageFileReader:
    """A reader that knows the header; ``folder`` is for a link, where the library minds the name."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO(KINDS[kind])
    reader.SetFileName(str(_linked(path, folder) if kind == "NIfTI" else path))
    if kind == "NIfTI":
        _check_orientation(path)
    reader.ReadImageInformation()
    size, n_channels = reader.GetSize(), reader.GetNumberOfComponents()
    if len(size) > 3 and max(size[3:]) > 1:
        raise ValueError(f"it has {len(size)} axes, {size}; save one volume a file")
    if sum(extent > 1 for extent in size) not in (2, 3):
        raise ValueError(f"its size {size} is neither that of an image nor of a volume")
    pixel = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    if n_channels not in (1, 3) or "complex" in pixel or (n_channels == 3 and "float" in pixel):
        raise ValueError(f"{n_channels} components of {pixel} are neither grey nor RGB")
    return reader


def _linked(path: Path, folder: Path) -> Path:
    """A name that the NIfTI library accepts."""
    if path.name.endswith((".nii", ".nii.gz", ".NII", ".NII.GZ", ".hdr", ".HDR")):
        return path
    link = folder / ("image.nii.gz" if _is_packed(path) else "image.nii")
    link.symlink_to(path.resolve())
    return link


def _is_packed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _nifti_header(path: Path) -> bytes:
    with gzip.open(path) if _is_packed(path) else path.open("rb") as file:
        return file.read(540)


def _check_orientation(path: Path) -> None:
    start = _nifti_header(path)
    order = _byte_order(start)
    if _is_second(start, order):
        codes = struct.unpack_from(order + "ii", start, 344)
    else:
        codes = struct.unpack_from(order + "hh", start, 252)
    if not any(code > 0 for code in codes):
        raise ValueError(
            "its qform and sform codes are 0, so nothing says left from right; set one"
        )


def _byte_order(start: bytes) -> str:
    return "<" if struct.unpack("<i", start[:4])[0] in (348, 540) else ">"


def _is_second(start: bytes, order: str) -> bool:
    return bool(struct.unpack(order + "i", start[:4])[0] == 540)


def _check_nifti(path: Path) -> None:
    start = _nifti_header(path)
    order = _byte_order(start)
    if _is_second(start, order):
        dim, (bits,) = (
            struct.unpack_from(order + "8q", start, 16),
            struct.unpack_from(order + "h", start, 14),
        )
        (offset,) = struct.unpack_from(order + "q", start, 168)
        pair = start[4:7] == b"ni2"
    else:
        dim, (bits,) = (
            struct.unpack_from(order + "8h", start, 40),
            struct.unpack_from(order + "h", start, 72),
        )
        offset = int(struct.unpack_from(order + "f", start, 108)[0])
        pair = start[344:347] == b"ni1"
    promised = (
        int(np.prod([max(n, 1) for n in dim[1 : 1 + dim[0]]], dtype=object)) * bits // 8 + offset
    )
    data = path
    if pair:
        names = [path.with_suffix(ending) for ending in (".img", ".IMG", ".img.gz")]
        data = next((name for name in names if name.is_file()), names[0])
    _check_size(data, promised, packed=_is_packed(data))


def _check_meta(path: Path) -> None:
    with path.open("rb") as file:
        fields: dict[str, str] = {}
        while "ElementDataFile" not in fields and (line := file.readline(CHUNK)):
            key, _, value = line.decode("latin-1").partition("=")
            fields[key.strip()] = value.strip()
        offset = file.tell()
    name = fields.get("ElementDataFile", "")
    data = path if name == "LOCAL" else path.parent / name
    if data != path and (name != Path(name).name or name in ("", ".", "..", "LIST") or "%" in name):
        raise ValueError(f"ElementDataFile must be a file in the same folder, not {name!r}")
    if fields.get("BinaryData", "True")[:1] not in "Tt1":
        raise ValueError("its voxels are text; write them in binary")
    reader = sitk.ImageFileReader()
    reader.SetImageIO(KINDS["MetaImage"])
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    voxel = sitk.GetArrayFromImage(
        sitk.Image([1, 1, 1], reader.GetPixelID(), reader.GetNumberOfComponents())
    )
    promised = int(np.prod(reader.GetSize(), dtype=object)) * voxel.nbytes
    skipped = offset if data == path else 0
    if fields.get("CompressedData", "False")[:1] in "Tt1":
        _check_size(data, promised, packed=True, skipped=skipped)
    else:
        _check_size(data, promised + skipped, packed=False)


def _check_nrrd(path: Path) -> None:
    """The library itself counts the voxels."""
    with path.open("rb") as file:
        lines = file.read(CHUNK).split(b"\n\n")[0].decode("latin-1").splitlines()
    fields = {
        key.strip().lower(): value.strip()
        for key, _, value in (line.partition(":") for line in lines)
    }
    name = fields.get("data file", fields.get("datafile"))
    if name is not None and (
        name != Path(name).name or name in ("", ".", "..", "LIST") or "%" in name
    ):
        raise ValueError(f"its data file must lie in the same folder, not {name!r}")
    if fields.get("space", "").lower() not in SPACES and fields.get("dimension") != "2":
        raise ValueError(f"its space {fields.get('space')!r} does not say left from right")


def _check_size(data: Path, promised: int, packed: bool, skipped: int = 0) -> None:
    if not data.is_file():
        raise ValueError(f"the file {data} is missing")
    there = _unpacked_size(data, skipped, promised) if packed else data.stat().st_size
    if there < promised:
        raise ValueError(f"{data} is truncated: it holds {there} bytes of {promised}; get it anew")


def _unpacked_size(path: Path, skipped: int, enough: int) -> int:
    """Bytes that a gzip or zlib stream holds, counted up to ``enough``."""
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
    total = 0
    with path.open("rb") as file:
        file.seek(skipped)
        while chunk := file.read(CHUNK):
            while chunk and total < enough:
                total += len(unpacker.decompress(chunk, CHUNK))
                chunk = unpacker.unconsumed_tail
    return total
