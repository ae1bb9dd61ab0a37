"""Flat images: as Pillow and tifffile read them, or refused where Pillow would lose something."""

import itertools
import re
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFile

from al_gym.data import formats

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 24)).astype(np.uint8)
COLOUR = RNG.integers(0, 256, (20, 24, 3)).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (20, 24)).astype(np.uint16)
LOSSLESS = {
    "a.png": {},
    "a.tif": {},
    "b.tif": {"compression": "tiff_lzw"},
    "c.tif": {"compression": "packbits"},
    "d.tif": {"compression": "tiff_deflate"},
    "a.bmp": {},
    "a.webp": {"lossless": True},
    "a.jp2": {"irreversible": False},
    "a.j2k": {"irreversible": False},
    "a.ppm": {},
    "a.gif": {},
}


def assert_refused(path, reason):
    """By ``read`` at the latest."""
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} cannot be decoded: .*{reason}"):
        formats.read(path, 3)


def write_png(path, size, colour_type, bits, stream, interlaced=0):
    """A PNG file of a stream of filtered rows."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, colour_type, 0, 0, interlaced))
        + chunk(b"IDAT", zlib.compress(stream))
        + chunk(b"IEND", b"")
    )


def png(path, pixels, colour_type, bits):
    """A PNG file of 16-bit colours, which Pillow cannot write."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(f">u{bits // 8}").tobytes() for row in pixels)
    write_png(path, (width, height), colour_type, bits, rows)


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats(tmp_path, name):
    path = tmp_path / name
    Image.fromarray(GREY).save(path, **LOSSLESS[name])
    grey_stays_grey = not name.endswith(("gif", "webp"))
    assert formats.header(path) == formats.Header(2, 1 if grey_stays_grey else 3)
    found = formats.read(path, 3)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.broadcast_to(GREY, found.shape))
    np.testing.assert_array_equal(formats.read(path, 1)[0], GREY)
    if not name.endswith("gif"):
        Image.fromarray(COLOUR).save(path, **LOSSLESS[name])
        assert formats.header(path) == formats.Header(2, 3)
        np.testing.assert_array_equal(formats.read(path, 3), np.moveaxis(COLOUR, -1, 0))
        luma = np.asarray(Image.fromarray(COLOUR).convert("L"))
        np.testing.assert_array_equal(formats.read(path, 1)[0], luma)


