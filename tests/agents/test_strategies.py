"""Every strategy against a plain loop, and the shape of an agent's predict."""

import math
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import strategies


def softmax_rows(n=40, m=5, seed=0, gone=()):
    observation = np.random.default_rng(seed).dirichlet(np.full(m, 0.5), n).astype(np.float32)
    observation[list(gone)] = 0
    return observation


def make(name, seed=0, query_size=6):
    return strategies.make(name, query_size=query_size, seed=seed)


def loop_scores(name, row):
    ordered = sorted((float(p) for p in row), reverse=True)
    if name == "lc":
        return 1 - ordered[0]
    if name == "ms":
        return 1 - (ordered[0] - ordered[1])
    if name == "eq3":
        # the average, over which class is true, of Pr(predicted) - Pr(true)
        return sum(p * (ordered[0] - p) for p in ordered)
    return -sum(p * math.log(p) for p in ordered if p > 0) / math.log(len(ordered))


@pytest.mark.parametrize("name", ["lc", "ms", "en", "eq3"])
def test_scores_are_the_formula(name):
    observation = softmax_rows(gone=[3, 7])
    scores, _ = make(name).predict(observation)
    expected = [loop_scores(name, row) if row.any() else 0.0 for row in observation]
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_lc_picks_the_least_confident():
    observation = np.array([[0.9, 0.1, 0], [0.4, 0.3, 0.3], [0.6, 0.3, 0.1]], np.float32)
    assert make("lc").predict(observation)[0].argmax() == 1


def test_ms_picks_the_smallest_margin_where_lc_would_not():
    observation = np.array([[0.45, 0.28, 0.27], [0.49, 0.48, 0.03]], np.float32)
    assert make("ms").predict(observation)[0].argmax() == 1
    assert make("lc").predict(observation)[0].argmax() == 0


def test_eq3_is_zero_where_the_prediction_is_certain_or_even():
    observation = np.array([[1.0, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0.6, 0.2, 0.2]], np.float32)
    scores, _ = make("eq3").predict(observation)
    np.testing.assert_allclose(scores, [0, 0, 0.6 - 0.44], atol=1e-6)


def test_entropy_has_no_nan_at_zero_probability():
    observation = np.array([[1.0, 0, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]], np.float32)
    scores, _ = make("en").predict(observation)
    np.testing.assert_allclose(scores, [0, math.log(2) / math.log(3), 1], atol=1e-6)


@pytest.mark.parametrize("name", strategies.STRATEGIES)
def test_predict_has_the_form_of_an_agents(name):
    observation = softmax_rows(gone=[0, 39])
    scores, state = make(name).predict(observation, state="kept", episode_start=None)
    assert scores.shape == (40,) and scores.dtype == np.float32 and state == "kept"
    assert scores.min() >= 0 and scores.max() <= 1
    assert (scores[[0, 39]] == 0).all() and (scores[1:39] > 0).mean() > 0.9
    batch, _ = make(name).predict(np.stack([observation, observation]), deterministic=True)
    assert batch.shape == (2, 40)


@pytest.mark.parametrize("name", strategies.STRATEGIES)
def test_an_empty_pool_is_no_error(name):
    assert (make(name).predict(np.zeros((5, 3), np.float32))[0] == 0).all()


@pytest.mark.parametrize("name", ["random", "fusion"])
def test_randomness_follows_the_seed(name):
    observation = softmax_rows()
    a, b, c = (make(name, seed=s).predict(observation)[0] for s in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    agent = make(name)
    assert not np.array_equal(agent.predict(observation)[0], agent.predict(observation)[0])


def test_random_is_uniform():
    agent = make("random")
    observation = softmax_rows(n=10)
    counts = np.zeros(10)
    for _ in range(3000):
        counts[agent.predict(observation)[0].argmax()] += 1
    assert abs(counts - 300).max() < 80


def top(values, k):
    return {i for i, _ in sorted(enumerate(values), key=lambda pair: -pair[1])[:k]}


@given(seed=st.integers(0, 200), query_size=st.integers(1, 9))
def test_fusion_takes_k_of_the_union_at_random(seed, query_size):
    observation = softmax_rows(seed=seed)
    half = math.ceil(query_size / 2)
    union = set()
    for name in ("lc", "ms", "en"):
        union |= top([loop_scores(name, row) for row in observation], half)
    chosen = top(make("fusion", seed, query_size).predict(observation)[0], query_size)
    if len(union) >= query_size:
        assert chosen <= union
    else:
        assert union <= chosen  # filled by least confidence
        rest = top([loop_scores("lc", row) for row in observation], 40)
        ranked = sorted(rest - union, key=lambda i: -loop_scores("lc", observation[i]))
        assert chosen - union == set(ranked[: query_size - len(union)])


def test_fusion_gives_every_member_of_the_union_a_chance():
    observation = softmax_rows()
    agent = make("fusion", query_size=6)
    chosen = set()
    for _ in range(200):
        chosen |= top(agent.predict(observation)[0], 6)
    union = set()
    for name in ("lc", "ms", "en"):
        union |= top([loop_scores(name, row) for row in observation], 3)
    assert chosen == union


@pytest.mark.parametrize("name", strategies.STRATEGIES)
def test_an_observation_in_context_does_as_well(name):
    """What ``al_gym.wrappers.ContextObservation`` gives, alone and stacked."""
    softmax = np.random.default_rng(0).dirichlet(np.ones(3), 8).astype(np.float32)
    softmax[2] = 0
    context = OrderedDict(softmax=softmax, labelled_fraction=np.zeros(1, np.float32))
    stacked = {key: np.stack([value, value]) for key, value in context.items()}
    plain, dictionary, both = (
        strategies.make(name, query_size=2, seed=1).predict(seen)[0]
        for seen in (softmax, context, stacked)
    )
    np.testing.assert_array_equal(dictionary, plain)
    np.testing.assert_array_equal(both[0], plain)


def test_unknown_names_are_helped():
    with pytest.raises(ValueError, match="did you mean 'random'"):
        make("randm")
