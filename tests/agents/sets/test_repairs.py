"""Each repair of the published agent's arithmetic, alone, against the formula."""

import functools
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch

from agents.ddpg import DDPG
from agents.ddpg.config import WITHOUT_EFFECT
from agents.sets import PoolConfig, PoolDDPG, config_from_record, record_of, repairs

REPAIRS: dict[str, Any] = {
    "small_output": True, "bounds": "inverting", "largest_reward": 1.0, "critics": 2,
    "layer_norm": True,
}  # fmt: skip


def config(**settings: Any) -> PoolConfig:
    return PoolConfig(**{"width": 16, "seed": 0, "gradient_steps": 3, **settings})


def parameters(agent: DDPG) -> torch.Tensor:
    networks = agent.actor, agent.critic, agent.actor_target, agent.critic_target
    return torch.cat([p.detach().flatten() for net in networks for p in net.parameters()])


@pytest.mark.parametrize(
    "change", [{}, *({k: v} for k, v in REPAIRS.items()), {"bounds": "penalty"}, REPAIRS]
)
def test_every_repair_changes_what_is_learned_and_goes_on_from_a_file(
    score_env: Any, tmp_path: Any, change: dict[str, Any]
) -> None:
    plain = DDPG(score_env(max_steps=6), width=16, seed=0, gradient_steps=3).learn(6)
    agent = PoolDDPG(score_env(max_steps=6), config(**change)).learn(6)
    same = parameters(agent).shape == parameters(plain).shape and bool(
        torch.equal(parameters(agent), parameters(plain))
    )
    assert same is (not change or ("largest_reward" in change and len(change) == 1))
    loaded = PoolDDPG.load(agent.save(tmp_path / "agent"), score_env(max_steps=6))
    for each in (agent, loaded):
        each.learn(6, reset_num_timesteps=False)
    torch.testing.assert_close(parameters(loaded), parameters(agent), rtol=0, atol=0)
    assert config_from_record(record_of(agent.config)) == agent.config or not change


def test_records_of_earlier_agents_ask_for_no_repair() -> None:
    record = {k: v for k, v in asdict(config()).items() if k not in REPAIRS}
    assert config_from_record({**record, "mask": True}) == config(mask=True)
    assert REPAIRS.keys() <= WITHOUT_EFFECT.keys()


def test_a_small_output(score_env: Any) -> None:
    agent = PoolDDPG(score_env(n=50), config(small_output=True))
    state = agent.encode(agent.env.reset(seed=0)[0])[0]
    with torch.no_grad():
        scores = agent.actor(state)
        assert (scores - 0.5).abs().max() < 0.01
        assert agent.critic(state, scores).abs().max() < 0.05
    last = agent.actor.net[-1].weight.detach()
    assert 0.9 * repairs.SMALL < last.abs().max() <= repairs.SMALL


def test_layer_norm_is_before_the_relu(score_env: Any) -> None:
    agent = PoolDDPG(score_env(), config(layer_norm=True))
    names = [type(layer).__name__ for layer in agent.actor.net]
    assert names == ["Linear", "LayerNorm", "ReLU", "Linear", "LayerNorm", "ReLU", "Linear"]
    state = torch.rand(5, agent.encode.size)
    hidden = agent.actor.net[:2](state)
    torch.testing.assert_close(hidden.mean(1), torch.zeros(5), atol=1e-6, rtol=0)
    first = agent.critic.net[0](state, torch.rand(5, 6))
    assert agent.critic.net[1](first).shape == (5, 16)


@pytest.mark.parametrize(("value", "expected"), [(500.0, 10.0), (-500.0, -10.0), (3.0, 3.0)])
def test_values_of_what_follows_are_kept_within_what_rewards_can_sum_to(
    score_env: Any, value: float, expected: float
) -> None:
    agent = PoolDDPG(score_env(), config(largest_reward=1.0, gamma=0.9))
    with torch.no_grad():
        for p in agent.critic_target.parameters():
            p.zero_()
        agent.critic_target.net[-1].bias.fill_(value)
        found = agent._next_q(torch.rand(4, agent.encode.size))
    torch.testing.assert_close(found, torch.full((4, 1), expected))


def test_the_smaller_of_two_values_counts(score_env: Any) -> None:
    agent = PoolDDPG(score_env(), config(critics=2))
    states = torch.rand(7, agent.encode.size)
    with torch.no_grad():
        actions = agent.actor_target(states)
        targets = agent.critic_target.first, agent.critic_target.second
        both = [each(states, actions) for each in targets]
        found = agent._next_q(states)
        assert not torch.equal(*both)
        torch.testing.assert_close(found, torch.minimum(*both))
        own = agent.critic.first(states, agent.actor(states))
        assert float(agent._actor_loss(states)) == pytest.approx(-float(own.mean()))


def test_inverting_gradients_by_hand() -> None:
    """Loss w . a: w < 0 raises a score, by what is left above it; w > 0 lowers it."""
    logits = torch.tensor([[2.0, 2.0, -3.0, 0.0]], requires_grad=True)
    actions = torch.sigmoid(logits).detach().requires_grad_()
    w = torch.tensor([[-1.0, 2.0, -0.5, 0.0]])
    loss = repairs.inverted((w * actions).sum(), actions, logits)
    loss.backward()
    high, low = 1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(3.0))
    expected = [-(1 - high), 2 * high, -0.5 * (1 - low), 0.0]
    np.testing.assert_allclose(logits.grad[0], expected, rtol=1e-5)
    assert loss.item() == pytest.approx((w * actions).sum().item())


def minus_the_distance(target: float, states: Any, actions: torch.Tensor) -> torch.Tensor:
    """In place of a critic."""
    return -(actions - target).abs().sum(1, keepdim=True)


def test_scores_come_back_from_a_bound_only_with_a_repair(score_env: Any) -> None:
    """An actor driven to 1 for long, then asked for 0.2: the sigmoid alone does not return."""
    back = {}
    for bounds in ("sigmoid", "inverting"):
        agent = PoolDDPG(score_env(), config(bounds=bounds))
        states = torch.rand(16, agent.encode.size)
        for n, target in ((400, 50.0), (200, 0.2)):
            agent.critic.forward = functools.partial(minus_the_distance, target)
            for _ in range(n):
                agent.actor_optimizer.minimize(agent._actor_loss(states), torch.ones(()))
        back[bounds] = float(agent.actor(states).detach().mean())
    assert back["sigmoid"] > 0.9
    assert back["inverting"] < 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bounds": "inverting", "squash": "tanh"}, "bounds='inverting' is for scores in"),
        ({"networks": "set", "layer_norm": True}, "layer_norm is for the paper's layers"),
        ({"networks": "set", "small_output": True}, "small_output is for the paper's layers"),
        ({"largest_reward": 0.0}, "largest_reward must be positive"),
        ({"largest_reward": 1.0, "gamma": 1.0}, "gamma below 1"),
        ({"critics": 3}, "critics must be one of"),
        ({"bounds": "none"}, "bounds must be one of"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**settings)
