"""The comparison of speeds: turns, arithmetic, files, and that everybody does the same work."""

import functools
import json
import statistics
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from al_gym import ActiveLearningEnv
from al_gym.data import retinopathy
from benchmarks import speed
from benchmarks.speed import SpeedConfig
from benchmarks.timing import agent, growth, paper, peers, turns
from benchmarks.timing.turns import Comparison, Report


def photographs(root, **change):
    env = gym.make(
        "ActiveLearning-Retinopathy-v0", profile="embedded", root=str(root), n_train=120,
        n_test=60, image_size=16, pretrain_passes=1, initial_fraction=0.3, device="cpu", **change,
    ).unwrapped  # fmt: skip
    assert isinstance(env, ActiveLearningEnv)
    env.reset(seed=0)
    return env


def test_contestants_take_turns_in_an_order_that_is_swapped():
    taken = []
    times = turns.take_turns(
        "work",
        {name: lambda name=name: taken.append(name) for name in ("a", "b", "c")},
        rounds=3,
        units=4,
    )
    assert taken == [*"abc", *"cba", *"abc", *"cba"]
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3, "c": 3}
    assert all(seconds >= 0 for values in times.values() for seconds in values)


def test_ratios_are_taken_within_rounds():
    comparison = Comparison("work", (0.001, 0.002, 0.004), (0.002, 0.004, 0.008), "peer", 1.5)
    assert comparison.ratios == [2.0, 2.0, 2.0] and comparison.ratio == 2.0
    line = comparison.line()
    assert "2.00 ms" in line and "4.00 ms" in line
    assert "2.00x [2.00, 2.00]  target 1.5x" in line
    assert "target" not in Comparison("work", (1.0, 1.0), (1.0, 1.0), "peer").line()


def test_both_agents_do_the_same_work(one_thread):
    result = agent.agent_update(rounds=2, units=1)
    assert len(result.ratios) == 2 and min(result.ours + result.theirs) > 0


@pytest.mark.filterwarnings("ignore:Converting a tensor")  # baal's own
@pytest.mark.parametrize("name", ["data_loader_loop", "baal_loop", "skorch_loop", "network_alone"])
def test_every_loop_trains_on_the_labelled_and_predicts_pool_and_test(
    name, small_photographs, monkeypatch
):
    pytest.importorskip({"baal_loop": "baal", "skorch_loop": "skorch"}.get(name, "torch"))
    env = photographs(small_photographs)
    before = env.run.classifiers.state_dict(0)["network"]
    networks = []
    training = peers._training
    monkeypatch.setattr(
        peers, "_training", lambda env: networks.append(training(env)) or networks[0]
    )
    make = getattr(peers, name)
    loop = make(env) if name.startswith(("skorch", "network")) else make(
        env, peers.from_memory(env.run.dataset)
    )  # fmt: skip
    trained, predicted = [], []
    network = networks[0][0]
    forward = type(network).forward

    def counted(self, images):
        (trained if self.training else predicted).append(len(images))
        return forward(self, images)

    monkeypatch.setattr(type(network), "forward", counted)
    loop()
    assert sum(trained) == len(env.run.episode.pool.labelled) and max(trained) <= 16
    left = (
        0
        if name != "network_alone"
        else len(env.run.episode.pool.labelled) - (120 - len(env.run.episode.pool.indices))
    )
    assert (
        sum(predicted) == len(env.run.episode.pool.indices) - left + 60
        and 16 < max(predicted) <= 64
    )
    assert any(not torch.equal(p, before[k]) for k, p in network.named_parameters())
    for key, value in env.run.classifiers.state_dict(0)["network"].items():
        assert torch.equal(value, before[key])  # the environment's own is left alone


def test_photographs_from_files_are_those_in_memory(small_photographs):
    env = photographs(small_photographs)
    paths = peers.photographs(small_photographs, env.run.dataset)
    assert len(paths) == len(env.run.dataset.images)
    for i in (0, 17, 145):
        decoded = retinopathy.read_photograph(paths[i], 16)
        np.testing.assert_array_equal(decoded, env.run.dataset.images[i])
        image, stored = (
            read(i)
            for read in (
                peers.from_files(paths, 16),
                peers.from_memory(env.run.dataset),
            )
        )
        assert image.shape == stored.shape == (3, 16, 16)
        assert image.dtype == stored.dtype == torch.float32


def test_flops_are_counted_by_hand():
    convolution, inputs = nn.Conv2d(3, 5, 3, bias=False), torch.rand(2, 3, 6, 6)
    assert paper.flops_of(lambda: convolution(inputs)) == 2 * 2 * 5 * 4 * 4 * 3 * 9


