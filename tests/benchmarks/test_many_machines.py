"""A run on three hosts, one of which dies, one of which is cut off, and whose head dies.

The hosts are network namespaces: this needs root, and Ray.
"""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from agents import strategies
from benchmarks import run
from benchmarks.matrix import layout
from tests.benchmarks.conftest import curves
from tests.benchmarks.hosts import Hosts, ip
from tests.benchmarks.test_run import command

pytestmark = pytest.mark.slow
METHOD = "tests.benchmarks.test_many_machines:Slow"
SECONDS, WITNESSES = "AL_GYM_TEST_SECONDS", "AL_GYM_TEST_WITNESSES"
CUT = 30
"""Seconds without network."""


class Slow:
    """MS, which takes its time where the environment says so, and so can be interrupted.

    Meanwhile it says so in a file of its cell, and in another if a second process is at that.
    """

    def __init__(self, query_size, seed):
        self._ms = strategies.make("ms", query_size=query_size, seed=seed)
        self._seed = seed

    def predict(self, observation):
        if SECONDS in os.environ:
            folder = Path(os.environ[WITNESSES])
            mine = folder / str(self._seed)
            other = mine.read_text() if mine.exists() else ""
            if other and Path("/proc", other).exists():
                (folder / f"clash-{self._seed}").touch()
            mine.write_text(str(os.getpid()))
            time.sleep(float(os.environ[SECONDS]))
            mine.unlink(missing_ok=True)
        return self._ms.predict(observation)


@pytest.fixture
def hosts(tmp_path):
    pytest.importorskip("ray")
    try:
        ip("netns", "add", f"probe{os.getpid()}")
        ip("netns", "delete", f"probe{os.getpid()}")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', error)}")
    folder = Path(tempfile.mkdtemp(prefix="al", dir="/tmp"))
    try:
        with Hosts(3, folder, {SECONDS: "1.5", WITNESSES: str(tmp_path)}) as three:
            for k in range(3):
                three.join(k)
            yield three
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def config(settings, tmp_path):
    return settings(
        tmp_path / "out", methods=(METHOD,), seeds=6, query_size=3, budget=0.4, checkpoint_every=1
    )


@pytest.fixture
def expected(settings, tmp_path, config):
    """The curves of a sequential run."""
    whole = settings(
        tmp_path / "whole", methods=(METHOD,), seeds=6, query_size=3, budget=0.4,
        checkpoint_every=1,
    )  # fmt: skip
    assert run.main(whole) == 0
    return curves(whole.out)


def begin(hosts, config, log):
    with log.open("a") as file:
        return hosts.start(
            0, *command(config, "--ray", hosts.ray), stdout=file, stderr=subprocess.STDOUT
        )


def wait_until(condition, process, log):
    while not condition():
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)


def n_begun(config):
    """Cells that are not finished and could go on from a checkpoint."""
    return len(list(config.out.rglob(layout.CHECKPOINT)))


def test_a_host_that_dies_and_one_that_is_cut_off_cost_time_and_nothing_else(
    hosts, config, expected, tmp_path
):
    log = tmp_path / "log.txt"
    process = begin(hosts, config, log)
    wait_until(lambda: n_begun(config) == 2, process, log)
    assert hosts.runs_a_cell(1)
    hosts.kill(1)
    hosts.join(1)
    wait_until(lambda: hosts.runs_a_cell(2) and n_begun(config), process, log)
    hosts.cut(2)
    time.sleep(CUT)
    hosts.mend(2)
    assert process.wait(timeout=400) == 0, log.read_text()
    assert "goes on from step" in log.read_text()
    assert not list(tmp_path.glob("clash-*")), "two processes were at one cell"
    assert curves(config.out) == expected


def test_the_heads_death_is_survived_by_the_same_command(hosts, config, expected, tmp_path):
    log = tmp_path / "log.txt"
    process = begin(hosts, config, log)
    wait_until(lambda: n_begun(config) == 2, process, log)
    hosts.kill(0)
    process.wait(timeout=20)
    for k in (1, 2):
        hosts.kill(k)
    assert n_begun(config)
    for k in range(3):
        hosts.join(k)
    again = begin(hosts, config, log)
    assert again.wait(timeout=400) == 0, log.read_text()
    assert "goes on from step" in log.read_text()
    assert not list(tmp_path.glob("clash-*")), "two processes were at one cell"
    assert curves(config.out) == expected
