"""A policy that is applied unchanged: its scores, its ranking, and its files."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from agents import checkpoint, strategies, transfer
from agents.sets.pool_features import FEATURES, describe
from agents.transfer import TransferPolicy, load_pretrained, spread_out


def make_observation(n=30, m=4, seed=0, gone=(), embeddings=True):
    rng = np.random.default_rng(seed)
    softmax = rng.dirichlet(np.full(m, 0.7), n).astype(np.float32)
    softmax[list(gone)] = 0
    observation = {
        "softmax": softmax,
        "class_counts": rng.integers(1, 30, m).astype(np.float32),
        "labelled_fraction": np.float32([0.2]),
    }
    if embeddings:
        observation["embeddings"] = rng.normal(size=(n, 6)).astype(np.float32)
    return observation


def make_policy(embeddings=False, diversity=0.0, trained=True):
    policy = TransferPolicy(embeddings)
    if trained:
        policy.weights.uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    policy.diversity[0] = diversity
    return policy


def scores(policy, observation):
    return policy.predict(observation)[0]


def stack(observations):
    return {name: np.stack([one[name] for one in observations]) for name in observations[0]}


# --- scores -------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", range(2, 8))
@pytest.mark.parametrize("embeddings", [False, True])
def test_a_new_policy_ranks_as_ms(m, embeddings):
    observation = make_observation(200, m, gone=[5, 60])
    action = scores(TransferPolicy(embeddings), observation)
    by_ms = strategies.margin(observation["softmax"])[np.argsort(-action, kind="stable")[:198]]
    assert (np.diff(by_ms) < 1e-6).all()
    in_pool = observation["softmax"].any(1)
    np.testing.assert_array_equal(action > 0, in_pool)


@pytest.mark.parametrize("diversity", [0.0, 0.7])
@pytest.mark.parametrize("embeddings", [False, True])
def test_scores_follow_their_samples(diversity, embeddings):
    policy, n = make_policy(embeddings, diversity), 150
    observation, order = make_observation(n, gone=[5, 60]), np.random.default_rng(1).permutation(n)
    other = observation | {name: observation[name][order] for name in ("softmax", "embeddings")}
    np.testing.assert_allclose(
        scores(policy, other), scores(policy, observation)[order], rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("n", [1, 2, 30, 100])
@pytest.mark.parametrize("m", [2, 7])
@pytest.mark.parametrize("diversity", [0.0, 0.7])
@pytest.mark.parametrize("embeddings", [False, True])
def test_any_pool_is_scored(n, m, diversity, embeddings):
    observation = make_observation(n, m, gone=[0] if n > 1 else [])
    held = {name: values.copy() for name, values in observation.items()}
    policy = make_policy(embeddings, diversity)
    action, state = policy.predict(observation, state="mine")
    assert action.shape == (n,) and action.dtype == np.float32 and state == "mine"
    assert action.min() >= 0 and action.max() <= 1
    np.testing.assert_array_equal(action > 0, observation["softmax"].any(1))
    np.testing.assert_array_equal(scores(policy, observation), action)
    for name, values in held.items():
        np.testing.assert_array_equal(observation[name], values)


@pytest.mark.parametrize("diversity", [0.0, 0.7])
@pytest.mark.parametrize("embeddings", [False, True])
def test_an_empty_pool_is_no_error(diversity, embeddings):
    action = scores(make_policy(embeddings, diversity), make_observation(gone=range(30)))
    np.testing.assert_array_equal(action, np.zeros(30))


@pytest.mark.parametrize("diversity", [0.0, 0.7])
def test_stacked_observations_give_stacked_actions(diversity):
    policy = make_policy(True, diversity)
    each = [make_observation(seed=seed, gone=[seed]) for seed in range(3)]
    actions = scores(policy, stack(each))
    assert actions.shape == (3, 30)
    for action, one in zip(actions, each, strict=True):
        np.testing.assert_array_equal(action, scores(policy, one))


def test_a_query_of_unlike_samples_by_hand():
    """The two best are alike, so that the third comes before the second of them."""
    softmax = np.float32([[0.5, 0.5, 0], [0.51, 0.49, 0], [0, 0.55, 0.45], [0.98, 0.01, 0.01]])
    observation = make_observation(4, 3) | {"softmax": softmax}
    assert np.argsort(-scores(make_policy(trained=False), observation)).tolist() == [0, 1, 2, 3]
    spread = scores(make_policy(diversity=0.5, trained=False), observation)
    assert np.argsort(-spread).tolist() == [0, 2, 1, 3]


def test_the_weights_follow_the_progress():
    """A weight of 2 of p2, 3 times the labels, and 5 times the uncertainty, of p1."""
    policy, pool = TransferPolicy(), describe(make_observation())
    policy.weights.zero_()
    policy.weights[1, 0], policy.weights[0, 1], policy.weights[0, 2] = 2, 3, 5
    _, labels, uncertainty = pool.context[:3]
    expected = 2 * pool.features[1] + (3 * labels + 5 * uncertainty) * pool.features[0]
    torch.testing.assert_close(policy.unranked(pool), expected, rtol=1e-5, atol=1e-6)


def test_a_negative_weight_of_the_penalty_counts_as_none():
    observation = make_observation()
    np.testing.assert_array_equal(
        scores(make_policy(diversity=-3.0), observation), scores(make_policy(), observation)
    )


def test_the_ranked_come_first_and_the_others_follow_by_score(monkeypatch):
    monkeypatch.setattr(transfer, "N_RANKED", 5)
    monkeypatch.setattr(transfer, "N_CANDIDATES", 8)
    observation = make_observation(gone=[2])
    plain, spread = (scores(make_policy(diversity=w), observation) for w in (0.0, 0.7))
    ranked = np.argsort(-spread)[:5]
    assert set(ranked) <= set(np.argsort(-plain)[:8].tolist())
    assert spread[ranked].tolist() == pytest.approx([1, 0.9, 0.8, 0.7, 0.6])
    others = np.setdiff1d(np.arange(30), ranked)
    np.testing.assert_array_equal(spread[others], plain[others])
    assert spread[others].max() <= 0.5


def test_a_few_ranked_are_the_first_of_many():
    policy, observation = make_policy(diversity=0.7), make_observation(100)
    few, many = (np.argsort(-policy.act(observation, n))[:6] for n in (6, 64))
    np.testing.assert_array_equal(few, many)


def test_what_an_observation_lacks_is_named():
    observation = make_observation(embeddings=False)
    with pytest.raises(TypeError, match=r"no embeddings: .*ContextObservation.*embeddings=True"):
        TransferPolicy(embeddings=True).predict(observation)
    del observation["class_counts"]
    with pytest.raises(TypeError, match=r"no class_counts: .*ContextObservation\(env\)$"):
        TransferPolicy().predict(observation)


@pytest.mark.parametrize("diversity", [0.0, 0.7])
@pytest.mark.parametrize("part", ["softmax", "embeddings", "class_counts"])
def test_nan_is_refused(part, diversity):
    observation = make_observation()
    observation[part].flat[3] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        make_policy(True, diversity).predict(observation)


def test_the_plain_environments_observation_is_refused():
    observation = make_observation()
    with pytest.raises(TypeError, match="ContextObservation"):
        TransferPolicy().predict(observation["softmax"])
    with pytest.raises(TypeError, match="observation, info = env.reset"):
        TransferPolicy().predict((observation, {}))


@pytest.mark.parametrize("embeddings", [False, True])
def test_other_float_types_are_taken(embeddings):
    policy, observation = make_policy(embeddings, 0.7), make_observation()
    double = {name: values.astype(np.float64) for name, values in observation.items()}
    np.testing.assert_array_equal(scores(policy, double), scores(policy, observation))


def test_parts_that_do_not_fit_are_refused():
    observation = make_observation(30, 4)
    with pytest.raises(ValueError, match=r"class_counts must be \(4,\), not \(3,\)"):
        TransferPolicy().predict(observation | {"class_counts": np.ones(3, np.float32)})
    with pytest.raises(ValueError, match="29 embeddings of 30 samples"):
        TransferPolicy(True).predict(observation | {"embeddings": observation["embeddings"][:29]})


# --- the order of a query -----------------------------------------------------------------------


def loop_order(values, vectors, weight, n):
    picked, left = [], list(range(len(values)))
    while left and len(picked) < n:

        def worth(i, picked=tuple(picked)):
            products = [
                sum(a * b for a, b in zip(vectors[i], vectors[j], strict=True)) for j in picked
            ]
            return values[i] - weight * max([0.0, *products])

        best = max(left, key=worth)
        picked.append(best)
        left.remove(best)
    return picked


@settings(max_examples=60, deadline=None)
@given(
    m=st.integers(1, 15),
    n=st.integers(1, 20),
    weight=st.sampled_from([0.1, 0.5, 2.0, 10.0]),
    seed=st.integers(0, 10**6),
)
def test_the_order_is_that_of_a_plain_loop(m, n, weight, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(m, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    values = rng.random(m)
    given_scores, given_vectors = torch.tensor(values), torch.tensor(vectors)
    order = spread_out(given_scores, given_vectors, weight, n)
    assert order.dtype == torch.int64
    assert order.tolist() == loop_order(values.tolist(), vectors.tolist(), weight, n)
    assert (
        spread_out(given_scores, given_vectors, weight, n // 2).tolist() == order.tolist()[: n // 2]
    )
    np.testing.assert_array_equal(given_scores, values)


def test_to_be_opposite_is_no_merit():
    vectors = torch.tensor([[1.0, 0], [-1, 0], [0, 1]])
    assert spread_out(torch.tensor([1.0, 0.5, 0.8]), vectors, 1.0, 3).tolist() == [0, 2, 1]


def test_there_are_no_more_than_there_are():
    assert sorted(spread_out(torch.rand(4), torch.eye(4), 1.0, 9).tolist()) == [0, 1, 2, 3]
    assert spread_out(torch.rand(0), torch.rand(0, 4), 1.0, 9).tolist() == []


# --- files --------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sub" / "policy.safetensors"


@pytest.mark.parametrize("embeddings", [False, True])
def test_what_is_saved_comes_back(path, embeddings):
    policy = make_policy(embeddings, 0.7)
    card = {"trained on": ["a", "b"], "return": 0.25, "nested": {"seed": 3}}
    policy.save(path, card)
    loaded = TransferPolicy.load(path)
    assert loaded.card == card and loaded.embeddings == embeddings
    assert torch.equal(loaded.diversity, policy.diversity)
    assert torch.equal(loaded.weights, policy.weights)
    observation = make_observation(100)
    np.testing.assert_array_equal(scores(loaded, observation), scores(policy, observation))


def refused(path, message=""):
    return pytest.raises(ValueError, match=rf"(?s){re.escape(str(path))} .*{message}")


def test_a_missing_file(path):
    with pytest.raises(FileNotFoundError, match=re.escape(str(path))):
        TransferPolicy.load(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_a_truncated_file(path, share):
    make_policy().save(path, {})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with refused(path, "truncated or not a checkpoint"):
        TransferPolicy.load(path)


@pytest.mark.parametrize("content", [b"garbage", b"\x00" * 100, b"{}" * 300])
def test_a_file_of_something_else(tmp_path, content):
    path = tmp_path / "policy.safetensors"
    path.write_bytes(content)
    with refused(path, "truncated or not a checkpoint"):
        TransferPolicy.load(path)


def rewritten(path, drop="", **changes):
    """A policy's file with parts of it changed."""
    make_policy().save(path, {})
    tree = checkpoint.read(path) | changes
    checkpoint.write(path, {name: part for name, part in tree.items() if name != drop})


