"""Small files that promise, or unpack to, far more than they are are refused before they do so.

All are read in one process of their own, whose largest memory is looked at after every file.
"""

import gzip
import json
import re
import struct
import subprocess
import sys
import zipfile
import zlib

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, RLELossless

from al_gym.data import chestct, formats
from al_gym.errors import DataError
from tests.dicom_samples import ULTRASOUND_FILM, write_dicom

GIB = 1 << 30
MOST_MIB = 128
"""That reading may add to the memory of the process, where a bomb asks for 512 MiB at least."""
MHD = """ObjectType = Image
NDims = 3
DimSize = {}
ElementType = MET_SHORT
CompressedData = {}
ElementDataFile = {}
"""
NRRD = """NRRD0004
type: int16
dimension: 3
space: left-posterior-superior
sizes: {}
space directions: (1,0,0) (0,1,0) (0,0,1)
endian: little
encoding: {}

"""
CHILD = """
import json, resource, sys
from pathlib import Path
from al_gym.data import chestct, formats, packed

def read(path):
    if path.suffix == ".csv":
        return chestct.read_annotations(path)
    if path.suffix == ".npz":
        return packed.read(path)
    return formats.header(path), formats.read(path, 3)

def mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

for name in sys.argv[1:]:
    before, error = mib(), None
    try:
        read(Path(name))
    except Exception as raised:
        error = [type(raised).__name__, str(raised)]
    print(json.dumps([Path(name).name, error, mib() - before]), flush=True)
"""


def packed_zeros(n, wbits=zlib.MAX_WBITS):
    """``n`` zeros as zlib packs them, or gzip; without the checksum at the end."""
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    first, again = (
        packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2)
    )
    return first + again * ((n >> 24) - 1)


