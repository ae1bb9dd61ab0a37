"""What it costs to plan many cells, in files opened and environments made: exact numbers."""

import sys

import pytest

from benchmarks import run
from benchmarks.matrix import layout

METHODS = ("random", "drla", "drla-embed-v1", "hyper", "sb3-ppo")
opened: list[tuple[str, str]] = []
"""Files and modes, while a test looks."""


def listen(event, arguments):
    if event == "open" and looks:
        opened.append((str(arguments[0]), str(arguments[1])))


looks = False
sys.addaudithook(listen)


@pytest.fixture
def cost(settings, monkeypatch):
    """A function that plans cells and returns what that cost; none is run."""
    made = []
    make = run.make_environment

    def counted(config):
        global looks
        looks = False  # what making it opens is the data set's affair
        env = make(config)
        made.append(env)
        looks = True
        return env

    def stop(folders, totals, config, asked):
        global looks
        looks = False
        return {}

    monkeypatch.setattr(run, "make_environment", counted)
    monkeypatch.setattr(run, "_run", stop)
    monkeypatch.setattr(run.results, "load", lambda folders: [])

    def measure(out, seeds):
        made.clear()
        opened.clear()
        assert run.main(settings(out, methods=METHODS, seeds=seeds)) == 0
        below = [
            (path, mode) for path, mode in opened if path.startswith(f"{out}/Folder")
        ]  # beside them is the lock
        reads = sum("r" in mode for _, mode in below)
        others = sorted(path for path, _ in opened if not path.startswith(str(out)))
        return len(made), reads, len(below) - reads, others

    return measure


def test_a_cell_costs_one_file_written_and_three_reads_if_it_goes_on(cost, tmp_path):
    cost(tmp_path / "warm", 1)  # modules are imported
    few, many = cost(tmp_path / "few", 3), cost(tmp_path / "many", 9)
    # each is asked for its result, which is not there
    assert few[:3] == (1, 3 * len(METHODS), 3 * len(METHODS))
    assert many[:3] == (1, 9 * len(METHODS), 9 * len(METHODS))
    assert few[3] == many[3]  # policies, say: once for all seeds
    # the same command again: their settings are compared, and nothing is written
    assert cost(tmp_path / "many", 9)[:3] == (1, 3 * 9 * len(METHODS), 0)
    config = tmp_path / "many" / "Folder" / "random" / "seed8" / layout.CONFIG
    config.write_text(config.read_text() + " ")
    assert cost(tmp_path / "many", 9)[:3] == (1, 3 * 9 * len(METHODS), 1)
    # torn by a loss of power before its cell began
    config.write_text(config.read_text()[:-9])
    assert cost(tmp_path / "many", 9)[:3] == (1, 3 * 9 * len(METHODS), 1)
    assert layout.read_config(config)["seed"] == 8
    config.write_text(config.read_text()[:-9])
    (config.parent / layout.CHECKPOINT).touch()
    with pytest.raises(ValueError, match="holds a config.json that cannot be read"):
        cost(tmp_path / "many", 9)
