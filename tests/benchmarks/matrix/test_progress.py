"""The progress bar: what it counts, and that a look costs what runs, not what is planned."""

import os
from pathlib import Path

import pytest

from benchmarks.matrix import layout, progress
from benchmarks.matrix.progress import Progress, lines_of


@pytest.fixture(autouse=True)
def only_when_asked(monkeypatch):
    """No looks but those of the tests, and the last."""
    monkeypatch.setattr(progress, "SECONDS", 3600)


@pytest.fixture
def cells(tmp_path):
    folders = [tmp_path / f"seed{seed}" for seed in range(300)]
    for folder in folders:
        folder.mkdir()
    return folders


def write_curve(folder: Path, n: int) -> None:
    (folder / layout.CURVE).write_text("header\n" + "line\n" * n)


def test_lines_of_a_curve(tmp_path):
    assert lines_of(tmp_path / layout.CURVE) == 0
    write_curve(tmp_path, 0)
    assert lines_of(tmp_path / layout.CURVE) == 0
    write_curve(tmp_path, 3)
    with (tmp_path / layout.CURVE).open("a") as file:
        file.write("torn")
    assert lines_of(tmp_path / layout.CURVE) == 3


def test_the_bar_counts_lines_of_all_cells_and_those_that_ended_well(cells):
    left, *rest = cells[1:5]  # the first is finished
    write_curve(left, 2)  # an earlier run was stopped here
    totals = dict.fromkeys(cells[:5], 4)
    with Progress(totals, [left, *rest], "title") as bar:
        shown = bar._bar
        assert (shown.n, shown.total) == (4 + 2, 20)
        bar.begin(left, rest[0])
        write_curve(left, 3)
        write_curve(rest[0], 1)
        write_curve(rest[1], 4)  # another machine's: seen when its turn comes
        bar.look()
        assert shown.n == 4 + 3 + 1
        assert shown.postfix == "1 of 5 cells"
        write_curve(left, 4)
        bar.end(left, None)
        bar.end(rest[0], "it failed")
        bar.end(rest[1], None)
        write_curve(rest[0], 3)  # ended: looked at no more
        bar.look()
        assert shown.n == 4 + 4 + 1 + 4
        assert shown.postfix == "3 of 5 cells"


@pytest.mark.parametrize("n_running", [0, 1, 7])
def test_a_look_opens_one_file_a_running_cell_and_asks_for_no_other(cells, monkeypatch, n_running):
    with Progress(dict.fromkeys(cells, 4), cells, "title") as bar:
        bar.begin(*cells[:n_running])
        opened, asked = [], []
        read, stat = Path.read_bytes, os.stat
        monkeypatch.setattr(Path, "read_bytes", lambda path: opened.append(path) or read(path))
        monkeypatch.setattr(
            os, "stat", lambda path, **more: asked.append(path) or stat(path, **more)
        )
        bar.look()
        monkeypatch.undo()
    assert sorted(opened) == sorted(folder / layout.CURVE for folder in cells[:n_running])
    assert asked == []
