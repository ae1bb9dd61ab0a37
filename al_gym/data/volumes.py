"""NIfTI, MetaImage and NRRD by SimpleITK: whole, and in one orientation.

SimpleITK fills what a truncated NIfTI file lacks with zeros, takes voxels from wherever a header
points to, and lays volumes without an orientation as it likes; all these are refused.
"""

import gzip
import re
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from al_gym.data import files, metaimage
from al_gym.errors import DataError

READERS = {"NIfTI": "NiftiImageIO", "MetaImage": "MetaImageIO", "NRRD": "NrrdImageIO"}
"""Format -> SimpleITK's name of its reader."""
NIFTI_BITS = {
    2: 8, 4: 16, 8: 32, 16: 32, 64: 64, 128: 24, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64,
}  # fmt: skip
"""Data types of NIfTI that are read -> bits a voxel; complex numbers and RGBA are not."""
ORIENTATIONS = range(6)
"""Codes of how a NIfTI file's axes lie in the patient; 0: it does not say."""
NRRD_SPACES = (
    "left-posterior-superior", "lps",
    "right-anterior-superior", "ras",
    "left-anterior-superior", "las",
)  # fmt: skip
NRRD_ENCODINGS = ("raw", "gzip", "gz", "ascii", "text", "txt", "hex")
CHUNK = 1 << 20  # bytes read at a time, and of a text header at most


def kind(start: bytes) -> str | None:
    """Name of the format of a file that starts so, or None.

    Raises:
        DataError: Analyze 7.5 or NIfTI-2.
    """
    if start[344:348] in (b"n+1\0", b"ni1\0"):
        return "NIfTI"
    if start[4:8] in (b"n+2\0", b"ni2\0"):
        raise DataError("it is NIfTI-2; save it as NIfTI-1")
    if start[:4] in (struct.pack("<i", 348), struct.pack(">i", 348)) and len(start) >= 348:
        raise DataError("it is Analyze 7.5, which does not say left from right; save it as NIfTI")
    if start.startswith(b"NRRD000"):
        return "NRRD"
    is_first, is_certain = rb"\s*(ObjectType|NDims|Comment)\s*[=:]", rb"^[ \t]*NDims\s*[=:]\s*\d"
    if re.match(is_first, start) and re.search(is_certain, start, re.MULTILINE):
        return "MetaImage"  # and not any text that begins with a comment
    return None


def header(path: Path, kind: str) -> tuple[int, int, bool]:
    """Dimensions, channels, and whether values are other than 8 bits, unsigned."""
    with tempfile.TemporaryDirectory() as folder:
        opened = _open(path, kind, Path(folder))
        n_dims = sum(extent > 1 for extent in opened.GetSize())
        is_deep = opened.GetPixelID() not in (sitk.sitkUInt8, sitk.sitkVectorUInt8)
        return n_dims, opened.GetNumberOfComponents(), is_deep


def read(path: Path, kind: str) -> np.ndarray:
    """(1 or 3, [D,] H, W), to Superior, Posterior and Left; axes of one voxel are dropped.

    A file of two axes lies as it is stored.
    """
    image = oriented(path, kind)
    array = sitk.GetArrayFromImage(image)
    n_channels = image.GetNumberOfComponentsPerPixel()
    channels_first = np.moveaxis(array, -1, 0) if n_channels > 1 else array[None]
    return channels_first.reshape(n_channels, *[n for n in channels_first.shape[1:] if n > 1])


def oriented(path: Path, kind: str) -> sitk.Image:
    """The image of two axes, or of three that run to Left, Posterior and Superior.

    That is SimpleITK's order; they are the nearest axes where the volume is oblique.
    """
    check(path, kind)
    with tempfile.TemporaryDirectory() as folder:
        image = _open(path, kind, Path(folder)).Execute()
    while image.GetDimension() > 3:
        image = image[..., 0]
    if kind == "NIfTI" and image.GetDimension() == 3:
        _check_sform(path, np.array(image.GetDirection()).reshape(3, 3))
    return sitk.DICOMOrient(image, "LPS") if image.GetDimension() == 3 else image


def check(path: Path, kind: str) -> None:
    """Hold the voxels that are there against what the header promises.

    Raises:
        DataError: some are missing, or they lie in another folder.
    """
    {"NIfTI": _check_nifti, "MetaImage": _check_meta, "NRRD": _check_nrrd}[kind](path)


