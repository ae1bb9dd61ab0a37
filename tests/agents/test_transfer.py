"""A policy that is applied unchanged: its scores, its ranking, and its files."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from agents import checkpoint, strategies, transfer
from agents.pool_features import FEATURES
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


def make_policy(embeddings=False, diversity=0.0, base="ms", trained=True):
    policy = TransferPolicy(embeddings, base)
    if trained:
        generator = torch.Generator().manual_seed(0)
        for parameter in policy.actor.parameters():
            parameter.uniform_(-0.4, 0.4, generator=generator)
    policy.diversity[0] = diversity
    return policy


def scores(policy, observation):
    return policy.predict(observation)[0]


def stack(observations):
    return {name: np.stack([one[name] for one in observations]) for name in observations[0]}


# --- scores -------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", range(2, 8))
@pytest.mark.parametrize("embeddings", [False, True])
def test_without_weights_it_ranks_as_ms(m, embeddings):
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


def test_the_plain_environments_observation_is_refused():
    observation = make_observation()
    for given_instead in (observation["softmax"], (observation, {})):
        with pytest.raises(TypeError, match="ContextObservation"):
            TransferPolicy().predict(given_instead)


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


@pytest.mark.parametrize(("embeddings", "base"), [(False, "ms"), (True, "en"), (True, "none")])
def test_what_is_saved_comes_back(path, embeddings, base):
    policy = make_policy(embeddings, 0.7, base)
    card = {"trained on": ["a", "b"], "return": 0.25, "nested": {"seed": 3}}
    policy.save(path, card)
    loaded = TransferPolicy.load(path)
    assert loaded.card == card
    assert (loaded.embeddings, loaded.actor.base) == (embeddings, base)
    assert loaded.diversity.tolist() == policy.diversity.tolist()
    for name, weights in policy.actor.state_dict().items():
        assert torch.equal(loaded.actor.state_dict()[name], weights)
    assert not any(parameter.requires_grad for parameter in loaded.actor.parameters())
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


def rewritten(path, drop=(), **changes):
    """A policy's file with parts of it changed."""
    policy = make_policy()
    policy.save(path, {})
    tree = checkpoint.read(path)
    weights = changes.pop("weights", {})
    tree["actor"] = {
        name: each for name, each in (tree["actor"] | weights).items() if name not in drop
    }
    checkpoint.write(path, {k: v for k, v in (tree | changes).items() if k not in drop})


def test_rewritten_without_change_it_can_be_used(path):
    rewritten(path)
    assert TransferPolicy.load(path).card == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "drla-ddpg"}, "has format 'drla-ddpg', not"),
        ({"settings": {"embeddings": True, "base": "ms"}}, "size mismatch"),
        ({"settings": {"unheard_of": 1}}, "unheard_of"),
        ({"settings": {"base": "xx"}}, "base must be one of"),
        ({"settings": None}, ""),
        ({"drop": ["diversity"]}, "diversity"),
        ({"drop": ["card"]}, "card"),
        ({"drop": ["linear"]}, "linear"),
        ({"weights": {"linear": torch.zeros(len(FEATURES), 2)}}, "size mismatch"),
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
    with pytest.raises(ValueError, match="no pretrained policy 'nothing-of-the-kind'"):
        load_pretrained("nothing-of-the-kind")
