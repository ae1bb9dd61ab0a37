"""Damaged files are read as reference readers do it, or refused by name; ``hostile`` says how."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from al_gym.data import chestct
from al_gym.errors import DataError
from tests.al_gym.data import hostile

NAMES = (
    "NDims", "DimSize", "ElementType", "ElementSpacing", "Offset", "TransformMatrix", "HeaderSize",
    "ElementNumberOfChannels", "CompressedData", "CompressedDataSize", "BinaryDataByteOrderMSB",
    "ElementDataFile", "ElementByteOrderMSB", "Comment", "AnatomicalOrientation", "Modality",
)  # fmt: skip
VALUES = (
    "3", "2", "7 6 5", "1 1 1", "MET_SHORT", "MET_UCHAR", "MET_DOUBLE", "True", "a.raw", "LOCAL",
    "0", "-1", "1e30", "nan", "99999999999", "1 0 0 0 1 0 0 0 1", "RAI", "", "LIST", "\t7", "7 6",
)  # fmt: skip
CELLS = st.one_of(
    st.sampled_from(["1", "5", "31", "600000", "1.0", "-7.25", "1e5", "nan", "1,5", "", '"', "x"]),
    st.text(max_size=6),
    st.floats().map(str),
)


@pytest.fixture
def assert_none_is_wrong(tmp_path_factory):
    def check(n):
        counts, wrong = hostile.tried(n, tmp_path_factory.mktemp("hostile"))
        print(hostile.table(counts))
        assert not wrong, "\n".join(wrong)
        assert all(count["refused"] for count in counts.values())
        assert sum(count["read"] for count in counts.values()) > n / 10

    return check


def test_samples_are_read_before_they_are_damaged(tmp_path):
    for kind, way in hostile.FORMATS.items():
        folder = tmp_path / kind
        folder.mkdir()
        way.write(folder / way.name)
        assert hostile.outcome(folder / way.name, kind) == "read", kind


def test_what_is_wrong_is_seen(tmp_path, monkeypatch):
    """Other values, other errors, and no name."""
    path = tmp_path / "a.mhd"
    hostile.write_mhd(path)

    def raises(error):
        def read(path):
            raise error

        return read

    for read, said in (
        (lambda path: np.zeros((1, 5, 6, 7), np.int16), "found"),
        (raises(KeyError("x")), "KeyError"),
        (raises(ValueError(str(path))), "ValueError"),
        (raises(DataError("bad")), "without the file's name"),
        (raises(DataError(f"{path}: MemoryError")), "memory"),
    ):
        way = hostile.Format("a.mhd", hostile.write_mhd, read, hostile.by_simpleitk)
        monkeypatch.setitem(hostile.FORMATS, ".mhd", way)
        assert hostile.outcome(path, ".mhd").startswith(said)


def test_a_seed_damages_alike(tmp_path):
    contents = []
    for name in "ab":
        (tmp_path / name).mkdir()
        path = hostile.write_case(tmp_path / name, "PNG", 7)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]


def test_damaged_files(assert_none_is_wrong):
    assert_none_is_wrong(300)


@pytest.mark.slow
def test_many_damaged_files(assert_none_is_wrong):
    assert_none_is_wrong(5000)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(CELLS, max_size=9), max_size=4), st.sampled_from([",", ";", "\t"]))
def test_any_annotations(lines, delimiter):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        rows = [chestct.COLUMNS, ["1", *["2"] * 6, "5"], *lines]
        text = "\n".join(delimiter.join(row) for row in rows)
        path.write_text(text, encoding="utf-8", errors="replace")
        assert hostile.outcome(path, "annotation csv") in ("read", "refused")


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES), max_size=5),
    st.lists(st.sampled_from(NAMES), max_size=2),
)
def test_any_header(changes, missing):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mhd"
        hostile.write_mhd(path)
        lines = [line.split(" = ") for line in path.read_text().splitlines()]
        last = changes.pop("ElementDataFile", "a.raw")
        fields = {**dict(lines), **changes, "ElementDataFile": last}
        path.write_text(
            "\n".join(f"{k} = {v}" for k, v in fields.items() if k not in missing) + "\n"
        )
        assert hostile.outcome(path, ".mhd") in ("read", "read alone", "refused")
