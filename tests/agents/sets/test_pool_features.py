"""What set networks see of a pool: numbers by hand, plain loops, and the symmetries."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.sets import pool_features
from agents.sets.pool_features import CONTEXT, FEATURES, PoolState, describe, flatten, unflatten

POOLS = {
    "n": st.integers(1, 30),
    "m": st.integers(2, 6),
    "share": st.sampled_from([0.1, 0.5, 0.9, 1.0]),
    "alpha": st.sampled_from([0.1, 1.0, 20.0]),
    "seed": st.integers(0, 10**6),
}
RANDOM = settings(max_examples=60, deadline=None)


def observe(n=20, m=4, share=0.8, alpha=1.0, seed=0):
    """Softmax rows, about a ``share`` of them in the pool, and any class counts, 0 included."""
    rng = np.random.default_rng(seed)
    softmax = rng.dirichlet(np.full(m, alpha), n).astype(np.float32)
    softmax[rng.random(n) >= share] = 0
    return {
        "softmax": softmax,
        "class_counts": rng.integers(0, rng.choice([1, 5, 500]) + 1, m).astype(np.float32),
        "labelled_fraction": rng.random(1, dtype=np.float32),
    }


def by_name(state):
    return dict(zip(FEATURES, state.features.tolist(), strict=False))


def loop_features(observation):
    """(n, K) and the shares of the labels, in double precision."""
    rows = observation["softmax"].tolist()
    counts = observation["class_counts"].tolist()
    m, pool = len(counts), [row for row in rows if any(row)]
    labelled = [(count + 1) / (sum(counts) + m) for count in counts]
    predicted = [(sum(row[j] for row in pool) + 1) / (len(pool) + m) for j in range(m)]
    features = []
    for row in rows:
        if not any(row):
            features.append([0.0] * len(FEATURES))
            continue
        first, second, third = (*sorted(row, reverse=True), 0.0)[:3]
        features.append(
            [
                first,
                second,
                third,
                1 - (first - second),
                -sum(p * math.log(p) for p in row if p > 0) / math.log(m),
                sum(p * (first - p) for p in row),
                sum(row[j] * math.log(predicted[j] / labelled[j]) for j in range(m)),
                sum(row[j] * -math.log(m * labelled[j]) for j in range(m)),
            ]
        )
    return features, labelled


def loop_context(observation):
    """The first entries, the means and the deviations, in double precision."""
    features, labelled = loop_features(observation)
    counts, m = observation["class_counts"].tolist(), len(labelled)
    pool = [each for each in features if any(each)]
    means = [sum(values) / len(pool) for values in zip(*pool, strict=True)]
    deviations = [
        math.sqrt(sum((each[k] - means[k]) ** 2 for each in pool) / len(pool))
        for k in range(len(FEATURES))
    ]
    first = [
        1.0,
        math.log10(max(sum(counts), 1)) - 2,
        means[FEATURES.index("margin")],
        float(observation["labelled_fraction"][0]),
        1 + sum(share * math.log(share) for share in labelled) / math.log(m),
        1 / m,
    ]
    return first, means, deviations


def test_three_samples_by_hand():
    """Labels 3, 1, 0 and one more of each: 4/7, 2/7, 1/7. Predictions: 2.2, 1.7 and 1.1 of 5."""
    softmax = np.array([[0.1, 0.7, 0.2], [0, 0, 0], [0.5, 0, 0.5]], np.float32)
    observation = {
        "softmax": softmax,
        "class_counts": np.array([3, 1, 0], np.float32),
        "labelled_fraction": np.array([0.25], np.float32),
    }
    state = describe(observation)
    found = by_name(state)
    log = math.log
    deficits = [log(1.6 / 5 * 7 / 4), log(1.7 / 5 * 7 / 2), log(1.7 / 5 * 7)]
    rarities = [-log(12 / 7), -log(6 / 7), -log(3 / 7)]
    entropy = -(0.1 * log(0.1) + 0.7 * log(0.7) + 0.2 * log(0.2)) / log(3)
    expected = {
        "p1": [0.7, 0, 0.5],
        "p2": [0.2, 0, 0.5],
        "p3": [0.1, 0, 0],
        "margin": [0.5, 0, 1],
        "entropy": [entropy, 0, log(2) / log(3)],
        "expected reward": [0.7 - 0.54, 0, 0],
        "deficit": [
            0.1 * deficits[0] + 0.7 * deficits[1] + 0.2 * deficits[2],
            0,
            0.5 * deficits[0] + 0.5 * deficits[2],
        ],
        "rarity": [
            0.1 * rarities[0] + 0.7 * rarities[1] + 0.2 * rarities[2],
            0,
            0.5 * rarities[0] + 0.5 * rarities[2],
        ],
    }
    assert list(expected) == list(FEATURES)
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, abs=1e-6), name
    assert (state.features[:, 1] == 0).all()
    imbalance = 1 + (4 * log(4 / 7) + 2 * log(2 / 7) + log(1 / 7)) / 7 / log(3)
    whole = [1, math.log10(4) - 2, 0.75, 0.25, imbalance, 1 / 3]
    means = [(values[0] + values[2]) / 2 for values in expected.values()]
    deviations = [abs(values[0] - values[2]) / 2 for values in expected.values()]
    assert state.context.tolist() == pytest.approx([*whole, *means, *deviations], abs=1e-6)
    assert len(state.context) == pool_features.context_size(len(FEATURES)) == len(CONTEXT) + 16


@RANDOM
@given(**POOLS)
def test_features_and_context_are_those_of_plain_loops(n, m, share, alpha, seed):
    observation = observe(n, m, share, alpha, seed)
    observation["softmax"][0] = 1 / m  # never empty
    state = describe(observation)
    features, _ = loop_features(observation)
    first, means, _ = loop_context(observation)
    np.testing.assert_allclose(state.features.T, features, rtol=1e-5, atol=1e-5)
    size = len(CONTEXT) + len(FEATURES)
    np.testing.assert_allclose(state.context[:size], first + means, rtol=1e-5, atol=1e-5)


@RANDOM
@given(**POOLS)
def test_deviations_are_those_of_plain_loops(n, m, share, alpha, seed):
    observation = observe(n, m, share, alpha, seed)
    observation["softmax"][0] = 1 / m
    _, _, deviations = loop_context(observation)
    found = describe(observation).context[-len(FEATURES) :]
    np.testing.assert_allclose(found, deviations, rtol=1e-5, atol=1e-5)


def test_equal_samples_have_no_deviation():
    observation = observe(n=12, m=3, share=1.0)
    observation["softmax"][:] = np.float32([0.7, 0.2, 0.1])
    deviations = describe(observation).context[-len(FEATURES) :]
    np.testing.assert_allclose(deviations, 0, atol=1e-5)


def test_a_sample_that_has_left_changes_nothing_for_the_others():
    observation = observe(n=10, share=1.0)
    longer = observation | {"softmax": np.insert(observation["softmax"], 4, 0, axis=0)}
    alone, among = describe(observation), describe(longer)
    rest = [i for i in range(11) if i != 4]
    torch.testing.assert_close(among.features[:, rest], alone.features, rtol=0, atol=1e-6)
    torch.testing.assert_close(among.context, alone.context, rtol=0, atol=1e-6)


def test_two_classes_have_no_third_probability():
    state = describe(observe(m=2))
    assert by_name(state)["p3"] == [0] * 20
    sums = state.features[0] + state.features[1]
    assert set(sums.round(decimals=6).tolist()) == {0, 1}


@pytest.mark.parametrize("m", [2, 5])
def test_the_order_of_samples_carries_no_meaning(m):
    observation, order = observe(n=50, m=m), np.random.default_rng(1).permutation(50)
    state = describe(observation)
    other = describe(observation | {"softmax": observation["softmax"][order]})
    torch.testing.assert_close(other.features, state.features[:, order], rtol=0, atol=1e-6)
    torch.testing.assert_close(other.context, state.context, rtol=0, atol=1e-6)


@pytest.mark.parametrize("m", [2, 3, 6])
def test_the_order_of_classes_carries_no_meaning(m):
    observation, order = observe(n=50, m=m), np.random.default_rng(1).permutation(m)
    other = observation | {
        "softmax": observation["softmax"][:, order],
        "class_counts": observation["class_counts"][order],
    }
    for first, second in zip(describe(observation), describe(other), strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 3, 20])
def test_chunks_do_not_show(monkeypatch, chunk):
    observation = observe()
    directions = pool_features.normalised(np.random.default_rng(2).normal(size=(20, 5)))
    whole = describe(observation, directions.float())
    monkeypatch.setattr(pool_features, "CHUNK", chunk)
    for first, second in zip(describe(observation, directions.float()), whole, strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=1e-6)


def test_an_observation_is_not_changed():
    observation = observe()
    held = {name: values.copy() for name, values in observation.items()}
    describe(observation)
    for name, values in held.items():
        np.testing.assert_array_equal(observation[name], values)


@pytest.mark.parametrize("embeddings", [False, True])
def test_an_empty_pool_has_finite_values(embeddings):
    observation = observe() | {"softmax": np.zeros((20, 4), np.float32)}
    directions = torch.eye(20) if embeddings else None
    state = describe(observation, directions)
    assert state.features.shape == (len(FEATURES) + embeddings, 20)
    assert (state.features == 0).all() and state.context.isfinite().all()
    assert (state.context[len(CONTEXT) :] == 0).all()


# --- novelty ------------------------------------------------------------------------------------


def test_novelty_by_hand():
    directions = torch.tensor([[1.0, 0], [0, 1], [0.6, 0.8], [-1, 0]])
    first_left = torch.tensor([False, True, True, True])
    found = pool_features.novelty(directions, first_left)
    assert found.tolist() == pytest.approx([0, 1, 0.4, 2])
    two_left = torch.tensor([False, False, True, True])
    found = pool_features.novelty(directions, two_left)
    assert found.tolist() == pytest.approx([0, 0, 0.2, 1])


def test_nothing_is_novel_before_a_sample_has_left():
    everything = torch.ones(3, dtype=torch.bool)
    assert pool_features.novelty(torch.eye(3), everything).tolist() == [0, 0, 0]


def test_embeddings_are_taken_around_their_mean():
    """Around (1, 1) they are (-1, -1), (1, -1) and (0, 2)."""
    found = pool_features.normalised(np.array([[0, 0], [2, 0], [1, 3]], np.float32))
    half = math.sqrt(0.5)
    np.testing.assert_allclose(found, [[-half, -half], [half, -half], [0, 1]], atol=1e-6)


def test_novelty_is_the_last_feature():
    """The sample that has left lies at (-1, -1), the others at right angles and opposite."""
    observation = observe(n=3, share=1.0)
    observation["softmax"][0] = 0
    directions = pool_features.normalised(np.array([[0, 0], [2, 0], [1, 3]], np.float32))
    plain, state = describe(observation), describe(observation, directions)
    assert torch.equal(state.features[:-1], plain.features)
    novelties = [1, 1 + math.sqrt(0.5)]
    assert state.features[-1].tolist() == pytest.approx([0, *novelties], abs=1e-6)
    mean, deviation = state.context[len(CONTEXT) + len(FEATURES)], state.context[-1]
    assert float(mean) == pytest.approx(sum(novelties) / 2, abs=1e-6)
    assert float(deviation) == pytest.approx((novelties[1] - novelties[0]) / 2, abs=1e-6)


def test_what_has_left_has_no_novelty():
    """Not even at the embeddings' mean, where a vector has no direction."""
    observation = observe(n=3, share=1.0)
    observation["softmax"][0] = 0
    assert describe(observation, torch.zeros(3, 2)).features[-1].tolist() == [0, 1, 1]


