"""Actor and critic: layers, ranges, signs and initial weights."""

import math

import pytest
import torch
from torch import nn

from agents.ddpg.networks import Actor, Critic, Linear


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear_layers(network: nn.Module) -> list[nn.Linear]:
    return [module for module in network.modules() if isinstance(module, nn.Linear)]


def test_three_fully_connected_layers() -> None:
    shapes = [tuple(layer.weight.shape) for layer in linear_layers(Actor(20, 5))]
    assert shapes == [(256, 20), (256, 256), (5, 256)]
    shapes = [tuple(layer.weight.shape) for layer in linear_layers(Critic(20, 5))]
    assert shapes == [(256, 25), (256, 256), (1, 256)]


@pytest.mark.parametrize(("squash", "low"), [("sigmoid", 0.0), ("tanh", -1.0)])
def test_actor_range(squash: str, low: float) -> None:
    actor = Actor(4, 3, 8, squash, generator())
    actions = actor(1000 * torch.randn(500, 4, generator=generator()))
    assert actions.shape == (500, 3)
    assert actions.min() >= low == actor.low
    assert actions.max() <= 1.0 == actor.high
    assert actions.max() - actions.min() > 0.9 * (1 - low)


def test_forward_squashes_the_logits() -> None:
    x = torch.randn(6, 4, generator=generator())
    actor = Actor(4, 3, 8, "sigmoid", generator())
    torch.testing.assert_close(actor(x), (torch.tanh(actor.logits(x) / 2) + 1) / 2)
    actor = Actor(4, 3, 8, "tanh", generator())
    assert torch.equal(actor(x), torch.tanh(actor.logits(x)))


def test_critic_is_raw() -> None:
    """Mistake: |Q|, or any other function, at the critic's end."""
    critic = Critic(4, 3, 8, generator())
    x, a = torch.randn(50, 4, generator=generator(1)), torch.rand(50, 3, generator=generator(2))
    q = critic(x, a)
    assert q.shape == (50, 1)
    last = linear_layers(critic)[-1]
    with torch.no_grad():
        for parameter in (last.weight, last.bias):
            parameter.mul_(-100.0)
    torch.testing.assert_close(critic(x, a), -100.0 * q)
    with torch.no_grad():
        last.bias.sub_(1000.0)
    assert (critic(x, a) < -500).all()


def test_critic_sees_every_score() -> None:
    critic = Critic(4, 3, 32, generator())
    x, a = torch.randn(1, 4, generator=generator(1)), torch.full((1, 3), 0.4)
    for i in range(3):
        other = a.clone()
        other[0, i] += 0.05
        assert critic(x, other) != critic(x, a)


def test_initial_weights_are_pytorchs_from_the_given_generator(untouched_globals: None) -> None:
    actor, twin, other = (Actor(50, 3, 64, generator=generator(s)) for s in (1, 1, 2))
    for layer, same, different in zip(*map(linear_layers, (actor, twin, other)), strict=True):
        bound = 1 / math.sqrt(layer.in_features)
        assert layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.2)
        assert torch.equal(layer.weight, same.weight)
        assert not torch.equal(layer.weight, different.weight)


@pytest.mark.parametrize(
    ("batch", "inputs", "outputs"),
    [(16, 16_625, 256), (16, 256, 3325), (128, 3000, 256), (3, 7, 5)],
)
def test_the_gradients_of_a_layer_are_those_of_pytorch(batch, inputs, outputs):
    """That of large weights is computed in blocks, which must not show."""
    generator = torch.Generator().manual_seed(0)
    x, weight, bias, grad = (
        torch.randn(*shape, generator=generator)
        for shape in ((batch, inputs), (outputs, inputs), (outputs,), (batch, outputs))
    )
    gradients = []
    for kind in (torch.nn.Linear, Linear):
        layer = kind(inputs, outputs)
        layer.load_state_dict({"weight": weight, "bias": bias})
        given = x.clone().requires_grad_()
        layer(given).backward(grad)
        gradients.append([given.grad, layer.weight.grad, layer.bias.grad])
    for theirs, ours in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_no_gradient_of_a_layer_that_is_held_still():
    layer = Linear(3, 2).requires_grad_(False)
    x = torch.ones(4, 3, requires_grad=True)
    layer(x).sum().backward()
    assert layer.weight.grad is None and torch.equal(x.grad, layer.weight.sum(0).expand(4, 3))


@pytest.mark.parametrize("width", [5, 3000])
def test_an_input_in_parts_is_the_whole_input(width: int) -> None:
    """The second part's gradient alone, as Eq. 4 asks for it, small and large."""
    torch.manual_seed(0)
    layer, plain = Linear(2 * width, 256), nn.Linear(2 * width, 256)
    plain.load_state_dict(layer.state_dict())
    first, second, grad = torch.randn(16, width), torch.randn(16, width), torch.randn(16, 256)
    ours, theirs = (second.clone().requires_grad_() for _ in range(2))
    out, expected = layer(first, ours), plain(torch.cat([first, theirs], dim=1))
    torch.testing.assert_close(out, expected, rtol=0, atol=0)
    out.backward(grad)
    expected.backward(grad)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer.weight.grad, plain.weight.grad, rtol=1e-5, atol=1e-5)
    assert first.grad is None
