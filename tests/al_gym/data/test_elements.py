"""The walk over a file's elements: bytes written by hand, and pydicom's own writer."""

import struct

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.filewriter import write_dataset

from al_gym.data import elements
from al_gym.data.elements import Encoding
from al_gym.errors import DataError
from tests.dicom_samples import write_dicom

ROWS, COLUMNS, SLOPE, ICON = (0x28, 0x10), (0x28, 0x11), (0x28, 0x1053), (0x88, 0x200)
LITTLE, BIG, IMPLICIT = Encoding(False), Encoding(False, ">"), Encoding(True)
UNDEFINED = 0xFFFFFFFF


def element(tag, vr, value, length=None, order="<"):
    """Its bytes; ``vr`` None: implicit."""
    size = len(value) if length is None else length
    start = struct.pack(order + "HH", *tag)
    if vr is None:
        return start + struct.pack(order + "I", size) + value
    if vr in elements.LONG:
        return start + vr + b"\0\0" + struct.pack(order + "I", size) + value
    return start + vr + struct.pack(order + "H", size) + value


def mark(tag, length=0, order="<"):
    """An item, or the end of one or of a sequence."""
    return struct.pack(order + "HHI", *tag, length)


def test_every_element_is_found_where_it_is():
    """Eight bytes in front of a short value, twelve of a long one; pixels end the walk."""
    content = (
        b"ahead"
        + element(ROWS, b"US", b"\6\0")
        + element((0x28, 0x1201), b"OW", b"four")
        + element(SLOPE, b"DS", b"2 ")
        + element(elements.PIXELS, b"OW", b"", UNDEFINED)
        + b"whatever"
    )
    assert elements.walk(content, 5, LITTLE) == {
        ROWS: (13, 2),
        (0x28, 0x1201): (27, 4),
        SLOPE: (39, 2),
        elements.PIXELS: (53, UNDEFINED),
    }
    content = element(ROWS, b"US", b"\0\6", order=">")
    assert elements.walk(content, 0, BIG) == {ROWS: (8, 2)}
    assert elements.walk(element(ROWS, None, b"\6\0"), 0, IMPLICIT) == {ROWS: (8, 2)}


@pytest.mark.parametrize("encoding", [LITTLE, BIG, IMPLICIT], ids=["little", "big", "implicit"])
def test_items_are_passed_over(encoding):
    """Of defined length and of none, within each other; what is in them is not of the image."""
    order = encoding.order

    def one(tag, vr, value, length=None):
        return element(tag, None if encoding.implicit else vr, value, length, order)

    rows = one(ROWS, b"US", b"\6\0")
    end, end_of_item = (
        mark(elements.END_OF_SEQUENCE, 0, order),
        mark(elements.END_OF_ITEM, 0, order),
    )
    known = mark(elements.ITEM, len(rows), order) + rows
    unknown = mark(elements.ITEM, UNDEFINED, order) + rows + end_of_item
    pixels = (
        mark(elements.ITEM, UNDEFINED, order) + one(elements.PIXELS, b"OW", b"icon") + end_of_item
    )
    for items in (b"", known, unknown, known + unknown, pixels):
        inner = one(ICON, b"SQ", items + end, UNDEFINED)
        nested = mark(elements.ITEM, UNDEFINED, order) + rows + inner + end_of_item
        for within in (items, nested, known + nested):
            content = one(ICON, b"SQ", within + end, UNDEFINED) + one(COLUMNS, b"US", b"\7\0")
            found = elements.walk(content, 0, encoding)
            assert found.keys() == {ICON, COLUMNS}
            assert found[COLUMNS] == (len(content) - 2, 2)


def test_what_is_unknown_is_implicit_inside():
    """PS3.5, 6.2.2, note 4: a sequence that a device did not know when it wrote it anew."""
    item = (
        mark(elements.ITEM, UNDEFINED) + element(ROWS, None, b"\6\0") + mark(elements.END_OF_ITEM)
    )
    unknown = element((0x29, 0x1010), b"UN", item + mark(elements.END_OF_SEQUENCE), UNDEFINED)
    assert COLUMNS in elements.walk(unknown + element(COLUMNS, b"US", b"\7\0"), 0, LITTLE)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (element(ROWS, b"US", b"\6\0") * 2, r"\(0028,0010\) is there twice"),
        (element(ROWS, b"\1\2", b"\6\0"), r"\(0028,0010\) has the value representation b'\\x01"),
        (element(ICON, b"SQ", element(ROWS, b"US", b"\6\0"), UNDEFINED), "does not end"),
        (element(SLOPE, b"OB", b"")[:10], "truncated"),
        (
            (element(ICON, b"SQ", b"", UNDEFINED) + mark(elements.ITEM, UNDEFINED)) * 999,
            "20 sequences deep",
        ),
    ],
)
def test_what_cannot_be(content, reason):
    with pytest.raises(DataError, match=reason):
        elements.walk(content, 0, LITTLE)