def test_rewritten_without_change_it_can_be_used(path):
    rewritten(path)
    assert TransferPolicy.load(path).card == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "drla-ddpg"}, "has format 'drla-ddpg', not"),
        ({"embeddings": True}, r"weights must be \(9, 3\) .*, not \(8, 3\)"),
        ({"embeddings": "yes"}, "true or false"),
        ({"embeddings": 10**12}, "true or false"),
        ({"card": ["a"]}, "the card a dictionary"),
        ({"drop": "weights"}, "weights"),
        ({"drop": "diversity"}, "diversity"),
        ({"drop": "card"}, "card"),
        ({"weights": torch.zeros(len(FEATURES), 2)}, r"not \(8, 2\)"),
        ({"weights": torch.zeros(len(FEATURES), 3, dtype=torch.int64)}, "int64"),
        ({"weights": [1, 2]}, "shape"),
        ({"weights": torch.full((len(FEATURES), 3), torch.nan)}, "weights has NaN"),
        ({"diversity": torch.zeros(4)}, r"diversity must be \(3,\)"),
    ],
)
def test_files_that_are_no_policy(path, change, message):
    rewritten(path, **change)
    with refused(path, message):
        TransferPolicy.load(path)


def test_other_safetensors(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(2)}, path)
    with refused(path, "not a checkpoint of this project"):
        TransferPolicy.load(path)


