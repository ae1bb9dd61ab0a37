"""Source files: where they lie, and label files, which are untrusted: errors name the line."""

import csv
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from al_gym.errors import DataError

T = TypeVar("T")

DELIMITERS = (",", ";", "\t")
FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What cells begin with that spreadsheets calculate, and what hides such a beginning."""
MOST_BYTES, MOST_COLUMNS = 2**28, 1000
"""Of a table."""
MOST_SHOWN = 20
"""Cells in a message."""
GROWTH, GROWN = 200, 2**29
"""What is packed may unpack to so many times its bytes, or to so many bytes in all. Volumes shrink
to a third, label maps to a hundredth; an attack grows a thousandfold."""


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    path: Path
    line: int
    values: dict[str, str]
    """Cells without blanks around them: of the columns asked for by the names asked for, of others
    by their names in lower case."""

    def get(self, column: str, convert: Callable[[str], T]) -> T:
        """The value in ``column``, converted.

        Raises:
            DataError: the value is missing or ``convert`` refuses it.
        """
        try:
            return convert(self.values[column])
        except (ValueError, KeyError) as error:
            raise self.error(
                f"column {column!r} holds {self.values.get(column)!r}: {error}"
            ) from None

    def error(self, message: str) -> DataError:
        """An error that names this line; to be raised by the caller."""
        return DataError(f"{self.path}, line {self.line}: {message}")


def read_table(path: Path, columns: Sequence[str]) -> tuple[list[Row], tuple[str, ...]]:
    """The lines of a csv file that has at least ``columns``, and notes on what was left out.

    What spreadsheets and scripts make of csv files is read as it is meant: cells divided by commas,
    semicolons or tabs, names of columns in any case, blanks around cells, a byte-order mark, any
    line ends, empty lines, lines of nothing but delimiters, empty cells at the end of a line, and a
    first line ``sep=;``.
    A line that repeats an earlier one to the letter is left out with a note.

    Args:
        path: the file, in UTF-8.
        columns: names of the columns that it must have.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it is not UTF-8, has no lines, lacks a column or has one twice, a line has too
            few or too many cells, a quotation mark is not closed; names the line. Or it is larger
            than any such table.
    """
    text = _text(path)
    delimiter = _delimiter(path, text, columns)
    lines = _cells(path, text, delimiter)
    if not lines:
        raise DataError(f"{path} is empty; it needs {','.join(columns)}")
    names = _names(path, *lines[0], columns)
    rows = []
    for line, cells in lines[1:]:
        filled = len(cells)
        while filled > len(names) and not cells[filled - 1]:
            filled -= 1
        # a column without a name is the running number that pandas writes
        values = {name: cell for name, cell in zip(names, cells, strict=False) if name}
        row = Row(path, line, values)
        if filled != len(names):
            raise row.error(f"{filled} cells under {len(names)} columns: {cells[:MOST_SHOWN]}")
        rows.append(row)
    if not rows:
        raise DataError(f"{path} has a header and no lines")
    return _without_repeats(rows)


def whole_number(text: str) -> int:
    """An integer, which spreadsheets may have written as ``1.0``.

    Raises:
        ValueError: it is something else.
    """
    if not re.fullmatch(r"[+-]?[0-9]+(\.0*)?", text):
        raise ValueError("it is not a whole number")
    return int(text.partition(".")[0])


def number(text: str) -> float:
    """A number with a decimal point.

    Raises:
        ValueError: it is something else, such as a number with a decimal comma.
    """
    if re.fullmatch(r"[+-]?[0-9]*,[0-9]+", text):
        raise ValueError("write it with a decimal point: 1,234 could be either")
    return float(text)


def identifier(text: str) -> str:
    """A name, or a number that names something: ``600000.0``, as spreadsheets make it, is 600000.

    Raises:
        ValueError: it is empty.
    """
    if not text:
        raise ValueError("it is empty")
    return re.sub(r"\A([0-9]+)\.0+\Z", r"\1", text)


def _text(path: Path) -> str:
    if path.stat().st_size > MOST_BYTES:
        raise DataError(f"{path} is larger than {MOST_BYTES} bytes, as no table of labels is")
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
        problem, at = "a zero byte", content.find(b"\0")
    except UnicodeDecodeError as error:
        problem, at = f"{error.reason}, {content[error.start]:#x}", error.start
    if at >= 0:
        line = content.count(b"\n", 0, at) + 1
        raise DataError(
            f"{path} is not a csv file in UTF-8: {problem} in line {line}. Save it as such"
        )
    # blank, so that lines keep their numbers
    return re.sub(r'\A"?sep=[^\r\n]?"?[ \t]*(?=[\r\n])', "", text, flags=re.IGNORECASE)


def _delimiter(path: Path, text: str, columns: Sequence[str]) -> str:
    """The one by which the first line has most of ``columns``, then most cells."""
    header = next((line for line in io.StringIO(text, newline=None) if line.strip()), "")
    n_columns = 1 + max(map(header.count, DELIMITERS))
    if n_columns > MOST_COLUMNS or len(header) >= csv.field_size_limit():
        raise DataError(
            f"{path}: the first line has {n_columns} columns and {len(header)} letters, as that of "
            "no table of labels has"
        )
    wanted = {column.lower() for column in columns}

    def found(delimiter: str) -> tuple[int, int]:
        (cells,) = csv.reader([header], delimiter=delimiter, skipinitialspace=True)
        return len(wanted & {cell.strip().lower() for cell in cells}), len(cells)

    return max(DELIMITERS, key=found)


def _cells(path: Path, text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """Number and cells of every line that is not blank."""
    # newline=None: all line ends become \n; strict: an open quotation mark would join lines
    reader = csv.reader(
        io.StringIO(text, newline=None), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    lines, start = [], 1
    try:
        for raw in reader:
            cells = [cell.strip() for cell in raw]
            if any(cells):
                lines.append((start, cells))
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {start}: this is not a csv file: {error}") from None
    return lines


def _names(path: Path, line: int, header: list[str], columns: Sequence[str]) -> list[str]:
    """Names of the columns: as in ``columns``, else in lower case; those at the end have one."""
    asked = {column.lower(): column for column in columns}
    names = [asked.get(name.lower(), name.lower()) for name in header]
    while not names[-1]:
        names.pop()
    missing = [column for column in columns if column not in names]
    if missing:
        raise DataError(
            f"{path} lacks the column {missing[0]!r}; it needs {','.join(columns)} and has "
            f"{','.join(header)}"
        )
    twice = [name for name in names if name and names.count(name) > 1]
    if twice:
        raise DataError(f"{path}, line {line}: there are two columns {twice[0]!r}; rename one")
    return names


def _without_repeats(rows: list[Row]) -> tuple[list[Row], tuple[str, ...]]:
    first: dict[tuple[str, ...], Row] = {}
    for row in rows:
        first.setdefault(tuple(row.values.values()), row)
    repeats = [row for row in rows if first[tuple(row.values.values())] is not row]
    if not repeats:
        return rows, ()
    note = (
        f"{repeats[0].path.name}: lines that repeat an earlier one are left out: {len(repeats)}, "
        f"the first is line {repeats[0].line}"
    )
    return list(first.values()), (note,)


def write_table(path: Path, columns: str | Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a csv file in UTF-8; ``columns`` are the names, or one text of them with commas."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns.split(",") if isinstance(columns, str) else columns)
        writer.writerows(rows)


def cell(text: str) -> str:
    """A text from elsewhere as a cell of a table that people open in a spreadsheet.

    One that begins with = + - @, as formulas do, gets a blank before it: spreadsheets show such a
    cell as text, and ``read_table``, which takes blanks away, reads what it was.
    """
    return f" {text}" if text.startswith(FORMULAS) else text


def content_hash(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def check_growth(packed: int, unpacked: int) -> None:
    """Refuse what unpacks to far more than it is, before it does.

    Args:
        packed: bytes that there are.
        unpacked: bytes that are promised.

    Raises:
        DataError: it would be more than ``GROWN`` and ``GROWTH`` times as much.
    """
    if unpacked > max(GROWN, GROWTH * packed):
        raise DataError(
            f"its {packed} bytes would unpack to {unpacked}, which is more likely an attack than "
            "an image; save it uncompressed if it is one"
        )


def new_folder(path: Path) -> None:
    """Make a folder to write a data set to.

    Raises:
        FileExistsError: it is there and not empty.
    """
    path.mkdir(parents=True, exist_ok=True)
    if any(path.iterdir()):
        raise FileExistsError(f"{path} is not empty: name a new folder, or empty this one")


def check_inside(root: Path, path: Path) -> None:
    """Refuse a symbolic link that leads out of the root.

    Args:
        root: a folder.
        path: in a folder below it that is itself no such link.

    Raises:
        DataError: it is such a link.
    """
    if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
        raise DataError(
            f"{path} is a link to {path.resolve()}, which is not below {root}. Put the files there "
            "themselves"
        )


def resolve_root(name: str, root: str | Path | None, hint: str) -> Path:
    """The folder with a data set's files: ``root``, else ``$AL_GYM_DATA/<name>``; ~ is the home.

    Raises:
        FileNotFoundError: neither is a folder; says which was looked for and ``hint``.
        ValueError: ``root`` is empty.
    """
    folder = data_folder(name) if root is None else user_path("root", root)
    if folder is None:
        raise FileNotFoundError(
            f"no folder for {name}: pass root=, or set AL_GYM_DATA to a folder that holds "
            f"{name}/. {hint}"
        )
    if folder.is_file():
        raise FileNotFoundError(f"{name}: {folder} is a file, not a folder. {hint}")
    if not folder.is_dir():
        raise FileNotFoundError(f"{name}: there is no folder {folder}. {hint}")
    return folder


def data_folder(name: str) -> Path | None:
    """``$AL_GYM_DATA/<name>``, or None if AL_GYM_DATA is not set; ~ is the home."""
    base = os.environ.get("AL_GYM_DATA")
    return user_path("AL_GYM_DATA", base) / name if base else None


def user_path(name: str, path: str | Path) -> Path:
    """A path that a person gave as the setting ``name``; ~ is the home.

    Raises:
        TypeError: it is no path.
        ValueError: it is empty, or ~ names somebody who has no home here.
    """
    if not isinstance(path, (str, Path)):
        raise TypeError(f"{name} must be a path, not {path!r}")
    if not str(path).strip():
        raise ValueError(f"{name} is empty; pass a path, or leave it out")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{name}={str(path)!r}: {error}") from None