@pytest.mark.parametrize(
    "name", ["a.png", "a.jpg", "a.tif", "d.tif", "a.bmp", "a.gif", "a.webp", "a.jp2", "a.ppm"]
)
def test_a_truncated_file_is_refused(tmp_path, name):
    path = tmp_path / name
    Image.fromarray(np.tile(COLOUR, (4, 4, 1))).save(path, **LOSSLESS.get(name, {}))
    whole = path.read_bytes()
    expected = formats.read(path, 3)
    for share in (0.05, 0.3, 0.6, 0.9, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        try:
            found = formats.read(path, 3)
        except ValueError as error:
            assert str(path) in str(error)
        else:  # what was lost lies behind the pixels
            np.testing.assert_array_equal(found, expected)


SIDEWAYS = {"a.webp": {"lossless": True}, "a.tif": {"compression": "tiff_lzw"}}


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
def test_photographs_are_turned_as_exif_says(tmp_path, name):
    """Dark above bright, stored in each of the eight ways: always the same picture."""
    upright = np.full((32, 16), 40, np.uint8)
    upright[16:], upright[:, 8:] = 200, upright[:, 8:] + 30
    turns = {  # of what is stored, so that a viewer who follows the tag sees it upright
        1: lambda x: x,
        2: np.fliplr,
        3: lambda x: np.rot90(x, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda x: np.rot90(x, 1),
        7: lambda x: np.rot90(x, 2).T,
        8: lambda x: np.rot90(x, -1),
    }
    for tag, turn in turns.items():
        exif = Image.Exif()
        exif[0x0112] = tag
        stored = Image.fromarray(np.ascontiguousarray(turn(upright)))
        stored.save(tmp_path / name, exif=exif, **SIDEWAYS.get(name, {}))
        found = formats.read(tmp_path / name, 1)[0]
        assert found.shape == (32, 16)
        assert np.abs(found.astype(int) - upright).max() <= (4 if name == "a.jpg" else 0)


def test_an_uncompressed_tiff_file_on_its_side_is_refused(tmp_path):
    """Pillow 13 takes the rows for columns before it turns them."""
    for turn in range(1, 9):
        tifffile.imwrite(tmp_path / "a.tif", GREY, extratags=[(274, "H", 1, turn)])
        if turn > 4:
            assert_refused(tmp_path / "a.tif", "turned by 90 degrees")
        else:
            turned = GREY[:: -1 if turn in (3, 4) else 1, :: -1 if turn in (2, 3) else 1]
            np.testing.assert_array_equal(formats.read(tmp_path / "a.tif", 1)[0], turned)


def test_deep_grey_keeps_its_depth(tmp_path):
    for name in ("a.png", "a.tif", "a.jp2", "a.pgm"):
        Image.fromarray(DEEP).save(tmp_path / name, **LOSSLESS.get(name, {}))
        found = formats.read(tmp_path / name, 3)
        np.testing.assert_array_equal(found, DEEP[None])
        assert formats.header(tmp_path / name) == formats.Header(2, 1, is_deep=True)


def test_deep_photographs_are_turned_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(DEEP).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(formats.read(tmp_path / "a.png", 1)[0], np.rot90(DEEP, -1))


@pytest.mark.parametrize("white", [300, 1023, 4095, 65534, 65535])
@pytest.mark.parametrize("magic", ["P5", "P2"])
def test_pgm_keeps_its_values(tmp_path, magic, white):
    values = (DEEP.astype(int) % (white + 1)).astype(">u2")
    body = values.tobytes() if magic == "P5" else " ".join(map(str, values.ravel())).encode()
    (tmp_path / "a.pgm").write_bytes(f"{magic}\n# made here\n24 20\n{white}\n".encode() + body)
    np.testing.assert_array_equal(formats.read(tmp_path / "a.pgm", 1), values[None])


def test_few_bits_are_stretched(tmp_path):
    bits = GREY > 127
    for name in ("a.png", "a.tif", "a.pbm", "a.bmp"):
        Image.fromarray(bits).save(tmp_path / name)
        assert formats.header(tmp_path / name) == formats.Header(2, 1)
        np.testing.assert_array_equal(formats.read(tmp_path / name, 1)[0], bits * 255)


def test_palettes_and_cmyk_become_rgb(tmp_path):
    indexed = Image.fromarray(COLOUR).quantize(16)
    cmyk = Image.fromarray(COLOUR).convert("CMYK")
    for name, image in (("a.png", indexed), ("a.gif", indexed), ("a.tif", cmyk)):
        image.save(tmp_path / name)
        assert formats.header(tmp_path / name) == formats.Header(2, 3)
        expected = np.moveaxis(np.asarray(image.convert("RGB")), -1, 0)
        np.testing.assert_array_equal(formats.read(tmp_path / name, 3), expected)


def test_alpha_that_hides_nothing_is_dropped_and_other_is_refused(tmp_path):
    for pixels, mode in ((COLOUR, "RGBA"), (GREY, "LA")):
        image = Image.fromarray(pixels).convert(mode)
        for name in ("a.png", "a.tif"):
            image.putalpha(255)
            image.save(tmp_path / name)
            found = formats.read(tmp_path / name, 3)
            np.testing.assert_array_equal(found, np.moveaxis(np.atleast_3d(pixels), -1, 0))
            image.putpixel((3, 3), (*image.getpixel((3, 3))[:-1], 254))
            image.save(tmp_path / name)
            assert_refused(tmp_path / name, "transparent pixels")
    indexed = Image.fromarray(COLOUR).quantize(16)
    indexed.save(tmp_path / "a.gif", transparency=3)
    assert_refused(tmp_path / "a.gif", "transparent pixels")


@pytest.mark.parametrize("name", ["a.gif", "a.tif", "a.webp", "a.png"])
def test_several_pages_are_refused(tmp_path, name):
    pages = [Image.fromarray(np.roll(COLOUR, i, 0)) for i in range(3)]
    pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    with pytest.raises(ValueError, match=r"it has 3 pages; save one image a file"):
        formats.header(tmp_path / name)


def test_a_stack_of_imagej_in_one_page_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 20, 24), np.uint8), imagej=True)
    assert_refused(tmp_path / "a.tif", "pages|stack")
    tifffile.imwrite(tmp_path / "a.tif", GREY, imagej=True)
    np.testing.assert_array_equal(formats.read(tmp_path / "a.tif", 1)[0], GREY)
    text = "ImageJ=1.11a\nimages=3\nslices=3\n"
    tifffile.imwrite(tmp_path / "a.tif", GREY, description=text, metadata=None)
    assert_refused(tmp_path / "a.tif", "a stack of ImageJ")


def test_the_first_picture_of_mpo_is_the_photograph(tmp_path):
    pages = [Image.fromarray(page) for page in (GREY, GREY[::-1])]
    pages[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "b.jpg")
    found, alone = (formats.read(tmp_path / name, 1) for name in ("a.jpg", "b.jpg"))
    np.testing.assert_array_equal(found, alone)


