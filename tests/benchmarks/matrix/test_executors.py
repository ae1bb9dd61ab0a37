"""Cells in processes, and what is left when one is killed."""

import os
import signal
import sys

import pytest

from benchmarks import cell, run
from benchmarks.matrix import executors, layout
from benchmarks.matrix.stopping import Stop
from tests.benchmarks.conftest import curves


class KillsItsProcess:
    """A method that ends its process as the kernel does when there is no memory left."""

    def predict(self, observation):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("seeds", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_killed_process_costs_the_cell_that_it_was_in(settings, tmp_path, finished, seeds):
    """Two processes run the cells; one a seed kills its own, and the rest is as in this process."""
    killer = "tests.benchmarks.matrix.test_executors:KillsItsProcess"
    others = ("drla", "sb3-ddpg")
    config = settings(tmp_path, methods=(killer, *others), seeds=seeds, workers=2)
    assert run.main(config) == 1
    problem = "its process was killed by signal 9 (out of memory?)"
    errors = [path.read_text() for path in tmp_path.rglob(layout.ERROR)]
    assert errors == [problem] * seeds
    whole = {name: rows for name, rows in curves(tmp_path).items() if "Kills" not in name}
    assert len(whole) == 2 * seeds and whole.items() <= curves(finished).items()


def test_a_process_that_ends_early_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(cell, "FROM_STDIN", "--nonsense")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text("#!/bin/sh\necho first >&2\necho disk full >&2\nexit 3\n")
    (tmp_path / "python").chmod(0o755)
    worker = executors.Worker(1)
    assert worker.run(tmp_path, Stop()) == "its process ended early: disk full"
    assert (tmp_path / layout.ERROR).read_text() == "its process ended early: disk full"
    assert not worker.lives
    worker.close()


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


@pytest.mark.parametrize("wanted", [None, "ACTIVE"])
def test_threads_of_processes_sleep_while_they_wait_unless_told_otherwise(monkeypatch, wanted):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if wanted is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", wanted)
    seen = {}
    monkeypatch.setattr(executors.subprocess, "Popen", lambda *_, env, **__: seen.update(env))
    executors.Worker(2)._errors.close()
    assert seen["OMP_WAIT_POLICY"] == (wanted or "PASSIVE")
    assert seen["OMP_NUM_THREADS"] == "2" and seen["PATH"] == os.environ["PATH"]
