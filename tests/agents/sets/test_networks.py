"""Networks that see a set: symmetries, plain loops, and the selection."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from agents.sets import networks as set_networks
from agents.sets.networks import SetActor, SetCritic, SharedNetwork, _mean
from agents.sets.pool_features import FEATURES, PoolState, context_size, describe, flatten

K, C = len(FEATURES), context_size(len(FEATURES))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make_observation(n=20, m=4, seed=0, gone=()):
    rng = np.random.default_rng(seed)
    softmax = rng.dirichlet(np.full(m, 0.7), n).astype(np.float32)
    softmax[list(gone)] = 0
    return {
        "softmax": softmax,
        "class_counts": rng.integers(1, 30, m).astype(np.float32),
        "labelled_fraction": np.float32([0.2]),
    }


def make_pool(*args, **kwargs):
    return describe(make_observation(*args, **kwargs))


def make_flat(n=20, m=4, size=5, gone=(3, 7)):
    return torch.stack([flatten(make_pool(n, m, seed, gone)) for seed in range(size)])


def make_actor(seed=0):
    """With scores that differ widely."""
    actor = SetActor(generator(seed)).requires_grad_(False)
    for parameter in (actor.net.out, actor.net.out_bias):
        parameter.uniform_(-1, 1, generator=generator(seed + 1))
    return actor


def shuffled(pool, order):
    return PoolState(pool.features[..., order], pool.context)


# --- the shared network and the actor -----------------------------------------------------------


def test_actor_and_critic_have_about_ten_thousand_weights():
    networks = SetActor(), SetCritic(5)
    n = sum(parameter.numel() for each in networks for parameter in each.parameters())
    assert 5e3 < n < 2e4


def test_the_shared_network_is_a_loop_over_samples():
    net = SharedNetwork(K, C, 3, generator()).requires_grad_(False)
    pool = make_pool(gone=[2])
    found = net(*pool)
    assert found.shape == (3, 20)
    first = torch.cat([net.of_sample, net.of_context], dim=1)
    for i in range(20):
        x = torch.cat([pool.features[:, i], pool.context])
        hidden = F.linear(x, first, net.bias).relu()
        hidden = F.linear(hidden, net.hidden, net.hidden_bias).relu()
        expected = F.linear(hidden, net.out, net.out_bias)
        torch.testing.assert_close(found[:, i], expected, rtol=0, atol=1e-6)


def test_initial_weights_keep_within_their_fan_in():
    net = SharedNetwork(K, C, 3, generator()).requires_grad_(False)
    for weights, fan_in in (
        (torch.cat([net.of_sample, net.of_context, net.bias[:, None]], dim=1), K + C),
        (torch.cat([net.hidden, net.hidden_bias[:, None]], dim=1), set_networks.WIDTH),
        (torch.cat([net.out, net.out_bias[:, None]], dim=1), set_networks.WIDTH),
    ):
        bound = 1 / math.sqrt(fan_in)
        assert 0.9 * bound < weights.abs().max() <= bound
        assert weights.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.15)
    assert all((p == 0).all() for p in SharedNetwork(K, C, 3, None).parameters())


@pytest.mark.parametrize("chunk", [1, 7, 20])
def test_chunks_do_not_show(monkeypatch, chunk):
    actor, critic, flat = make_actor(), SetCritic(4, generator()), make_flat()
    actions = actor(flat)
    q = critic(flat, actions)
    monkeypatch.setattr(set_networks, "CHUNK", chunk)
    torch.testing.assert_close(actor(flat), actions, rtol=0, atol=1e-6)
    torch.testing.assert_close(critic(flat, actions), q, rtol=0, atol=1e-6)


def test_scores_follow_their_samples():
    actor, pool = make_actor(), make_pool(gone=[0])
    order = torch.randperm(20, generator=generator())
    expected = actor.scores(pool)[order]
    torch.testing.assert_close(actor.scores(shuffled(pool, order)), expected, rtol=0, atol=1e-6)


def test_the_value_does_not_depend_on_the_order():
    critic = SetCritic(4, generator())
    pool, scores = make_pool(gone=[0]), torch.rand(1, 20, generator=generator())
    order = torch.randperm(20, generator=generator(1))
    q = critic(flatten(pool)[None], scores)
    other = critic(flatten(shuffled(pool, order))[None], scores[:, order])
    torch.testing.assert_close(q, other, rtol=0, atol=1e-5)
    assert critic(flatten(pool)[None], scores[:, order]) != q


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 7), (50, 3), (300, 10)])
def test_one_network_fits_any_pool(n, m):
    pool, actor, critic = make_pool(n, m), make_actor(), SetCritic(5, generator())
    scores = actor.scores(pool)
    assert scores.shape == (n,) and scores.isfinite().all()
    q = critic(flatten(pool)[None], torch.sigmoid(scores)[None])
    assert q.shape == (1, 1) and q.isfinite().all()


def test_many_pools_at_once_are_each_alone():
    flat, actor = make_flat(), make_actor()
    critic = SetCritic(4, generator())
    actions = actor(flat)
    assert actions.shape == (5, 20) and ((actions > 0) & (actions < 1)).all()
    torch.testing.assert_close(actions, torch.sigmoid(actor.logits(flat)), rtol=0, atol=0)
    q = critic(flat, actions)
    for i in range(5):
        torch.testing.assert_close(actor(flat[i]), actions[i], rtol=0, atol=1e-6)
        alone = critic(flat[i : i + 1], actions[i : i + 1])
        torch.testing.assert_close(alone, q[i : i + 1], rtol=0, atol=1e-6)


def test_an_actor_begins_at_random():
    pool = make_pool()
    scores = SetActor(generator()).scores(pool)
    assert scores.std() > 1e-3
    assert (SetActor().scores(pool) == 0).all()


def test_the_generator_decides_the_weights(untouched_globals):
    def weights(seed):
        networks = (
            SetActor(generator(seed)),
            SetCritic(3, generator(seed)),
        )
        return [nn.utils.parameters_to_vector(each.parameters()) for each in networks]

    for first, same, other in zip(weights(0), weights(0), weights(1), strict=True):
        assert torch.equal(first, same) and not torch.equal(first, other)


# --- the critic ---------------------------------------------------------------------------------


def test_the_highest_in_the_pool_are_selected():
    action = torch.tensor([[0.1, 0.9, 0.5, 0.7], [0.4, 0.3, 0.2, 0.1]])
    in_pool = torch.tensor([[1.0, 0, 1, 1], [1, 1, 1, 1]])
    selected = SetCritic(2).selected(action, in_pool)
    torch.testing.assert_close(selected, torch.tensor([[0.0, 0, 1, 1], [1, 1, 0, 0]]))


@pytest.mark.parametrize("query_size", [1, 3, 40])
def test_selection_against_a_sort(query_size):
    action = torch.rand(6, 20, generator=generator())
    in_pool = (torch.rand(6, 20, generator=generator(1)) < 0.6).float()
    selected = SetCritic(query_size).selected(action, in_pool)
    for scores, inside, found in zip(action, in_pool, selected, strict=True):
        rows = [i for i in range(20) if inside[i]]
        best = sorted(rows, key=lambda i: -scores[i])[:query_size]
        expected = [float(i in best) for i in range(20)]
        assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_all_are_selected_if_there_are_no_more():
    action, in_pool = torch.tensor([[0.1, 0.9, 0.5, 0.7]]), torch.tensor([[1.0, 0, 1, 0]])
    selected = SetCritic(3).selected(action, in_pool)
    torch.testing.assert_close(selected, in_pool)
    nothing = SetCritic(3).selected(action, torch.zeros(1, 4))
    assert nothing.tolist() == [[0, 0, 0, 0]]


def test_the_gradient_of_the_selection():
    """That of a sigmoid around the last selected, 0.5, at the scale of the deviation."""
    scores, in_pool = [0.1, 0.9, 0.5, 0.7], [1.0, 0.0, 1.0, 1.0]
    action = torch.tensor([scores], requires_grad=True)
    SetCritic(2).selected(action, torch.tensor([in_pool])).sum().backward()
    scale = np.std([0.1, 0.5, 0.7])  # of those in the pool
    for score, inside, gradient in zip(scores, in_pool, action.grad[0].tolist(), strict=True):
        share = 1 / (1 + math.exp((0.5 - score) / scale))
        assert gradient == pytest.approx(inside * share * (1 - share) / scale, rel=1e-5)
        assert (gradient > 0) is bool(inside)


def test_departed_samples_do_not_matter():
    """Neither their scores nor that they are there, apart from the scale of a gradient."""
    critic, pool = SetCritic(4, generator()), make_pool(gone=[3, 7])
    scores = torch.rand(1, 20, generator=generator())
    q = critic(flatten(pool)[None], scores)
    other = scores.clone()
    other[0, [3, 7]] = torch.tensor([1.0, 0.0])
    torch.testing.assert_close(critic(flatten(pool)[None], other), q, rtol=0, atol=1e-6)
    rest = [i for i in range(20) if i not in (3, 7)]
    without = flatten(shuffled(pool, rest))[None]
    torch.testing.assert_close(critic(without, scores[:, rest]), q, rtol=0, atol=1e-6)


def test_an_empty_pool_has_a_value():
    flat = flatten(make_pool(gone=range(20)))[None]
    q = SetCritic(4, generator())(flat, torch.full((1, 20), 0.5))
    assert q.isfinite().all()


@pytest.mark.parametrize("n_selected", [1, 2, 5])
def test_a_mean_has_the_gradient_of_a_mean(n_selected):
    """With respect to its weights: (value - mean) / total, also where the total is 1."""
    weights = torch.zeros(1, 1, 8)
    weights[..., :n_selected] = 1
    weights.requires_grad_(True)
    values = torch.rand(1, 3, 8, generator=generator())
    mean = _mean(values, weights)
    mean[0, 1].backward()
    expected = (values[0, 1] - mean[0, 1].detach()) / n_selected
    torch.testing.assert_close(weights.grad[0, 0], expected)


def test_a_mean_of_none_is_0():
    weights = torch.zeros(1, 1, 4, requires_grad=True)
    mean = _mean(torch.rand(1, 2, 4), weights)
    mean.sum().backward()
    assert not mean.any() and weights.grad.isfinite().all()


def test_td_learning_reaches_every_part_and_the_scores():
    critic = SetCritic(4, generator())
    flat, scores = make_flat(), torch.rand(5, 20, generator=generator(), requires_grad=True)
    critic(flat, scores).square().mean().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in critic.value.parameters())
    assert critic.net.out.grad.abs().max() > 0 and scores.grad.abs().max() > 0