def test_colours_deeper_than_8_bits_are_refused(tmp_path):
    deep = COLOUR.astype(np.uint16) * 257
    png(tmp_path / "a.png", deep, colour_type=2, bits=16)
    (tmp_path / "a.ppm").write_bytes(b"P6 24 20 65535\n" + deep.astype(">u2").tobytes())
    tifffile.imwrite(tmp_path / "a.tif", deep, photometric="rgb")
    for name in ("a.png", "a.ppm", "a.tif"):
        assert_refused(tmp_path / name, "more than 8 bits a channel")
    png(tmp_path / "a.png", COLOUR, colour_type=2, bits=8)
    np.testing.assert_array_equal(formats.read(tmp_path / "a.png", 3), np.moveaxis(COLOUR, -1, 0))


def test_jpeg_2000_of_other_depths_is_refused(tmp_path):
    """The depth stands at one place of the header; Pillow would stretch 12 bits to 16."""
    path = tmp_path / "a.j2k"
    Image.fromarray(DEEP).save(path, irreversible=False)
    content = bytearray(path.read_bytes())
    assert content[:4] == b"\xff\x4f\xff\x51" and content[42] == 15
    content[42] = 11
    path.write_bytes(content)
    assert_refused(path, r"\[12\] bits in 1 channels")


def test_tiff_is_as_tifffile_reads_it_or_refused(tmp_path):
    """Every combination that tifffile writes without help; both outcomes are counted."""
    path = tmp_path / "a.tif"
    layouts = (
        {}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True}, {"tile": (16, 16)},
        {"planarconfig": "separate"}, {"bigtiff": True},
    )  # fmt: skip
    equal, refused = set(), 0
    for kind, order, (photometric, n_channels), layout in itertools.product(
        ("u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8"),
        "<>",
        (("minisblack", 1), ("miniswhite", 1), ("rgb", 3)),
        layouts,
    ):
        if "planarconfig" in layout and n_channels == 1:
            continue
        pixels = (RNG.random((12, 10, n_channels)) * (200 if kind[1] == "1" else 3000)).astype(kind)
        stored = np.moveaxis(pixels, -1, 0) if "planarconfig" in layout else pixels
        stored = stored[..., 0] if n_channels == 1 else stored
        try:
            tifffile.imwrite(path, stored, photometric=photometric, byteorder=order, **layout)
        except (ValueError, TypeError, AttributeError, KeyError):
            continue  # tifffile alone has no such predictor
        try:
            found = formats.read(path, 3)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
            continue
        expected = tifffile.imread(path)
        expected = np.moveaxis(np.atleast_3d(expected.reshape(stored.shape)), -1, 0)
        if "planarconfig" in layout:
            expected = stored
        if photometric == "miniswhite":
            expected = 255 - expected
        np.testing.assert_array_equal(found, expected)
        equal.add((kind, photometric))
    assert equal == {
        ("u1", "minisblack"), ("u1", "miniswhite"), ("u1", "rgb"), ("u2", "minisblack"),
        ("i2", "minisblack"), ("u4", "minisblack"), ("i4", "minisblack"), ("f4", "minisblack"),
    }  # fmt: skip
    assert refused > 100


def test_tiff_of_channels_beside_its_colours_is_refused(tmp_path):
    """Such as stains of fluorescence; Pillow reads the first ones alone."""
    for pixels, photometric in (
        (np.dstack([GREY, GREY]), "minisblack"),
        (np.dstack([COLOUR, GREY]), "rgb"),
        (np.dstack([COLOUR, GREY, GREY]), "rgb"),
    ):
        tifffile.imwrite(
            tmp_path / "a.tif", pixels, photometric=photometric, planarconfig="contig",
            extrasamples=["unspecified"] * (pixels.shape[2] - (3 if photometric == "rgb" else 1)),
        )  # fmt: skip
        # the lowest version of Pillow knows no grey with another channel
        assert_refused(tmp_path / "a.tif", "channels beside grey or RGB|pixels of 2 x 8 bits")


def test_tiff_of_32_bits_keeps_large_values(tmp_path):
    for kind, order in ((np.uint32, "<"), (np.int32, "<"), (np.int32, ">")):
        info = np.iinfo(kind)
        pixels = RNG.integers(info.min, info.max, (20, 24), kind, endpoint=True)
        tifffile.imwrite(tmp_path / "a.tif", pixels, byteorder=order)
        np.testing.assert_array_equal(formats.read(tmp_path / "a.tif", 1), pixels[None])


