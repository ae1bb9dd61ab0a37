"""Run folders as they are read: of today, of before, and damaged."""

import json
import shutil

import numpy as np
import pytest

from al_gym.errors import CheckpointError
from benchmarks.matrix import layout
from benchmarks.matrix.facts import Facts
from benchmarks.reporting import results, statistics
from tests.benchmarks import made_runs


def test_curves_and_single_points_apart(experiment):
    assert set(experiment.supervised["method"]) == {"all"}
    assert len(experiment.supervised) == 10
    assert experiment.curves["method"].nunique() == 8
    assert experiment.methods == [
        "random", "lc", "ms", "en", "fusion", "all", "drla", "drla-embed", "frozen",
    ]  # fmt: skip
    assert list(experiment.everything["method"].unique()) == experiment.methods
    assert experiment.seeds == list(range(10))


def test_a_control_is_a_baseline_of_its_methods_alone(experiment):
    assert experiment.baselines == {"random": None, "ms": None, "frozen": ["drla"]}


def test_methods_that_have_left_the_program_are_read(tmp_path):
    gains = {"drla-set-credit": 0.0, "drla-residual": 0.0, "ms": 0.1}
    (loaded,) = results.load([made_runs.write(tmp_path, gains=gains, n_seeds=1, n_steps=2)])
    assert loaded.methods == ["ms", "drla-residual", "drla-set-credit"]
    assert loaded.label("drla-residual") == "DRLA-RESIDUAL"
    assert loaded.facts["drla-residual"] == Facts("drla-residual")


def test_facts_of_a_method_of_ones_own(tmp_path):
    names = ("my_package.module:Name", "mine:Bound", "mine:Point")
    facts = {
        names[0]: {"what": "mine", "control": "random"},
        names[1]: {"what": "knows", "compared": False},
        names[2]: {"what": "one point", "has_curve": False},
    }
    gains = dict.fromkeys(("random", *names), 0.0)
    folder = made_runs.write(tmp_path, gains=gains, n_seeds=1, n_steps=2, facts=facts)
    (loaded,) = results.load([folder])
    assert loaded.label(names[0]) == "Name" and loaded.label(names[1]) == "Bound (bound)"
    assert set(loaded.compared["method"]) == {"random", names[0]}
    assert list(loaded.supervised["method"].unique()) == [names[2]]


def test_names_that_would_look_the_same_are_shown_in_full(tmp_path):
    gains = {"one:Name": 0.0, "two:Name": 0.0, "policies/p.safetensors": 0.0}
    (loaded,) = results.load([made_runs.write(tmp_path, gains=gains, n_seeds=1, n_steps=2)])
    assert [loaded.label(m) for m in loaded.methods] == ["one:Name", "p", "two:Name"]


def test_a_folder_without_the_methods_name_is_read_by_its_own(made_folder, tmp_path):
    """Its config.json was written before "method" was in it."""
    shutil.copytree(made_folder / "chestCT" / "ms", tmp_path / "chestCT" / "ms")
    path = tmp_path / "chestCT" / "ms" / "seed0" / layout.CONFIG
    config = json.loads(path.read_text())
    del config["method"]
    path.write_text(json.dumps(config))
    (loaded,) = results.load([tmp_path])
    assert loaded.methods == ["ms"] and len(loaded.seeds) == 10


def test_cells_of_two_folders_are_put_together_but_not_twice(tmp_path):
    one = made_runs.write(tmp_path / "one", gains={"ms": 0.0}, n_seeds=2, n_steps=2)
    two = made_runs.write(tmp_path / "two", gains={"lc": 0.0}, n_seeds=2, n_steps=2)
    (loaded,) = results.load([one, two])
    assert loaded.methods == ["lc", "ms"]
    with pytest.raises(ValueError, match="lc with seed 0 is in .* and "):
        results.load([two, shutil.copytree(two, tmp_path / "again")])


