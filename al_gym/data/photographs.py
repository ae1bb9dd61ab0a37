"""Photographs and other flat images by Pillow; what Pillow would lose or distort is refused."""

import contextlib
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin

from al_gym.data import files
from al_gym.errors import DataError

PNG = b"\x89PNG\r\n\x1a\n"
_NUMBER = rb"(?:\s|#[^\n]*\n)*\d+\s"
MAGIC = {
    "PNG": PNG,
    "JPEG": rb"\xff\xd8\xff",
    "TIFF": rb"II\*\0|MM\0\*|II\+\0",
    "GIF": rb"GIF8[79]a",
    "WEBP": rb"RIFF.{4}WEBP",
    "BMP": rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    "JPEG2000": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "PPM": rb"P4\s(?:%b){2}|P[56]\s(?:%b){3}|P[123]\s(?:%b){2}[\d\s]*(?:#|\Z)" % ((_NUMBER,) * 3),
}
"""Pillow's name of a format -> how its files begin."""
N_BYTES = 4096  # enough to recognise a file by
MOST_PIXELS = 2 * 89_478_485
"""Of an image; more are likely an attack, says Pillow, which warns from the half on."""
SAMPLE_FORMATS = {1: "unsigned integers", 2: "signed integers", 3: "floats", 6: "complex numbers"}
DEEP_COLOURS = "its colours have more than 8 bits a channel; save it with 8"
_DEEP = ("I", "F")  # Pillow's modes of more than 8 bits, all grey, begin so
_GREY = ("1", "L", "LA", "La")
# TIFF tags
_BITS, _COMPRESSION, _PHOTOMETRIC, _DESCRIPTION = 258, 259, 262, 270
_ORIENTATION, _SAMPLES, _EXTRA, _FORMAT = 274, 277, 338, 339
_HEADER_SIZE = 1 << 16  # bytes in which a JPEG 2000 file tells its depths


def kind(start: bytes) -> str | None:
    """Name of the format of a file that starts so, or None.

    Raises:
        DataError: a big-endian BigTIFF file.
    """
    if start.startswith(b"MM\0+"):
        raise DataError("it is a big-endian BigTIFF file; save it as TIFF")
    for name, magic in MAGIC.items():
        if re.match(magic, start, re.DOTALL):
            return name
    return None


@contextlib.contextmanager
def opened(path: Path, kind: str) -> Iterator[ImageFile.ImageFile]:
    """An image whose pixels are not decoded yet.

    By the format's class, as ``Image.open`` does not tell what it dislikes, and warns of sizes.

    Raises:
        ValueError: Pillow is set to fill up what is lost.
        DataError: a kind of TIFF that Pillow does not know, too large an image, or a PNG file that
            is truncated.
        SyntaxError: the file is broken.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ValueError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set: lost parts would be grey, and nobody "
            "would know. Unset it"
        )
    if kind == "PNG":
        _check_chunks(path)
    Image.init()
    factory, _ = Image.OPEN[kind]
    with path.open("rb") as file:
        try:
            image = factory(file, str(path))
        except SyntaxError as error:
            if str(error) == "unknown pixel mode" and kind == "TIFF":
                raise DataError(
                    f"{_tiff_pixels(file)} are not read; save it as grey of 8, 16 or 32 bits, or "
                    "RGB of 8"
                ) from None
            raise
        n_pixels = image.width * image.height
        if n_pixels > MOST_PIXELS:
            raise DataError(f"it has {n_pixels} pixels, more than {MOST_PIXELS}; shrink it")
        n_bytes = 1 if image.mode in ("1", "L", "P") else 4  # Pillow's, of a pixel
        files.check_growth(path.stat().st_size, n_bytes * n_pixels)
        yield image


def _tiff_pixels(file: IO[bytes]) -> str:
    """What a TIFF file's pixels are, in words, where Pillow has no word for them."""
    file.seek(0)
    start = file.read(8)
    start += file.read(8) if start[2] == 43 else b""  # BigTIFF
    tags = TiffImagePlugin.ImageFileDirectory_v2(start)
    file.seek(tags.next)
    tags.load(file)
    order = "big-endian" if start.startswith(b"MM") else "little-endian"
    kind = SAMPLE_FORMATS.get(max(tags.get(_FORMAT, (1,))), "other numbers")
    bits = max(tags.get(_BITS, (1,)))
    return f"pixels of {tags.get(_SAMPLES, 1)} x {bits} bits, {order} {kind},"


