"""Headers as MetaIO reads them, and those that lead elsewhere."""

import numpy as np
import pytest
import SimpleITK as sitk

from al_gym.data import formats, metaimage, volumes

VOXELS = np.random.default_rng(0).integers(-1000, 1000, (4, 5, 6)).astype("<i2")
RAW = VOXELS.tobytes()
HEADER = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
DimSize = 6 5 4
ElementType = MET_SHORT
ElementDataFile = 1.raw
"""


def write(folder, header=HEADER, content=RAW, name="1.mhd", data="1.raw"):
    (folder / name).write_bytes(header.encode("latin-1"))
    (folder / data).write_bytes(content)
    return metaimage.find(folder, folder / name)


def voxels(volume):
    return sitk.GetArrayFromImage(volumes.reader(volume.header, "MetaImage").Execute())


@pytest.mark.parametrize(
    ("change", "name", "data"),
    [
        ((), "1.mhd", "1.raw"),
        ((), "1.MHD", "1.raw"),
        ((" = ", "="), "1.mhd", "1.raw"),
        ((" = ", "\t=  "), "1.mhd", "1.raw"),
        (("1.raw\n", " 1.raw  "), "1.mhd", "1.raw"),
        (("1.raw", "a scan.raw"), "1.mhd", "a scan.raw"),
        (("\n", "\r\n"), "1.mhd", "1.raw"),
        (("NDims", "\nComment = M\xfcller: x = 1\nNDims"), "1.mhd", "1.raw"),
        (("NDims", "dim[0] = 3\n0008|0060 = CT\nNDims"), "1.mhd", "1.raw"),
        (("BinaryData = True\n", ""), "1.mhd", "1.raw"),
        (("BinaryData = True", "BinaryData = true"), "1.mhd", "1.raw"),
        (("NDims", "CompressedData = False\nNDims"), "1.mhd", "1.raw"),
        (("NDims", "HeaderSize = -1\nNDims"), "1.mhd", "1.raw"),
        (("1.raw\n", "1.raw\nElementDataFile = /etc/passwd\n"), "1.mhd", "1.raw"),
    ],
)
def test_headers_that_are_right(tmp_path, change, name, data):
    volume = write(tmp_path, HEADER.replace(*change) if change else HEADER, name=name, data=data)
    assert volume.voxels == tmp_path / data
    np.testing.assert_array_equal(voxels(volume), VOXELS)


def test_names_in_utf_8(tmp_path):
    path = tmp_path / "M\xfcller \u8093.mhd"
    sitk.WriteImage(sitk.GetImageFromArray(VOXELS), str(path))
    volume = metaimage.find(tmp_path, path)
    assert volume.voxels == path.with_suffix(".raw")
    np.testing.assert_array_equal(voxels(volume), VOXELS)
    np.testing.assert_array_equal(formats.read(path, 1).shape, (1, 4, 5, 6))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("ElementDataFile = 1.raw", ""), "must be a file in the same folder, not ''"),
        (("1.raw", "../1.raw"), "same folder, not '../1.raw'"),
        (("1.raw", "/etc/passwd"), "same folder"),
        (("1.raw", "LOCAL"), "same folder"),
        (("1.raw", "local"), "same folder"),
        (("1.raw", "LIST\n1.raw"), "same folder"),
        (("1.raw", "LIST3D\n/etc/passwd"), "same folder"),
        (("1.raw", "%d.raw 1 1 1"), "same folder"),
        (("1.raw", "2.raw"), r"2.raw is missing"),
        (("File =", "File : /etc/passwd\nElementDataFile ="), "lines NAME = VALUE.*passwd"),
        (("NDims", "Comment = x\rElementDataFile = 1.raw\nNDims"), "lines NAME = VALUE"),
        (("NDims", "Comment = x\0\nNDims"), "lines NAME = VALUE"),
        (("NDims", "CompressedData\0x = 1\nNDims"), "lines NAME = VALUE"),  # MetaIO's ends at \0
        (("NDims = 3", "NDims = 3\nNDims = 2"), "different names: 'NDims = 2'"),
        (("BinaryData = True", "BinaryData = False"), "are text"),
        (("NDims", "ElementToIntensityFunctionSlope = 2\nNDims"), "is not applied"),
        (("NDims", f"Comment = {'x' * 40000}\nNDims"), "lines NAME = VALUE"),
        (("NDims = 3", "NDims = 99999999"), "NDims must be 1 to 10"),  # ends the program otherwise
        (("NDims = 3", "NDims = 0"), "NDims must be 1 to 10"),
        (("NDims = 3", "NDims = 2"), "must be 2 numbers"),
        (("NDims", "HeaderSize = -2\nNDims"), "HeaderSize must be -1 at least"),
        (("NDims", "ElementNumberOfChannels = 0\nNDims"), "Channels must be 1 at least"),
        (("NDims", "TransformMatrix = 1 0 0 0 1 0 0 0\nNDims"), "must be 9 numbers"),
        (("NDims", "Offset = 0 nan 0\nNDims"), "Offset must be 3 numbers"),
    ],
)
def test_headers_that_are_not(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path, HEADER.replace(*change))


@pytest.mark.parametrize(
    "before",
    [
        *[f"Comment = x{end}ElementDataFile = 2.raw\n" for end in "\x0b\x0c\x1c\x85\xa0\r"],
        "Comment =\nElementDataFile = 2.raw\n",
        "Comment = \r\nElementDataFile = 2.raw\n",
        "Comment\nElementDataFile = 2.raw\n",
        "ElementDataFile = = 2.raw\n",
        "ElementDataFile = : 2.raw\n",
        "ElementDataFile\n = 2.raw\n",
        "ElementDataFile x = 2.raw\n",
        "Element DataFile = 2.raw\n",
        "elementdatafile = 2.raw\n",
        "Comment = " + "x" * 600 + "ElementDataFile = 2.raw\n",
        "Comment = " + "x" * 5000 + "ElementDataFile = 2.raw\n",
    ],
)
def test_what_metaio_opens_is_what_was_checked(tmp_path, before):
    (tmp_path / "2.raw").write_bytes(bytes(VOXELS.nbytes))
    text = HEADER.replace("ElementDataFile", f"{before}ElementDataFile")
    try:
        volume = write(tmp_path, text)
    except ValueError as error:
        assert "lines NAME = VALUE" in str(error)
    else:
        expected = VOXELS if volume.voxels.name == "1.raw" else np.zeros_like(VOXELS)
        try:
            np.testing.assert_array_equal(voxels(volume), expected)
        except RuntimeError as error:
            assert "cannot be read" in str(error)


def test_a_link_out_of_the_root_is_refused(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    write(root)
    (root / "1.raw").rename(tmp_path / "1.raw")
    (root / "1.raw").symlink_to(tmp_path / "1.raw")
    with pytest.raises(ValueError, match=r"root/1.raw is a link to"):
        metaimage.find(root, root / "1.mhd")