def test_parts_run_and_are_written(monkeypatch, tmp_path, capsys, one_thread):
    made_up = Comparison("work", (0.001, 0.001), (0.002, 0.003), "peer", 2.0)
    monkeypatch.setattr(speed, "agent_update", lambda rounds: made_up)
    config = SpeedConfig(rounds=2, only=("agent",), json=tmp_path / "a" / "speed.json")
    assert speed.main(config) == 0
    assert "2.50x" in capsys.readouterr().out
    report = json.loads((tmp_path / "a" / "speed.json").read_text())
    assert report["comparisons"][0]["ratios"] == [2.0, 3.0]
    with pytest.raises(ValueError, match="rounds must be at least 2"):
        speed.main(SpeedConfig(rounds=1))


def test_growth_has_a_number_for_every_size(monkeypatch, one_thread):
    original = growth._on_features

    def small(n, n_features, n_labelled, n_envs=1):
        return original(min(n, 400), 16, n_labelled=40, n_envs=n_envs)

    monkeypatch.setattr(growth, "_on_features", small)
    (comparison,), tables = growth.growth(rounds=2)
    assert comparison.target == 4.0 and len(comparison.ratios) == 2
    assert [len(table) for table in tables.values()] == [4, 4, 3, 6]
    assert all(value > 0 for table in tables.values() for value in table.values())


@pytest.mark.slow
def test_a_run_is_projected_from_steps_on_the_way(monkeypatch, chestct_root):
    monkeypatch.setattr(paper, "FRACTIONS", (0.5, 0.9))
    monkeypatch.setattr(paper, "N_WARM", 1)
    monkeypatch.setattr(paper, "N_TIMED", 1)
    monkeypatch.setattr(paper, "seconds_of_a_step", lambda env: env.step(
        np.ones(env.action_space.shape)) and 2.0)  # fmt: skip
    settings = {
        "profile": "embedded", "root": str(chestct_root), "n_train": 60, "n_test": 20,
        "patch_size": 8, "device": "cpu", "pretrain_passes": 1, "precision": "fp32",
    }  # fmt: skip
    table = paper._run_of("chestCT", settings)
    n_steps = 0.95 * 60 / 5
    assert table["the whole run, projected, s"] == pytest.approx(2.0 * n_steps)
    assert (
        0
        < table["its floor, s"]
        == pytest.approx(table["the whole run, projected, s"] / table["ratio to the floor"])
    )
    whole = paper._whole_run("chestCT", settings)
    assert whole["steps"] == 12 and 0 < whole["macro F1 at the end"] <= 1


def test_classifiers_side_by_side_are_timed(monkeypatch, chestct_root):
    quickly = functools.partial(paper.seconds_of_a_step, n_warm=0, n_timed=1)
    monkeypatch.setattr(paper, "seconds_of_a_step", quickly)
    settings = {
        "profile": "embedded", "root": str(chestct_root), "n_train": 60, "n_test": 20,
        "patch_size": 8, "device": "cpu", "pretrain_passes": 1,
    }  # fmt: skip
    table = paper._side_by_side("chestCT", settings)
    assert table["8 over 1"] == pytest.approx(
        table["8 at once, steps a second"] / table["1 at once, steps a second"]
    )


def test_a_profile_is_measured_instead(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(paper, "measure", lambda *a: asked.append(a) or {"a run": {"seconds": 1.5}})
    assert speed.main(SpeedConfig(profile="paper", device="cpu", whole=True)) == 0
    assert asked == [("paper", "cpu", True)]
    assert "a run" in capsys.readouterr().out


MISSED = {
    ("step, Retinopathy 64x64", "baal's ModelWrapper"): 1.3,
    ("step, chestCT 16x16x16", "DataLoader loop"): 1.0,
    ("step, chestCT 16x16x16", "baal's ModelWrapper"): 1.0,
    ("step, chestCT 16x16x16, bf16", "DataLoader loop"): 1.1,
    ("DDPG gradient step, 3,325 x 4", "SB3's DDPG.train(1)"): 1.2,
}
"""Where results/speed.md says that a target is not reached, or at times; what is held instead."""


@pytest.mark.slow
def test_the_targets_hold_but_for_a_fifth(tmp_path):
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.speed", "--rounds", "7"]
    subprocess.run([*command, "--json", str(tmp_path / "speed.json")], check=True, timeout=900)
    report = json.loads((tmp_path / "speed.json").read_text())
    with_target = [c for c in report["comparisons"] if c["target"] is not None]
    assert len(with_target) >= 7
    for comparison in with_target:
        key = (comparison["name"], comparison["peer"])
        least = MISSED.get(key, 0.8 * comparison["target"])
        assert statistics.median(comparison["ratios"]) >= least, key
    fractions = report["numbers"]["fractions of the machine's peak"]
    assert fractions["small3d 32x32x32, pool inference, of the convolutions' peak"] >= 0.8 * 0.55
    steps = report["numbers"]["growth with labels, ms"]
    assert steps["700 of 3,500 labelled, 2,048 features"] <= 15 / 0.8


def test_the_report_shows_what_is_no_comparison(capsys):
    Report(numbers={"title": {"a number": 0.5}}).show()
    assert "a number" in capsys.readouterr().out
