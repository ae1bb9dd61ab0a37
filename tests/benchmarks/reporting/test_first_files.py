"""Which files were asked for first, counted by hand."""

import json

import pandas as pd
import pytest

from benchmarks.matrix import layout
from benchmarks.reporting import first_files, results
from benchmarks.reporting.first_files import FirstFiles
from tests.benchmarks import made_runs

QUERIES = {
    0: [["b, 1.png", "a.png"], ["c.png", "a.png"], *[[f"{n}.png", "d.png"] for n in range(18)]],
    1: [["c.png", "e.png"], ["a.png", "f.png"], *[[f"{n}.png", "b, 1.png"] for n in range(18)]],
}
"""Of two seeds of twenty queries: the first tenth are two."""


@pytest.fixture
def folder(tmp_path):
    folder = made_runs.write(tmp_path, gains={"ms": 0.1, "lc": 0.0}, n_seeds=2, n_steps=20)
    for seed, queries in QUERIES.items():
        path = folder / "chestCT" / "ms" / f"seed{seed}" / layout.CURVE
        curve = pd.read_csv(path)
        curve["selected_names"] = list(map(json.dumps, [[], *queries]))
        curve.to_csv(path, index=False)
    return folder


def test_first_query_and_first_tenth_by_hand(folder, tmp_path):
    (experiment,) = results.load([folder])
    lc, ms = first_files.first_files(experiment)
    assert lc.method == "LC" and len(lc.first) <= 10 and lc.n_seeds == 2
    often = [("a.png", 2), ("c.png", 2), ("b, 1.png", 1), ("e.png", 1), ("f.png", 1)]
    assert ms == FirstFiles("MS", 0, ["b, 1.png", "a.png"], often, 2)
    first_files.write([ms], tmp_path / "first.csv")
    table = pd.read_csv(tmp_path / "first.csv")
    assert list(zip(table["file"], table["seeds"], strict=True)) == often
    assert set(table["method"]) == {"MS"} and set(table["of"]) == {2}


def test_cells_of_older_programs_stand_beside_new_ones(folder):
    """Theirs have no such column: what they asked for is not said, and all else is as before."""
    (before,) = results.load([folder])
    for path in folder.glob(f"*/lc/*/{layout.CURVE}"):
        pd.read_csv(path).drop(columns="selected_names").to_csv(path, index=False)
    (experiment,) = results.load([folder])
    assert [files.method for files in first_files.first_files(experiment)] == ["MS"]
    pd.testing.assert_frame_equal(
        experiment.curves.drop(columns="selected_names"),
        before.curves.drop(columns="selected_names"),
    )
    for path in folder.glob(f"*/ms/*/{layout.CURVE}"):
        pd.read_csv(path).drop(columns="selected_names").to_csv(path, index=False)
    (old,) = results.load([folder])
    assert first_files.first_files(old) == []
