"""What an agent's scores, noise and critic show: numbers worked by hand, and words when due."""

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from agents.ddpg import DDPG, DDPGConfig
from agents.ddpg.health import (
    NAMES,
    WINDOW,
    Health,
    UnhealthyAgent,
    rank_correlation,
    share_of_ties,
)


class Env(gym.Env[Any, Any]):
    """Nothing but what health asks of an environment."""

    def __init__(self, **attributes: int) -> None:
        self.__dict__ |= attributes


def health(gamma: float = 0.5, **attributes: int) -> Health:
    return Health(Env(**(attributes or {"query_size": 2})), low=0.0, high=1.0, gamma=gamma)


def array(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "query_size", "share"),
    [
        ((0.1, 0.9, 0.5), 2, 0.0),
        ((1, 1, 1, 0.5), 2, 1.0),  # two of three equal ones
        ((1, 1, 0.5, 0.2), 2, 0.0),  # both of them: nothing is left to chance
        ((0.9, 0.4, 0.4, 0.4), 2, 0.5),  # one is certain, the other is one of three
        ((0, 0, 0, 0), 3, 1.0),
        ((0, 0), 2, 0.0),  # all that are left
        ((0.3,), 2, 0.0),
    ],
)
def test_ties_that_decide(scores: tuple[float, ...], query_size: int, share: float) -> None:
    assert share_of_ties(array(*scores), query_size) == share


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.integers(1, 6))
def test_ties_as_a_plain_loop_counts_them(values: list[int], query_size: int) -> None:
    """A selection is decided if its value alone puts it there, however ties are ordered."""
    scores = np.array(values, dtype=float)
    decided = 0
    for score in sorted(values, reverse=True)[:query_size]:
        decided += sum(other >= score for other in values) <= query_size
    expected = 0.0 if len(values) <= query_size else 1 - decided / query_size
    assert share_of_ties(scores, query_size) == pytest.approx(expected)


def test_rank_correlation() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(50).round(1), rng.random(50).round(1)  # with ties
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert rank_correlation(array(1, 2, 3), array(9, 5, 2)) == pytest.approx(-1)
    assert np.isnan(rank_correlation(array(1, 2, 3), array(1, 1, 1)))
    assert np.isnan(rank_correlation(array(1), array(1)))


def test_a_choice_is_judged_by_what_is_still_in_the_pool() -> None:
    each = health()
    intended, executed = array(0.001, 0.5, 0.995, 0.2, 0.999), array(1, 1, 0.3, 1, 0.4)
    each.of_choice(intended, executed)
    assert each.latest["saturated"] == pytest.approx(3 / 5)
    assert each.latest["tied"] == 1.0
    each.see({"available": np.array([False, True, True, True, False])})
    each.of_choice(intended, executed)
    assert each.latest["saturated"] == pytest.approx(1 / 3)
    assert each.latest["tied"] == 0.0  # the two that are 1
    ranks = [2, 3, 1], [2.5, 1, 2.5]
    assert each.latest["rank_correlation"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    each.see({})
    each.of_choice(intended, executed)
    assert each.latest["saturated"] == pytest.approx(3 / 5)


@pytest.mark.parametrize(
    ("gamma", "max_steps", "longest"),
    [(0.5, None, 2.0), (0.5, 3, 1.75), (1.0, 7, 7.0), (1.0, None, np.inf), (0.0, 9, 1.0)],
)
def test_the_largest_return(gamma: float, max_steps: int | None, longest: float) -> None:
    each = health(gamma, **({} if max_steps is None else {"max_steps": max_steps}))
    for reward, largest in ((0.0, 0.0), (-0.3, 0.3), (0.2, 0.3), (0.5, 0.5)):
        each.of_step(reward)
        if largest:
            assert each.latest["q_limit"] == pytest.approx(largest * longest)


# --- words ----------------------------------------------------------------------------------------

WELL = {
    "saturated": 0.1, "tied": 0.0, "rank_correlation": 0.8, "q": 0.3, "q_limit": 2.0,
    "actor_gradient": 0.1, "critic_gradient": 0.1,
}  # fmt: skip


def after(each: Health, n: int, **numbers: float) -> None:
    """So many steps with the same numbers, and rewards of 1."""
    for _ in range(n):
        each.latest |= WELL | numbers
        each.of_step(1.0)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"saturated": 0.95}, "95% of the actor's outputs are all but 0 or 1: .* is random"),
        ({"tied": 0.7}, "70% of the selections are decided by the order of ties"),
        ({"rank_correlation": 0.03}, "the noise swamps the actor: .* rank correlation of 0.03"),
        ({"q": 8464.0}, "mean value is 8,464, and no return can exceed 2.0: it has diverged"),
        ({"q": -8464.0}, "mean value is -8,464"),
    ],
)
def test_a_warning_in_words_and_once(numbers: dict[str, float], words: str) -> None:
    each = health()
    after(each, WINDOW - 1, **numbers)  # too early to say: warnings are errors here
    with pytest.warns(UnhealthyAgent, match=words) as said:
        after(each, 3 * WINDOW, **numbers)
    assert len(said) == 1
    again = health()
    again.load_state_dict(each.state_dict())
    after(again, WINDOW, **numbers)  # it has been said


