"""A policy for few labels: the methods that are its special cases, its queries, and its files."""

import math

import numpy as np
import pytest
import torch

from agents import checkpoint, strategies, transfer, uherding
from agents.sets import coverage
from agents.sets.coverage import FEATURES, RADII, REGIME, Memory, Neighbourhood, at_length_1
from agents.transfer import CoveragePolicy, TransferPolicy
from tests.agents.sets.test_coverage import grown, observe

N_RANKED = 6


def policy_of(weights, embeddings=True):
    policy = CoveragePolicy.of(weights, embeddings)
    known = {FEATURES.index(name): weight for name, weight in weights.items()}
    expected = [[known.get(i, 0), *[0] * (len(REGIME) - 1)] for i in range(len(FEATURES))]
    torch.testing.assert_close(policy.weights, torch.tensor(expected, dtype=torch.float32))
    return policy


def ranking(policy, observation, n=N_RANKED):
    action, state = policy.predict(observation)
    assert state is None and action.dtype == np.float32
    return np.argsort(-action, kind="stable")[:n].tolist()


def by_uherding(one, probabilities):
    """What UHerding chooses of a pool, by position."""
    told = one["labelled_classes"] >= 0
    features = np.concatenate([one["labelled_embeddings"][told], one["embeddings"]])
    labels = one["labelled_classes"][told].astype(int)
    return uherding.choose(features, labels, probabilities, N_RANKED, 0).tolist()


def assert_greedy(order, one, value):
    """Each row has the greatest value of (candidate, centres so far, pool), the ones before apart.

    Equal to rounding is enough: two samples that would cover each other alone have equal gains.
    """
    vectors = at_length_1(one["embeddings"]).double()
    told = one["labelled_classes"] >= 0
    centres = list(at_length_1(one["labelled_embeddings"][told]).double())
    left = set(np.flatnonzero(one["softmax"].any(1)).tolist())
    for row in order:
        values = {i: value(vectors[i], centres, vectors) for i in left}
        assert values[row] == pytest.approx(max(values.values()), abs=1e-5)
        assert row in sorted(values, key=values.get)[-2:]
        centres.append(vectors[row])
        left.remove(row)


# --- special cases ------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [2, 3, 7])
@pytest.mark.parametrize("embeddings", [False, True])
def test_a_new_policy_ranks_as_ms(m, embeddings):
    one = observe(200, m, gone=[5, 60])
    order = ranking(CoveragePolicy(embeddings), one, 198)
    assert (np.diff(strategies.margin(one["softmax"])[order]) < 1e-6).all()
    assert not {5, 60} & set(order)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_labelled", [0, 1, 2, 12])
def test_the_uncertain_coverage_alone_is_uherding(monkeypatch, n_labelled, seed):
    """With the radius that both find, and no temperature."""
    monkeypatch.setattr(uherding, "calibrated_temperature", lambda *_: 1.0)
    one = observe(40, n_labelled=n_labelled, budget=20, seed=seed)
    policy = policy_of({"uncertain coverage, least": 1})
    assert ranking(policy, one) == by_uherding(one, one["softmax"])


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("n_labelled", [0, 1, 2, 12])
def test_the_coverage_alone_is_maxherding(n_labelled, seed):
    """That is UHerding with a uniform uncertainty."""
    one = observe(40, n_labelled=n_labelled, budget=20, seed=seed)
    uniform = np.full_like(one["softmax"], 1 / 3)
    assert ranking(policy_of({"coverage, least": 1}), one) == by_uherding(one, uniform)


@pytest.mark.parametrize("uncertain", [False, True])
@pytest.mark.parametrize("radius", RADII)
def test_herding_at_any_radius_is_that_of_a_plain_loop(radius, uncertain):
    one = observe(25, n_labelled=3, gone=[4])
    squared = float(Memory().of(one).radii[RADII.index(radius)])
    weights = strategies.margin(one["softmax"]) if uncertain else np.ones(25)
    weights[4] = 0

    def worth(x, centres, pool):
        kernels = torch.exp(-torch.cdist(pool, torch.stack([*centres, x])).square() / squared)
        return float(kernels.amax(1) @ torch.tensor(weights, dtype=torch.float64))

    name = f"{'uncertain ' * uncertain}coverage, {radius}"
    assert_greedy(ranking(policy_of({name: 1}), one), one, worth)


def test_the_distance_alone_is_coreset():
    one = observe(25, n_labelled=3)

    def worth(x, centres, pool):
        return 1 - max(float(x @ centre) for centre in centres)

    assert_greedy(ranking(policy_of({"distance": 1}), one), one, worth)


