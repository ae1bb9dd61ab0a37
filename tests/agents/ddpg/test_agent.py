"""The update: Eq. 4, 6 and 7 against numbers by hand, and the mistakes of re-implementations."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from agents.ddpg import DDPG, DDPGConfig
from agents.ddpg.replay_buffer import Batch

D, K = 12, 6
IMPLEMENTATIONS = ("fused", "default")


@pytest.fixture
def make_agent(score_env: Any) -> Any:
    def make(**settings: Any) -> DDPG:
        defaults = {"width": 16, "seed": 0, "tau": 0.1}
        agent = DDPG(score_env(n=K), DDPGConfig(**{**defaults, **settings}))
        for target in (agent.actor_target, agent.critic_target):
            nudge(target)  # so that target and online network cannot be taken for each other
        return agent

    return make


def nudge(network: nn.Module) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


def weights(network: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def weights_of(agent: DDPG, name: str) -> list[nn.Parameter]:
    return list(getattr(agent, name).parameters())


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def by_hand(network: nn.Module, x: list[float]) -> list[float]:
    """Three layers in plain loops and double precision, before any squashing."""
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    for i, layer in enumerate(layers):
        rows = zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
        x = [sum((w * v for w, v in zip(row, x, strict=True)), b) for row, b in rows]
        if i < 2:
            x = [max(0.0, v) for v in x]
    return x


def td_error_by_hand(agent: DDPG, batch: Batch, i: int) -> float:
    """TD error gamma Q'(S', pi'(S')) + r - Q(S, a), without Q' after the end."""
    s, a, r, s2, end = (part[i].tolist() for part in batch[:5])
    target = r[0]
    if not end[0]:
        logits = by_hand(agent.actor_target, s2)
        scores = [1 / (1 + np.exp(-z)) for z in logits]
        target += 0.99 * by_hand(agent.critic_target, s2 + scores)[0]
    return target - by_hand(agent.critic, s + a)[0]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_critic_loss_by_hand(make_agent: Any, random_batch: Any, implementation: str) -> None:
    agent, batch = make_agent(optimizer_impl=implementation), random_batch(D, K)
    errors = [td_error_by_hand(agent, batch, i) for i in range(8)]
    assert 0 < batch.terminated.sum() < 8
    losses = agent.train_step(batch)
    assert losses.critic.item() == pytest.approx(np.mean(np.square(errors)), rel=1e-5)
    assert losses.finite == 1


def test_td_target_with_numbers(make_agent: Any) -> None:
    """All weights zero, so that Q = 3 and Q' = 10: targets 2 + 0.99 * 10 = 11.9, and 2."""
    agent = make_agent()
    for network in (agent.actor, agent.actor_target, agent.critic, agent.critic_target):
        for parameter in network.parameters():
            parameter.data.zero_()
    agent.critic.net[4].bias.data.fill_(3.0)
    agent.critic_target.net[4].bias.data.fill_(10.0)
    zeros = torch.zeros(2, D)
    batch = Batch(zeros, zeros[:, :K], torch.full((2, 1), 2.0), zeros, torch.tensor([[0.0], [1.0]]))
    losses = agent.train_step(batch)
    assert losses.critic.item() == pytest.approx((8.9**2 + 1.0**2) / 2)
    assert losses.q.item() == pytest.approx(3.0)
    # The critic has moved by Adam's first step, one learning rate, towards the larger targets.
    assert losses.actor.item() == pytest.approx(-3.001)