def write_volumes(folder):
    huge, large = "60000 60000 60000", "1024 1024 768"
    (folder / "a.raw").write_bytes(bytes(1000))
    (folder / "a.zraw").write_bytes(packed_zeros(3 * GIB // 2))
    (folder / "huge.mhd").write_text(MHD.format(huge, False, "a.raw"))
    (folder / "wraps.mhd").write_text(MHD.format("65536 65536 4294967296", False, "a.raw"))
    (folder / "packed.mhd").write_text(MHD.format(huge, True, "a.zraw"))
    (folder / "true.mhd").write_text(MHD.format(large, True, "a.zraw"))
    (folder / "channels.mhd").write_text(
        MHD.format("2 2 2", "False\nElementNumberOfChannels = 1000000000", "a.raw")
    )
    (folder / "huge.nrrd").write_text(NRRD.format(huge, "raw") + "x")
    (folder / "large.nrrd").write_text(NRRD.format(large, "raw") + "x")
    (folder / "text.nrrd").write_text(NRRD.format(large, "ascii") + "1 2")
    (folder / "packed.nrrd").write_bytes(
        NRRD.format(large, "gzip").encode() + gzip.compress(bytes(1000))
    )
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)), folder / "a.nii")
    content = bytearray((folder / "a.nii").read_bytes())
    (folder / "a.nii").unlink()
    struct.pack_into("<4h", content, 40, 3, 32767, 32767, 32767)
    (folder / "huge.nii").write_bytes(content)
    (folder / "huge.nii.gz").write_bytes(gzip.compress(content))
    struct.pack_into("<4h", content, 40, 3, 1024, 1024, 768)
    (folder / "true.nii.gz").write_bytes(
        gzip.compress(bytes(content)) + packed_zeros(3 * GIB // 2, zlib.MAX_WBITS | 16)
    )


def png(width, height, *extra):
    """Red, green and blue of zeros, as far as they go; ``extra`` are chunks before them."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", size), *extra, (b"IDAT", packed_zeros(1 << 24)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def write_photographs(folder):
    (folder / "huge.png").write_bytes(png(60000, 60000))
    (folder / "large.png").write_bytes(png(13000, 13000))
    text = b"k\0\0" + packed_zeros(GIB // 2)
    (folder / "text.png").write_bytes(png(8, 8, (b"zTXt", text)))
    (folder / "profile.png").write_bytes(png(8, 8, (b"iCCP", text)))
    Image.new("F", (16, 16)).save(folder / "a.tif", compression="tiff_adobe_deflate")
    content = (folder / "a.tif").read_bytes()
    (folder / "a.tif").unlink()
    for name, edge in (("huge.tif", 60000), ("large.tif", 13000)):
        wider = content
        for tag in (256, 257, 278):  # width, height, rows of a strip
            at = re.search(struct.pack("<H", tag) + rb"[\x03\x04]\0\x01\0\0\0", wider).start()
            wider = wider[:at] + struct.pack("<HHII", tag, 4, 1, edge) + wider[at + 12 :]
        (folder / name).write_bytes(wider)


def write_dicoms(folder):
    pixels = np.zeros((6, 8), np.uint16)
    write_dicom(folder / "huge.dcm", pixels, Rows=65535, Columns=65535)
    write_dicom(folder / "film.dcm", pixels, sop_class=ULTRASOUND_FILM,
                Rows=1000, Columns=1000, NumberOfFrames=10**9)  # fmt: skip
    dataset = pydicom.dcmread(folder / "huge.dcm")
    for name, syntax in (("rle.dcm", RLELossless), ("jpeg2000.dcm", JPEG2000Lossless)):
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([struct.pack("<3I", 2, 64, 66).ljust(68, b"\0")])
        dataset["PixelData"].is_undefined_length = True
        dataset["PixelData"].VR = "OB"
        dataset.save_as(folder / name)


def write_tables(folder):
    names = ",".join(chestct.COLUMNS)
    (folder / "columns.csv").write_text(names + "".join(f",c{i}" for i in range(10**6)) + "\n1,2\n")
    (folder / "unnamed.csv").write_text(names + "," * 10**6 + "\n1,2\n")
    (folder / "name.csv").write_text(names + "x" * 10**6 + "\n1,2\n")
    (folder / "cells.csv").write_text(names + "\n" + "1," * 10**5 + "1\n")


def write_arrays(folder):
    labels = ((4,), "<i8", bytes(32))
    for name, arrays in {
        "header.npz": {"images": ((10**6, 1000, 1000), "|u1", bytes(1000)), "labels": labels},
        "labels.npz": {"images": ((4, 8, 8), "|u1", bytes(256)), "labels": ((10**11,), "<i8", b"")},
        "names.npz": {"images": ((4, 8, 8), "|u1", bytes(256)), "labels": labels,
                      "names": ((4,), "<U100000000", bytes(1000))},
        "grows.npz": {"images": ((4, 12288, 12288), "|u1", bytes(4 * 12288**2)), "labels": labels},
    }.items():  # fmt: skip
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for array, (shape, kind, content) in arrays.items():
                with archive.open(f"{array}.npy", "w", force_zip64=True) as file:
                    header = {"descr": kind, "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(file, header)
                    file.write(content)


def test_bombs_are_refused_before_they_go_off(tmp_path):
    for write in (write_volumes, write_photographs, write_dicoms, write_tables, write_arrays):
        write(tmp_path)
    paths = sorted(path for path in tmp_path.iterdir() if "raw" not in path.suffix)
    assert len(paths) == 30
    child = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, paths)], capture_output=True, text=True, check=True
    )
    for line, path in zip(child.stdout.splitlines(), paths, strict=True):
        name, error, mib = json.loads(line)
        assert name == path.name
        assert error is not None and error[0] == "DataError", line
        assert str(tmp_path) in error[1] and len(error[1]) < 1000, line
        assert "llocat" not in error[1], line  # nobody has tried
        assert mib < MOST_MIB, line


@pytest.mark.parametrize(
    "frame",
    [
        bytes(64),  # no segments, by whose number GDCM divides
        struct.pack("<3I", 2, 64, 10**6).ljust(68, b"\0"),
        struct.pack("<3I", 2, 66, 64).ljust(68, b"\0"),
        struct.pack("<17I", 16, *range(64, 80)).ljust(90, b"\0"),
        struct.pack("<2I", 1, 64).ljust(68, b"\0"),  # one for two bytes a pixel
    ],
)
def test_damaged_rle_never_ends_the_program(tmp_path, frame):
    path = tmp_path / "a.dcm"
    write_dicom(path, np.zeros((6, 8), np.uint16))
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = RLELossless
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    dataset.save_as(path)
    with pytest.raises(DataError, match=f"{path} .*RLE"):
        formats.read(path, 1)


def test_what_grows_much_and_is_small_is_read(tmp_path):
    """An empty volume is no bomb."""
    volume = nibabel.Nifti1Image(np.zeros((256, 256, 64), np.int16), np.eye(4))
    nibabel.save(volume, tmp_path / "a.nii.gz")
    assert (tmp_path / "a.nii.gz").stat().st_size < 10**5
    assert formats.read(tmp_path / "a.nii.gz", 1).shape == (1, 64, 256, 256)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (MHD.format("4 3 2", False, ".hidden.raw"), "a.mhd"),
        (MHD.format("4 3 2", False, "local"), "a.mhd"),
        (NRRD.format("4 3 2", "raw").rstrip() + "\ndata file: .hidden.raw\n", "a.nhdr"),
    ],
)
def test_voxels_are_not_where_nobody_has_looked(tmp_path, header, name):
    """A hidden link may lead anywhere, and "local" is a file to us and an order to MetaIO."""
    outside = tmp_path / "secret"
    outside.write_bytes(bytes(1000))
    root = tmp_path / "root"
    root.mkdir()
    (root / ".hidden.raw").symlink_to(outside)
    (root / "local").write_bytes(bytes(1000))
    (root / name).write_text(header)
    with pytest.raises(DataError, match="must be a file in the same folder"):
        formats.read(root / name, 1)
