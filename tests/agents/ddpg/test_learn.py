"""Acting, exploring, counting, and numbers that are not finite: everything around the update."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.evaluation import evaluate_policy

from agents.ddpg import DDPG, DDPGConfig


def config(**settings: Any) -> DDPGConfig:
    return DDPGConfig(**{"width": 16, "seed": 0, **settings})


def parameters(network: torch.nn.Module) -> torch.Tensor:
    """All weights as one vector."""
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach().clone()


# --- what is executed, and what is stored -------------------------------------------------------


@pytest.mark.parametrize("squash", ["sigmoid", "tanh"])
@pytest.mark.parametrize("noise_space", ["action", "logit"])
def test_the_stored_action_is_the_executed_one(
    score_env: Any, squash: str, noise_space: str
) -> None:
    """Mistake: a critic trained on 0/1 masks of the choice and asked about scores."""
    env = score_env(n=6, max_steps=8, low=2.0, high=5.0)
    agent = DDPG(env, config(squash=squash, noise_space=noise_space)).learn(8)
    low, high = (0.0, 1.0) if squash == "sigmoid" else (-1.0, 1.0)
    stored = agent.buffer.actions.numpy()
    expected = 2.0 + 3.0 * (stored - low) / (high - low)
    np.testing.assert_allclose(np.array(env.actions), expected, rtol=1e-6)
    assert stored.min() >= low
    assert stored.max() <= high
    assert ((stored > low) & (stored < high)).mean() > 0.5  # scores, not a mask
    assert len(np.unique(stored)) > 20


def test_unit_scores_are_executed_to_the_bit(score_env: Any) -> None:
    env = score_env(max_steps=8)
    agent = DDPG(env, config()).learn(8)
    np.testing.assert_array_equal(np.array(env.actions), agent.buffer.actions.numpy())


def test_exploration_differs_between_coordinates(score_env: Any) -> None:
    """Mistake: scalar noise broadcast over all scores."""
    env = score_env(n=40, max_steps=8)
    agent = DDPG(env, config(noise_sigma=0.05, gradient_steps=1, learning_starts=0))
    policy = DDPG(env, config(noise_sigma=0.05)).actor
    agent.learn(1)
    with torch.no_grad():
        scores = policy(torch.tensor(env.observations[0].ravel()[None])).numpy()[0]
    noise = env.actions[0] - scores
    assert noise.std() == pytest.approx(0.05, rel=0.4)
    assert (np.argsort(env.actions[0]) != np.argsort(scores)).any()


def test_logit_noise_makes_no_ties(score_env: Any) -> None:
    for noise_space, ties in (("action", True), ("logit", False)):
        env = score_env(n=200, max_steps=5)
        DDPG(env, config(noise_space=noise_space, noise_sigma=1.0)).learn(5)
        last = env.actions[-1]
        assert bool(np.sum(last == 1.0) > 1) is ties


def test_no_noise_executes_the_policy(score_env: Any) -> None:
    env = score_env(max_steps=3)
    agent = DDPG(env, config(noise="none"))
    expected = [agent.predict(score_env(max_steps=3).reset(seed=0)[0])[0]]
    agent.learn(1)
    np.testing.assert_array_equal(env.actions, expected)


def test_noise_starts_again_with_every_episode(score_env: Any, monkeypatch: Any) -> None:
    agent = DDPG(score_env(max_steps=3), config())
    resets: list[int] = []
    monkeypatch.setattr(agent.noise, "reset", lambda: resets.append(agent.num_timesteps))
    agent.learn(8)
    assert resets == [0, 3, 6]


@pytest.mark.parametrize("truncate", [False, True])
def test_episode_ends_in_the_buffer(score_env: Any, truncate: bool) -> None:
    """Terminated: no bootstrapping. Truncated: bootstrapping from the final observation."""
    env = score_env(max_steps=3, truncate=truncate)
    agent = DDPG(env, config(buffer_size=20)).learn(7)
    batch = agent.buffer._gather(torch.arange(7))
    ends = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0]
    assert batch.terminated.ravel().tolist() == ([0.0] * 7 if truncate else ends)
    seen = np.array(env.observations).reshape(len(env.observations), -1)
    starts = [0, 1, 2, 4, 5, 6, 8]  # 3 and 7 are final observations
    np.testing.assert_array_equal(batch.observations.numpy(), seen[starts])
    np.testing.assert_array_equal(batch.next_observations.numpy(), seen[np.array(starts) + 1])


# --- predict ----------------------------------------------------------------------------------


def test_no_noise_at_evaluation(score_env: Any) -> None:
    """Mistake: exploration noise left on in predict."""
    env = score_env()
    agent = DDPG(env, config()).learn(5)
    observation = env.reset(seed=3)[0]
    held = agent.noise.state_dict()
    actions = [agent.predict(observation, deterministic=flag)[0] for flag in (True, False, False)]
    np.testing.assert_array_equal(actions[0], actions[1])
    np.testing.assert_array_equal(actions[0], actions[2])
    with torch.no_grad():
        expected = agent.actor(torch.tensor(observation.ravel()[None]))[0]
    np.testing.assert_array_equal(actions[0], expected.numpy())
    assert agent.noise.state_dict() == held


def test_predict_on_one_and_on_many(score_env: Any) -> None:
    env = score_env()
    agent = DDPG(env, config())
    observations = np.stack([env.reset(seed=i)[0] for i in range(4)])
    many, state = agent.predict(observations, state="mine", episode_start=np.ones(4))
    assert state == "mine"
    assert many.shape == (4, 6)
    assert many.dtype == env.action_space.dtype
    one, state = agent.predict(observations[2])
    assert state is None
    assert env.action_space.contains(one)
    np.testing.assert_allclose(one, many[2], rtol=1e-6)


def test_evaluate_policy_of_sb3(score_env: Any) -> None:
    agent = DDPG(score_env(max_steps=4), config())
    env = score_env(max_steps=4)
    returns, lengths = evaluate_policy(
        agent, env, n_eval_episodes=3, return_episode_rewards=True, warn=False
    )
    assert isinstance(returns, list)
    assert lengths == [4, 4, 4]
    rewards = [1 - np.abs(action - 0.8).mean() for action in env.actions]
    assert returns == pytest.approx(np.reshape(rewards, (3, 4)).sum(axis=1))


def test_any_box(untouched_globals: None) -> None:
    class Odd(gym.Env[Any, Any]):
        observation_space = gym.spaces.Box(0, 255, (2, 3, 2), np.uint8)
        action_space = gym.spaces.Box(
            np.array([[-1.0, 0.0], [10.0, -5.0]]), np.array([[1.0, 0.5], [20.0, 5.0]]), dtype=float
        )

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            return self.np_random.integers(0, 256, (2, 3, 2), dtype=np.uint8), {}

        def step(self, action: Any) -> Any:
            assert self.action_space.contains(action)
            return self.np_random.integers(0, 256, (2, 3, 2), dtype=np.uint8), 0.0, False, False, {}

    for squash in ("sigmoid", "tanh"):
        agent = DDPG(Odd(), config(squash=squash, buffer_size=10)).learn(5)
        action, _ = agent.predict(Odd().reset(seed=0)[0])
        assert Odd.action_space.contains(action)


# --- counting ---------------------------------------------------------------------------------


def test_gradient_steps(score_env: Any) -> None:
    env = score_env(max_steps=20)
    assert DDPG(env, config(batch_size=4)).learn(10).n_updates == sum(
        -(-t // 4) for t in range(1, 11)
    )
    assert DDPG(env, config(gradient_steps=3)).learn(10).n_updates == 30
    assert DDPG(env, config(gradient_steps=1, learning_starts=4)).learn(10).n_updates == 6


def test_warm_up_is_uniform_and_without_training(score_env: Any) -> None:
    env = score_env(n=50, max_steps=40)
    agent = DDPG(env, config(learning_starts=40))
    before = parameters(agent.actor)
    agent.learn(40)
    assert torch.equal(parameters(agent.actor), before)
    actions = np.array(env.actions)
    assert actions.mean() == pytest.approx(0.5, abs=0.02)
    assert actions.std() == pytest.approx(1 / np.sqrt(12), abs=0.02)


def test_the_buffer_is_made_for_the_episode(score_env: Any) -> None:
    assert DDPG(score_env(max_steps=7), config()).buffer.capacity == 7
    assert DDPG(score_env(max_steps=7), config(buffer_size=30)).buffer.capacity == 30
    wrapped = gym.wrappers.TimeLimit(score_env(max_steps=7), 100)
    assert DDPG(wrapped, config()).buffer.capacity == 7
    assert DDPG(gym.make("Pendulum-v1"), config()).buffer.capacity == 1_000_000


def test_timesteps_go_on_or_start_again(score_env: Any) -> None:
    env = score_env(max_steps=5)
    agent = DDPG(env, config(seed=11)).learn(7)
    assert (agent.num_timesteps, agent.episodes, len(env.seeds)) == (7, 1, 2)
    agent.learn(3, reset_num_timesteps=False)  # finishes the second episode
    assert (agent.num_timesteps, agent.episodes, len(env.seeds)) == (10, 2, 2)
    agent.learn(1, reset_num_timesteps=False)
    assert (agent.num_timesteps, agent.episodes, len(env.seeds)) == (11, 2, 3)
    agent.learn(1)
    assert (agent.num_timesteps, agent.episodes, len(env.seeds)) == (1, 0, 4)
    assert env.seeds == [11, None, None, 11]


def test_learning_in_pieces_equals_learning_at_once(score_env: Any) -> None:
    at_once, pieces = score_env(max_steps=5), score_env(max_steps=5)
    first = DDPG(at_once, config()).learn(12)
    second = DDPG(pieces, config()).learn(4)
    for steps in (1, 7):
        second.learn(steps, reset_num_timesteps=False)
    np.testing.assert_array_equal(at_once.actions, pieces.actions)
    assert torch.equal(parameters(first.critic), parameters(second.critic))


def test_seeds(score_env: Any, untouched_globals: None) -> None:
    runs = []
    for seed in (1, 1, 2, None, None):
        env = score_env()
        agent = DDPG(env, config(seed=seed)).learn(12)
        runs.append((np.array(env.actions), parameters(agent.actor), env.seeds))
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    assert torch.equal(runs[0][1], runs[1][1])
    assert runs[0][2] == runs[1][2]
    assert (runs[0][0] != runs[2][0]).any()
    assert (runs[3][0] != runs[4][0]).any()
    assert runs[3][2] == [None] * 3


def test_it_learns(score_env: Any) -> None:
    """Reward: the first half's mean score less the second half's. The policy finds out."""

    class Halves(score_env):
        def step(self, action: Any) -> Any:
            observation, _, *rest = super().step(action)
            return observation, float(action[:3].mean() - action[3:].mean()), *rest

    env = Halves(max_steps=10)
    agent = DDPG(env, config(gradient_steps=4, gamma=0.5, width=32, buffer_size=200))
    observation = env.reset(seed=5)[0]
    before, _ = agent.predict(observation)
    agent.learn(100)
    after, _ = agent.predict(observation)
    assert before.max() - before.min() < 0.3
    assert after[:3].min() - after[3:].max() > 0.5


# --- bad input --------------------------------------------------------------------------------


def test_without_gradient_steps_nothing_is_learned(score_env: Any) -> None:
    agent = DDPG(score_env(), config(gradient_steps=0))
    before = [p.clone() for p in agent.actor.parameters()]
    agent.learn(12)
    assert all(torch.equal(a, b) for a, b in zip(before, agent.actor.parameters(), strict=True))
    assert agent.n_updates == 0 and len(agent.buffer) > 0


def test_nan_in_an_observation_of_the_environment(score_env: Any) -> None:
    agent = DDPG(score_env(bad_observation_at=3), config())
    with pytest.raises(ValueError, match=r"NaN.*environment step 2"):
        agent.learn(10)
    assert all(torch.isfinite(p).all() for p in agent.actor.parameters())
    agent.learn(2, reset_num_timesteps=False)  # begins a new episode
    assert agent.num_timesteps == 4


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_in_predict(score_env: Any, value: float) -> None:
    agent = DDPG(score_env(), config())
    with pytest.raises(ValueError, match="NaN or infinity"):
        agent.predict(np.full((6, 2), value))


def test_wrong_observations_in_predict(score_env: Any) -> None:
    env = score_env()
    agent = DDPG(env, config())
    with pytest.raises(ValueError, match=r"shape \(6, 2\), got \(5, 2\)"):
        agent.predict(np.zeros((5, 2)))
    with pytest.raises(ValueError, match=r"env.reset\(\)"):
        agent.predict(env.reset())


@pytest.mark.parametrize("reward", [np.nan, np.inf, 1e300])
def test_a_reward_that_is_not_finite_is_refused_and_not_kept(
    score_env: Any, reward: float, tmp_path: Path
) -> None:
    agent = DDPG(score_env(rewards={4: reward}), config(buffer_size=50))
    with pytest.raises(ValueError, match=r"reward .* at environment step 4: correct"):
        agent.learn(10)
    assert len(agent.buffer) == 3 and torch.isfinite(agent.buffer.rewards[:3]).all()
    agent.learn(6, reset_num_timesteps=False)  # the next episode goes on as if nothing had been
    assert agent.num_timesteps == 9


@pytest.mark.parametrize("implementation", ["fused", "default"])
@pytest.mark.parametrize("reward", [-1e30, 1e30])
def test_a_loss_that_is_not_finite_stops_training(
    score_env: Any, implementation: str, reward: float
) -> None:
    settings = {"optimizer_impl": implementation, "gradient_steps": 2, "buffer_size": 50}
    good = DDPG(score_env(), config(**settings)).learn(7)
    bad = DDPG(score_env(rewards={8: reward}), config(**settings))
    match = r"NaN or infinite at gradient step \d+, environment step \d+"
    with pytest.raises(FloatingPointError, match=match) as error:
        bad.learn(30)
    # The bad transition is drawn at some step from the 8th on; up to there the runs are the same.
    assert bad.num_timesteps >= 8
    assert f"gradient step {bad.n_updates + 1}," in str(error.value)
    good.learn(bad.num_timesteps - 8, reset_num_timesteps=False)
    n_before = bad.n_updates % 2  # of the two gradient steps of the last environment step
    assert bad.n_updates == good.n_updates + n_before
    for name in ("actor", "critic", "actor_target", "critic_target"):
        weights = zip(
            getattr(bad, name).parameters(), getattr(good, name).parameters(), strict=True
        )
        for of_bad, of_good in weights:
            assert torch.isfinite(of_bad).all()
            # the reward itself changes nothing before it is drawn
            assert n_before or torch.equal(of_bad, of_good)
    action, _ = bad.predict(score_env().reset(seed=0)[0])
    assert np.isfinite(action).all()


def test_the_last_good_weights_are_kept_within_a_pass(
    score_env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass of four batches meets the bad reward in one of them and stops right before it."""
    agent = DDPG(score_env(max_steps=8, rewards={8: 1e30}), config(batch_size=2))
    held: list[Any] = []
    networks = (agent.actor, agent.critic, agent.actor_target, agent.critic_target)
    original = agent.train_step

    def watched(*arguments: Any) -> Any:
        before = [p.detach().clone() for network in networks for p in network.parameters()]
        losses = original(*arguments)
        if losses.finite == 0 and not held:
            held.extend(before)
        return losses

    monkeypatch.setattr(agent, "train_step", watched)
    with pytest.raises(FloatingPointError, match="environment step 8"):
        agent.learn(20)
    now = [p for network in networks for p in network.parameters()]
    for kept, parameter in zip(held, now, strict=True):
        assert torch.equal(kept, parameter)


@pytest.mark.parametrize("implementation", ["fused", "default"])
def test_an_agent_with_an_absurd_rate_is_stopped(score_env: Any, implementation: str) -> None:
    """Its first update leaves weights of 1e30: the environment sees no action made of them."""
    env = score_env()
    agent = DDPG(env, config(optimizer_impl=implementation, learning_rate=1e30))
    with pytest.raises(FloatingPointError, match=r"NaN or infinite .* lower learning_rate"):
        agent.learn(30)
    assert all(np.isfinite(action).all() for action in env.actions)


def test_an_action_that_is_not_finite_is_not_taken(score_env: Any) -> None:
    env = score_env()
    agent = DDPG(env, config()).learn(3)
    with torch.no_grad():
        next(agent.actor.parameters()).fill_(torch.inf)
    match = r"output became NaN or infinite after gradient step \d+, environment step 3: .* lower"
    with pytest.raises(FloatingPointError, match=match):
        agent.learn(1, reset_num_timesteps=False)
    with pytest.raises(FloatingPointError, match=match):
        agent.predict(env.observations[0])
    assert len(env.actions) == 3