def header(path: Path, kind: str) -> tuple[int, int, bool]:
    """Dimensions, channels, and whether values have more than 8 bits."""
    with opened(path, kind) as file:
        _check(file, path)
        is_deep = file.mode.startswith(_DEEP)
        return 2, 1 if file.mode in _GREY or is_deep else 3, is_deep


def read(path: Path, kind: str, n_channels: int) -> np.ndarray:
    """(1 or 3, H, W), turned as the EXIF tag says.

    uint8; uint16, int32, uint32 or float32 where a grey file is deeper. Palettes and CMYK become
    RGB, 1, 2 and 4 bits are stretched to 0..255, and an alpha channel that hides nothing is
    dropped.
    """
    with opened(path, kind) as file:
        _check(file, path)
        stretched = 65535 / _white(file) if file.format == "PPM" and file.mode == "I" else 1
        file.load()
        check_whole(path, kind)
        check_opaque(file)
        image = ImageOps.exif_transpose(file)
        if not image.mode.startswith(_DEEP):
            image = image.convert("L" if n_channels == 1 or image.mode in _GREY else "RGB")
        array = np.asarray(image)
        if file.format == "TIFF" and array.dtype == np.int32 and _is_unsigned(file):
            array = array.view(np.uint32)  # Pillow has no such mode, and keeps the bits
    if stretched != 1:
        array = np.rint(array / stretched).astype(np.int32)
    return np.moveaxis(array, -1, 0) if array.ndim == 3 else array[None]


def _check(file: ImageFile.ImageFile, path: Path) -> None:
    """Refuse what is more than one image, and depths that Pillow does not keep."""
    n_pages = getattr(file, "n_frames", 1)
    if n_pages > 1 and file.format != "MPO":  # a JPEG whose further pages are previews
        raise DataError(f"it has {n_pages} pages; save one image a file")
    if file.format == "TIFF":
        _check_tiff(file)
    elif file.format == "JPEG2000":
        _check_jpeg2000(path)
    elif not file.mode.startswith(_DEEP) and (
        (file.format == "PNG" and "16" in str(file.tile[0].args))
        or (file.format == "PPM" and _white(file) > 255)
    ):
        raise DataError(DEEP_COLOURS)


def _white(file: ImageFile.ImageFile) -> int:
    """The value that stands for white in a PPM file; Pillow makes it 255 or 65535."""
    args = file.tile[0].args
    return int(args[1]) if isinstance(args, tuple) else 65535 if "16" in str(args) else 255


def _is_unsigned(file: ImageFile.ImageFile) -> bool:
    tags = file.tag_v2  # type: ignore[attr-defined]
    return max(tags.get(_BITS, (1,))) == 32 and max(tags.get(_FORMAT, (1,))) == 1


def _check_tiff(file: ImageFile.ImageFile) -> None:
    tags = file.tag_v2  # type: ignore[attr-defined]
    bits, formats = max(tags.get(_BITS, (1,))), max(tags.get(_FORMAT, (1,)))
    packed = tags.get(_COMPRESSION, 1) != 1
    if re.search(r"^images=(?!1\s)\d", str(tags.get(_DESCRIPTION, "")), re.MULTILINE):
        raise DataError("it is a stack of ImageJ; save one image a file")
    if 0 in tags.get(_EXTRA, ()):
        raise DataError(
            "it has channels beside grey or RGB, which would be lost; save each as a file"
        )
    if bits > 8 and tags.get(_SAMPLES, 1) > 1:
        raise DataError(DEEP_COLOURS)
    if bits > 8 and tags.get(_PHOTOMETRIC) == 0:
        raise DataError(f"its white is 0, at {bits} bits; save it with black as 0")
    corners = np.array([tile[1] for tile in file.tile]).reshape(-1, 4)
    if np.prod(corners[:, 2:] - corners[:, :2], axis=1).sum() < file.width * file.height:
        raise DataError("it has strips for a part of its rows only; get it anew")
    if bits == 8 and formats != 1:
        raise DataError("its 8 bits are signed; save it as unsigned")
    if packed and tags.prefix == b"MM" and bits > 8 and (bits, formats) != (16, 1):
        raise DataError("it is big-endian and compressed; save it uncompressed")
    if not packed and tags.get(_ORIENTATION, 1) > 4:  # which Pillow scrambles
        raise DataError("it is to be turned by 90 degrees; save it upright")


