"""The methods by name, and the doors for those of the user's own."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from agents import TransferPolicy
from agents.sets.coverage import FEATURES, RADII, REGIME
from agents.transfer import pretrained_path
from al_gym import ActiveLearningEnv, EnvConfig
from benchmarks import run
from benchmarks.matrix import methods
from benchmarks.reporting import results
from tests.benchmarks.conftest import curves
from tests.samples import FAST, make_dataset

HERE = "tests.benchmarks.matrix.test_methods"
POLICY = str(pretrained_path("drla-embed-v0"))


class FirstClass:
    """A strategy of one's own: prefers samples that may be of the first class."""

    def __init__(self, query_size, seed):
        self.given = query_size, seed

    def predict(self, observation):
        assert self.given == (6, 0)
        return observation[:, 0], None


def margin(env):
    """Another, which looks at the environment."""
    run = env.get_wrapper_attr("run")

    class Margin:
        def predict(self, observation):
            assert np.array_equal(observation, run.episode.softmax)
            first, second = -np.sort(-observation, axis=1)[:, :2].T
            return second - first, None

    return Margin()


class NoMethod:
    """Lacks ``predict``."""


def test_a_method_of_ones_own_gets_what_it_asks_for_and_stands_in_the_report(
    settings, tmp_path, finished
):
    mine = f"{HERE}:FirstClass"
    assert run.main(settings(tmp_path, methods=("random", mine), seeds=1)) == 0
    folder = tmp_path / "Folder" / "tests.benchmarks.matrix.test_methods-FirstClass" / "seed0"
    record = json.loads((folder / "config.json").read_text())
    assert record["method"] == record["facts"]["what"] == mine
    (experiment,) = results.load([tmp_path])
    assert set(experiment.curves["method"]) == {"random", mine}


def test_one_that_does_what_ms_does_has_its_curve(settings, tmp_path, finished):
    mine = f"{HERE}:margin"
    assert run.main(settings(tmp_path, methods=(mine,), seeds=1)) == 0
    (found,) = curves(tmp_path).values()
    assert found == curves(finished)["Folder/ms/seed0/curve.csv"]


def test_one_without_predict_fails_in_its_own_cell(settings, tmp_path):
    config = settings(tmp_path, methods=("random", f"{HERE}:NoMethod"), seeds=1)
    assert run.main(config) == 1
    error = next(tmp_path.rglob("error.txt")).read_text()
    assert "NoMethod makes NoMethod, which has no predict()" in error


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((f"{HERE}:Nothing",), "cannot be imported.*has no attribute 'Nothing'"),
        (("no_such_package:Name",), "cannot be imported.*No module named"),
        (("skactiveml:DropQery",), "did you mean 'DropQuery'"),
        (("missing.safetensors",), "missing.safetensors"),
        ((f"{HERE}:margin", "tests.benchmarks.matrix:test_methods-margin"), "cannot be|share"),
    ],
)
def test_doors_to_nothing_are_refused_before_any_cell(settings, tmp_path, names, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run.main(settings(tmp_path / "out", methods=names, seeds=1))
    assert not (tmp_path / "out").exists()


def test_a_saved_policy_is_what_the_package_loads_by_name(settings, tmp_path):
    assert run.main(settings(tmp_path, methods=("drla-embed", POLICY), seeds=1)) == 0
    found = curves(tmp_path)
    assert len(found) == 2
    by_name, by_path = (found[f"Folder/drla-embed{v}/seed0/curve.csv"] for v in ("", "-v0"))
    assert by_name == by_path
    record = json.loads((tmp_path / "Folder/drla-embed-v0/seed0/config.json").read_text())
    assert record["method"] == POLICY and len(record["agent"]["digest"]) == 32
    assert TransferPolicy.load(POLICY).embeddings


def test_a_strategy_of_scikit_activeml_is_one_by_its_class_name(settings, tmp_path):
    names = ("badge", "skactiveml:Badge", "skactiveml:DropQuery", "uherding", "bait")
    assert run.main(settings(tmp_path, methods=names, seeds=1)) == 0
    found = curves(tmp_path)
    assert len(found) == 5
    by_name = found["Folder/badge/seed0/curve.csv"]
    assert by_name == found["Folder/skactiveml-Badge/seed0/curve.csv"]
    record = json.loads((tmp_path / "Folder/skactiveml-DropQuery/seed0/config.json").read_text())
    assert record["facts"]["what"] == "DropQuery of scikit-activeml"


def test_what_learns_and_what_can_share_a_process():
    learning = {name for name, method in methods.METHODS.items() if method.learns}
    agents = {"drla", "drla-fixed", "drla-sound", "drla-set"}
    assert learning == agents | {"frozen", "frozen-sound", "frozen-set"}
    alone = {name for name, method in methods.METHODS.items() if not method.side_by_side}
    assert alone == {"sb3-ddpg", "sb3-td3", "sb3-sac", "sb3-ppo", "sb3-a2c"}


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("ms", "ms"),
        ("sb3-ddpg", "sb3-ddpg"),
        ("my_package.module:Name", "my_package.module-Name"),
        ("/some/where/best.safetensors", "best"),
    ],
)
def test_folders_are_safe_for_a_file_system(name, folder):
    assert methods.find(name).folder == folder


@pytest.mark.parametrize(
    ("method", "weights"),
    [
        ("start-embed", ["margin", *(f"uncertain coverage, {radius}" for radius in RADII)]),
        ("uherding-plain", ["uncertain coverage, least"]),
    ],
)
def test_what_training_began_with_and_one_baseline_are_weights_set_by_hand(method, weights):
    env = ActiveLearningEnv(make_dataset(), EnvConfig(query_size=3, budget=0.3), FAST)
    observed, acting = methods.policy_of(method, env, 0)
    expected = torch.zeros(len(FEATURES), len(REGIME))
    expected[[FEATURES.index(name) for name in weights], REGIME.index("constant")] = 1
    assert torch.equal(acting.weights, expected)
    observation, _ = observed.reset(seed=0)
    scores, _ = acting.predict(observation)
    assert np.count_nonzero(scores > 0.5) >= 3


@pytest.mark.parametrize(
    ("method", "source", "policy"),
    [
        ("drla-embed", "MedMNIST wbc_64, made", "drla-embed-v0"),
        ("drla-embed", "chestCT, made", "drla-embed-v0-without-chestct"),
        ("drla-embed-v1", "MedMNIST wbc_64, made", "drla-embed-v1-without-blood"),
        ("drla-transfer-v1", "chestCT, made", "drla-transfer-v1-without-radiology"),
        ("drla-transfer-v1", "Folder, made", "drla-transfer-v1"),
        ("hyper", "Retinopathy, made", "drla-embed-v1-without-fundus"),
    ],
)
def test_a_benchmark_takes_the_policy_that_has_not_seen_its_images(method, source, policy):
    dataset = dataclasses.replace(make_dataset(), source=source)
    env = ActiveLearningEnv(dataset, EnvConfig(query_size=3, budget=0.3), FAST)
    taken = methods.METHODS[method]
    record = taken.settings(env, 0, {})
    assert record["policy"] == policy
    observed, acting = methods.policy_of(method, env, 0)
    observation, _ = observed.reset(seed=0)
    scores, _ = acting.predict(observation)
    assert scores.shape == env.action_space.shape
