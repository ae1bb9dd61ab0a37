"""Training of policies: its parts by hand, and the whole on small families."""

import dataclasses
import json
from concurrent.futures import Executor, Future

import numpy as np
import pytest
import torch

from agents.pool_features import FEATURES
from agents.transfer import TransferPolicy
from benchmarks import train_policy
from benchmarks.families import FAMILIES, Features
from benchmarks.tasks import Episodes
from benchmarks.train_policy import Job, Lookahead, TrainConfig


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
    monkeypatch.setattr(train_policy, "_FEATURES", {})
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def settings(tmp_path, **changes):
    given = {
        "data": tmp_path, "out": tmp_path / "out", "leave_out": ("bloodcells",),
        "embeddings": (False,), "look_ahead_tasks": 2, "generations": 2, "population": 3,
        "tasks": 1, "starts": 1, "validation_tasks": 2,
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
def test_parameters_go_where_they_belong_and_none_is_ms(embeddings):
    n = train_policy.n_parameters(embeddings)
    assert n == (12 if embeddings else 10)
    policy = train_policy.policy_of(np.arange(1.0, n + 1), embeddings)
    assert policy.weights[FEATURES.index("entropy")].tolist() == [1, 0, 2]
    assert policy.weights[FEATURES.index("rarity")].tolist() == [7, 0, 8]
    assert policy.weights[FEATURES.index("p1")].tolist() == [0, 0, 0]
    assert policy.weights[FEATURES.index("margin")].tolist() == [1, 0, 0]
    assert policy.diversity.tolist() == [n - 1, 0, n]
    assert len(policy.weights) == len(FEATURES) + embeddings
    still, ms = train_policy.policy_of(np.zeros(n), embeddings), TransferPolicy(embeddings)
    assert torch.equal(still.weights, ms.weights) and not still.diversity.any()


def test_tasks_of_search_selection_and_validation_are_others(small, tmp_path):
    each = job(tmp_path)
    train_policy._begin_worker({"chestct": train_policy.training_features("a", 0)})
    keys = [(0, 0), (0, 1), (1, 0), (train_policy.SELECTION, 0), (train_policy.VALIDATION, 0)]
    drawn = [train_policy._draw(each.config, "chestct", key) for key in keys]
    assert len({task.seeds for task in drawn}) == len(keys)
    assert train_policy._draw(each.config, "chestct", (0, 0)).seeds == drawn[0].seeds


def states(n):
    """Made-up ones of 5 queries."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(n):
        features, redundancy = rng.random((5, len(FEATURES) + 1)), rng.random((5, 2))
        progress = np.array([1, *rng.random(2)])
        made.append(Lookahead(features, redundancy, progress, rng.normal(size=5)))
    return made


@pytest.mark.parametrize("embeddings", [False, True])
def test_equations_are_those_of_a_plain_loop(embeddings):
    given = states(3)
    rows, gains = train_policy.equations(given, embeddings)
    policy = TransferPolicy(embeddings)
    policy.weights.uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    policy.diversity = torch.tensor([0.3, 0.1, 0.2])
    solution = torch.cat([policy.weights, policy.diversity[None]]).flatten().double().numpy()
    found = (rows @ solution).reshape(3, 5)
    for scores, state in zip(found, given, strict=True):
        by_hand, progress = [], torch.from_numpy(state.progress)
        for features, redundancy in zip(state.features, state.redundancy, strict=True):
            score = 0.0
            for k, weights in enumerate(policy.weights):
                score += features[k] * float(weights.double() @ progress)
            penalty = float(policy.diversity.double() @ progress)
            by_hand.append(score - penalty * redundancy[int(embeddings)])
        np.testing.assert_allclose(scores, by_hand - np.mean(by_hand), rtol=1e-6)
    np.testing.assert_array_equal(gains, np.concatenate([state.gain for state in given]))


@pytest.mark.parametrize("embeddings", [False, True])
def test_what_the_oracle_pays_is_learned(tmp_path, embeddings):
    """Gains that are a score of the kind that policies have are found again to the last weight."""
    truth = np.random.default_rng(1).normal(size=(len(FEATURES) + embeddings + 1, 3))
    given = []
    for state in states(40):
        rows, _ = train_policy.equations([state], embeddings)
        given.append(dataclasses.replace(state, gain=rows @ truth.flatten()))
    policy, history = train_policy.imitate(job(tmp_path, embeddings), {"chestct": given})
    np.testing.assert_allclose(policy.weights, truth[:-1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(policy.diversity, truth[-1], rtol=1e-4, atol=1e-5)
    assert history[0]["share of the variance explained"]["chestct"] == pytest.approx(1)
    assert history[0]["queries"] == 200


def test_what_was_tried_by_hand():
    softmax = np.array([[1, 0], [0, 1], [0.5, 0.5], [1, 0]], np.float32)
    seen = {
        "softmax": softmax, "class_counts": np.ones(2, np.float32),
        "labelled_fraction": np.array([0.1], np.float32),
        "embeddings": np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.float32),
    }  # fmt: skip
    selected = np.array([[0, 1, 2], [0, 3, 1]])
    state = train_policy._tried(seen, selected, np.array([1.0, 3.0]))
    half = np.sqrt(0.5)  # similarity of a certain and an undecided softmax
    by_softmax = [(0 + 0 + half) / 3, (0 + 1 + 0) / 3]
    np.testing.assert_allclose(state.redundancy[:, 0], by_softmax, atol=1e-6)
    np.testing.assert_allclose(state.redundancy[:, 1], [0, 0], atol=1e-6)
    assert state.gain.tolist() == [-1, 1]
    assert state.features.shape == (2, len(FEATURES) + 1)
    p1 = FEATURES.index("p1")
    np.testing.assert_allclose(state.features[:, p1], [(1 + 1 + 0.5) / 3, 1])
    assert state.progress[0] == 1 and state.progress[1] == pytest.approx(np.log10(2) - 2)


def seen_pool(rng, n=40, m=4):
    return {
        "softmax": rng.dirichlet(np.ones(m), n).astype(np.float32),
        "class_counts": rng.integers(1, 30, m).astype(np.float32),
        "labelled_fraction": np.array([0.1], np.float32),
        "embeddings": rng.normal(size=(n, 5)).astype(np.float32),
    }


def test_features_that_depend_on_others_do_not_blow_the_weights_up(tmp_path):
    """p1 - p2 + margin is 1 for every sample, and so is no part of any weights.

    With the rounding of float32 taken for information they were of the order of 10^6.
    """
    rng = np.random.default_rng(0)
    given = [
        train_policy._tried(
            seen_pool(rng), rng.integers(0, 40, (16, 5)), rng.normal(size=16)
        )
        for _ in range(60)
    ]  # fmt: skip
    policy, _ = train_policy.imitate(job(tmp_path), {"chestct": given})
    p1, p2, margin = (policy.weights[FEATURES.index(name)] for name in ("p1", "p2", "margin"))
    assert policy.weights.abs().max() < 1e4
    assert (p1 - p2 + margin).abs().max() < 1e-3 * policy.weights.abs().max()


def test_looking_ahead_leaves_the_episode_as_it_was(small, monkeypatch, tmp_path):
    """The leader's queries are those of the leader alone; states are few, their gains standard."""
    config = settings(tmp_path)
    train_policy._begin_worker({"chestct": train_policy.training_features("a", 0)})
    chosen = []

    class Watched(Episodes):
        def step(self, actions):
            super().step(actions)
            chosen.append(self.envs[0].episode.query.rows.tolist())

    monkeypatch.setattr(train_policy, "Episodes", Watched)
    for k in range(2):  # of MS, of a random policy
        chosen.clear()
        states = train_policy._look_ahead(config, ("chestct", 0, k))
        assert 0 < len(states) <= train_policy.N_STATES
        for state in states:
            assert state.features.shape == (train_policy.N_QUERIES, len(FEATURES) + 1)
            assert abs(state.gain.mean()) < 1e-9 and abs(state.gain.std() - 1) < 1e-9
        task = train_policy._draw(config, "chestct", (0, k))
        assert len(chosen) == len({tuple(rows) for rows in chosen}) > 5
        if k == 0:
            alone = Episodes(task, train_policy._FEATURES["chestct"], [0], True)
            for rows in chosen:
                (seen,) = alone.observations()
                alone.step([TransferPolicy(True).act(seen, task.config.query_size)])
                assert alone.envs[0].episode.query.rows.tolist() == rows


def test_a_family_that_tells_nothing_is_an_error(small, monkeypatch, tmp_path):
    monkeypatch.setattr(train_policy, "_look_ahead", lambda config, where: [])
    with pytest.raises(ValueError, match="chestct: all queries gained the same"):
        train_policy.main(settings(tmp_path, optimiser="imitate"))


@pytest.mark.parametrize("optimiser", ["evolve", "imitate"])
@pytest.mark.parametrize("embeddings", [False, True])
def test_a_policy_is_trained_written_and_read(small, tmp_path, optimiser, embeddings, capsys):
    config = settings(tmp_path, optimiser=optimiser, embeddings=(embeddings,))
    assert train_policy.main(config) == 0
    kind = "drla-embed" if embeddings else "drla-transfer"
    path = config.out / f"{kind}-v0-without-bloodcells.safetensors"
    policy = TransferPolicy.load(path)
    assert policy.embeddings is embeddings and path.stat().st_size < 10_000
    assert policy.card["families"] == [name for name in FAMILIES if name != "bloodcells"]
    assert set(policy.card["validation"]) == set(policy.card["families"])
    assert policy.card["validation"]["chestct"]["n"] == 2
    assert policy.card["settings"]["optimiser"] == optimiser
    assert policy.card["fingerprints"]["chestct"] == "made" and policy.card["program"]["versions"]
    assert json.loads(path.with_suffix(".json").read_text())["history"]
    assert path.stem in capsys.readouterr().out


@pytest.mark.parametrize("optimiser", ["evolve", "imitate"])
def test_training_is_repeatable_a_seed_changes_it_and_a_family_left_out_does_not(
    small, monkeypatch, tmp_path, optimiser
):
    made, found = train_policy.training_features, []
    for seed, shift in ((0, 0), (0, 1), (1, 0)):

        def features(name, data, shift=shift):
            each = made(name, data)
            moved = each.values + shift if name == "bloodcells" else each.values
            return dataclasses.replace(each, values=moved)

        monkeypatch.setattr(train_policy, "training_features", features)
        out = tmp_path / f"{seed}{shift}"
        train_policy.main(settings(tmp_path, out=out, seed=seed, optimiser=optimiser))
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
        train_policy.main(settings(tmp_path, optimiser="evolve"))
