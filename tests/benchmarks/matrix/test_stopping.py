"""Told to stop: at once where nothing runs, at the next checkpoint where cells do."""

import os
import signal
import subprocess
import time

import pytest

from agents import strategies
from benchmarks import run
from benchmarks.matrix import layout, stopping
from benchmarks.matrix.stopping import Stop, Stopped
from tests.benchmarks.conftest import curves
from tests.benchmarks.test_run import command
from tests.processes import alive, children_of

LINE = "Stopped. The same command goes on."


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_where_no_cell_runs_it_is_at_once(number, status):
    before = signal.getsignal(number)
    stop = Stop()
    with pytest.raises(Stopped) as stopped, stop.on_signals():
        signal.raise_signal(number)
        pytest.fail("it goes on")
    assert stopped.value.status == status and stop.number == number
    assert signal.getsignal(number) is before


def test_cells_are_given_grace_and_no_more(monkeypatch):
    monkeypatch.setattr(stopping, "GRACE", 0.05)
    stop, reached = Stop(), []
    with pytest.raises(Stopped) as stopped, stop.on_signals(), stop.grace():
        signal.raise_signal(signal.SIGTERM)
        reached.append("goes on")
        signal.raise_signal(signal.SIGINT)  # changes nothing
        time.sleep(60)
    assert reached == ["goes on"] and stopped.value.status == 143


def test_at_the_end_of_a_cell_it_stops():
    stop, reached = Stop(), []
    with pytest.raises(Stopped), stop.on_signals():
        with stop.grace():
            signal.raise_signal(signal.SIGTERM)
            reached.append("the end of the cell")
        reached.append("another cell")
    assert reached == ["the end of the cell"]
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.parametrize("together", [1, 2])
def test_every_cell_that_runs_has_a_checkpoint_of_its_last_step(
    settings, tmp_path, monkeypatch, finished, together
):
    """The third choice of a method brings the signal; no checkpoint would be due for long."""
    config = settings(
        tmp_path, methods=("random", "ms"), seeds=1, side_by_side=together, checkpoint_every=100
    )
    stop, original, chosen = Stop(), strategies.make, []

    def make(name, **keywords):
        policy = original(name, **keywords)
        predict = policy.predict

        def counted(*given, **more):
            chosen.append(name)
            if len(chosen) == 3:
                stop.number = signal.SIGTERM
            return predict(*given, **more)

        monkeypatch.setattr(policy, "predict", counted)
        return policy

    monkeypatch.setattr(strategies, "make", make)
    with pytest.raises(Stopped):
        run.main(config, stop)
    n_lines = [
        len(path.with_name(layout.CURVE).read_text().splitlines())
        for path in tmp_path.rglob(layout.CHECKPOINT)
    ]
    # names, start, and three steps; or two of one cell, while the other has its first behind it
    assert sorted(n_lines) == ([5] if together == 1 else [3, 4])
    assert not list(tmp_path.rglob(layout.ERROR))
    monkeypatch.undo()
    assert run.main(config) == 0
    found = curves(tmp_path)
    assert len(found) == 2 and found.items() <= curves(finished).items()


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--workers", "2"), ("--side-by-side", "2")])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_as_a_program(settings, tmp_path, finished, more, number):
    """Sent to all of its processes, as Ctrl-C is; nothing of it is left."""
    config = settings(tmp_path / "out", methods=("random", "ms"), seeds=2, query_size=1, budget=0.9)
    with subprocess.Popen(
        command(config, *more), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        while not list(config.out.rglob(layout.CHECKPOINT)):
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, number)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    assert said.count(LINE) == 1 and "Traceback" not in said
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert not list(config.out.rglob(layout.ERROR))
    assert subprocess.run(command(config), stderr=subprocess.PIPE).returncode == 0


@pytest.mark.slow
def test_killed_it_leaves_no_process_that_works_on(settings, tmp_path, finished):
    """Of its two, each has a checkpoint of its last step, and does not end its cell first."""
    config = settings(tmp_path / "out", methods=("random", "ms"), seeds=2, query_size=1, budget=0.9)
    with subprocess.Popen(
        command(config, "--workers", "2"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:  # fmt: skip
        while not list(config.out.rglob(layout.CHECKPOINT)):
            assert process.poll() is None
            time.sleep(0.05)
        workers = children_of(process.pid)
        process.kill()
    assert len(workers) == 2
    end = time.monotonic() + 5
    while alive(workers):
        assert time.monotonic() < end, workers
        time.sleep(0.05)
    assert not list(config.out.rglob(layout.ERROR))
    n_finished = len(list(config.out.rglob(layout.RESULT)))
    assert n_finished < 4
    assert subprocess.run(command(config), stderr=subprocess.PIPE).returncode == 0
    assert len(list(config.out.rglob(layout.RESULT))) == 4
