"""Label files as spreadsheets and scripts write them, links, and paths that people type."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from al_gym.data import files

COLUMNS = ["file", "Label"]


def table(tmp_path, text, columns=COLUMNS):
    path = tmp_path / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return files.read_table(path, columns)


@pytest.mark.parametrize(
    "text",
    [
        "file,Label\na,1\nb,2\n",
        "file,Label\na,1\nb,2",  # no end of the last line
        "file;Label\na;1\nb;2\n",
        "file\tLabel\na\t1\nb\t2\n",
        "file, Label\na, 1\nb ,2 \n",
        'file,Label\n"a","1"\n"b", "2"\n',
        "FILE,label\na,1\nb,2\n",
        "\ufefffile,Label\r\na,1\r\nb,2\r\n",
        "file,Label\ra,1\rb,2\r",
        "\n\nfile,Label\n\na,1\n  \nb,2\n,\n",
        "file;Label\na;1\nb;2\n;\n;\n",
        "sep=;\r\nfile;Label\r\na;1\r\nb;2\r\n",  # Excel
        '"sep=,"\nfile,Label\na,1\nb,2\n',
        "file,Label,\na,1,\nb,2\n",
        "file,Label\na,1,\nb,2,,\n",
        ",file,Label\n0,a,1\n1,b,2\n",  # pandas
        "Label,file\n1,a\n2,b\n",
    ],
)
def test_what_is_meant_is_read(tmp_path, text):
    rows, notes = table(tmp_path, text)
    assert [row.values for row in rows] == [
        {"file": "a", "Label": "1"},
        {"file": "b", "Label": "2"},
    ]
    assert notes == ()


def test_other_columns_are_there_in_lower_case(tmp_path):
    rows, _ = table(tmp_path, "file,Label, Patient \na,1,p\n")
    assert rows[0].values == {"file": "a", "Label": "1", "patient": "p"}
    assert table(tmp_path, "file\na\n", ["file"])[0][0].values == {"file": "a"}
    assert table(tmp_path, "file;x\na;b,c\n", ["file"])[0][0].values == {"file": "a", "x": "b,c"}


def test_lines_are_numbered_as_in_an_editor(tmp_path):
    rows, _ = table(tmp_path, '\nfile,Label\na,1\n\n"b\nc",2\nd,3\n')
    assert [row.line for row in rows] == [3, 5, 7]
    rows, _ = table(tmp_path, "sep=\t\nfile\tLabel\na\t1\n")
    assert [row.line for row in rows] == [3]


def test_a_line_that_repeats_an_earlier_one_is_left_out_with_a_note(tmp_path):
    rows, notes = table(tmp_path, "file,Label\na,1\nb,2\na, 1\na,2\nb,2\n")
    assert [row.line for row in rows] == [2, 3, 5]
    assert notes == (
        "labels.csv: lines that repeat an earlier one are left out: 2, the first is line 4",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,Label\na\n", r"line 2: 1 cells under 2 columns: \['a'\]"),
        ("file,Label\na,1\nb,2,3\n", "line 3: 3 cells under 2 columns"),
        ("file;Label\na;1\nb,2\n", "line 3: 1 cells under 2 columns"),
        ("file,Label,label\na,1,2\n", "line 1: there are two columns 'Label'"),
        ("\nfile,Label,x,X\na,1,2,3\n", "line 2: there are two columns 'x'"),
        ('file,Label\na,1\n"b,2\nc,3\n', "line 3: this is not a csv file"),
        ('file,Label\n"a"b,1\n', "line 2: this is not a csv file"),
        ("file,grade\na,1\n", "lacks the column 'Label'; it needs file,Label and has file,grade"),
        ("file Label\na 1\n", "lacks the column 'file'"),
        ("file,Label\n", "a header and no lines"),
        ("", "is empty; it needs file,Label"),
        ("\n,\n", "is empty"),
        (b"file,Label\na,1\nb\0,2\n", "not a csv file in UTF-8: a zero byte in line 3"),
        ("file,Label\nM\xfcller,1\n".encode("latin-1"), "UTF-8: .*0xfc in line 2"),
        ("file,Label\na,1\n".encode("utf-16"), "not a csv file in UTF-8: .* in line 1"),
    ],
)
def test_what_could_be_meant_otherwise_is_refused_with_the_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=rf"labels\.csv.*{message}"):
        table(tmp_path, text)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"labels\.csv"):
        files.read_table(tmp_path / "labels.csv", COLUMNS)


CELLS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=5)


@settings(max_examples=40)
@given(
    cells=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5, unique=True),
    delimiter=st.sampled_from(files.DELIMITERS),
    end=st.sampled_from(["\n", "\r\n"]),
    bom=st.booleans(),
)
def test_every_table_that_python_writes_is_read_again(tmp_path_factory, cells, delimiter, end, bom):
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter, lineterminator=end).writerows([COLUMNS, *cells])
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(stream.getvalue().encode("utf-8-sig" if bom else "utf-8"))
    rows, notes = files.read_table(path, COLUMNS)
    assert [tuple(row.values.values()) for row in rows] == cells and notes == ()


@pytest.mark.parametrize(
    ("convert", "text", "value"),
    [
        (files.whole_number, "31", 31),
        (files.whole_number, "31.0", 31),
        (files.whole_number, "-1.", -1),
        (files.whole_number, "+007.000", 7),
        (files.number, "-28.5", -28.5),
        (files.number, "1e3", 1000.0),
        (files.identifier, "600000.0", "600000"),
        (files.identifier, "0010", "0010"),
        (files.identifier, "1.2.0", "1.2.0"),
        (files.identifier, "a.0", "a.0"),
        (files.identifier, "1.5", "1.5"),
    ],
)
def test_values(convert, text, value):
    assert convert(text) == value


@pytest.mark.parametrize(
    ("convert", "text", "message"),
    [
        (files.whole_number, "1.5", "not a whole number"),
        (files.whole_number, "1e0", "not a whole number"),
        (files.whole_number, "1_0", "not a whole number"),
        (files.whole_number, "", "not a whole number"),
        (files.number, "156,48", "with a decimal point"),
        (files.number, "left", "could not convert"),
        (files.identifier, "", "empty"),
    ],
)
def test_values_that_are_none(tmp_path, convert, text, message):
    row = files.Row(tmp_path / "x.csv", 7, {"code": text})
    with pytest.raises(ValueError, match=rf"x\.csv, line 7: column 'code' holds .*{message}"):
        row.get("code", convert)


# --- where files lie ------------------------------------------------------------------------------


def test_links_out_of_the_root_are_refused(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    for place in (tmp_path / "1", root / "2"):
        place.touch()
    (root / "out").symlink_to(tmp_path / "1")
    (root / "in").symlink_to(root / "2")
    (tmp_path / "link").symlink_to(root)
    for path in (root / "2", root / "in", tmp_path / "link" / "in"):
        files.check_inside(path.parent, path)
    with pytest.raises(ValueError, match=r"root/out is a link to .*/1, which is not below"):
        files.check_inside(root, root / "out")


def test_the_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "images" / "Folder").mkdir(parents=True)
    assert files.resolve_root("Folder", "~/images", "") == tmp_path / "images"
    monkeypatch.setenv("AL_GYM_DATA", "~/images")
    assert files.resolve_root("Folder", None, "") == tmp_path / "images" / "Folder"
    with pytest.raises(ValueError, match=r"root='~nobody-of-this-name/x'"):
        files.resolve_root("Folder", "~nobody-of-this-name/x", "")


@pytest.mark.parametrize(
    ("root", "error", "message"),
    [
        ("", ValueError, "root is empty"),
        ("  ", ValueError, "root is empty"),
        (5, TypeError, "root must be a path, not 5"),
        ("nowhere", FileNotFoundError, "Folder: there is no folder nowhere. HINT"),
        (__file__, FileNotFoundError, r"test_files\.py is a file, not a folder. HINT"),
    ],
)
def test_roots_that_are_none(root, error, message):
    with pytest.raises(error, match=message):
        files.resolve_root("Folder", root, "HINT")


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"])), max_size=5))
@settings(max_examples=50)
def test_cells_that_are_no_formula_are_read_back(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("cells") / "table.csv"
    names = ["=1+1", "+a", "-a", "@a", *(name for name in names if name)]
    cells = [files.cell(name) for name in names]
    assert not [cell for cell in cells if cell[0] in "=+-@"]
    files.write_table(path, ["number", "a, b"], enumerate(cells))
    rows, _ = files.read_table(path, ["number", "a, b"])
    assert [row.values["a, b"] for row in rows] == names
