"""Whole or not at all: what is replaced, what is left behind, and whose leavings are removed."""

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from al_gym import durable

WRITES = """
import sys
from pathlib import Path
from al_gym import durable
with durable.writing(Path(sys.argv[1])) as unfinished:
    unfinished.write_text("half")
    print("ready", flush=True)
    sys.stdin.read()
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def begun(target):
    """A process that has begun to write, and waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES, str(target)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


def end(process, number=signal.SIGKILL):
    process.send_signal(number)
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_a_file_takes_the_place_of_another(tmp_path):
    target = tmp_path / "new" / "file"
    for text in ("one", "zwölf"):
        durable.write_text(target, text)
        assert target.read_text(encoding="utf-8") == text
        assert names(target.parent) == ["file"]
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_nothing_is_there_before_all_is_there(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), durable.writing(target) as unfinished:
        unfinished.write_text("half")
        assert unfinished.name == "file" and target.read_text() == "old"
        raise KeyboardInterrupt
    assert names(tmp_path) == ["file"] and target.read_text() == "old"


def test_another_process_may_have_been_faster(tmp_path):
    target = tmp_path / "folder"
    with durable.writing(target) as unfinished:
        unfinished.mkdir()
        (unfinished / "mine").touch()
        target.mkdir()
        (target / "theirs").touch()
    assert names(target) == ["theirs"] and names(tmp_path) == ["folder"]


def test_the_content_is_on_disk_before_the_name_and_the_name_before_it_goes_on(
    tmp_path, monkeypatch
):
    """Recorded: every file and folder is synced, then it is renamed, then its place is synced."""
    done = []
    fsync, rename = os.fsync, os.replace

    def synced(number):
        done.append(Path(f"/proc/self/fd/{number}").readlink().name)
        fsync(number)

    def renamed(self, target):
        done.append("renamed")
        rename(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(type(tmp_path), "replace", renamed)
    with durable.writing(tmp_path / "folder") as unfinished:
        (unfinished / "inner").mkdir(parents=True)
        (unfinished / "inner" / "file").touch()
    assert sorted(done[:3]) == ["file", "folder", "inner"]
    assert done[3:] == ["renamed", tmp_path.name]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "file"
    target.write_text("old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        durable.write_text(target, "new")
    assert names(tmp_path) == ["file"] and target.read_text() == "old"


def test_a_file_system_that_cannot_sync_folders_is_no_reason_to_stop(tmp_path, monkeypatch):
    fsync = os.fsync

    def only_files(number):
        if stat.S_ISDIR(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(number)

    monkeypatch.setattr(os, "fsync", only_files)
    durable.write_text(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text"


def test_what_a_killed_process_left_goes_with_the_next_write_and_what_a_living_one_writes_stays(
    tmp_path,
):
    target = tmp_path / "file"
    process = begun(target)
    (left,) = tmp_path.iterdir()
    durable.sweep(tmp_path)
    assert left.is_dir()  # the process lives
    end(process)
    durable.write_text(tmp_path / "other", "text")
    assert left.is_dir()  # of another target
    durable.write_text(target, "text")
    assert names(tmp_path) == ["file", "other"]


def test_a_sweep_takes_all_that_killed_processes_left_and_nothing_else(tmp_path):
    for name in ("a.csv", "b"):
        end(begun(tmp_path / name))
    mine = [".hidden", "a.csv.tmp", ".a.csv.tmp", ".a.csv.12.x.tmp", "checkpoint"]
    for name in mine:
        (tmp_path / name).mkdir()
    assert len(names(tmp_path)) == len(mine) + 2
    durable.sweep(tmp_path)
    assert names(tmp_path) == sorted(mine)


def test_what_another_machine_left_goes_after_a_week_without_a_change(tmp_path):
    left = tmp_path / ".file.0123abcd.1.x.tmp"
    left.mkdir()
    (left / "file").touch()
    durable.sweep(tmp_path)
    assert left.is_dir()
    old = time.time() - durable.ABANDONED - 10
    os.utime(left, (old, old))
    durable.sweep(tmp_path)
    assert left.is_dir()  # its file has changed since
    os.utime(left / "file", (old, old))
    durable.sweep(tmp_path)
    assert not left.exists()
