"""The main job: folders, curves, equal starts, the table and the figure."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks import run, summary


@pytest.fixture(scope="module")
def folder_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    labels = np.arange(150) % 3
    images = np.clip(60 + 60 * labels[:, None, None] + rng.normal(0, 50, (150, 8, 8)), 0, 255)
    np.savez(root / "images.npz", images=images.astype(np.uint8), labels=labels)
    return root


def config(root, out, **changes) -> run.RunConfig:
    settings = {
        "dataset": "Folder",
        "methods": ("random", "ms", "all", "drla", "sb3-ddpg", "sb3-ppo"),
        "out": out,
        "seeds": 2,
        "root": root,
        "query_size": 6,
        "budget": 0.4,
    }
    return run.RunConfig(**{**settings, **changes})


@pytest.fixture(scope="module")
def finished(folder_root, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "first"
    run.main(config(folder_root, out))
    return out / "Folder"


def lines(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_every_cell_has_a_folder_with_config_and_curve(finished):
    for method in ("random", "ms", "all", "drla", "sb3-ddpg", "sb3-ppo"):
        for seed in (0, 1):
            folder = finished / method / f"seed{seed}"
            record = json.loads((folder / "config.json").read_text())
            assert (record["method"], record["seed"]) == (method, seed)
            assert record["environment"]["query_size"] == 6
            assert record["classifier"]["network"] == "auto"
            assert len(record["fingerprint"]) == 32 and record["versions"]["torch"]
            assert tuple(lines(folder / "curve.csv")[0]) == summary.COLUMNS


@pytest.mark.parametrize("method", ["ms", "drla", "sb3-ddpg", "sb3-ppo"])
def test_a_curve_has_a_line_a_step(finished, method):
    rows = lines(finished / method / "seed0" / "curve.csv")
    n = [int(row["n_labelled"]) for row in rows]
    assert [int(row["step"]) for row in rows] == list(range(len(rows)))
    assert n == [*range(n[0], n[-1], 6), n[-1]]
    assert rows[0]["reward"] == "" and all(0 <= float(row["reward"]) < 1 for row in rows[1:])
    assert float(rows[-1]["labelled_fraction"]) == pytest.approx(0.4, abs=0.005)
    assert all(float(row["seconds"]) >= 0 for row in rows)


def test_methods_on_one_seed_start_alike_and_seeds_differ(finished):
    def start(method, seed):
        row = lines(finished / method / f"seed{seed}" / "curve.csv")[0]
        return row["macro_f1"], row["micro_f1"]

    for method in ("ms", "drla", "sb3-ddpg", "sb3-ppo"):
        assert start("random", 0) == start(method, 0)
    assert start("random", 0) != start("random", 1)


def test_all_is_one_line_at_the_whole_training_set(finished):
    (row,) = lines(finished / "all" / "seed0" / "curve.csv")
    assert row["labelled_fraction"] == "1.0" and row["n_labelled"] == "105"
    assert float(row["macro_f1"]) > float(
        lines(finished / "ms" / "seed0" / "curve.csv")[0]["macro_f1"]
    )


def test_the_figure_is_a_picture(finished):
    with Image.open(finished / "curves.png") as figure:
        assert figure.width > 1000


def without_seconds(path):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in lines(path)]


def test_the_same_command_gives_the_same_curves(finished, folder_root):
    before = {path: without_seconds(path) for path in finished.rglob("curve.csv")}
    run.main(config(folder_root, finished.parent))
    assert {path: without_seconds(path) for path in before} == before


def test_other_settings_do_not_overwrite(finished, folder_root):
    with pytest.raises(ValueError, match=r"results of other settings \(environment\)"):
        run.main(config(folder_root, finished.parent, query_size=5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("random", "best")}, "unknown method 'best', choose from random lc"),
        ({"methods": ("ms", "ms")}, "named twice"),
        ({"methods": ()}, "no methods"),
        ({"seeds": 0}, "seeds"),
    ],
)
def test_bad_settings(folder_root, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run.main(config(folder_root, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_the_command_line(folder_root, tmp_path):
    command = [
        sys.executable, "-m", "benchmarks.run", "--dataset", "Folder", "--methods", "lc", "fusion",
        "--seeds", "1", "--root", str(folder_root), "--budget", "0.2", "--out", str(tmp_path / "r"),
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Macro F1" in result.stdout and "fusion" in result.stdout and "AULC" in result.stdout
    assert "100%" in result.stderr  # the progress bar
    wrong = subprocess.run(
        [*command[:5], "--methods", "best", "--out", "x"], capture_output=True, text=True
    )
    assert wrong.returncode != 0
    assert "unknown method 'best'" in wrong.stderr and "Traceback" not in wrong.stderr