def _check_chunks(path: Path) -> None:
    """Refuse a PNG file with a chunk that ends behind the file: Pillow makes room for all of it."""
    with path.open("rb") as file:
        file.seek(len(PNG))
        while len(start := file.read(8)) == 8:
            size, name = struct.unpack(">I4s", start)
            file.seek(size, 1)
            if file.tell() > path.stat().st_size:
                raise DataError("it is truncated; get it anew")
            if name == b"IEND":
                return
            file.seek(4, 1)  # the checksum


def check_whole(path: Path, kind: str) -> None:
    """Refuse a PNG file whose stream of pixels ends before their last: Pillow makes them black.

    Args:
        path: a file that Pillow has decoded, so that its chunks are in order.
        kind: Pillow's name of its format.

    Raises:
        DataError: pixels are missing.
    """
    if kind != "PNG":
        return
    unpacker, there = zlib.decompressobj(), 0
    with path.open("rb") as file:
        file.seek(len(PNG))
        while not unpacker.eof and len(start := file.read(8)) == 8:
            size, name = struct.unpack(">I4s", start)
            chunk = file.read(size)
            file.seek(4, 1)  # the checksum
            if name == b"IHDR":
                promised = _png_bytes(*struct.unpack(">IIBB2xB", chunk))
            while name == b"IDAT" and chunk and not unpacker.eof:
                there += len(unpacker.decompress(chunk, _HEADER_SIZE))
                chunk = unpacker.unconsumed_tail
    if there < promised:
        raise DataError(f"it is truncated: it holds {there} bytes of {promised}; get it anew")


def _png_bytes(width: int, height: int, bits: int, colours: int, interlaced: int) -> int:
    """Of the unpacked stream: a byte and the pixels of every row, of seven images if interlaced."""
    bits *= {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours]
    steps = [(1, 1, 0, 0)]  # down, along, and where each begins (PNG specification, 8.2)
    if interlaced:
        steps = [
            (8, 8, 0, 0), (8, 8, 0, 4), (8, 4, 4, 0), (4, 4, 0, 2), (4, 2, 2, 0), (2, 2, 0, 1),
            (2, 1, 1, 0),
        ]  # fmt: skip
    sizes = [((height - y + v - 1) // v, (width - x + u - 1) // u) for v, u, y, x in steps]
    return sum(rows * (1 + -(-bits * columns // 8)) for rows, columns in sizes if columns > 0)


def _check_jpeg2000(path: Path) -> None:
    """8 bits a channel or 16 of grey, unsigned: Pillow stretches other depths to these."""
    with path.open("rb") as file:
        start = file.read(_HEADER_SIZE)
    size = start.find(b"\xff\x4f\xff\x51") + 4  # marker segment SIZ of ISO 15444-1, A.5.1
    n_channels = int.from_bytes(start[size + 36 : size + 38], "big")
    depths = set(start[size + 38 : size + 38 + 3 * n_channels : 3])  # bits - 1, and 128 if signed
    if depths != {7} and (depths, n_channels) != ({15}, 1):
        bits = sorted(depth % 128 + 1 for depth in depths)
        raise DataError(f"{bits} bits in {n_channels} channels are not read; save it with 8 bits")


def check_opaque(image: Image.Image) -> None:
    """Refuse an image that shows what lies behind it.

    Raises:
        DataError: a pixel is not opaque.
    """
    if not image.has_transparency_data:
        return
    if image.mode.startswith(_DEEP) or image.convert("RGBA").getchannel("A").getextrema() != (
        255,
        255,
    ):
        raise DataError("it has transparent pixels; save it without an alpha channel")
