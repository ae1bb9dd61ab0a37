"""The elements of a DICOM file, walked before a decoder sees them (PS3.5, 7 and A).

Decoders believe what a file says of itself, and differ in what they make of one that breaks the
rules: of an element that is there twice, GDCM takes the first and pydicom the last.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from al_gym.errors import DataError

PIXELS = (0x7FE0, 0x0010)
ITEM, END_OF_ITEM, END_OF_SEQUENCE = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
SHORT = (
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN",
    b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US",
)  # fmt: skip
LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
"""Value representations whose length takes two bytes, and four after two of no meaning."""
UNDEFINED = 0xFFFFFFFF
HEADER_SIZE = 1 << 22  # bytes of a file in front of its pixels, at most
DEEPEST = 20  # sequence within sequence


@dataclass(frozen=True)
class Encoding:
    """How elements are written."""

    implicit: bool
    """Without value representations."""
    order: str = "<"
    """Of bytes, as struct writes it."""


Found = dict[tuple[int, int], tuple[int, int]]
"""Tag -> where its value begins, and its length in bytes, which may be ``UNDEFINED``."""


def start(path: Path) -> tuple[dict[int, str], bytes, int]:
    """Elements of group 2 as text, by number; the start of the file; where its data set begins.

    Raises:
        DataError: these elements are damaged. GDCM made room for gigabytes, and kept it.
    """
    with path.open("rb") as file:
        content = file.read(HEADER_SIZE)
    values: dict[int, str] = {}
    at = 132
    while content[at : at + 2] == b"\2\0":
        (_, number), _, length, at = _element(content, at, Encoding(implicit=False))
        values[number] = content[at : at + length].rstrip(b"\0 ").decode("latin-1")
        at += length
    return values, content, at


def walk(content: bytes, at: int, encoding: Encoding) -> Found:
    """The elements of a data set that begins at byte ``at``, up to its pixels.

    Raises:
        DataError: an element is there twice, or none can be where one should be.
    """
    return _walk(content, at, encoding, 0)[0]


def _walk(content: bytes, at: int, encoding: Encoding, depth: int) -> tuple[Found, int]:
    """A data set, or an item of undefined length; and where the bytes after it begin."""
    found: Found = {}
    while at + 8 <= len(content):
        tag, vr, length, at = _element(content, at, encoding)
        if depth and tag == END_OF_ITEM:
            break
        if tag in found:
            raise _twice(tag)
        found[tag] = at, length
        if tag == PIXELS and not depth:
            break
        if length != UNDEFINED:
            at += length
        elif depth < DEEPEST:
            inner = Encoding(implicit=True) if vr == b"UN" else encoding  # PS3.5, 6.2.2
            at = _past_items(content, at, inner, depth + 1)
        else:
            raise DataError(f"its element {_shown(tag)} lies {depth} sequences deep")
    return found, at


def _shown(tag: tuple[int, int]) -> str:
    return f"({tag[0]:04x},{tag[1]:04x})"


def _twice(tag: tuple[int, int]) -> DataError:
    return DataError(f"its element {_shown(tag)} is there twice; write it anew, with dcmconv say")


def _element(
    content: bytes, at: int, encoding: Encoding
) -> tuple[tuple[int, int], bytes, int, int]:
    """Tag, value representation, length, and where the value begins."""
    group, number = struct.unpack_from(encoding.order + "HH", content, at)
    vr = content[at + 4 : at + 6]
    if encoding.implicit or group == ITEM[0]:
        return (group, number), b"", _number("I", content, at + 4, encoding), at + 8
    if vr not in SHORT + LONG:
        raise DataError(
            f"its element {_shown((group, number))} has the value representation {vr!r}, which "
            "is none: it is damaged, or not written as it says; write it anew, with dcmconv say"
        )
    if vr in LONG:
        return (group, number), vr, _number("I", content, at + 8, encoding), at + 12
    return (group, number), vr, _number("H", content, at + 6, encoding), at + 8


def _past_items(content: bytes, at: int, encoding: Encoding, depth: int) -> int:
    """Where the bytes after a sequence of undefined length begin; the end, if it does not end."""
    while at + 8 <= len(content):
        tag = struct.unpack_from(encoding.order + "HH", content, at)
        length = _number("I", content, at + 4, encoding)
        at += 8
        if tag == END_OF_SEQUENCE:
            break
        if tag != ITEM:
            raise DataError("a sequence of it does not end: it is damaged; get it anew")
        at = _walk(content, at, encoding, depth)[1] if length == UNDEFINED else at + length
    return at


def _number(kind: str, content: bytes, at: int, encoding: Encoding) -> int:
    if at + struct.calcsize(kind) > len(content):
        raise DataError("it is truncated; get it anew")
    (number,) = struct.unpack_from(encoding.order + kind, content, at)
    return int(number)


def fragments(path: Path, at: int, length: int) -> list[tuple[int, int]]:
    """Where each fragment of compressed pixels begins, and its length; none of others.

    The first is a table of the others.

    Raises:
        DataError: the pixels reach neither as far as their length says nor to the end of their
            fragments.
    """
    found = []
    with path.open("rb") as file:
        file.seek(at)
        whole = at + length <= path.stat().st_size
        while length == UNDEFINED:  # fragments, each with a length, up to a delimiter
            group, number, size = struct.unpack("<HHI", file.read(8).ljust(8, b"\0"))
            whole = (group, number) == END_OF_SEQUENCE
            if (group, number) != ITEM:
                break
            found.append((file.tell(), size))
            file.seek(size, 1)
    if not whole:
        raise DataError("it is truncated; get it anew")
    return found


def check_rest(
    path: Path, found: Found, parts: Sequence[tuple[int, int]], encoding: Encoding
) -> None:
    """Walk what lies behind the pixels: of a damaged element there, GDCM makes room for all of it.

    Args:
        path: the file.
        found: its elements up to the pixels, from ``walk``.
        parts: the fragments of these.
        encoding: how its elements are written.

    Raises:
        DataError: an element is there twice, or none can be where one should be.
    """
    at, length = found[PIXELS]
    if length == UNDEFINED:  # up to a delimiter
        at, length = parts[-1] if parts else (at, 0)
        length += 8
    with path.open("rb") as file:
        file.seek(at + length)
        rest = file.read(HEADER_SIZE)
    if rest.strip(b"\0"):
        for tag in walk(rest, 0, encoding):
            if tag in found:
                raise _twice(tag)


def rle_segments(path: Path, parts: Sequence[tuple[int, int]]) -> set[int]:
    """How many segments the RLE frames among fragments have (PS3.5, G.5); GDCM believes them.

    Raises:
        DataError: there are no frames, or segments that lie outside of theirs.
    """
    if len(parts) < 2:
        raise DataError("it has no RLE frames; get it anew")
    found = set()
    with path.open("rb") as file:
        for at, size in parts[1:]:
            file.seek(at)
            n, *offsets = struct.unpack("<16I", file.read(64).ljust(64, b"\0"))
            ends = [*offsets[:n], size]
            if not 0 < n < 16 or offsets[0] != 64 or sorted(set(ends)) != ends:
                raise DataError("its RLE frames are damaged; get it anew")
            found.add(n)
    return found