def test_no_bootstrapping_past_the_end(make_agent: Any, random_batch: Any) -> None:
    """Mistake: a terminal transition whose target includes Q'(S')."""
    batch = random_batch(D, K)
    for terminated, changes in ((1.0, False), (0.0, True)):
        losses = []
        for shift in (0.0, 1.0):
            parts = batch._asdict() | {
                "terminated": torch.full((8, 1), terminated),
                "next_observations": batch.next_observations + shift,
            }
            losses.append(make_agent().train_step(Batch(**parts)).critic.item())
        assert (losses[0] != losses[1]) is changes


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_step_equals_a_plain_reimplementation(
    make_agent: Any, random_batch: Any, implementation: str
) -> None:
    """Critic, then actor with the new critic, each by its own loss alone, then targets once.

    Mistakes: actor gradients leaking into the critic; targets never or doubly updated.
    """
    agent = make_agent(optimizer_impl=implementation)
    actor, critic, actor_target, critic_target = map(
        copy.deepcopy, (agent.actor, agent.critic, agent.actor_target, agent.critic_target)
    )
    actor_adam = torch.optim.Adam(actor.parameters(), lr=1e-3)
    critic_adam = torch.optim.Adam(critic.parameters(), lr=1e-3)
    for step in range(5):
        batch = random_batch(D, K, seed=step)
        s, a, r, s2, end = batch[:5]
        losses = agent.train_step(batch)

        target = r + 0.99 * (1 - end) * critic_target(s2, actor_target(s2)).detach()
        critic_loss = ((target - critic(s, a)) ** 2).mean()
        gradients = torch.autograd.grad(critic_loss, list(critic.parameters()))
        for parameter, gradient in zip(critic.parameters(), gradients, strict=True):
            parameter.grad = gradient
        critic_adam.step()
        actor_loss = -critic(s, actor(s)).mean()
        gradients = torch.autograd.grad(actor_loss, list(actor.parameters()))
        for parameter, gradient in zip(actor.parameters(), gradients, strict=True):
            parameter.grad = gradient
        actor_adam.step()
        for online, average in ((actor, actor_target), (critic, critic_target)):
            for p, t in zip(online.parameters(), average.parameters(), strict=True):
                t.data = 0.1 * p.data + 0.9 * t.data

        torch.testing.assert_close(losses.critic, critic_loss.detach())
        torch.testing.assert_close(losses.actor, actor_loss.detach())
        mine = (agent.actor, agent.critic, agent.actor_target, agent.critic_target)
        for network, twin in zip(mine, (actor, critic, actor_target, critic_target), strict=True):
            for p, t in zip(network.parameters(), twin.parameters(), strict=True):
                torch.testing.assert_close(p, t, rtol=1e-5, atol=1e-6)


