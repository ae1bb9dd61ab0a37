"""Headers of MetaImage files: MetaIO, which SimpleITK reads them with, opens whatever they name."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from al_gym.data import files
from al_gym.errors import DataError

LINE = re.compile(r"[ \t]*([!-9;<>-~]+)[ \t]*=[ \t]*(?![=: \t])([^\0-\x08\n-\x1f]*?)[ \t]*\r?")
"""NAME = VALUE, where no part of MetaIO could see another line's end, a name's end within it, or
another value's start."""

AXES = range(1, 11)
"""How many axes MetaIO has room for; of others it goes astray."""
PER_AXIS = (
    "DimSize", "ElementSpacing", "ElementSize", "Offset", "Position", "Origin", "CenterOfRotation",
)  # fmt: skip
PER_TWO_AXES = ("TransformMatrix", "Rotation", "Orientation")
"""Fields with a number for each axis, and for each two of them."""

LONGEST = 2**15
"""Bytes of a line of a header; none is nearly as long."""


@dataclass(frozen=True)
class Volume:
    """A header, and the file of voxels that it names."""

    header: Path
    """``.mhd``."""
    voxels: Path
    """``.raw``, or ``.zraw`` if compressed; in the header's folder."""


def read_header(path: Path) -> tuple[dict[str, str], int]:
    """Names and values up to ElementDataFile, where MetaIO stops, and the bytes that they take.

    Lines that MetaIO might divide in another way are refused, so that the file that is checked is
    the one that it opens.

    Raises:
        DataError: not lines NAME = VALUE of different names, or values that are not applied.
    """
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        while "ElementDataFile" not in fields and (content := file.readline(LONGEST)):
            # names of files are in UTF-8, as elsewhere, or in no known encoding
            line = content.decode("utf-8", "surrogateescape").removesuffix("\n")
            match = LINE.fullmatch(line)
            if match and match[1] not in fields and len(content) < LONGEST:
                fields[match[1]] = match[2]
            elif line.strip(" \t\r"):
                raise DataError(
                    f"its header must be lines NAME = VALUE of different names: {line[:80]!r}"
                )
        n_bytes = file.tell()
    if not is_true(fields.get("BinaryData", "True")):
        raise DataError("its voxels are text (BinaryData = False); save them in binary")
    slope = fields.get("ElementToIntensityFunctionSlope", "1")
    offset = fields.get("ElementToIntensityFunctionOffset", "0")
    if (float(slope), float(offset)) != (1, 0):
        raise DataError("its ElementToIntensityFunction is not applied; save the intensities")
    _check_numbers(fields)
    return fields, n_bytes


def _check_numbers(fields: dict[str, str]) -> None:
    """Refuse numbers that are none, and too few or too many of them: MetaIO makes up others."""
    n_axes = fields.get("NDims", "")
    if not re.fullmatch(r"\d{1,2}", n_axes) or int(n_axes) not in AXES:
        raise DataError(f"NDims must be {AXES[0]} to {AXES[-1]}, not {n_axes!r}")
    for names, n in ((PER_AXIS, int(n_axes)), (PER_TWO_AXES, int(n_axes) ** 2)):
        for name in set(names) & set(fields):
            numbers = [files.number(text) for text in fields[name].split()]
            if len(numbers) != n or not all(map(math.isfinite, numbers)):
                raise DataError(f"{name} must be {n} numbers, not {fields[name]!r}")
    for name, least in (("DimSize", 1), ("ElementNumberOfChannels", 1), ("HeaderSize", -1)):
        if any(files.whole_number(text) < least for text in fields.get(name, "").split()):
            raise DataError(f"{name} must be {least} at least, not {fields[name]!r}")


def is_true(value: str) -> bool:
    """Whether MetaIO takes a field's value as true."""
    return value[:1] in ("T", "t", "1")


def find(root: Path, header: Path) -> Volume:
    """What a header says of its voxels; they are not read.

    Args:
        root: folder that no file may lie outside of.
        header: ``.mhd`` file below it.

    Raises:
        DataError: not a header, or it names no file that is in its own folder.
    """
    fields, _ = read_header(header)
    name = fields.get("ElementDataFile", "")
    check_beside("ElementDataFile", name)
    voxels = header.parent / name
    files.check_inside(root, voxels)
    if not voxels.is_file():
        raise DataError(f"the file {voxels} is missing")
    return Volume(header, voxels)


def check_beside(field: str, name: str) -> None:
    """Refuse a name, which a field of a header has, that is not of a file in the same folder.

    Hidden files are refused, as nobody has looked whether they are links out of the folder; LIST...
    and LOCAL, which MetaIO takes for orders; and %, which stands for a pattern of names.

    Raises:
        DataError: it is so.
    """
    is_order = name.upper().startswith(("LIST", "LOCAL")) or "%" in name
    if name != Path(name).name or name == "" or name.startswith(".") or is_order:
        raise DataError(f"{field} must be a file in the same folder, not {name!r}")