def test_the_typicality_alone_ranks_by_it():
    one = observe(60, gone=[7])
    vectors = at_length_1(one["embeddings"]).double()
    apart = torch.cdist(vectors, vectors).sort(dim=1).values[:, 1 : coverage.N_NEIGHBOURS + 1]
    inverse = 1 / apart.mean(1).numpy()
    inverse[7] = -math.inf
    assert ranking(policy_of({"typicality": 1}), one, 59) == np.argsort(-inverse)[:59].tolist()


# --- queries ------------------------------------------------------------------------------------


MIXED = {"margin": 0.5, "uncertain coverage, far": 1.0, "distance": 0.2, "agreement": -0.3}


def test_twins_are_not_picked_together():
    """The best has a twin that is as good, until the best is picked."""
    one = observe(30, n_labelled=2)
    best = ranking(policy_of(MIXED), one)[0]
    twin = (best + 1) % 30
    for key in ("embeddings", "softmax"):
        one[key][twin] = one[key][best]
    assert len({best, twin} & set(ranking(policy_of(MIXED), one, 4))) == 1
    assert {best, twin} <= set(ranking(policy_of({"margin": 1, "typicality": 1e-3}), one, 30))


def test_without_embeddings_twins_are_those_with_one_softmax():
    one = observe(30)
    one["softmax"][:] = np.random.default_rng(0).dirichlet([1, 1, 1], 30)
    one["softmax"][[4, 5]] = 1 / 3
    policy = policy_of({"margin": 1, "distance": 1}, embeddings=False)
    order = ranking(policy, {key: one[key] for key in coverage.pool_features.KEYS}, 3)
    assert len({4, 5} & set(order)) == 1


