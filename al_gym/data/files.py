"""Source files: where they lie, and label files, which are untrusted: errors name the line."""

import csv
import io
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    path: Path
    line: int
    values: dict[str, str]

    def get(self, column: str, convert: Callable[[str], T]) -> T:
        """The value in ``column``, converted.

        Raises:
            ValueError: the value is missing or ``convert`` refuses it.
        """
        try:
            return convert(self.values[column].strip())
        except (ValueError, KeyError, AttributeError) as error:
            raise self.error(
                f"column {column!r} holds {self.values.get(column)!r}: {error}"
            ) from None

    def error(self, message: str) -> ValueError:
        """An error that names this line; to be raised by the caller."""
        return ValueError(f"{self.path}, line {self.line}: {message}")


def read_table(path: Path, columns: Sequence[str]) -> tuple[list[Row], bytes]:
    """The lines of a csv file that has at least ``columns``, and the file's content.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not UTF-8, has no lines, or lacks a column.
    """
    content = path.read_bytes()
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig")))
        rows = [Row(path, reader.line_num, values) for values in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a csv file in UTF-8: {error}") from None
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(
            f"{path} lacks the column {missing[0]!r}; it needs {','.join(columns)} and has "
            f"{','.join(reader.fieldnames or ())}"
        )
    if not rows:
        raise ValueError(f"{path} has a header and no lines")
    return rows, content


def write_table(path: Path, columns: str, rows: Iterable[Sequence[Any]]) -> None:
    """Write a csv file; ``columns`` are the names, with commas."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns.split(","))
        writer.writerows(rows)


def new_folder(path: Path) -> None:
    """Make a folder to write a data set to.

    Raises:
        FileExistsError: it is there and not empty.
    """
    path.mkdir(parents=True, exist_ok=True)
    if any(path.iterdir()):
        raise FileExistsError(f"{path} is not empty: name a new folder, or empty this one")


def resolve_root(name: str, root: str | Path | None, hint: str) -> Path:
    """The folder with a data set's files: ``root``, else ``$AL_GYM_DATA/<name>``.

    Raises:
        FileNotFoundError: neither is there; says which was looked for and ``hint``.
    """
    folder = data_folder(name) if root is None else Path(root)
    if folder is None:
        raise FileNotFoundError(
            f"no folder for {name}: pass root=, or set AL_GYM_DATA to a folder that holds "
            f"{name}/. {hint}"
        )
    if not folder.is_dir():
        raise FileNotFoundError(f"{name}: there is no folder {folder}. {hint}")
    return folder


def data_folder(name: str) -> Path | None:
    """``$AL_GYM_DATA/<name>``, or None if AL_GYM_DATA is not set."""
    base = os.environ.get("AL_GYM_DATA")
    return Path(base) / name if base else None
