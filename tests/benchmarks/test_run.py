"""The matrix: folders, curves, equal starts, resuming, workers, Ray, and what is refused."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from agents import strategies
from benchmarks import cell, run
from benchmarks.matrix import layout, methods
from benchmarks.matrix.presets import PRESETS
from tests.benchmarks.conftest import METHODS, curves


def names(experiment):
    return tuple(method.name for method in experiment.methods)


def lines(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def command(config, *more):
    """The command line of a ``RunConfig`` as the fixture makes it."""
    return [
        sys.executable, "-m", "benchmarks.run", "--dataset", config.dataset,
        "--methods", *config.methods, "--out", str(config.out), "--seeds", str(config.seeds),
        "--root", str(config.root), "--query-size", str(config.query_size),
        "--budget", str(config.budget), "--checkpoint-every", str(config.checkpoint_every),
        "--set", *config.set, *more,
    ]  # fmt: skip


def test_every_cell_has_a_folder_with_config_and_curve(finished):
    for method in METHODS:
        for seed in (0, 1):
            folder = finished / "Folder" / method / f"seed{seed}"
            record = json.loads((folder / "config.json").read_text())
            assert (record["method"], record["seed"]) == (method, seed)
            assert record["environment"]["query_size"] == 6
            assert record["classifier"]["network"] == "auto"
            assert record["notes"] == []
            assert len(record["fingerprint"]) == 32 and record["versions"]["torch"]
            assert record["device"].startswith("CPU") and "commit" in record
            has_settings = method.startswith(("drla", "sb3-")) or method == "all"
            assert (record["agent"] != {}) == has_settings
            assert tuple(lines(folder / "curve.csv")[0]) == layout.COLUMNS
            assert sorted(p.name for p in folder.iterdir() if p.name != "lock") == [
                "config.json", "curve.csv", "predictions.bin", "result.json", "start.txt",
                "test_images.npz",
            ]  # fmt: skip


@pytest.mark.parametrize("method", ["ms", "drla", "sb3-ddpg", "sb3-ppo"])
def test_a_curve_has_a_line_a_step(finished, method):
    rows = lines(finished / "Folder" / method / "seed0" / "curve.csv")
    n = [int(row["n_labelled"]) for row in rows]
    assert [int(row["step"]) for row in rows] == list(range(len(rows)))
    assert n == [*range(n[0], n[-1], 6), n[-1]]
    assert rows[0]["reward"] == "" and all(0 <= float(row["reward"]) < 1 for row in rows[1:])
    assert float(rows[-1]["labelled_fraction"]) == pytest.approx(0.4, abs=0.005)
    assert all(float(row["acquisition_seconds"]) >= 0 for row in rows)
    assert all(float(row["training_seconds"]) > 0 for row in rows)
    selected = [index for row in rows for index in row["selected"].split()]
    assert all(len(json.loads(r["selected_names"])) == len(r["selected"].split()) for r in rows)
    assert rows[0]["selected"] == "" and len(set(selected)) == len(selected) == n[-1] - n[0]
    for row, labelled in zip(rows, n, strict=True):
        counts = [int(count) for count in row["class_counts"].split()]
        assert len(counts) == 3 and sum(counts) == labelled


def test_methods_on_one_seed_start_alike_and_seeds_differ(finished):
    starts = {
        p.parent.parent.name + p.parent.name: p.read_text() for p in finished.rglob("start.txt")
    }
    for seed in ("seed0", "seed1"):
        assert len({starts[method + seed] for method in METHODS}) == 1
    assert starts["msseed0"] != starts["msseed1"]

    def scores(method):
        row = lines(finished / "Folder" / method / "seed0" / "curve.csv")[0]
        return row["macro_f1"], row["micro_f1"]

    assert len({scores(method) for method in METHODS if method != "all"}) == 1


def test_another_start_is_noticed(settings, tmp_path):
    assert run.main(settings(tmp_path, methods=("random",), seeds=1)) == 0
    (tmp_path / "Folder" / "random" / "seed0" / "start.txt").write_text("other")
    assert run.main(settings(tmp_path, methods=("random", "ms"), seeds=1)) == 1
    error = (tmp_path / "Folder" / "ms" / "seed0" / "error.txt").read_text()
    assert "cannot be compared" in error


def test_all_is_one_line_at_the_whole_training_set(finished):
    (row,) = lines(finished / "Folder" / "all" / "seed0" / "curve.csv")
    assert row["labelled_fraction"] == "1.0" and row["n_labelled"] == "105"
    assert sum(int(n) for n in row["class_counts"].split()) == 105
    start = lines(finished / "Folder" / "ms" / "seed0" / "curve.csv")[0]
    assert float(row["macro_f1"]) > float(start["macro_f1"])


def test_finished_cells_are_not_run_again(finished, settings, monkeypatch, capsys):
    monkeypatch.setattr(cell, "attempt", lambda *_: pytest.fail("a finished cell was run"))
    assert run.main(settings(finished)) == 0
    assert "12 of 12 cells are finished already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("chosen", "kills"),
    [
        (("ms", "drla"), (True,)),
        pytest.param(METHODS, (True, False), marks=pytest.mark.slow),
    ],
)
def test_killed_at_random_moments_the_curves_are_the_same(
    finished, settings, tmp_path, chosen, kills
):
    """Killed with SIGKILL at a checkpoint, the whole matrix also before one, it ends the same."""
    config = settings(tmp_path / "out", methods=chosen, seeds=1)
    rng = random.Random(0)
    n_resumed = 0
    for with_checkpoint in kills:
        before = sum(p.stat().st_size for p in config.out.rglob(layout.CURVE))
        process = subprocess.Popen(
            command(config), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and (
            sum(p.stat().st_size for p in config.out.rglob(layout.CURVE)) <= before + 60
        ):
            time.sleep(0.005)  # until it has begun to write
        time.sleep(rng.uniform(0, 0.4))
        # the first time it is stopped until it stands at a checkpoint that it must go on from
        while process.poll() is None:
            process.send_signal(signal.SIGSTOP)
            if not with_checkpoint or any(config.out.rglob(layout.CHECKPOINT)):
                break
            process.send_signal(signal.SIGCONT)
            time.sleep(0.005)
        n_resumed += any(config.out.rglob(layout.CHECKPOINT))
        process.kill()
        process.wait()
    assert n_resumed >= 1
    assert run.main(config) == 0
    expected = {f"Folder/{method}/seed0/{layout.CURVE}" for method in chosen}
    whole = {name: rows for name, rows in curves(finished).items() if name in expected}
    assert len(whole) == len(chosen) and curves(config.out) == whole
    assert not list(config.out.rglob(layout.CHECKPOINT))


@pytest.mark.parametrize(
    "method",
    [
        "fusion",
        "frozen",
        pytest.param("drla-fixed", marks=pytest.mark.slow),  # much like drla-sound
        "drla-sound",
        "drla-set",
        "drla-embed",
        pytest.param("sb3-td3", marks=pytest.mark.slow),  # much like sb3-sac
        "sb3-sac",
        "sb3-a2c",
        "badge",
    ],
)
def test_every_kind_of_method_resumes_exactly(settings, tmp_path, method, monkeypatch):
    """Stopped by an exception after each checkpoint in turn; once uninterrupted beside it."""
    short = {
        "methods": (method,), "seeds": 1, "query_size": 2, "budget": 0.25, "checkpoint_every": 3,
    }  # fmt: skip
    config, again = (settings(tmp_path / name, **short) for name in ("whole", "parts"))
    assert run.main(config) == 0
    original, stops = cell.checkpoint.write, 0

    def write_and_fail(path, tree):
        nonlocal stops
        original(path, tree)
        stops += 1
        raise OSError("stopped here")

    monkeypatch.setattr(cell.checkpoint, "write", write_and_fail)
    assert run.main(again) == 1
    error = next(again.out.rglob(layout.ERROR))
    while error.exists():
        assert stops < 20
        assert "stopped here" in error.read_text()
        cell.attempt(error.parent)
    assert stops >= (1 if method == "sb3-a2c" else 3)  # A2C is in a state to save every 5 steps
    assert curves(again.out) == curves(config.out)


@pytest.mark.slow
@pytest.mark.parametrize("more", [("--workers", "2"), ("--ray", "local")])
def test_in_other_processes_the_curves_are_the_same(finished, settings, tmp_path, more):
    if "--ray" in more:
        pytest.importorskip("ray")
    config = settings(tmp_path / "out", methods=("random", "drla", "sb3-ddpg"), seeds=1)
    # Ray's workers find the packages where this process finds them
    environment = {**os.environ, "PYTHONPATH": str(Path(run.__file__).parents[1])}
    done = subprocess.run(command(config, *more), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    expected = curves(finished)
    found = curves(config.out)
    assert len(found) == 3
    assert all(expected[name] == rows for name, rows in found.items())


@pytest.mark.slow
def test_a_task_whose_ray_worker_is_killed_goes_on_from_its_checkpoint(settings, tmp_path):
    pytest.importorskip("ray")
    import psutil  # comes with Ray

    slow = {"methods": ("ms",), "seeds": 1, "query_size": 1, "checkpoint_every": 1}
    config = settings(tmp_path / "out", **slow)
    environment = {**os.environ, "PYTHONPATH": str(Path(run.__file__).parents[1])}
    process = subprocess.Popen(
        command(config, "--ray", "local"), env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None and not list(config.out.rglob(layout.CHECKPOINT)):
        time.sleep(0.01)
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "ray::attempt" in " ".join(child.cmdline())
    ]
    assert workers, "the cell ended before its worker could be killed"
    for worker in workers:
        worker.kill()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    whole = settings(tmp_path / "whole", **slow)
    run.main(whole)
    assert curves(config.out) == curves(whole.out)


def test_a_failing_cell_leaves_the_others_alone_and_is_tried_again(
    settings, tmp_path, monkeypatch, capsys
):
    config = settings(tmp_path, methods=("random", "ms"), seeds=1)
    original = strategies.make

    def fail(name, **keywords):
        if name == "random":
            raise FloatingPointError("the classifier has diverged")
        return original(name, **keywords)

    monkeypatch.setattr(strategies, "make", fail)
    assert run.main(config) == 1
    random_cell = tmp_path / "Folder" / "random" / "seed0"
    assert "Traceback" in (random_cell / "error.txt").read_text()
    shown = capsys.readouterr()
    assert "FloatingPointError: the classifier has diverged" in shown.err
    assert (tmp_path / "Folder" / "ms" / "seed0" / "result.json").exists()
    monkeypatch.undo()
    assert run.main(config) == 0
    assert not (random_cell / "error.txt").exists()


def test_bald_needs_dropout(settings, tmp_path):
    assert run.main(settings(tmp_path, methods=("bald",), seeds=1)) == 1
    error = (tmp_path / "Folder" / "bald" / "seed0" / "error.txt").read_text()
    assert "the network has no dropout" in error and "set dropout above 0" in error


def test_retrained_scores_at_the_reports_fractions(finished, settings, tmp_path):
    config = settings(tmp_path, methods=("ms", "all"), seeds=1, retrain_eval=True)
    assert run.main(config) == 0
    rows = lines(tmp_path / "Folder" / "ms" / "seed0" / "curve.csv")
    due = [row for row in rows if row["retrained_macro_f1"]]
    fractions = [float(row["labelled_fraction"]) for row in due]
    # five from the start, 6 of 105, to the budget of 0.4, each where it is first reached
    wanted = np.linspace(6 / 105, 0.4, 5)
    assert len(due) == 5
    assert all(0 <= f - w + 1e-9 < 6 / 105 for f, w in zip(fractions, wanted, strict=True))
    (row,) = lines(tmp_path / "Folder" / "all" / "seed0" / "curve.csv")
    assert row["retrained_macro_f1"] == row["macro_f1"]
    # it disturbs nothing
    without = lines(finished / "Folder" / "ms" / "seed0" / "curve.csv")
    assert [r["selected"] for r in rows] == [r["selected"] for r in without]
    assert [r["macro_f1"] for r in rows] == [r["macro_f1"] for r in without]


def test_other_settings_are_refused_with_the_difference_and_can_be_replaced(
    finished, settings, tmp_path
):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    changed = settings(out, methods=("ms",), seeds=1, query_size=5)
    with pytest.raises(ValueError, match=r"environment.query_size 6 there, 5 here\).*--overwrite"):
        run.main(changed)
    assert curves(out) == curves(finished)
    # results of other methods would stand beside it, so they are refused as well
    with pytest.raises(ValueError, match=r"Folder/all/seed0 holds results of other settings"):
        run.main(settings(out, methods=("lc",), seeds=1, query_size=5))
    assert run.main(settings(out, methods=("ms",), seeds=1, query_size=5, overwrite=True)) == 0
    assert len(list(out.rglob("config.json"))) == 1
    assert int(lines(out / "Folder" / "ms" / "seed0" / "curve.csv")[1]["n_labelled"]) == 11


def test_a_folder_of_a_newer_version_is_refused(finished, settings, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    path = out / "Folder" / "ms" / "seed0" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": layout.FORMAT + 1}))
    with pytest.raises(ValueError, match="made by a newer version"):
        run.main(settings(out, overwrite=True))
    path.write_text("{")
    with pytest.raises(ValueError, match=r"a config.json that cannot be read"):
        run.main(settings(out))


def test_settings_that_were_torn_before_the_cell_began_are_written_anew(settings, tmp_path):
    out = tmp_path / "out"
    torn = out / "Folder" / "ms" / "seed0" / "config.json"
    torn.parent.mkdir(parents=True)
    torn.write_text('{"format": 4, "pres')
    assert run.main(settings(out, methods=("ms",), seeds=1)) == 0
    assert layout.is_finished(torn.parent)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("random", "bage")}, "unknown method 'bage'.*did you mean 'badge'"),
        ({"methods": ("ms", "ms")}, "named twice"),
        ({"methods": ()}, "no methods"),
        ({"seeds": 0}, "seeds"),
        ({"workers": 0}, "workers"),
        ({"dataset": None}, "either --dataset or --preset"),
        ({"preset": ("embedded",)}, "either --dataset or --preset"),
        ({"dataset": None, "preset": ("embeded",)}, "unknown preset 'embeded'.*mean 'embedded'"),
        ({"dataset": None, "preset": ("embedded", "paper-chestCT")}, "share a folder"),
    ],
)
def test_bad_settings(settings, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run.main(settings(tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_presets_are_what_their_profiles_and_methods_allow():
    for name, preset in PRESETS.items():
        methods.chosen(preset.methods)
        (experiment,) = run.plan(run.RunConfig(out=Path("x"), preset=(name,)))
        assert experiment.dataset == preset.dataset and experiment.preset == name
    both = run.plan(run.RunConfig(out=Path("x"), preset=("paper-chestCT", "paper-retinopathy")))
    assert [experiment.name for experiment in both] == ["chestCT", "Retinopathy"]
    paper = ("random", "lc", "ms", "en", "fusion", "all", "drla")
    assert all(names(experiment) == paper for experiment in both)
    (changed,) = run.plan(
        run.RunConfig(out=Path("x"), preset=("retinamnist",), methods=("ms",), budget=0.5)
    )
    assert changed.name == "MedMNIST-retinamnist"
    assert names(changed) == ("ms",) and changed.settings["budget"] == 0.5


def test_a_config_that_was_run_keeps_what_it_says(finished, settings, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    path = out / "Folder" / "ms" / "seed0" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"commit": "of the run"}))
    run.main(settings(out))
    assert json.loads(path.read_text())["commit"] == "of the run"


def test_a_preset_whose_settings_are_changed_is_no_longer_that_experiment():
    (plain,) = run.plan(run.RunConfig(out=Path("x"), preset=("paper-chestCT",)))
    (changed,) = run.plan(
        run.RunConfig(out=Path("x"), preset=("paper-chestCT",), profile="embedded")
    )
    assert (plain.preset, changed.preset) == ("paper-chestCT", None)


def test_the_command_line(settings, tmp_path, as_program, capsys):
    config = settings(tmp_path / "r", methods=("lc", "fusion"), seeds=1, budget=0.2)
    words = command(config)[3:]
    assert as_program(run, *words) == 0
    result = capsys.readouterr()
    assert "Macro F1" in result.out and "FUSION" in result.out
    assert "benchmarks.report" in result.out
    assert "100%" in result.err and "2 of 2 cells" in result.err  # the progress bar
    assert as_program(run, *words[:2], "--methods", "best", "--out", "x") == 1
    wrong = capsys.readouterr()
    assert "unknown method 'best'" in wrong.err and "Traceback" not in wrong.err
