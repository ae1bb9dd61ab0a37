"""One process at a time in a folder.

The operating system holds the lock, for as long as the process lives and not longer: a crash leaves
none. Who holds it stands in a small file beside it. On folders that machines share this relies on
the file system to pass locks on: NFS does from version 4 on, or with its lock daemon; Lustre when
it is mounted with ``flock``. Where locks are not known at all, ``filelock`` says so.
"""

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from al_gym import durable
from benchmarks.matrix.layout import HOLDER, LOCK


class InUseError(ValueError):
    """Another process works in a folder; says which."""


@contextlib.contextmanager
def only_process(
    folder: Path, what: str, wait: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Be the only process that does something in a folder, which is made if it is not there.

    Args:
        folder: whose lock is taken. If nothing else is in it in the end, it is removed.
        what: is done, in words.
        wait: told who is waited for; None: nobody is.

    Raises:
        InUseError: another process is at it, and is not waited for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if wait is None:
            raise InUseError(
                f"{folder}: {_holder(folder)} runs {what}. Wait for it, stop it, or choose another "
                "folder"
            ) from None
        wait(f"{folder}: {_holder(folder)} runs {what}; waiting for it")
        lock.acquire()
    try:
        me = {"process": os.getpid(), "host": socket.gethostname()}
        durable.write_text(folder / HOLDER, json.dumps(me))
        yield
    finally:
        with contextlib.suppress(OSError):  # the disk may be what is wrong
            (folder / HOLDER).unlink(missing_ok=True)
        lock.release()
        with contextlib.suppress(OSError):
            if [path.name for path in folder.iterdir()] == [LOCK]:
                (folder / LOCK).unlink()
                folder.rmdir()


def _holder(folder: Path) -> str:
    try:
        found = json.loads((folder / HOLDER).read_text())
        return f"process {found['process']} on {found['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # it has just begun, or ends