def test_a_torn_line_is_left_out(made_folder, tmp_path):
    out = shutil.copytree(made_folder, tmp_path / "out")
    cell = out / "chestCT" / "ms" / "seed1"
    (cell / layout.RESULT).unlink()
    text = (cell / layout.CURVE).read_text()
    (cell / layout.CURVE).write_text("".join(text.splitlines(keepends=True)[:3]) + "2,9,0.2")
    (loaded,) = results.load([out])
    assert loaded.unfinished == (results.Unfinished("ms", 1, 1, None),)
    assert set(loaded.curves.query("method == 'ms'")["seed"]) == {0, *range(2, 10)}


def test_other_starts_are_not_merged(made_folder, tmp_path):
    out = shutil.copytree(made_folder, tmp_path / "out")
    (out / "chestCT" / "ms" / "seed1" / layout.START).write_text("another")
    with pytest.raises(ValueError, match="did not begin with the same labelled set"):
        results.load([out])


def test_a_config_that_cannot_be_read_is_named(made_folder, tmp_path):
    out = shutil.copytree(made_folder, tmp_path / "out")
    path = out / "chestCT" / "ms" / "seed1" / layout.CONFIG
    path.write_text("")
    with pytest.raises(ValueError, match=rf"{path} cannot be read"):
        results.load([out])


def test_a_folder_without_results_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no results in"):
        results.load([tmp_path])


def test_predictions_belong_to_their_cells(predicting, predicting_folder):
    ms = predicting.curves[predicting.curves["method"] == "ms"]
    (first, *_) = ms[ms["seed"] == 3]["predictions"]
    assert first.path.parent == predicting_folder / "chestCT" / "ms" / "seed3"
    assert first.of_lines(ms[ms["seed"] == 3]["step"].to_numpy()).shape == (9, 120)
    assert predicting.without_predictions == []


def test_other_groups_of_the_test_images_cannot_be_compared(predicting_folder, tmp_path):
    shutil.copytree(predicting_folder, tmp_path / "runs")
    path = tmp_path / "runs" / "chestCT" / "ms" / "seed2" / layout.TEST_IMAGES
    with np.load(path) as file:
        labels = file["labels"]
    np.savez(path, labels=labels, groups=np.arange(120, dtype=np.int32))
    with pytest.raises(ValueError, match="seed2 has other test images, or other groups of them"):
        results.load([tmp_path / "runs"])


def test_predictions_that_are_not_whole_are_none(predicting_folder, tmp_path):
    shutil.copytree(predicting_folder, tmp_path / "runs")
    path = tmp_path / "runs" / "chestCT" / "lc" / "seed0" / layout.PREDICTIONS
    path.write_bytes(path.read_bytes()[:-1])
    (found,) = results.load([tmp_path / "runs"])
    assert found.without_predictions == ["lc"]
    assert statistics.paired_tests(found.curves, "macro_f1", "random")["groups"].max() == 0


@pytest.mark.parametrize(
    ("line", "old", "new", "said"),
    [
        (3, ",0.0100,", ",", "20 cells of"),
        (3, ",0.0100,", ",0.0x00,", "0x00"),
        (3, ",0.0100,", f",{10**30},", "seconds of step 2"),
        (3, "2,", "3,", "step 3 stands where 2 should be"),
        (0, "macro_f1", "micro_f1", "line 1"),
        (0, "reward", "rewarD", "line 1"),
        (3, '"', "", "cells of|delimiter"),
        (3, "[", "\udcff", "utf-8"),
    ],
)
def test_a_damaged_curve_is_refused_by_name(made_folder, tmp_path, line, old, new, said):
    """By pandas a short line is filled up, and a column with one wrong number taken for texts."""
    lines = (made_folder / "chestCT" / "ms" / "seed0" / layout.CURVE).read_text().splitlines()
    assert old in lines[line]
    lines[line] = lines[line].replace(old, new, 1)
    path = tmp_path / layout.CURVE
    path.write_text("\n".join(lines) + "\n", errors="surrogateescape")
    with pytest.raises(CheckpointError, match=f"{path} is damaged: .*({said})"):
        results.read_curve(path)