@pytest.mark.parametrize(
    ("kind", "n_channels", "order", "said"),
    [
        ("f8", 1, "<", "pixels of 1 x 64 bits, little-endian floats"),
        ("f2", 1, ">", "pixels of 1 x 16 bits, big-endian floats"),
        ("u4", 1, ">", "pixels of 1 x 32 bits, big-endian unsigned integers"),
        ("u1", 4, "<", "pixels of 4 x 8 bits, little-endian unsigned integers"),
        ("c8", 1, "<", "pixels of 1 x 64 bits, little-endian complex numbers"),
    ],
)
def test_tiff_that_pillow_does_not_know_is_told(tmp_path, kind, n_channels, order, said):
    pixels = np.ones((8, 9, n_channels), kind)
    for bigtiff in (False, True):
        tifffile.imwrite(
            tmp_path / "a.tif", pixels.squeeze(), photometric="minisblack", byteorder=order,
            bigtiff=bigtiff, planarconfig="contig" if n_channels > 1 else None,
        )  # fmt: skip
        no_tiff = bigtiff and order == ">"
        assert_refused(
            tmp_path / "a.tif", "a big-endian BigTIFF" if no_tiff else f"{said}, are not"
        )


def test_a_bomb_is_refused(tmp_path):
    """A header that asks for more memory than any image here."""
    (tmp_path / "a.pgm").write_bytes(b"P5 60000 60000 255\n")
    assert_refused(tmp_path / "a.pgm", "it has 3600000000 pixels, more than 178956970; shrink it")


def test_a_large_image_is_no_bomb(tmp_path):
    """Pillow would warn, and a warning may be an error."""
    Image.new("1", (10000, 9500)).save(tmp_path / "a.png")
    assert formats.header(tmp_path / "a.png") == formats.Header(2, 1)
    assert formats.read(tmp_path / "a.png", 1).shape == (1, 9500, 10000)


def test_pillow_must_not_fill_up_what_is_lost(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    Image.fromarray(np.tile(COLOUR, (4, 4, 1))).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for read in (formats.header, lambda path: formats.read(path, 3)):
        with pytest.raises(ValueError, match=r"a\.jpg .*LOAD_TRUNCATED_IMAGES is set.*Unset it"):
            read(path)


def test_a_tiff_file_with_strips_for_a_part_of_its_rows_is_refused(tmp_path):
    """Pillow makes the other rows black."""
    path = tmp_path / "a.tif"
    Image.fromarray(np.tile(COLOUR, (4, 4, 1))).save(path)
    height = COLOUR.shape[0] * 4
    content = path.read_bytes()
    for kind, form in ((3, "<HHIHH"), (4, "<HHII")):
        rest = (0,) if kind == 3 else ()
        old, new = (struct.pack(form, 257, kind, 1, n, *rest) for n in (height, height + 9))
        content = content.replace(old, new)
    assert content != path.read_bytes()
    path.write_bytes(content)
    assert_refused(path, "strips for a part of its rows")


@pytest.mark.parametrize(
    ("size", "colour_type", "bits", "interlaced", "n"),
    [
        ((13, 11), 0, 8, 0, 11 * 14),
        ((13, 11), 2, 8, 0, 11 * 40),
        ((13, 11), 0, 1, 0, 11 * 3),
        ((8, 8), 0, 8, 1, 2 + 2 + 3 + 2 * 3 + 2 * 5 + 4 * 5 + 4 * 9),
        ((8, 8), 2, 8, 1, 4 + 4 + 7 + 2 * 7 + 2 * 13 + 4 * 13 + 4 * 25),
        ((1, 1), 0, 8, 1, 2),
        ((1, 5), 0, 8, 1, 2 + 2 + 2 + 2 * 2),  # of passes 1, 3, 5 and 7
    ],
)
def test_a_png_file_whose_pixels_end_early_is_refused(
    tmp_path, size, colour_type, bits, interlaced, n
):
    """Pillow makes the rest black."""
    path = tmp_path / "a.png"
    for there in (n, n + 5):
        write_png(path, size, colour_type, bits, bytes(there), interlaced)
        assert formats.read(path, 3).shape == (1 + colour_type, *size[::-1])
    for there in (n - 1, n // 2):
        write_png(path, size, colour_type, bits, bytes(there), interlaced)
        assert_refused(path, "truncated")


@pytest.mark.parametrize("name", [b"IDAT", b"IEND"])
def test_a_png_chunk_that_claims_a_gigabyte_is_refused_before_room_is_made(tmp_path, name):
    write_png(tmp_path / "a.png", (13, 11), 0, 8, bytes(11 * 14))
    content = (tmp_path / "a.png").read_bytes()
    at = content.index(name) - 4
    size = struct.pack(">I", struct.unpack_from(">I", content, at)[0] + 2**30)
    (tmp_path / "a.png").write_bytes(content[:at] + size + content[at + 4 :])
    tracemalloc.start()
    assert_refused(tmp_path / "a.png", "truncated")
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
