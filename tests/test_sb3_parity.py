"""The update equals Stable-Baselines3's DDPG: to the bit in tanh mode on the CPU."""

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.logger import Logger
from torch import nn

from agents.ddpg import DDPG, DDPGConfig
from agents.ddpg.replay_buffer import Batch

STEPS, BATCH, TRANSITIONS = 50, 16, 200
SETTINGS: dict[str, Any] = {"width": 64, "batch_size": BATCH, "buffer_size": 250, "device": "cpu"}


@pytest.fixture
def reference() -> sb3.DDPG:
    """SB3's DDPG with a filled replay buffer, some gradient steps after its beginning."""
    agent: Any = sb3.DDPG(
        "MlpPolicy",
        gym.make("Pendulum-v1"),
        buffer_size=TRANSITIONS,
        batch_size=BATCH,
        tau=0.005,
        gamma=0.99,
        policy_kwargs={"net_arch": [64, 64]},
        seed=0,
        device="cpu",
    )
    agent.set_logger(Logger(None, []))
    rng = np.random.default_rng(0)
    observation = rng.normal(size=3).astype(np.float32)
    for t in range(TRANSITIONS):
        following = rng.normal(size=3).astype(np.float32)
        done, truncated = t % 20 == 19, t % 40 == 39
        action = rng.uniform(-1, 1, (1, 1)).astype(np.float32)
        agent.replay_buffer.add(
            observation[None],
            following[None],
            action,
            np.array([rng.normal()]),
            np.array([done]),
            [{"TimeLimit.truncated": truncated}],
        )
        observation = rng.normal(size=3).astype(np.float32) if done else following
    agent.train(5, BATCH)
    return agent


def copy_of(reference: sb3.DDPG, **settings: Any) -> DDPG:
    """Our agent with the reference's weights, optimizer state and replay contents."""
    agent = DDPG(gym.make("Pendulum-v1"), DDPGConfig(squash="tanh", **{**SETTINGS, **settings}))
    for mine, theirs in pairs(agent, reference):
        mine.load_state_dict(theirs.state_dict())
    for name in ("actor", "critic"):
        moments = copy.deepcopy(getattr(reference, name).optimizer.state_dict()["state"])
        getattr(agent, f"{name}_optimizer").load_state_dict(moments)
    held: Any = reference.replay_buffer
    for t in range(TRANSITIONS):
        if t % 20 == 0:
            agent.buffer.start(torch.from_numpy(held.observations[t, 0]))
        agent.buffer.add(
            torch.from_numpy(held.actions[t, 0]),
            float(held.rewards[t, 0]),
            torch.from_numpy(held.next_observations[t, 0]),
            bool(held.dones[t, 0] and not held.timeouts[t, 0]),
        )
    return agent


def pairs(agent: DDPG, reference: Any) -> list[tuple[nn.Module, nn.Module]]:
    """Our four networks beside SB3's, as sequences of layers with equal names."""
    return [
        (agent.actor.net, reference.actor.mu),
        (agent.critic.net, reference.critic.qf0),
        (agent.actor_target.net, reference.actor_target.mu),
        (agent.critic_target.net, reference.critic_target.qf0),
    ]


