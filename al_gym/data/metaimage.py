"""MetaImage volumes of two files: refuses what MetaIO, which SimpleITK reads them with, lets pass.

MetaIO opens whatever file a header names, wherever it is, and fills with zeros what a truncated
file lacks.
"""

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from al_gym.data import files

LINE = re.compile(r"[ \t]*(\w+)[ \t]*=[ \t]*(?![=: \t])([^\0-\x08\n-\x1f]*?)[ \t]*\r?")
"""NAME = VALUE, where no part of MetaIO could see another line's end or another value's start."""


@dataclass(frozen=True)
class Volume:
    """A header, and the file of voxels that it names."""

    header: Path
    """``.mhd``."""
    voxels: Path
    """``.raw``, or ``.zraw`` if compressed; in the header's folder."""
    compressed: bool
    skipped: int
    """Bytes before the first voxel."""


def find(root: Path, header: Path) -> Volume:
    """What a header says of its voxels; they are not read.

    Args:
        root: folder that no file may lie outside of.
        header: ``.mhd`` file below it.

    Raises:
        ValueError: not a header, or it names no file that is in its own folder.
    """
    fields = _fields(header)
    name = fields.get("ElementDataFile", "")
    # MetaIO takes LIST... and LOCAL for orders, and % for a pattern of names
    if (
        name != Path(name).name
        or name in ("", ".", "..")
        or name.upper().startswith(("LIST", "LOCAL"))
        or "%" in name
    ):
        raise ValueError(f"ElementDataFile must be a file in the same folder, not {name!r}")
    voxels = header.parent / name
    files.check_inside(root, voxels)
    if not voxels.is_file():
        raise ValueError(f"the file {voxels} is missing")
    if not _is_true(fields.get("BinaryData", "True")):
        raise ValueError("its voxels are text (BinaryData = False); write them in binary")
    skipped = fields.get("HeaderSize", "0")
    if not re.fullmatch(r"-1|[0-9]+", skipped):
        raise ValueError(f"HeaderSize must be a number of bytes, or -1, not {skipped!r}")
    compressed = _is_true(fields.get("CompressedData", "False"))
    return Volume(header, voxels, compressed, max(int(skipped), 0))


def reader(volume: Volume) -> sitk.ImageFileReader:
    """A reader of the volume that has read the header.

    Raises:
        RuntimeError: SimpleITK cannot read it.
    """
    opened = sitk.ImageFileReader()
    opened.SetImageIO("MetaImageIO")  # which would otherwise be chosen by .mhd in lower case
    opened.SetFileName(str(volume.header))
    opened.ReadImageInformation()
    return opened


def check(volume: Volume) -> None:
    """Refuse what is not one grey volume with every voxel there; reads all of a compressed one.

    Raises:
        ValueError: saying what is wrong.
        RuntimeError: SimpleITK cannot read the header.
    """
    opened = reader(volume)
    if len(opened.GetSize()) != 3 or opened.GetNumberOfComponents() != 1:
        raise ValueError(f"a volume has three dimensions and one component, not {opened.GetSize()}")
    voxel = np.dtype(sitk.GetArrayFromImage(sitk.Image(1, 1, 1, opened.GetPixelID())).dtype)
    promised = volume.skipped + int(np.prod(opened.GetSize())) * voxel.itemsize
    if volume.compressed:
        there = _count_inflated(volume.voxels, promised)
    else:
        there = volume.voxels.stat().st_size
    if there < promised:
        raise ValueError(
            f"{volume.voxels} is truncated: {there} bytes of {promised}. Unpack it again"
        )


def _fields(header: Path) -> dict[str, str]:
    """Names and values up to ElementDataFile, where MetaIO stops.

    Lines that it might divide in another way are refused, so that the file that is checked is the
    one that it opens.
    """
    fields: dict[str, str] = {}
    for line in header.read_bytes().decode("latin-1").split("\n"):
        match = LINE.fullmatch(line)
        if match and match[1] not in fields:
            fields[match[1]] = match[2]
        elif line.strip(" \t\r"):
            raise ValueError(f"its header must be lines NAME = VALUE of different names: {line!r}")
        if "ElementDataFile" in fields:
            break
    return fields


def _is_true(value: str) -> bool:
    return value[:1] in ("T", "t", "1")  # as MetaIO reads it


def _count_inflated(path: Path, at_most: int) -> int:
    """Bytes that a file in zlib's or gzip's format unpacks to; counting ends at ``at_most``."""
    inflate = zlib.decompressobj(wbits=47)  # either format
    count = 0
    with path.open("rb") as file:
        while count < at_most and not inflate.eof:
            block = file.read(2**14)  # unpacks to 16 MB at most
            if not block:
                break
            try:
                count += len(inflate.decompress(block))
            except zlib.error as error:
                raise ValueError(f"{path} cannot be unpacked: {error}") from None
    return count