def _open(path: Path, kind: str, folder: Path) -> sitk.ImageFileReader:
    """A reader that knows the header; ``folder`` is for a link where the name is unusual."""
    if kind == "NIfTI":
        _check_orientation(path)
    name = _nifti_name(path, folder) if kind == "NIfTI" else path
    opened = reader(name, kind)
    size, n_channels = opened.GetSize(), opened.GetNumberOfComponents()
    if max(size[3:], default=1) > 1:
        raise DataError(f"it has {len(size)} axes, {size}; save one volume a file")
    if sum(extent > 1 for extent in size) not in (2, 3):
        raise DataError(f"its size {size} is neither that of an image nor of a volume")
    voxel = sitk.GetPixelIDValueAsString(opened.GetPixelID())
    grey = n_channels == 1 and "complex" not in voxel
    if not grey and not (n_channels == 3 and "unsigned" in voxel):
        raise DataError(f"{n_channels} components of {voxel} a voxel are neither grey nor RGB")
    return opened


def reader(path: Path, kind: str) -> sitk.ImageFileReader:
    """A reader of a volume that has read the header.

    Raises:
        RuntimeError: SimpleITK cannot read it.
        DataError: SimpleITK would go astray.
    """
    if kind == "MetaImage":
        metaimage.read_header(path)
    opened = sitk.ImageFileReader()
    opened.SetImageIO(READERS[kind])  # which would otherwise be chosen by endings in lower case
    opened.SetFileName(str(path))
    opened.ReadImageInformation()
    return opened


def _nifti_name(path: Path, folder: Path) -> Path:
    """A name that SimpleITK takes for NIfTI: ``path`` or a link to it."""
    packed = _is_packed(path)
    usual = (".nii.gz", ".NII.GZ") if packed else (".nii", ".NII", ".hdr", ".HDR")
    if path.name.endswith(usual):
        return path
    link = folder / f"volume{usual[0]}"
    link.symlink_to(path.resolve())
    return link


def _check_orientation(path: Path) -> None:
    start, order = _nifti_header(path)
    n_axes, *_ = struct.unpack_from(order + "h", start, 40)
    codes = struct.unpack_from(order + "hh", start, 252)
    if not set(codes) <= set(ORIENTATIONS):  # which some readers take for 0
        raise DataError(f"its qform and sform codes {codes} are not of {list(ORIENTATIONS)}")
    if n_axes > 2 and max(codes) <= 0:
        raise DataError("its qform and sform codes are 0: it does not say left from right; set one")
    qform = struct.unpack_from(order + "6f", start, 256)
    sform = struct.unpack_from(order + "12f", start, 280)
    for name, code, numbers in zip(("qform", "sform"), codes, (qform, sform), strict=True):
        if code > 0 and not np.isfinite(numbers).all():  # with which ITK may never come to an end
            raise DataError(f"its {name} {numbers} has numbers that are none; set it anew")
    side, *sizes = struct.unpack_from(order + "4f", start, 76)
    if n_axes > 2 and codes[1] <= 0:  # ITK and nibabel would turn other axes
        if not all(size >= 0 for size in sizes):
            raise DataError(f"its pixdim {sizes} are voxels of a negative size; set them anew")
        if not (side >= 0 or side == -1):
            raise DataError(
                f"its pixdim begins with {side}, which is neither 1 nor -1; set it anew"
            )


def _check_sform(path: Path, found: np.ndarray) -> None:
    """Whether axes (3, 3) are those of the sform, which ITK drops if it dislikes its scales."""
    start, order = _nifti_header(path)
    (code,) = struct.unpack_from(order + "h", start, 254)
    if code <= 0:
        return
    sform = np.array(struct.unpack_from(order + "12f", start, 280)).reshape(3, 4)[:, :3]
    sform = sform * [[-1], [-1], [1]]  # to Left and Posterior, as ITK counts
    cosines = (sform * found).sum(0) / np.linalg.norm(sform, axis=0)
    if not cosines.min() > 0.99:
        raise DataError("its sform and pixdim do not agree; set both alike")


