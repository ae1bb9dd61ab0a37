"""The comparison of both agents: its arithmetic, its files, and one short run of each."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks import sb3_parity
from benchmarks.reporting import statistics
from benchmarks.sb3_parity import Settings


def made_up(ours: list[float], theirs: list[float]) -> list[dict[str, Any]]:
    curve = {"steps": [200, 400, 600], "seconds": 1.0}
    return [
        {"agent": name, "seed": seed, "returns": [-9.0, final - 1, final], "final_return": final}
        | curve
        for name, finals in (("ours", ours), ("sb3", theirs))
        for seed, final in enumerate(finals)
    ]


def test_difference_and_interval() -> None:
    ours, theirs = [-150.0, -160.0, -140.0], [-155.0, -145.0, -165.0]
    summary = sb3_parity.summarise(made_up(ours, theirs), Settings())
    assert summary["difference"] == pytest.approx(5.0)
    # Equal variances of 100 and three runs each: Welch's t is Student's with 4 degrees of freedom.
    half = stats.t.ppf(0.975, 4) * np.sqrt(100 / 3 + 100 / 3)
    assert summary["interval_95"] == pytest.approx([5 - half, 5 + half])
    assert summary["interval_contains_0"]
    assert summary["above_threshold"]
    apart = sb3_parity.summarise(made_up(ours, [value - 200 for value in theirs]), Settings())
    assert not apart["interval_contains_0"]
    assert not apart["above_threshold"]


def test_mean_interval_and_smoothing() -> None:
    mean, half = statistics.interval(np.array([[1.0, 5.0], [3.0, 5.0]]))
    np.testing.assert_allclose(mean, [2.0, 5.0])
    np.testing.assert_allclose(half, [12.7062, 0.0], rtol=1e-5)
    np.testing.assert_allclose(sb3_parity.smooth([1.0, 3.0, 5.0, 7.0], 2), [1, 2, 4, 6])


def test_files_and_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(json=tmp_path / "a" / "x.json", out=tmp_path / "b" / "x.png")
    runs = made_up([-150.0, -160.0], [-155.0, -145.0])
    monkeypatch.setattr(sb3_parity, "run_all", lambda _: iter(runs[::-1]))
    assert sb3_parity.main(settings) == 0
    assert "difference -5.0" in capsys.readouterr().out
    report = json.loads((tmp_path / "a" / "x.json").read_text())
    assert report["settings"]["timesteps"] == 15_000
    assert [run["seed"] for run in report["runs"]] == [0, 1, 0, 1]
    assert (tmp_path / "b" / "x.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(
        sb3_parity, "run_all", lambda _: iter(made_up([-1.0, -2.0], [-500.0, -510.0]))
    )
    assert sb3_parity.main(Settings()) == 1
    assert "DO NOT AGREE" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["ours", "sb3"])
def test_a_short_run(name: str) -> None:
    settings = Settings(timesteps=410, learning_starts=400, batch_size=8, eval_episodes=1)
    threads = torch.get_num_threads()
    result = sb3_parity.run(name, settings, 0)
    torch.set_num_threads(threads)
    assert result["steps"] == [200, 400]
    assert len(result["returns"]) == 2
    assert -2000 < result["final_return"] < 0
    assert result["seconds"] > 0


def test_both_agents_get_the_same_settings() -> None:
    settings = Settings(gamma=0.9, tau=0.1, batch_size=8, learning_rate=0.01, learning_starts=7)
    ours, theirs = (sb3_parity.build(name, settings, 3) for name in ("ours", "sb3"))
    c = ours.config
    assert (c.gamma, c.tau, c.batch_size) == (theirs.gamma, theirs.tau, theirs.batch_size)
    assert (c.learning_rate, c.learning_starts) == (theirs.learning_rate, theirs.learning_starts)
    assert ours.buffer.capacity == theirs.replay_buffer.buffer_size == 15_000
    assert (c.gradient_steps, c.seed) == (theirs.gradient_steps, theirs.seed) == (1, 3)
    count = [sum(p.numel() for p in agent.actor.parameters()) for agent in (ours, theirs)]
    assert count[0] == count[1]
