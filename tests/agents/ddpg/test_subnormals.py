"""Subnormal numbers are 0 inside, and what they were outside."""

from typing import Any

import pytest
import torch

from agents.ddpg import DDPG, DDPGConfig
from agents.ddpg.networks import Actor
from agents.ddpg.optimizers import FusedOptimizer
from agents.ddpg.subnormals import flushed_subnormals


def are_flushed() -> bool:
    return float(torch.tensor(1e-39) * 1) == 0


@pytest.mark.parametrize("before", [False, True])
def test_the_thread_is_as_it_was(before: bool) -> None:
    if not torch.set_flush_denormal(before):
        pytest.skip("this processor cannot flush subnormal numbers")
    try:
        with flushed_subnormals():
            assert are_flushed()
            with pytest.raises(KeyError), flushed_subnormals():
                raise KeyError
            assert are_flushed()
        assert are_flushed() is before
    finally:
        torch.set_flush_denormal(False)


def test_no_weight_changes_by_it() -> None:
    """Gradients whose squares are subnormal, mixed with others; Adam, and Polyak averaging."""
    found = []
    for flush in (False, True):
        actor, target = (Actor(6, 5, 8, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
        optimizer = FusedOptimizer(actor, target, 1e-3, 0.005)
        rng = torch.Generator().manual_seed(2)
        for _ in range(50):
            scales = torch.randn(5, generator=rng) * torch.tensor([1, 1e-3, 1e-10, 1e-18, 1e-20])
            loss = (actor.logits(torch.rand(3, 6, generator=rng)) * scales).sum()
            torch.set_flush_denormal(flush)
            optimizer.minimize(loss, torch.ones(()))
            optimizer.update_target(torch.ones(()))
            torch.set_flush_denormal(False)
        squares = [each["exp_avg_sq"] for each in optimizer.adam.state.values()]
        small = torch.cat([s.flatten() for s in squares])
        assert bool(((small > 0) & (small < 1.2e-38)).any()) is not flush
        found.append([p.clone() for p in (*actor.parameters(), *target.parameters())])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_the_agent_trains_so_and_the_environment_does_not(score_env: Any) -> None:
    seen: list[bool] = []
    env = score_env(max_steps=3)
    step = env.step
    env.step = lambda action: (seen.append(are_flushed()), step(action))[1]
    agent = DDPG(env, DDPGConfig(width=16, seed=0))
    train_step = agent.train_step
    inside: list[bool] = []
    agent.train_step = lambda *a: (inside.append(are_flushed()), train_step(*a))[1]  # type: ignore[method-assign]
    agent.learn(3)
    assert inside and all(inside) and seen and not any(seen)