def test_a_healthy_agent_and_one_that_is_not_known_say_nothing() -> None:
    after(health(), 2 * WINDOW)
    after(health(max_steps=9), 2 * WINDOW, saturated=1.0, tied=1.0, rank_correlation=0.0)
    for _ in range(2 * WINDOW):
        health().of_step(0.0)  # no reward, no limit


# --- the agent ------------------------------------------------------------------------------------


def test_an_agent_is_looked_at_as_it_learns(score_env: Any) -> None:
    env = score_env(n=6, max_steps=4)
    agent = DDPG(env, DDPGConfig(width=16, seed=0))
    assert agent.health.latest.keys() == set(NAMES)
    seen: list[dict[str, float]] = []
    rewards: list[float] = []

    def look(names: dict[str, Any], _: Any) -> None:
        scalars = names["scalars"]
        seen.append({name: scalars[f"health/{name}"] for name in NAMES if name != "tied"})
        assert scalars["health/q"] == scalars["train/q"]
        assert agent.health.known() == seen[-1]
        rewards.append(names["reward"])

    agent.learn(8, look)
    assert len(seen) == 8
    assert np.isnan(agent.health.latest["tied"])  # the environment selects nothing
    for each in seen:
        assert 0 <= each["saturated"] <= 1 and -1 <= each["rank_correlation"] <= 1
        assert each["actor_gradient"] > 0 and each["critic_gradient"] > 0
    limit = max(rewards) * (1 + 0.99 + 0.99**2 + 0.99**3)  # an episode has four steps
    assert seen[-1]["q_limit"] == pytest.approx(limit)


def test_the_gradient_is_the_first_moment_without_its_bias(score_env: Any) -> None:
    """After one step it is the gradient itself; before, there is none."""
    agent = DDPG(score_env(n=6, max_steps=4), DDPGConfig(width=16, seed=0, gradient_steps=1))
    assert torch.isnan(agent.actor_optimizer.mean_gradient())
    assert not agent.actor_optimizer.state_dict()  # asking leaves nothing behind
    kept: list[torch.Tensor] = []
    plain = type(agent.actor_optimizer)._step

    def step(self: Any, finite: Any) -> None:
        if self is agent.actor_optimizer:
            kept.extend(weight.grad.clone() for weight in self.weights)
        plain(self, finite)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(agent.actor_optimizer), "_step", step)
        agent.learn(1)
    expected = torch.cat([each.flatten() for each in kept]).norm()
    assert float(agent.actor_optimizer.mean_gradient()) == pytest.approx(float(expected), rel=1e-5)


def test_the_first_warning_of_the_published_agent(score_env: Any) -> None:
    """Noise as wide as the scores' range: on a pool of many the clipped ones tie."""
    env = score_env(n=300, max_steps=WINDOW + 5)
    env.query_size = 3
    agent = DDPG(env, DDPGConfig(width=16, seed=0, gradient_steps=0))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        agent.learn(WINDOW + 5)
    said = [each for each in said if each.category is UnhealthyAgent]
    assert {str(each.message).split(" ", 1)[1][:20] for each in said} >= {"of the selections ar"}
    assert said[0].filename == __file__  # where learn was called


def test_what_was_seen_goes_on_from_a_file(score_env: Any, tmp_path: Any) -> None:
    agent = DDPG(score_env(n=6, max_steps=4), DDPGConfig(width=16, seed=0)).learn(3)
    loaded = DDPG.load(agent.save(tmp_path / "agent"))
    np.testing.assert_equal(loaded.health.state_dict(), agent.health.state_dict())