def test_gradients_stay_where_they_belong(
    make_agent: Any, random_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in a network's gradients when it is moved is its own loss's; targets get none."""
    agent = make_agent()
    seen: dict[str, list[str]] = {}
    networks = ("actor", "critic", "actor_target", "critic_target")

    def watch(name: str) -> None:
        def with_gradients(*_: Any) -> None:
            holders = [n for n in networks if any(p.grad is not None for p in weights_of(agent, n))]
            seen[name] = holders

        monkeypatch.setattr(getattr(agent, f"{name}_optimizer"), "_step", with_gradients)

    watch("actor")
    watch("critic")
    agent.train_step(random_batch(D, K))
    assert seen == {"critic": ["critic"], "actor": ["actor"]}
    assert all(p.grad is None for name in networks for p in weights_of(agent, name))


def test_gradients_left_by_others_are_dropped(make_agent: Any, random_batch: Any) -> None:
    clean, stained = make_agent(), make_agent()
    for network in (stained.actor, stained.critic):
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)
    for agent in (clean, stained):
        agent.train_step(random_batch(D, K))
    assert same(weights(clean.actor), weights(stained.actor))
    assert same(weights(clean.critic), weights(stained.critic))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_polyak_averaging_against_the_formula(
    make_agent: Any, random_batch: Any, implementation: str
) -> None:
    """Mistake: targets never updated, or twice."""
    agent = make_agent(optimizer_impl=implementation, tau=0.3)
    for name in ("actor", "critic"):
        old = weights(getattr(agent, f"{name}_target"))
        agent.train_step(random_batch(D, K))
        online, new = weights(getattr(agent, name)), weights(getattr(agent, f"{name}_target"))
        for p, before, after in zip(online, old, new, strict=True):
            torch.testing.assert_close(after, 0.3 * p + 0.7 * before)
            assert not torch.equal(before, after)


def test_epoch_targets_move_once_after_the_pass(make_agent: Any, monkeypatch: Any) -> None:
    agent = make_agent(target_update="epoch", tau=0.3, batch_size=2)
    steps: list[list[Tensor]] = []
    original = agent.train_step

    def watched(*arguments: Any) -> Any:
        losses = original(*arguments)
        steps.append(weights(agent.actor_target))
        return losses

    monkeypatch.setattr(agent, "train_step", watched)
    agent.learn(5)
    assert [len(list(group)) for group in groups(steps)] == [1, 1, 2, 2, 3]  # ceil(t / 2)
    last = steps[-1]
    for p, before, after in zip(
        weights(agent.actor), last, weights(agent.actor_target), strict=True
    ):
        torch.testing.assert_close(after, 0.3 * p + 0.7 * before)


@pytest.mark.parametrize(("target_update", "expected"), [("step", 9), ("epoch", 5)])
def test_targets_move_as_often_as_they_should(
    make_agent: Any, monkeypatch: Any, target_update: str, expected: int
) -> None:
    """Five environment steps with passes of 1, 1, 2, 2 and 3 batches."""
    agent = make_agent(target_update=target_update, batch_size=2)
    updates: list[Any] = []
    monkeypatch.setattr(agent, "_update_targets", updates.append)
    agent.learn(5)
    assert agent.n_updates == 9
    assert len(updates) == expected


def groups(steps: list[list[Tensor]]) -> list[list[list[Tensor]]]:
    """Consecutive gradient steps between which the target did not move."""
    out: list[list[list[Tensor]]] = []
    for step in steps:
        if out and same(out[-1][0], step):
            out[-1].append(step)
        else:
            out.append([step])
    return out


def test_targets_start_as_copies(score_env: Any) -> None:
    agent = DDPG(score_env(), DDPGConfig(width=16))
    assert same(weights(agent.actor), weights(agent.actor_target))
    assert same(weights(agent.critic), weights(agent.critic_target))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("target_update", ["step", "epoch"])
def test_a_loss_that_is_not_finite_changes_nothing_from_there_on(
    make_agent: Any, random_batch: Any, implementation: str, target_update: str
) -> None:
    agent = make_agent(optimizer_impl=implementation, target_update=target_update)
    good, after = random_batch(D, K), random_batch(D, K, seed=1)
    bad = good._replace(rewards=good.rewards * float("nan"))
    losses = agent.train_step(good)
    assert losses.finite == 1
    networks = (agent.actor, agent.critic, agent.actor_target, agent.critic_target)
    before = [weights(network) for network in networks]
    moments = copy.deepcopy(agent.critic_optimizer.state_dict())
    for batch in (bad, after):
        losses = agent.train_step(batch, losses.finite)
        assert losses.finite == 0
    for network, old in zip(networks, before, strict=True):
        assert same(weights(network), old)
    for i, state in agent.critic_optimizer.state_dict().items():
        assert all(torch.equal(state[name], moments[i][name]) for name in state)
    # A later call that does not carry the flag trains again.
    assert agent.train_step(after).finite == 1
    assert not same(weights(agent.critic), before[1])


def test_a_gradient_step_never_waits_for_the_device(
    make_agent: Any, random_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, batch = make_agent(), random_batch(D, K)
    finite = agent.train_step(batch).finite

    def wait(*_: Any, **__: Any) -> None:
        raise AssertionError("a host round trip")

    for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__"):
        monkeypatch.setattr(Tensor, name, wait)
    with pytest.raises(AssertionError, match="round trip"):
        bool(finite)
    losses = agent.train_step(batch, finite)
    monkeypatch.undo()
    assert losses.finite == 1


def test_train_step_changes_neither_batch_nor_global_generators(
    make_agent: Any, random_batch: Any, untouched_globals: None
) -> None:
    agent, batch = make_agent(), random_batch(D, K)
    held = [part.clone() for part in batch]
    agent.train_step(batch)
    assert same(list(batch), held)


def test_the_actor_climbs_the_critic(
    make_agent: Any, random_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a critic that is held still, Eq. 4 raises Q(S, pi(S))."""
    agent, batch = make_agent(learning_rate=1e-2), random_batch(D, K)
    monkeypatch.setattr(agent.critic_optimizer, "minimize", lambda loss, finite: None)
    losses = [agent.train_step(batch).actor.item() for _ in range(30)]
    assert losses[-1] < losses[0] - 0.01
    assert np.mean(np.diff(losses) < 0) > 0.8