@pytest.mark.parametrize("embeddings", [False, True])
def test_scores_follow_their_samples(embeddings):
    one, order = observe(100, gone=[5, 60]), np.random.default_rng(1).permutation(100)
    other = one | {name: one[name][order] for name in ("softmax", "embeddings")}
    policy = policy_of(MIXED, embeddings)
    np.testing.assert_allclose(
        policy.predict(other)[0], policy.predict(one)[0][order], rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("n", [1, 2, 30, 100])
@pytest.mark.parametrize("m", [2, 100])
@pytest.mark.parametrize("n_labelled", [0, 5])
@pytest.mark.parametrize("embeddings", [False, True])
def test_any_pool_is_scored(n, m, n_labelled, embeddings):
    one = observe(n, m, n_labelled)
    one["softmax"][1::2] = 0
    policy = policy_of(MIXED, embeddings)
    action, state = policy.predict(one, state="mine")
    assert action.shape == (n,) and action.dtype == np.float32 and state == "mine"
    assert action.min() >= 0 and action.max() <= 1
    np.testing.assert_array_equal(action > 0, one["softmax"].any(1))
    assert len(np.unique(action[action > 0.5])) == min((n + 1) // 2, transfer.N_RANKED)
    one["softmax"][:] = 0
    np.testing.assert_array_equal(policy.predict(one)[0], np.zeros(n))


def test_what_a_policy_has_seen_before_does_not_change_what_it_does():
    policy, one = policy_of(MIXED), observe(60, n_labelled=9)
    actions = [policy.predict(grown(one, n))[0] for n in (2, 4, 9, 4)]
    for action, n in zip(actions, (2, 4, 9, 4), strict=True):
        np.testing.assert_array_equal(action, policy_of(MIXED).predict(grown(one, n))[0])


def test_stacked_observations_give_stacked_actions():
    policy, each = policy_of(MIXED), [observe(seed=seed) for seed in range(3)]
    stacked = {name: np.stack([one[name] for one in each]) for name in each[0]}
    actions, _ = policy.predict(stacked)
    for action, one in zip(actions, each, strict=True):
        np.testing.assert_array_equal(action, policy.predict(one)[0])


def test_a_few_picked_are_the_first_of_many():
    policy, one = policy_of(MIXED), observe(100)
    few, many = (np.argsort(-policy.act(one, n))[:5].tolist() for n in (5, 64))
    assert few == many


def test_the_weights_follow_the_regime():
    """Margin before a class is known, typicality once all are."""
    policy = policy_of({"typicality": 1})
    policy.weights[FEATURES.index("margin"), REGIME.index("unlabelled classes")] = 1e4
    for n_labelled, name in ((0, "margin"), (9, "typicality")):
        one = observe(40, n_labelled=n_labelled) | {"class_counts": np.full(3, n_labelled)}
        assert ranking(policy, one) == ranking(policy_of({name: 1}), one)


@pytest.mark.parametrize("part", ["softmax", "embeddings", "labelled_embeddings", "class_counts"])
def test_nan_is_refused(part):
    one = observe()
    one[part].flat[3 if part != "class_counts" else 0] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        policy_of(MIXED).predict(one)


def test_what_an_observation_lacks_is_named():
    one = observe()
    del one["labelled_embeddings"]
    with pytest.raises(TypeError, match=r"no labelled_embeddings: .*labelled=True"):
        CoveragePolicy(embeddings=True).predict(one)
    with pytest.raises(TypeError, match="ContextObservation"):
        CoveragePolicy().predict(one["softmax"])


# --- files --------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    return tmp_path / "policy.safetensors"


@pytest.mark.parametrize("embeddings", [False, True])
def test_what_is_saved_comes_back(path, embeddings):
    policy = policy_of(MIXED, embeddings)
    policy.save(path, {"trained on": ["a"]})
    for loaded in (transfer.load(path), CoveragePolicy.load(path)):
        assert isinstance(loaded, CoveragePolicy)
        assert loaded.card == {"trained on": ["a"]} and loaded.embeddings == embeddings
        assert loaded.wants == {"embeddings": embeddings, "labelled": embeddings}
        assert torch.equal(loaded.weights, policy.weights)


def test_either_kind_is_loaded(path):
    TransferPolicy(embeddings=True).save(path, {})
    loaded = transfer.load(path)
    assert isinstance(loaded, TransferPolicy) and loaded.wants == {"embeddings": True}
    with pytest.raises(ValueError, match="has format 'drla-transfer 2', not 'drla-transfer 3'"):
        CoveragePolicy.load(path)
    checkpoint.write(path, {"format": "drla-ddpg"})
    with pytest.raises(ValueError, match="not one of 'drla-transfer 2' 'drla-transfer 3'"):
        transfer.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": ["margin"]}, r"its features are \['margin'\], not \['p1'"),
        ({"regime": None}, "its regime are None"),
        ({"embeddings": 1}, "true or false"),
        ({"weights": torch.zeros(2, 3)}, r"weights must be .* not \(2, 3\)"),
        ({"weights": torch.full((len(FEATURES), len(REGIME)), torch.inf)}, "weights has NaN"),
    ],
)
def test_files_that_are_no_policy(path, change, message):
    policy_of(MIXED).save(path, {})
    checkpoint.write(path, checkpoint.read(path) | change)
    with pytest.raises(ValueError, match=f"(?s)policy.safetensors is not a policy .*{message}"):
        CoveragePolicy.load(path)


def test_policies_that_share_a_memory_look_at_a_pool_once(monkeypatch):
    made = []
    monkeypatch.setattr(
        coverage, "Neighbourhood", lambda *args: made.append(args) or Neighbourhood(*args)
    )
    policies, one = [policy_of(MIXED) for _ in range(3)], observe()
    for policy in policies:
        policy.memory = policies[0].memory
        policy.predict(one)
    assert len(made) == 1


FIRST = {
    "drla-embed-v1": [31, 188, 56, 69, 25, 131, 59, 82],
    "drla-embed-v1-without-blood": [31, 84, 131, 79, 188, 194, 100, 21],
    "drla-embed-v1-without-fundus": [31, 188, 25, 131, 84, 120, 98, 21],
    "drla-embed-v1-without-radiology": [31, 188, 56, 69, 25, 59, 131, 82],
    "drla-transfer-v1": [188, 97, 163, 186, 195, 111, 33, 31],
    "drla-transfer-v1-without-blood": [188, 97, 195, 163, 186, 33, 111, 47],
    "drla-transfer-v1-without-fundus": [188, 97, 195, 163, 186, 33, 111, 75],
    "drla-transfer-v1-without-radiology": [188, 163, 111, 186, 97, 33, 131, 4],
}
"""What the policies of version 1 chose first when they were published."""


@pytest.mark.parametrize("name", FIRST)
def test_published_policies_choose_as_they_did(name):
    policy = transfer.load_pretrained(name)
    assert isinstance(policy, CoveragePolicy)
    one = observe(200, 5, n_labelled=9, budget=20, seed=3, gone=[5, 60])
    assert ranking(policy, one, 8) == FIRST[name]
