"""Is the agent well? What its scores, its noise and its critic show while it learns.

An agent that ranks samples can be broken by its own arithmetic while its losses look like any
others: scores that are all 0 or 1 leave the choice to the order of ties, noise that swamps the
scores leaves it to chance, and a critic whose values no return could reach teaches neither.
"""

import warnings
from collections import deque
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from agents.ddpg.spaces import find_attribute

NAMES = (
    "saturated", "tied", "rank_correlation", "q", "q_limit", "actor_gradient", "critic_gradient",
)  # fmt: skip
"""Of ``Health.latest``."""
WINDOW = 20
"""Environment steps over which means are taken before anything is said."""


class UnhealthyAgent(UserWarning):
    """An agent whose choice is random, or whose critic knows nothing; said once."""


class Health:
    """Numbers on how an agent does, and a warning in words, once, where one is out of bounds.

    Args:
        env: what the agent learns on. Its ``query_size`` is n_s, how many of the scores of an
            action are selected; without it actions select nothing, and there are neither ties nor
            warnings about the choice. Its ``max_steps``, if it has that, bounds a return.
        low, high: ends of the actor's range.
        gamma: the discount.

    Attributes:
        latest: by the names of ``NAMES``, NaN before there is any:
            *saturated*, the share of the actor's outputs, without noise, within 1 % of an end of
            their range; *tied*, the share of the selections that is decided by the order of ties,
            as more scores are equal than are still to be selected; *rank_correlation*, Spearman's,
            of the executed action and that without noise; *q*, the mean of Q(S, a) over the last
            training, beside *q_limit*, the largest return that rewards no greater than those
            seen can make; and the length of the mean gradient that Adam keeps (its first moment,
            over about ten steps) of either network. The first three are of the last choice, among
            samples that are still in the pool.
        available: which scores stand for samples still in the pool, (k,) bool; None: all.
    """

    def __init__(self, env: gym.Env[Any, Any], low: float, high: float, gamma: float) -> None:
        self.low, self.high, self.gamma = low, high, gamma
        self.set_env(env)
        self.latest = dict.fromkeys(NAMES, float("nan"))
        self.available: NDArray[np.bool_] | None = None
        self._largest_reward = 0.0
        self._recent: deque[dict[str, float]] = deque(maxlen=WINDOW)
        self._said: list[str] = []

    def set_env(self, env: gym.Env[Any, Any]) -> None:
        """Go on with another environment."""
        self.query_size: int | None = find_attribute(env, "query_size", None)
        steps: float = find_attribute(env, "max_steps", None) or np.inf
        # the longest sum of rewards of 1
        gamma = self.gamma
        self.longest_return = float(steps if gamma == 1 else (1 - gamma**steps) / (1 - gamma))

    def known(self) -> dict[str, float]:
        """``latest`` without what is not known."""
        return {name: number for name, number in self.latest.items() if not np.isnan(number)}

    def see(self, info: Mapping[str, Any]) -> None:
        """Take from the ``info`` of a reset or a step which samples are still in the pool."""
        available = info.get("available")
        self.available = None if available is None else np.array(available, dtype=bool).ravel()

    def of_choice(self, intended: NDArray[Any], executed: NDArray[Any]) -> None:
        """Look at an action, (k,), before the environment takes it.

        Args:
            intended: the actor's, without noise.
            executed: with noise, clipped.
        """
        if self.available is not None and self.available.shape == executed.shape:
            intended, executed = intended[self.available], executed[self.available]
        edge = 0.01 * (self.high - self.low)
        outside = (intended < self.low + edge) | (intended > self.high - edge)
        self.latest["saturated"] = float(outside.mean()) if len(outside) else float("nan")
        self.latest["rank_correlation"] = rank_correlation(intended, executed)
        if self.query_size is not None:
            self.latest["tied"] = share_of_ties(executed, self.query_size)

    def of_training(self, q: float, actor_gradient: float, critic_gradient: float) -> None:
        """Look at what the gradient steps after an environment step have come to."""
        seen = (q, actor_gradient, critic_gradient)
        self.latest |= dict(zip(("q", "actor_gradient", "critic_gradient"), seen, strict=True))

    def of_step(self, reward: float) -> None:
        """Conclude an environment step and its training.

        Warns:
            UnhealthyAgent: the mean over the last steps is out of bounds; of each number once.
        """
        self._largest_reward = max(self._largest_reward, abs(reward))
        self.latest["q_limit"] = self._largest_reward * self.longest_return
        self._recent.append(dict(self.latest))
        if len(self._recent) == WINDOW:
            self._warn()

    def _warn(self) -> None:
        """Say what is out of bounds in the mean of the last steps, unless it has been said."""
        mean = {name: np.mean([each[name] for each in self._recent]) for name in NAMES}
        said = {}
        if self.query_size is not None:
            said = {
                "saturated": mean["saturated"] > 0.9
                and f"{mean['saturated']:.0%} of the actor's outputs are all but 0 or 1: what it "
                "selects is random",
                "tied": mean["tied"] > 0.5
                and f"{mean['tied']:.0%} of the selections are decided by the order of ties, as "
                "clipped scores are equal: they are random",
                "rank_correlation": abs(mean["rank_correlation"]) < 0.1
                and "the noise swamps the actor: the executed scores have a rank correlation of "
                f"{mean['rank_correlation']:.2f} with its own",
            }
        said["q"] = abs(mean["q"]) > mean["q_limit"] > 0 and (
            f"the critic's mean value is {mean['q']:,.0f}, and no return can exceed "
            f"{mean['q_limit']:,.1f}: it has diverged"
        )
        for name, text in said.items():
            if text and name not in self._said:
                self._said.append(name)
                warnings.warn(
                    f"{text} (mean over {WINDOW} environment steps; see agents.ddpg.health)",
                    UnhealthyAgent,
                    stacklevel=4,
                )

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes, as a tree for ``agents.checkpoint``."""
        return {
            "latest": dict(self.latest),
            "available": self.available,
            "largest_reward": self._largest_reward,
            "recent": [dict(each) for each in self._recent],
            "said": list(self._said),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a ``state_dict``."""
        self.latest, self.available = dict(state["latest"]), state["available"]
        self._largest_reward = state["largest_reward"]
        self._recent = deque(state["recent"], maxlen=WINDOW)
        self._said = list(state["said"])


def rank_correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Spearman's, of two vectors; NaN if all values of one are equal, or there are fewer than 2."""
    ranks = [rankdata(each) for each in (a, b)]
    if any(len(each) < 2 or np.ptp(each) == 0 for each in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def share_of_ties(scores: NDArray[Any], query_size: int) -> float:
    """Share of the ``query_size`` highest scores that only the order of ties has put there."""
    if len(scores) <= query_size:
        return 0.0
    last = np.partition(scores, -query_size)[-query_size]
    left = query_size - int((scores > last).sum())
    return left / query_size if int((scores == last).sum()) > left else 0.0
