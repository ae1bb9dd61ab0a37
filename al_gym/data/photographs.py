"""Photographs and other flat images, by Pillow, with what Pillow would lose silently refused."""

import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

MAGIC = {
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "JPEG": rb"\xff\xd8\xff",
    "TIFF": rb"II\*\0|MM\0\*|II\+\0|MM\0\+",
    "GIF": rb"GIF8[79]a",
    "WEBP": rb"RIFF.{4}WEBP",
    "BMP": rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    "JPEG2000": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "PPM": rb"P[1-6]\s(?:\s|#[^\n]*\n)*\d+\s",
}
"""Pillow's name of a format -> how its files begin."""
DEEP = ("I", "F")  # how Pillow's modes of more than 8 bits begin


def kind(start: bytes) -> str | None:
    """Name of the format of a file that starts so, or None."""
    for name, magic in MAGIC.items():
        if re.match(magic, start, re.DOTALL):
            return name
    return None


def header(path: Path, kind: str) -> tuple[int, int]:
    """Dimensions and channels."""
    with Image.open(path, formats=[kind]) as file:
        _check(file, path)
        grey = file.mode in ("1", "L", "LA") or file.mode.startswith(DEEP)
        return 2, 1 if grey else 3


def read(path: Path, kind: str, n_channels: int) -> np.ndarray:
    """(1 or 3, H, W), turned as the EXIF tag says."""
    with Image.open(path, formats=[kind]) as file:
        _check(file, path)
        file.load()
        if file.has_transparency_data:
            _check_opaque(file)
        upright = ImageOps.exif_transpose(file)
        if not upright.mode.startswith(DEEP):
            grey = n_channels == 1 or upright.mode in ("1", "L", "LA")
            upright = upright.convert("L" if grey else "RGB")
        array = np.asarray(upright)
    return np.moveaxis(array, -1, 0) if array.ndim == 3 else array[None]


def _check(file: Image.Image, path: Path) -> None:
    """Refuse what is more than one image, and depths that Pillow would cut."""
    n_pages = getattr(file, "n_frames", 1)
    if n_pages > 1 and file.format != "MPO":  # whose other pages are previews
        raise ValueError(f"it has {n_pages} pages; save one image a file")


def _check_opaque(file: Image.Image) -> None:
    if file.mode.startswith(DEEP) or file.convert("RGBA").getchannel("A").getextrema()[0] < 255:
        raise ValueError("it has transparent pixels; save it without an alpha channel")
