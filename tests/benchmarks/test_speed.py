"""The comparison of speeds: turns, arithmetic, files. How fast anything is, no test decides."""

import json

import pytest
import torch

from benchmarks import speed
from benchmarks.speed import Comparison, SpeedConfig


def test_contestants_take_turns_in_an_order_that_is_swapped():
    turns = []
    result = speed.take_turns(
        "work", lambda: turns.append("ours"), lambda: turns.append("theirs"),
        units=4, rounds=3, peer="peer", target=2.0,
    )  # fmt: skip
    assert turns == ["ours", "theirs", "theirs", "ours", "ours", "theirs", "theirs", "ours"]
    assert len(result.ours) == len(result.theirs) == 3
    assert all(seconds >= 0 for seconds in result.ours)


def test_ratios_are_taken_within_rounds():
    comparison = Comparison("work", (0.001, 0.002, 0.004), (0.002, 0.004, 0.008), "peer", 1.5)
    assert comparison.ratios == [2.0, 2.0, 2.0]
    line = comparison.line()
    assert "2.00 ms" in line and "4.00 ms" in line
    assert "2.00x [2.00, 2.00], target 1.5x" in line


def test_both_agents_do_the_same_work():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    result = speed.agent_update(rounds=2, units=1)
    torch.set_num_threads(threads)
    assert len(result.ratios) == 2 and min(result.ours + result.theirs) > 0


def test_table_and_file(monkeypatch, tmp_path, capsys):
    made_up = Comparison("work", (0.001, 0.001), (0.002, 0.003), "peer", 2.0)
    monkeypatch.setattr(speed, "agent_update", lambda rounds: made_up)
    assert speed.main(SpeedConfig(json=tmp_path / "a" / "speed.json")) == 0
    assert "2.50x" in capsys.readouterr().out
    report = json.loads((tmp_path / "a" / "speed.json").read_text())
    assert report["comparisons"]["work"]["ratios"] == [2.0, 3.0]
    with pytest.raises(ValueError, match="rounds must be at least 2"):
        speed.main(SpeedConfig(rounds=1))