def _check_nifti(path: Path) -> None:
    start, order = _nifti_header(path)
    n_axes, *extents = struct.unpack_from(order + "8h", start, 40)
    (data_type,) = struct.unpack_from(order + "h", start, 70)
    offset, slope, intercept = struct.unpack_from(order + "fff", start, 108)
    if start[344:348] == b"n+1\0" and offset < 348:
        raise DataError(f"its voxels are said to begin at byte {offset}, within the header")
    if 0 < abs(slope) < np.finfo(float).eps:  # ITK takes it for none
        raise DataError(f"its scale {slope} is too small to be applied; save the scaled values")
    if slope == 0 and intercept != 0:  # 0 is for no scale; ITK adds the intercept all the same
        raise DataError(f"its scale is 0 and its intercept {intercept}; save the scaled values")
    if data_type not in NIFTI_BITS:
        raise DataError(f"its data type {data_type} is not read; save it as integers or floats")
    data = path
    if start[344:348] == b"ni1\0":
        names = [path.with_suffix(ending) for ending in (".img", ".IMG", ".img.gz")]
        data = next((name for name in names if name.is_file()), names[0])
    n_voxels = int(np.prod(extents[:n_axes], dtype=object))
    _check_size(data, n_voxels * NIFTI_BITS[data_type] // 8, skip=int(offset), packed=None)


def _nifti_header(path: Path) -> tuple[bytes, str]:
    """The 348 bytes and their order, as struct writes it."""
    with gzip.open(path) if _is_packed(path) else path.open("rb") as file:
        start = file.read(348)
    order = "<" if start.startswith(struct.pack("<i", 348)) else ">"
    (n_axes,) = struct.unpack_from(order + "h", start, 40)
    if n_axes not in range(1, 8):  # by which ITK tells the order of bytes
        raise DataError(f"its header says that it has {n_axes} axes; get it anew")
    return start, order


def _check_meta(path: Path) -> None:
    fields, skip = metaimage.read_header(path)
    name = fields.get("ElementDataFile", "")
    if name != "LOCAL":
        metaimage.check_beside("ElementDataFile", name)
    _, promised = _promised(path, "MetaImage")
    packed = metaimage.is_true(fields.get("CompressedData", "False"))
    header_size = max(int(fields.get("HeaderSize", "0")), 0)
    if name == "LOCAL":
        _check_size(path, promised, skip=skip, packed=packed)
    else:
        _check_size(path.parent / name, promised, skip=header_size, packed=packed)


def _promised(path: Path, kind: str) -> tuple[int, int]:
    """Numbers in a volume, and their bytes, by its header."""
    opened = reader(path, kind)
    voxel = sitk.GetArrayFromImage(sitk.Image([1] * 3, opened.GetPixelID()))
    n = int(np.prod(opened.GetSize(), dtype=object)) * opened.GetNumberOfComponents()
    return n, n * voxel.itemsize


def _check_nrrd(path: Path) -> None:
    """Whether the voxels lie beside the header, and may be as many as it says.

    The library itself counts them, but makes room for them before.
    """
    with path.open("rb") as file:
        text = re.split(rb"\r?\n\r?\n", file.read(CHUNK))[0].decode("latin-1")
    text = text.replace("\r", "\n")  # the library ends lines there, too
    data = path
    for name in re.findall(r"^data ?file:(.*)$", text, re.MULTILINE | re.IGNORECASE):
        metaimage.check_beside("data file", name.strip())
        data = path.parent / name.strip()
    encodings = re.findall(r"^encoding:(.*)$", text, re.MULTILINE | re.IGNORECASE)
    if [encoding.strip().lower() in NRRD_ENCODINGS for encoding in encodings] != [True]:
        raise DataError(f"it needs one encoding of {', '.join(NRRD_ENCODINGS)}, not {encodings}")
    if not data.is_file():
        raise DataError(f"the file {data} is missing")
    n, promised = _promised(path, "NRRD")
    there, encoding = data.stat().st_size, encodings[0].strip().lower()
    if encoding in ("gzip", "gz"):
        files.check_growth(there, promised)
    elif there < (promised if encoding == "raw" else n):
        raise DataError(f"{data} is truncated: it holds {there} bytes of {promised}; get it anew")
    spaces = re.findall(r"^space:(.*)$", text, re.MULTILINE)
    directions = re.search(r"^space directions:", text, re.MULTILINE)
    flat = re.search(r"^dimension:\s*2\s*$", text, re.MULTILINE)
    known = [space.strip().lower() in NRRD_SPACES for space in spaces] == [True]
    if not flat and not (known and directions):
        raise DataError(
            "it does not say left from right: it needs space directions, and a space that is LPS, "
            f"RAS or LAS, not {spaces}"
        )


def _check_size(data: Path, promised: int, skip: int, packed: bool | None) -> None:
    """Whether ``data`` holds the bytes promised after ``skip``; ``packed`` None: see for itself."""
    if not data.is_file():
        raise DataError(f"the file {data} is missing")
    if packed or (packed is None and _is_packed(data)):
        files.check_growth(data.stat().st_size, promised)
    if packed is None and _is_packed(data):  # gzip around all of it, header and voxels
        there = _unpacked_size(data, 0, promised + skip) - skip
    elif packed:
        there = _unpacked_size(data, skip, promised)
    else:
        there = data.stat().st_size - skip
    if there < promised:
        raise DataError(f"{data} is truncated: it holds {there} bytes of {promised}; get it anew")


def _unpacked_size(path: Path, skip: int, enough: int) -> int:
    """Bytes in a gzip or zlib stream, its checksum verified; counting ends past ``enough``."""
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
    total = 0
    with path.open("rb") as file:
        file.seek(skip)
        while total <= enough + CHUNK and (chunk := unpacker.unconsumed_tail or file.read(CHUNK)):
            total += len(unpacker.decompress(chunk, CHUNK))
            if unpacker.eof and total >= enough:
                break
            if unpacker.eof:  # gzip files may be several streams, one after the other
                file.seek(-len(unpacker.unused_data), 1)
                unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
    return total


def _is_packed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"