def test_unknown_names():
    with pytest.raises(ValueError, match="unknown pretrained policy 'nothing-of-the-kind'"):
        load_pretrained("nothing-of-the-kind")


FIRST = {
    "drla-embed-v0": [116, 111, 100, 178, 131, 188, 11, 138],
    "drla-embed-v0-without-bloodcells": [106, 128, 20, 100, 36, 130, 102, 164],
    "drla-embed-v0-without-chestct": [163, 111, 190, 73, 100, 119, 75, 85],
    "drla-embed-v0-without-retinamnist": [111, 197, 100, 94, 131, 191, 138, 12],
    "drla-embed-v0-without-retinopathy": [111, 116, 131, 188, 115, 142, 75, 64],
    "drla-transfer-v0": [106, 190, 111, 130, 20, 73, 197, 94],
    "drla-transfer-v0-without-bloodcells": [111, 190, 20, 34, 94, 197, 59, 119],
    "drla-transfer-v0-without-chestct": [111, 20, 190, 94, 34, 104, 106, 59],
    "drla-transfer-v0-without-retinamnist": [111, 116, 85, 75, 163, 161, 131, 59],
    "drla-transfer-v0-without-retinopathy": [111, 190, 197, 73, 85, 34, 131, 94],
}
"""What the policies of version 0 chose first when they were published."""


@pytest.mark.parametrize("name", FIRST)
def test_published_policies_choose_as_they_did(name):
    policy = load_pretrained(name)
    assert isinstance(policy, TransferPolicy)
    assert torch.equal(policy.weights, TransferPolicy.load(transfer.pretrained_path(name)).weights)
    action = scores(policy, make_observation(200, 5, seed=3, gone=[5, 60]))
    assert np.argsort(-action, kind="stable")[:8].tolist() == FIRST[name]
