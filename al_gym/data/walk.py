"""The files below a folder: hidden ones apart, links followed inside it and never out of it."""

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from al_gym.errors import DataError

SYSTEM = (
    "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "#recycle", "$recycle.bin",
    "system volume information", "lost+found",
)  # fmt: skip
"""What systems leave in folders, in lower case; not read, as all whose name begins with a dot."""


@dataclass(frozen=True)
class Found:
    """Paths below the root, with slashes, sorted folder by folder."""

    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
    """Files, and folders with all they hold."""
    hidden: list[str] = field(default_factory=list)
    """Files, and folders with all they hold."""


def find_files(root: Path, exclude: Sequence[str] = ()) -> Found:
    """Everything below ``root``.

    Args:
        root: the folder.
        exclude: patterns of the shell, such as ``*_mask.png``, for the path below the root or for
            the name of a file or folder.

    Raises:
        DataError: a link that leads out of the root, to nothing, or to a folder that it is in; a
            name that is not UTF-8.
    """
    found = Found()
    _look_into(root, "", (root.resolve(),), exclude, found)
    return found


def is_excluded(name: str, exclude: Sequence[str]) -> bool:
    """Whether a path below the root, or its last part, matches one of the patterns."""
    last = name.rpartition("/")[2]
    return any(fnmatch.fnmatchcase(text, pattern) for text in (name, last) for pattern in exclude)


def folders_above(name: str) -> list[str]:
    """``a/b/c.png`` is in ``a`` and ``a/b``."""
    return [name[: slash.start()] for slash in re.finditer("/", name)]


def without_ending(image: str) -> str:
    """``a.png`` and ``a.nii.gz`` are ``a``."""
    return re.sub(r"\.[^./]*(\.gz)?$", "", image)


def listed(names: Sequence[str]) -> str:
    """The first names, for a note."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _look_into(
    folder: Path, prefix: str, above: tuple[Path, ...], exclude: Sequence[str], found: Found
) -> None:
    """Add what is in ``folder``; ``above`` are the true paths of it and the folders it is in."""
    for path in sorted(folder.iterdir()):
        name = prefix + path.name
        if path.name.startswith(".") or path.name.lower() in SYSTEM:
            found.hidden.append(name)
            continue
        if is_excluded(name, exclude):
            found.excluded.append(name)
            continue
        _check_name(path)
        true_path = _followed(path, above[0]) if path.is_symlink() else path
        if true_path.is_dir():
            if true_path.resolve() in above:
                raise DataError(
                    f"{path} is a link to a folder that it is in; remove it, or leave it out with "
                    "exclude"
                )
            found.folders.append(name)
            _look_into(path, f"{name}/", (*above, true_path.resolve()), exclude, found)
        elif true_path.is_file():
            found.files.append(name)
        else:
            found.hidden.append(name)  # a pipe, a device


def _followed(link: Path, root: Path) -> Path:
    """Where a link leads."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # of a loop, by Python's version
        raise DataError(f"{link} is a link that leads nowhere ({error}); remove it") from None
    if not target.is_relative_to(root):
        raise DataError(
            f"{link} is a link out of the folder, to {target}; copy what it leads to into the "
            "folder, or remove the link, or leave it out with exclude"
        )
    return target


def _check_name(path: Path) -> None:
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{str(path)!a}: the name is not UTF-8; rename the file") from None