# --- shapes and keys ----------------------------------------------------------------------------


@pytest.mark.parametrize("n_features", [8, 9])
def test_flatten_and_back(n_features):
    pools = [
        PoolState(torch.rand(n_features, 7), torch.rand(pool_features.context_size(n_features)))
        for _ in range(3)
    ]
    flat = [flatten(pool) for pool in pools]
    sizes = pool_features.Sizes(n_features, pool_features.context_size(n_features))
    assert flat[0].shape == (len(CONTEXT) + 2 * n_features + 7 * n_features,)
    for pool, each in zip(pools, flat, strict=True):
        assert all(map(torch.equal, unflatten(each, sizes), pool))
    features, context = unflatten(torch.stack(flat)[:, None], sizes)
    assert features.shape == (3, 1, n_features, 7)
    assert torch.equal(features[:, 0], torch.stack([pool.features for pool in pools]))
    assert torch.equal(context[:, 0], torch.stack([pool.context for pool in pools]))


def test_what_is_missing_is_named():
    keys = ["softmax", "class_counts", "labelled_fraction"]
    pool_features.require(keys)
    pool_features.require([*keys, "embeddings", "more"], embeddings=True)
    with pytest.raises(TypeError, match=r"no class_counts, .*ContextObservation\(env\)$"):
        pool_features.require(["softmax"])
    with pytest.raises(TypeError, match=r"no embeddings: .*\(env, embeddings=True\)$"):
        pool_features.require(keys, embeddings=True)