def train_both(agent: DDPG, reference: Any, monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """Fifty gradient steps on the same batches, drawn from each agent's own replay buffer."""
    rng, held = np.random.default_rng(1), reference.replay_buffer
    draws = [rng.integers(0, TRANSITIONS, BATCH) for _ in range(STEPS)]
    theirs = [held._get_samples(rows) for rows in draws]
    batches = [agent.buffer._gather(torch.from_numpy(rows)) for rows in draws]
    waiting = iter(theirs)
    monkeypatch.setattr(held, "sample", lambda size, env=None: next(waiting))
    reference.train(STEPS, BATCH)
    for batch in batches:
        agent.train_step(batch)
    for mine, sample in zip(batches, theirs, strict=True):
        assert torch.equal(mine.observations, sample.observations)
        assert torch.equal(mine.actions, sample.actions)
        assert torch.equal(mine.rewards, sample.rewards)
        assert torch.equal(mine.terminated, sample.dones)
        going_on = mine.terminated.ravel() == 0
        assert torch.equal(mine.next_observations[going_on], sample.next_observations[going_on])
    return batches


def largest_difference(agent: DDPG, reference: sb3.DDPG) -> float:
    differences = [
        (p - q).abs().max().item()
        for mine, theirs in pairs(agent, reference)
        for p, q in zip(mine.parameters(), theirs.parameters(), strict=True)
    ]
    assert len(differences) == 24
    return max(differences)


def test_fifty_steps_are_equal_to_the_bit(
    reference: sb3.DDPG, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = copy_of(reference, optimizer_impl="default")
    assert largest_difference(agent, reference) == 0.0
    before = [p.clone() for p in agent.actor.parameters()]
    train_both(agent, reference, monkeypatch)
    assert largest_difference(agent, reference) == 0.0
    assert all(not torch.equal(p, q) for p, q in zip(before, agent.actor.parameters(), strict=True))


def test_the_fused_optimizer_agrees(reference: sb3.DDPG, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = copy_of(reference, optimizer_impl="fused")
    train_both(agent, reference, monkeypatch)
    assert largest_difference(agent, reference) < 1e-5


def test_equal_policies_predict_equal_actions(reference: sb3.DDPG) -> None:
    agent = copy_of(reference)
    observations = np.random.default_rng(2).normal(size=(20, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        agent.predict(observations)[0], reference.predict(observations)[0]
    )
    np.testing.assert_array_equal(
        agent.predict(observations[0])[0], reference.predict(observations[0])[0]
    )


def test_sigmoid_mode_against_tanh(reference: Any) -> None:
    """sigmoid(z) = (tanh(z / 2) + 1) / 2, so both modes are one network in other units.

    With half the weights in its last layer the reference's actor gives 2 a - 1 for every a of ours,
    and with its first layer rewritten for actions in those units its critic gives our Q.
    """
    agent = DDPG(gym.make("Pendulum-v1"), DDPGConfig(**SETTINGS))
    for mine, theirs in pairs(agent, reference):
        theirs.load_state_dict(mine.state_dict())
    with torch.no_grad():
        for actor in (reference.actor, reference.actor_target):
            actor.mu[4].weight /= 2
            actor.mu[4].bias /= 2
        for critic in (reference.critic, reference.critic_target):
            first = critic.qf0[0]
            first.weight[:, 3:] /= 2
            first.bias += first.weight[:, 3:].sum(dim=1)
        generator = torch.Generator().manual_seed(0)
        s, s2 = (torch.randn(64, 3, generator=generator) for _ in range(2))
        a = torch.rand(64, 1, generator=generator)
        r = torch.randn(64, 1, generator=generator)
        end = (torch.rand(64, 1, generator=generator) < 0.2).float()

        expected = (torch.tanh(agent.actor.logits(s) / 2) + 1) / 2
        torch.testing.assert_close(agent.actor(s), expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(agent.actor(s), (reference.actor(s) + 1) / 2, rtol=0, atol=1e-6)
        mine_q, their_q = agent.critic(s, a), reference.critic(s, 2 * a - 1)[0]
        torch.testing.assert_close(mine_q, their_q, rtol=0, atol=1e-6)
        next_q = reference.critic_target(s2, reference.actor_target(s2))[0]
        target = r + (1 - end) * 0.99 * next_q
        ours = agent.critic_target(s2, agent.actor_target(s2))
        torch.testing.assert_close(r + (1 - end) * 0.99 * ours, target, rtol=0, atol=1e-6)
        loss = nn.functional.mse_loss(their_q, target)
    assert agent.train_step(Batch(s, a, r, s2, end)).critic.item() == pytest.approx(
        loss.item(), abs=1e-6
    )
