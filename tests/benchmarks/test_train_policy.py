"""Training of policies: its parts by hand, and the whole on small families."""

import dataclasses
import json
from concurrent.futures import Executor, Future

import numpy as np
import pytest
import torch

from agents.sets.pool_features import FEATURES
from agents.transfer import TransferPolicy
from benchmarks import train_policy
from benchmarks.train_policy import TrainConfig
from benchmarks.training import evolution
from benchmarks.training.evolution import Job, Search
from benchmarks.training.families import FAMILIES, Features


class Here(Executor):
    """A pool of processes that is none."""

    def __init__(self, workers, context, initializer, initargs):
        initializer(*initargs)

    def submit(self, function, /, *arguments, **keywords):
        future = Future()
        future.set_result(function(*arguments, **keywords))
        return future


@pytest.fixture
def small(monkeypatch):
    """Six hundred samples a family, of three classes, and everything in this process."""

    def features(name, data):
        rng = np.random.default_rng(len(name))
        labels = rng.permutation(np.repeat([0, 1, 2], [400, 150, 50]))
        values = torch.from_numpy(rng.normal(0, 1, (600, 6)) + 1.5 * np.eye(6)[labels]).float()
        return Features(values, labels, np.arange(600), "made")

    monkeypatch.setattr(train_policy, "training_features", features)
    monkeypatch.setattr(train_policy, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(evolution, "_FEATURES", {})
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


SEARCH = Search(generations=2, population=3, tasks=1, starts=1, validation_tasks=2)


def settings(tmp_path, **changes):
    given = {
        "data": tmp_path, "out": tmp_path / "out", "leave_out": ("bloodcells",),
        "embeddings": (False,),
    }  # fmt: skip
    return TrainConfig(**{**given, **changes}, search=SEARCH)


def job(embeddings=False):
    return Job(("chestct",), embeddings, SEARCH)


def test_fitness_does_not_depend_on_the_scale_of_a_task():
    first = np.array([[0.1, 0.5], [0.2, 0.4], [0.3, 0.6]])
    second = np.array([[5.0], [5.0], [5.0]])  # tells nothing
    # deviations from the mean of each start, over its standard deviation
    a = (np.array([-0.1, 0, 0.1])) / np.std([0.1, 0.2, 0.3])
    b = (np.array([0, -0.1, 0.1])) / np.std([0.5, 0.4, 0.6])
    np.testing.assert_allclose(evolution.fitness([first, second]), (a + b) / 3, atol=1e-12)
    scaled = evolution.fitness([100 * first + 3, second])
    np.testing.assert_allclose(scaled, (a + b) / 3, atol=1e-9)


@pytest.mark.parametrize("embeddings", [False, True])
def test_parameters_go_where_they_belong_and_none_is_ms(embeddings):
    n = evolution.n_parameters(embeddings)
    assert n == (12 if embeddings else 10)
    policy = evolution.policy_of(np.arange(1.0, n + 1), embeddings)
    assert policy.weights[FEATURES.index("entropy")].tolist() == [1, 0, 2]
    assert policy.weights[FEATURES.index("rarity")].tolist() == [7, 0, 8]
    assert policy.weights[FEATURES.index("p1")].tolist() == [0, 0, 0]
    assert policy.weights[FEATURES.index("margin")].tolist() == [1, 0, 0]
    assert policy.diversity.tolist() == [n - 1, 0, n]
    assert len(policy.weights) == len(FEATURES) + embeddings
    still, ms = evolution.policy_of(np.zeros(n), embeddings), TransferPolicy(embeddings)
    assert torch.equal(still.weights, ms.weights) and not still.diversity.any()


def test_tasks_of_search_selection_and_validation_are_others(small, tmp_path):
    each = job()
    evolution.begin_worker({"chestct": train_policy.training_features("a", 0)})
    keys = [(0, 0), (0, 1), (1, 0), (evolution.SELECTION, 0), (evolution.VALIDATION, 0)]
    drawn = [evolution._draw(each.config, "chestct", key) for key in keys]
    assert len({task.seeds for task in drawn}) == len(keys)
    assert evolution._draw(each.config, "chestct", (0, 0)).seeds == drawn[0].seeds


@pytest.mark.parametrize("embeddings", [False, True])
def test_a_policy_is_trained_written_and_read(small, tmp_path, embeddings, capsys):
    config = settings(tmp_path, embeddings=(embeddings,))
    assert train_policy.main(config) == 0
    kind = "drla-embed" if embeddings else "drla-transfer"
    path = config.out / f"{kind}-v0-without-bloodcells.safetensors"
    policy = TransferPolicy.load(path)
    assert policy.embeddings is embeddings and path.stat().st_size < 10_000
    assert policy.card["families"] == [name for name in FAMILIES if name != "bloodcells"]
    assert set(policy.card["validation"]) == set(policy.card["families"])
    assert policy.card["validation"]["chestct"]["n"] == 2
    assert policy.card["fingerprints"]["chestct"] == "made" and policy.card["program"]["versions"]
    assert json.loads(path.with_suffix(".json").read_text())["history"]
    assert path.stem in capsys.readouterr().out


def test_training_is_repeatable_a_seed_changes_it_and_a_family_left_out_does_not(
    small, monkeypatch, tmp_path
):
    made, found = train_policy.training_features, []
    for seed, shift in ((0, 0), (0, 1), (1, 0)):

        def features(name, data, shift=shift):
            each = made(name, data)
            moved = each.values + shift if name == "bloodcells" else each.values
            return dataclasses.replace(each, values=moved)

        monkeypatch.setattr(train_policy, "training_features", features)
        out = tmp_path / f"{seed}{shift}"
        train_policy.main(
            dataclasses.replace(
                settings(tmp_path, out=out), search=dataclasses.replace(SEARCH, seed=seed)
            )
        )
        policy = TransferPolicy.load(next(out.glob("*.safetensors")))
        history = json.loads(next(out.glob("*.json")).read_text())["history"]
        card = {k: v for k, v in policy.card.items() if k != "settings"}
        found.append((policy.weights.tolist(), policy.diversity.tolist(), history, card))
    assert found[0] == found[1] != found[2]
    assert "bloodcells" not in found[0][3]["fingerprints"]
    assert found[0][:3] != found[2][:3]


def test_without_cma_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(train_policy.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'al-gym\[train\]'"):
        train_policy.main(settings(tmp_path))
