"""Methods in the middle of an episode: each plays it in its own way, and can be saved in it."""

from collections.abc import Callable
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from agents import sb3
from agents.hyper import HyperPolicy
from agents.policy import Policy, ScoringPolicy
from agents.sets import agent_from_record, config_from_record, needs_context, record_of
from agents.transfer import PretrainedPolicy
from al_gym.wrappers import ContextObservation

N_TRIED = 24
"""Images among which the look-ahead oracle chooses each."""


class Player(Protocol):
    """A method in the middle of an episode."""

    def reset(self) -> None:
        """Reset the environment through whatever the method has put around it."""

    def play(self, after_step: Callable[[], None]) -> None:
        """Play the episode to its end, from its beginning or from where the state was loaded.

        ``after_step`` is called where ``state_dict`` may be taken.
        """

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides how the method goes on, as a tree for ``agents.checkpoint``."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a ``state_dict``; the environment is at the same point."""


class FullySupervised:
    """ALL: no choosing; the recorder asks the environment for the scores at the first reset."""

    def __init__(self, env: gym.Env[Any, Any], seed: int) -> None:
        self._env, self._seed = env, seed

    def reset(self) -> None:
        """Reset with the seed."""
        self._env.reset(seed=self._seed)

    def play(self, after_step: Callable[[], None]) -> None:
        """Reset and record."""
        self.reset()

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to do."""


class Choosing:
    """Anything with ``predict`` that does not learn from rewards.

    Args:
        env: the environment, with what the agent wants around it.
        agent: with ``predict``, and the ``generator`` it draws from if it draws.
        seed: of the episode.
    """

    def __init__(self, env: gym.Env[Any, Any], agent: Policy, seed: int) -> None:
        self.env, self.agent, self._seed = env, agent, seed
        self._generator: np.random.Generator | None = getattr(agent, "generator", None)
        self._observation: Any = None
        self._terminated = False

    def reset(self) -> None:
        """Reset with the seed."""
        self._observation, _ = self.env.reset(seed=self._seed)

    def play(self, after_step: Callable[[], None]) -> None:
        """Ask for scores and step, until the budget is used up."""
        if self._observation is None:
            self.reset()
        while not self._terminated:
            action, _ = self.agent.predict(self._observation)
            self._observation, _, self._terminated, _, _ = self.env.step(action)
            after_step()

    def state_dict(self) -> dict[str, Any]:
        """The observation and the generator."""
        return {
            "observation": self._observation,
            "terminated": self._terminated,
            "generator": None if self._generator is None else self._generator.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a ``state_dict``."""
        self._observation = state["observation"]
        self._terminated = state["terminated"]
        if self._generator is not None:
            self._generator.bit_generator.state = state["generator"]


class Oracle(ScoringPolicy):
    """Scores every pool row by what Eq. 3 would pay for it, which takes its label to know."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self._env = env

    def scores(self, observation: np.ndarray) -> np.ndarray:
        """Pr(predicted class) - Pr(true class) of every row, (n_u,)."""
        run = self._env.get_wrapper_attr("run")
        rows = run.episode.pool.indices
        labels = run.dataset.labels[rows]
        return np.asarray(observation.max(axis=1) - observation[np.arange(len(rows)), labels])


class LookAhead(ScoringPolicy):
    """Labels what would raise the test score most, trying ``N_TRIED`` images for each place.

    For each sample of a query, one after the other, it trains the classifier with each of some
    images drawn anew, and their labels, and keeps the one with the best macro F1 on the test set;
    of equal ones that with the least cross-entropy. It peeks at labels and test set: greedy, and by
    chance among few images, but what a policy gains that is as good lies beyond all policies here.

    Args:
        env: the environment.
        seed: of the images tried.
    """

    def __init__(self, env: gym.Env[Any, Any], seed: int) -> None:
        self._env = env
        self.generator = np.random.default_rng(seed)

    def scores(self, observation: np.ndarray) -> np.ndarray:
        """The chosen above 0, best first, the rest 0, (n_u,) float32."""
        run = self._env.get_wrapper_attr("run")
        pool, labels = run.episode.pool, run.dataset.labels
        scores = np.zeros(len(observation), np.float32)
        n = min(self._env.get_wrapper_attr("query_size"), int(pool.available.sum()))
        for score in np.linspace(1, 0.5, n):
            rows = np.flatnonzero(pool.available)
            tried = self.generator.choice(rows, min(N_TRIED, len(rows)), replace=False)
            pools = [pool.annotated(row[None], labels[pool.indices[row[None]]]) for row in tried]
            outcomes = [run.evaluate_retrained(each) for each in pools]
            best = max(
                range(len(tried)),
                key=lambda i: (outcomes[i].macro_f1, -outcomes[i].cross_entropy),
            )
            scores[tried[best]], pool = score, pools[best]
        return scores


def transferred(
    env: gym.Env[Any, Any], policy: PretrainedPolicy | HyperPolicy, seed: int
) -> Choosing:
    """A trained policy that is applied unchanged."""
    return Choosing(ContextObservation(env, **policy.wants), policy, seed)


def online_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """All settings of an agent that learns online, from those that differ from the paper's."""
    return record_of(config_from_record(settings))


class Online:
    """DRLA: DDPG learns online, as Algorithm 1 does, on the episode that it is measured on.

    Args:
        env: the environment.
        record: what ``online_settings`` gave.
    """

    def __init__(self, env: gym.Env[Any, Any], record: dict[str, Any]) -> None:
        context = needs_context(config_from_record(record))
        self._env: gym.Env[Any, Any] = ContextObservation(env) if context else env
        self._seed = record["seed"]
        self._agent = agent_from_record(self._env, record)
        self._run = env.get_wrapper_attr("run")

    def health(self) -> dict[str, float]:
        """How the agent does, by the names of ``layout.HEALTH``."""
        return self._agent.health.known()

    def reset(self) -> None:
        """Reset with the seed."""
        self._env.reset(seed=self._seed)

    def play(self, after_step: Callable[[], None]) -> None:
        """Learn until the episode is over; every step asks about one image at least."""

        def goes_on(*_: Any) -> bool:
            after_step()
            return not self._run.is_over

        begins = self._agent.num_timesteps == 0
        self._agent.learn(self._run.task.n_pool, goes_on, reset_num_timesteps=begins)

    def state_dict(self) -> dict[str, Any]:
        """The agent with its buffer, noise and generators."""
        return self._agent.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a ``state_dict``."""
        self._agent.load_state_dict(state)


class StableBaselines:
    """An agent of Stable-Baselines3, learning online like DRLA."""

    def __init__(self, env: gym.Env[Any, Any], name: str, seed: int) -> None:
        self._seed = seed
        self._model = sb3.make(name, env, seed)
        self._most_steps = env.get_wrapper_attr("run").task.n_pool
        self._noise: Any = None

    def reset(self) -> None:
        """Reset through SB3's own wrappers, which count resets too."""
        vector = self._model.get_env()
        assert vector is not None
        vector.seed(self._seed)
        vector.reset()

    def play(self, after_step: Callable[[], None]) -> None:
        """Learn until the episode is over; rollouts of PPO and A2C would go on beyond it."""
        done = self._model.num_timesteps
        callback = sb3.EachRollout(after_step, self._noise)
        self._model.learn(self._most_steps, callback, reset_num_timesteps=done == 0)

    def state_dict(self) -> dict[str, Any]:
        """The model with its buffer, noise and the global generators that SB3 draws from."""
        return sb3.state_dict(self._model)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a ``state_dict``."""
        sb3.load_state_dict(self._model, state)
        self._noise = state["noise"]
