"""How PyTorch's threads wait: every way in a process of its own, quiet and busy."""

import json

import pytest

from benchmarks import waiting

TINY = {"dataset": "chestCT", "trainable": "head", "n_train": 60, "n_test": 20, "n_phantoms": 12}


@pytest.mark.slow
def test_the_program_prints_a_table_and_writes_every_time(tmp_path, capsys):
    file = tmp_path / "times.json"
    config = waiting.WaitingConfig(rounds=1, json=file, tasks=("small3d",))
    assert waiting.main(config) == 0
    record = json.loads(file.read_text())
    assert [(row["task"], row["load"]) for row in record] == [
        ("small3d", "quiet"), ("small3d", "busy"),
    ]  # fmt: skip
    assert all(len(row[way]) == 1 and row[way][0] > 0 for row in record for way in waiting.WAITING)
    said = capsys.readouterr().out
    assert "milliseconds a step" in said and all(way in said for way in waiting.WAITING)


def test_only_what_is_compared_is_in_the_environment(monkeypatch):
    seen = {}

    def run(command, env, **_):
        seen.update(env)
        return type("Done", (), {"stdout": "0.25\n"})

    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    monkeypatch.setenv("HOME_OF_MINE", "here")
    monkeypatch.setattr(waiting.subprocess, "run", run)
    assert waiting.in_a_process("small3d", "PASSIVE") == 0.25
    assert seen["OMP_WAIT_POLICY"] == "PASSIVE" and seen["HOME_OF_MINE"] == "here"
    assert "GOMP_SPINCOUNT" not in seen and "OMP_NUM_THREADS" not in seen


def test_steps_are_timed():
    assert 0 < waiting.time_steps(n_timed=2, **TINY) < 60
