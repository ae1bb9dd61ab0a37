"""DDPG on tasks: the environment, one sample a query, and what becomes a policy."""

import dataclasses

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from agents.sets import coverage
from agents.sets.pool_features import FEATURES, unflatten
from agents.transfer import CoveragePolicy
from benchmarks.training import reinforcement, tasks
from benchmarks.training.families import Features
from benchmarks.training.reinforcement import N_POOL, Learned, Tasks


@pytest.fixture(scope="module")
def features() -> dict[str, tuple[Features, ...]]:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1, 2], [300, 100, 50]))
    values = torch.from_numpy(rng.normal(0, 1, (450, 6)) + 1.5 * np.eye(6)[labels]).float()
    return {"made": (Features(values, labels, np.arange(450), "made"),)}


def test_tasks_are_an_environment_that_pays_what_the_labelled_sample_raised(features):
    env = Tasks(features, "aulc")
    observation, _ = env.reset(seed=3)
    described = unflatten(torch.as_tensor(observation), coverage.SIZES)
    n = env._n
    assert described.features.shape == (17, N_POOL) and 0 < n < N_POOL
    assert not described.features[:, n:].any()
    p1 = described.features[FEATURES.index("p1")]
    assert (p1[:n] > 0).all()
    paid, over, n_queries = 0.0, False, 0
    first = env._level
    while not over:
        action = np.zeros(N_POOL, np.float32)
        action[n:] = 1  # rows that stand for no sample
        action[n_queries] = 0.5
        observation, reward, over, _, _ = env.step(action)
        n_queries += 1
        left = unflatten(torch.as_tensor(observation), coverage.SIZES).features
        assert not left[:, :n_queries].any() and left[:, n_queries].any()
        paid += reward
    assert n_queries == env._episodes.envs[0].max_steps  # the task to its end
    assert paid == pytest.approx(reinforcement.SCALE * (env._level - first))


@pytest.mark.filterwarnings("ignore:.*is -infinity:UserWarning")
@pytest.mark.filterwarnings("ignore:.*is infinity:UserWarning")
def test_tasks_pass_gymnasiums_checks(features):
    check_env(Tasks(features, "loss"), skip_render_check=True)


def test_the_agent_learns_on_tasks_and_its_policy_plays_them(features, monkeypatch):
    monkeypatch.setattr(
        reinforcement, "SETTINGS", dataclasses.replace(reinforcement.SETTINGS, learning_starts=10)
    )
    learned, again, untrained = (
        reinforcement.train(features, "aulc", episodes, seed=0) for episodes in (2, 2, 0)
    )
    weights, same, first = (each._actor.net.hidden for each in (learned, again, untrained))
    assert torch.equal(weights, same) and not torch.equal(weights, first)
    rng = np.random.default_rng(5)
    task = tasks.draw_task("made", features["made"], 1, rng)
    ms = CoveragePolicy.of({"margin": 1.0}, embeddings=True)
    worth = tasks.play(task, features["made"][0], [learned, again, ms], ("aulc",))[0, :, 0]
    assert worth[0] == worth[1] != worth[2] and 0 < worth[0] < 1


def test_a_learned_policy_counts_what_it_has_picked_as_labelled(features):
    """An actor that scores by the distance alone is CoreSet, for queries of any size."""
    actor = reinforcement.SetActor(None, coverage.SIZES)
    net = actor.net
    with torch.no_grad():
        net.of_sample[0, coverage.FEATURES.index("distance")] = 1
        net.hidden[0, 0] = net.out[0, 0] = 1
    coreset = CoveragePolicy.of({"distance": 1.0}, embeddings=True)
    task = tasks.draw_task("made", features["made"], 1, np.random.default_rng(1))
    task = dataclasses.replace(task, config=dataclasses.replace(task.config, query_size=6))
    ours, theirs = tasks.play(task, features["made"][0], [Learned(actor), coreset], ("aulc",))[0]
    assert ours == theirs
