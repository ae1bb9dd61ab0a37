"""Files and folders that are there whole or not at all, also after the power has gone.

What is written lies beside its target first, in a folder of its own whose name says who writes. It
is on disk before it takes the target's place, and its place is on disk before the writer goes on.
Whoever is killed half-way leaves such a folder behind; it is removed when the target is next
written, or by ``sweep``. Only the standard library is imported.
"""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

LEFT = re.compile(r"\.(?P<target>.+)\.(?P<machine>[0-9a-f]{8})\.(?P<process>\d+)\.[^.]+\.tmp")
"""Name of the folder beside a target in which it is written."""
ABANDONED = 7 * 24 * 3600
"""Seconds without a change after which such a folder is removed that another machine made, whose
processes cannot be asked for from here."""


@contextlib.contextmanager
def writing(target: Path) -> Iterator[Path]:
    """A path to write a file or folder to, of the target's name; it becomes ``target`` at the end.

    If the block raises, what was written is removed and the target stays as it was. A file takes
    the place of an older one; of a folder the first that is finished stays.

    Args:
        target: its folder is made if it is not there.

    Raises:
        OSError: the disk is full, or fails.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent, target.name)
    prefix = f".{target.name}.{_machine()}.{os.getpid()}."
    scratch = Path(tempfile.mkdtemp(".tmp", prefix, target.parent))
    try:
        unfinished = scratch / target.name
        yield unfinished
        for path in [unfinished, *unfinished.rglob("*")]:
            sync(path)
        try:
            unfinished.replace(target)
        except OSError:
            # a folder cannot replace a folder: another process has finished the same work
            if not target.is_dir():
                raise
        sync(target.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_bytes(target: Path, content: bytes) -> None:
    """Write a file; see ``writing``."""
    with writing(target) as unfinished:
        unfinished.write_bytes(content)


def write_text(target: Path, text: str) -> None:
    """Write a file in UTF-8; see ``writing``."""
    write_bytes(target, text.encode())


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on disk.

    Raises:
        OSError: the disk is full, or fails.
    """
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        # some file systems cannot do it for folders, whose names they write at once or never
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(number)


def sweep(folder: Path, target: str | None = None) -> None:
    """Remove what killed processes have left in a folder; what living ones write stays.

    Args:
        folder: looked at without the folders in it.
        target: name of the only file that is meant; None: all.
    """
    for path in folder.iterdir():
        found = LEFT.fullmatch(path.name)
        if found and target in (None, found["target"]) and not _is_written(path, found):
            shutil.rmtree(path, ignore_errors=True)


def _is_written(path: Path, found: re.Match[str]) -> bool:
    """Whether somebody may still write there."""
    if found["machine"] != _machine():
        try:
            changed = max(each.stat().st_mtime for each in (path, *path.rglob("*")))
        except FileNotFoundError:
            return True  # it is just being removed
        return time.time() - changed < ABANDONED
    try:
        os.kill(int(found["process"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # of another user, and alive
    return True


def _machine() -> str:
    """Where process numbers mean the same: the host, and in it the container."""
    try:
        container = str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # there are none
        container = ""
    return hashlib.sha256(f"{socket.gethostname()} {container}".encode()).hexdigest()[:8]
