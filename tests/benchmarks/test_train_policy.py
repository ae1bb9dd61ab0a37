"""Training of policies: its parts by hand, and the whole on small families."""

import json
from concurrent.futures import Executor, Future

import numpy as np
import pytest
import torch

from agents.pool_features import FEATURES, PoolState, context_size
from agents.set_networks import SetActor
from agents.transfer import TransferPolicy
from benchmarks import train_policy
from benchmarks.families import FAMILIES, Features
from benchmarks.train_policy import Job, TrainConfig


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
    """Two hundred samples a family, of three classes, and everything in this process."""

    def features(name, data):
        rng = np.random.default_rng(len(name))
        labels = rng.permutation(np.repeat([0, 1, 2], [400, 150, 50]))
        values = torch.from_numpy(rng.normal(0, 1, (600, 6)) + 1.5 * np.eye(6)[labels]).float()
        return Features(values, labels, np.arange(600), "made")

    monkeypatch.setattr(train_policy, "training_features", features)
    monkeypatch.setattr(train_policy, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(train_policy, "_FEATURES", {})
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def settings(tmp_path, **changes):
    given = {
        "data": tmp_path, "out": tmp_path / "out", "leave_out": ("bloodcells",),
        "embeddings": (False,), "generations": 2, "population": 3, "tasks": 1, "starts": 1,
        "validation_tasks": 2,
    }  # fmt: skip
    return TrainConfig(**{**given, **changes})


def job(tmp_path, embeddings=False):
    return Job(("chestct",), embeddings, settings(tmp_path))


def test_fitness_does_not_depend_on_the_scale_of_a_task():
    first = np.array([[0.1, 0.5], [0.2, 0.4], [0.3, 0.6]])
    second = np.array([[5.0], [5.0], [5.0]])  # tells nothing
    # deviations from the mean of each start, over its standard deviation
    a = (np.array([-0.1, 0, 0.1])) / np.std([0.1, 0.2, 0.3])
    b = (np.array([0, -0.1, 0.1])) / np.std([0.5, 0.4, 0.6])
    np.testing.assert_allclose(train_policy.fitness([first, second]), (a + b) / 3, atol=1e-12)
    scaled = train_policy.fitness([100 * first + 3, second])
    np.testing.assert_allclose(scaled, (a + b) / 3, atol=1e-9)


@pytest.mark.parametrize("embeddings", [False, True])
def test_parameters_go_where_they_belong_and_none_is_ms(tmp_path, embeddings):
    each = job(tmp_path, embeddings)
    n = train_policy.n_parameters(each)
    assert n == (12 if embeddings else 10)
    policy = train_policy.policy_of(np.arange(1.0, n + 1), each)
    linear = policy.actor.linear
    assert linear[FEATURES.index("entropy")].tolist() == [1, 0, 2]
    assert linear[FEATURES.index("rarity")].tolist() == [7, 0, 8]
    assert linear[FEATURES.index("p1")].tolist() == [0, 0, 0]
    assert policy.diversity.tolist() == [n - 1, 0, n]
    assert len(linear) == len(FEATURES) + embeddings
    still = train_policy.policy_of(np.zeros(n), each)
    assert not still.actor.linear.any() and not still.diversity.any()


def test_tasks_of_search_selection_and_validation_are_others(small, tmp_path):
    each = job(tmp_path)
    Here(
        1, None, train_policy._begin_worker, ({"chestct": train_policy.training_features("a", 0)},)
    )
    keys = [(0, 0), (1, 0), (train_policy.SELECTION, 0), (train_policy.VALIDATION, 0)]
    drawn = [train_policy._draw(each, "chestct", key) for key in keys]
    assert len({task.seeds for task in drawn}) == len(keys)
    assert train_policy._draw(each, "chestct", (0, 0)).seeds == drawn[0].seeds


def test_a_query_is_told_by_the_mean_score_less_its_redundancy():
    actor = SetActor("none", generator=torch.Generator().manual_seed(0)).requires_grad_(False)
    context = torch.rand(context_size(len(FEATURES)))
    samples = torch.rand(4, len(FEATURES), 3)
    redundancy, gain = torch.rand(4), torch.tensor([1.0, -1, 0.5, -0.5])
    diversity = torch.tensor([0.3, 0.0, 0.2])
    predicted = []
    for query, similar in zip(samples, redundancy, strict=True):
        scores = actor.scores(PoolState(query, context))
        predicted.append(float(scores.mean() - (diversity @ context[:3]) * similar))
    error = np.array(predicted) - np.mean(predicted) - gain.numpy()
    state = train_policy.Lookahead(samples, context, redundancy, gain)
    misfit = train_policy._misfit(actor, diversity, state)
    assert float(misfit) == pytest.approx(np.mean(error**2), rel=1e-5)


def test_redundancy_is_that_to_the_samples_selected_before():
    softmax = np.array([[1, 0], [0, 1], [0.5, 0.5], [1, 0]], np.float32)
    seen = {
        "softmax": softmax, "class_counts": np.ones(2, np.float32),
        "labelled_fraction": np.array([0.1], np.float32),
    }  # fmt: skip
    selected = [np.array([0, 1, 2]), np.array([0, 3, 1])]
    state = train_policy._lookahead(seen, selected, np.array([1.0, 3.0]), False)
    half = np.sqrt(0.5)  # similarity of a certain and an undecided softmax
    np.testing.assert_allclose(state.redundancy, [(0 + 0 + half) / 3, (0 + 1 + 0) / 3], atol=1e-6)
    assert state.gain.tolist() == pytest.approx([-half, half], abs=1e-6)
    assert state.samples.shape == (2, len(FEATURES), 3)


@pytest.mark.parametrize("optimiser", ["evolve", "imitate"])
@pytest.mark.parametrize("embeddings", [False, True])
def test_a_policy_is_trained_written_and_read(small, tmp_path, optimiser, embeddings, capsys):
    config = settings(tmp_path, optimiser=optimiser, embeddings=(embeddings,))
    assert train_policy.main(config) == 0
    kind = "drla-embed" if embeddings else "drla-transfer"
    path = config.out / f"{kind}-v0-without-bloodcells.safetensors"
    policy = TransferPolicy.load(path)
    assert policy.embeddings is embeddings and path.stat().st_size < 100_000
    assert policy.card["families"] == [name for name in FAMILIES if name != "bloodcells"]
    assert set(policy.card["validation"]) == set(policy.card["families"])
    assert policy.card["validation"]["chestct"]["n"] == 2
    assert policy.card["settings"]["optimiser"] == optimiser
    assert policy.card["program"]["fingerprints"]["chestct"] == "made"
    assert json.loads(path.with_suffix(".json").read_text())["history"]
    assert path.stem in capsys.readouterr().out


def test_training_is_repeatable_and_a_seed_changes_it(small, tmp_path):
    files = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        config = settings(tmp_path, out=tmp_path / name, seed=seed, generations=3)
        train_policy.main(config)
        history = json.loads(next(config.out.glob("*.json")).read_text())["history"]
        files.append(history)
    assert files[0] == files[1] != files[2]


def test_without_cma_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(train_policy.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'al-gym\[train\]'"):
        train_policy.main(settings(tmp_path))
