"""Cells in processes: which cells share one, and what is left when one is killed."""

import os
import signal
from pathlib import Path

from benchmarks import cell, run
from benchmarks.matrix import executors, layout
from tests.benchmarks.conftest import curves


class KillsItsProcess:
    """A method that ends its process as the kernel does when there is no memory left."""

    def predict(self, observation):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_costs_one_cell_of_those_it_was_to_run(settings, tmp_path, finished):
    """One process for three cells of a seed: another takes over the cells behind the killed one."""
    killer = "tests.benchmarks.matrix.test_executors:KillsItsProcess"
    config = settings(tmp_path, methods=("random", killer, "ms"), seeds=1)
    folders = []
    for experiment in run.plan(config):
        records, _ = run.prepare(experiment, config)
        for folder, record in records.items():
            layout.create(folder, record)
            folders.append(folder)
    outcomes = dict(executors._in_processes([folders], executors.Execution("test")))
    problem = "its process was killed by signal 9 (out of memory?)"
    assert [outcomes[folder] for folder in folders] == [None, problem, None]
    assert (folders[1] / layout.ERROR).read_text() == problem
    whole = {name: rows for name, rows in curves(tmp_path).items() if "Kills" not in name}
    assert len(whole) == 2 and whole.items() <= curves(finished).items()


def test_cells_of_a_seed_share_a_process_and_no_worker_is_idle():
    folders = [Path("out/a") / method / f"seed{k}" for k in range(2) for method in "rst"]
    assert executors._parts(folders, 2) == [folders[:3], folders[3:]]
    assert executors._parts(folders[:3], 2) == [folders[:2], folders[2:3]]
    assert executors._parts(folders[:1], 4) == [folders[:1]]


def test_cells_of_one_experiment_share_one_environment(settings, tmp_path):
    config = settings(tmp_path, methods=("random", "ms"), seeds=1)
    (experiment,) = run.plan(config)
    records, _ = run.prepare(experiment, config)
    (experiment,) = run.plan(settings(tmp_path, methods=("lc",), query_size=5))
    other, _ = run.prepare(experiment, settings(tmp_path / "other"))
    for folder, record in {**records, **other}.items():
        layout.create(folder, record)
    made = list(cell.with_environments([*records, *other, tmp_path / "nothing"]))
    environments = [env for _, env in made]
    assert environments[0] is environments[1] is not environments[2]
    assert environments[-1] is None  # the cell itself says what is wrong
