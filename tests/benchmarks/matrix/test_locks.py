"""Two at once: who is there is named, and a crash leaves nothing that stands in the way."""

import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from benchmarks import run
from benchmarks.matrix import layout
from benchmarks.matrix.locks import InUseError, only_process

HOLDS = """
import sys
from pathlib import Path
from benchmarks.matrix.locks import only_process
with only_process(Path(sys.argv[1]), "something"):
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of a folder."""
    folder = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "ready\n"
        yield process, folder
        process.kill()


def test_a_second_run_is_refused_and_told_whose_the_first_is(holder, settings):
    process, folder = holder
    who = re.escape(f"{folder}: process {process.pid} on {socket.gethostname()} runs cells")
    with pytest.raises(InUseError, match=who + ".*Wait for it, stop it, or choose another"):
        run.main(settings(folder, methods=("random",), seeds=1))
    assert not list(folder.rglob(layout.CONFIG))
    process.stdin.close()
    process.wait()
    assert not folder.exists()  # there was nothing in it


def test_not_even_an_overwriting_one_removes_what_another_works_on(holder, settings, finished):
    _, folder = holder
    (folder / "Folder" / "ms" / "seed0").mkdir(parents=True)
    kept = folder / "Folder" / "ms" / "seed0" / layout.CONFIG
    kept.write_text("{")
    with pytest.raises(InUseError):
        run.main(settings(folder, methods=("ms",), seeds=1, overwrite=True))
    assert kept.exists()


def test_a_killed_process_leaves_no_lock(holder):
    process, folder = holder
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (folder / layout.HOLDER).exists()  # as a crash leaves it
    with only_process(folder, "something"):
        assert json.loads((folder / layout.HOLDER).read_text())["process"] == os.getpid()
    assert not folder.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_whose_file_is_damaged_is_another_process(tmp_path, content):
    with only_process(tmp_path, "something"):
        (tmp_path / layout.HOLDER).write_text(content)
        with (
            pytest.raises(InUseError, match="another process runs that"),
            only_process(tmp_path, "that"),
        ):
            pytest.fail("two at once")


def test_what_is_in_a_folder_stays(tmp_path):
    (tmp_path / "file").touch()
    with only_process(tmp_path, "something"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", layout.LOCK]


def test_a_run_that_cannot_begin_leaves_no_folder(settings, tmp_path):
    with pytest.raises(FileNotFoundError):
        run.main(settings(tmp_path / "out", root=tmp_path / "nothing"))
    assert not (tmp_path / "out").exists()