@pytest.mark.parametrize("packed", [False, True], ids=["native", "packed"])
@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        (b"", None),
        (bytes(2), None),
        (bytes(30), None),
        (element((0xFFFC, 0xFFFC), b"OB", bytes(20)), None),
        (element((0x29, 0x10), b"LO", b"of us ") + element(SLOPE, b"DS", b"2 "), None),
        (element(ROWS, b"US", b"\7\0"), r"\(0028,0010\) is there twice"),
        (element(elements.PIXELS, b"OW", b"more"), r"\(7fe0,0010\) is there twice"),
        (element(SLOPE, b"\0\x4f", b"2 "), "which is none"),
        (b"some words behind it", "which is none"),
    ],
)
def test_what_lies_behind_the_pixels(tmp_path, rest, reason, packed):
    parts = (
        mark(elements.ITEM) + mark(elements.ITEM, 6) + b"pixels" + mark(elements.END_OF_SEQUENCE)
    )
    pixels = (parts, UNDEFINED) if packed else (b"pixels", None)
    content = element(ROWS, b"US", b"\6\0") + element(elements.PIXELS, b"OB", *pixels)
    path = tmp_path / "a"
    path.write_bytes(content + rest)
    found = elements.walk(content, 0, LITTLE)
    fragments = elements.fragments(path, *found[elements.PIXELS])
    if reason is None:
        elements.check_rest(path, found, fragments, LITTLE)
        return
    with pytest.raises(DataError, match=reason):
        elements.check_rest(path, found, fragments, LITTLE)


@given(st.data(), st.booleans(), st.booleans(), st.booleans())
def test_as_pydicom_writes_them(data, implicit, big, unknown_lengths):
    """Any nesting, in every encoding: the outermost tags and where they lie."""
    big = big and not implicit

    def dataset(depth):
        made = pydicom.Dataset()
        made.Rows, made.PatientName = 6, data.draw(st.text("ABC", max_size=5))
        if depth < 4 and data.draw(st.booleans()):
            made.IconImageSequence = [
                dataset(depth + 1) for _ in range(data.draw(st.integers(0, 2)))
            ]
            made["IconImageSequence"].is_undefined_length = unknown_lengths
        made.PixelData = bytes(2 * data.draw(st.integers(0, 3)))
        made["PixelData"].VR = "OW"
        made.is_undefined_length_sequence_item = unknown_lengths
        return made

    made = dataset(0)
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = not big, implicit
    write_dataset(buffer, made)
    content = buffer.getvalue()
    found = elements.walk(content, 0, Encoding(implicit, ">" if big else "<"))
    assert list(found) == [(tag.group, tag.element) for tag in sorted(made.keys())]
    at, length = found[elements.PIXELS]
    assert content[at:] == made.PixelData and length == len(made.PixelData)


@given(st.binary(max_size=300), st.sampled_from([LITTLE, BIG, IMPLICIT]))
def test_any_bytes_are_walked_or_refused(content, encoding):
    try:
        found = elements.walk(content, 0, encoding)
    except DataError:
        return
    assert all(8 <= at <= len(content) for at, _ in found.values())


@pytest.mark.parametrize("vr", [b"SX", b"[H", b"ui"])
def test_the_first_elements_have_representations_that_there_are(tmp_path, vr):
    """GDCM took others for lengths, made room for a gigabyte, and kept it."""
    path = tmp_path / "a.dcm"
    write_dicom(path, np.zeros((6, 8), np.uint8))
    content = path.read_bytes()
    assert elements.start(path)[0][0x0010] == pydicom.uid.ExplicitVRLittleEndian
    path.write_bytes(content.replace(b"\2\0\x12\0UI", b"\2\0\x12\0" + vr))
    with pytest.raises(DataError, match=r"\(0002,0012\) has the value representation"):
        elements.start(path)
