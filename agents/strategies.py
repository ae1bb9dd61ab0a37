"""Hand-designed strategies: RANDOM, LC, MS, EN, FUSION and EQ3, with the ``predict`` of an agent.

A strategy sees the observation and nothing else: rows of softmax values, and rows of zeros for
samples that have left the pool. Its action is a score for each row, so the environment ranks it as
it ranks an agent's.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from agents.names import lookup
from agents.policy import ScoringPolicy, softmax_of

Scorer = Callable[[np.ndarray], np.ndarray]
"""From softmax rows (n, M) to scores (n,) in [0, 1]."""


def least_confidence(softmax: np.ndarray) -> np.ndarray:
    """LC: 1 - max p, in [0, 1 - 1/M] (Settles, Active learning literature survey, 2009).

    Args:
        softmax: (n, M).

    Returns:
        (n,) high where the most probable class is improbable.
    """
    return 1 - softmax.max(axis=1)


def margin(softmax: np.ndarray) -> np.ndarray:
    """MS: 1 - (p(1) - p(2)), in [0, 1] (Scheffer et al., Active hidden Markov models, 2001).

    Args:
        softmax: (n, M).

    Returns:
        (n,) high where the two most probable classes are close.
    """
    second, first = np.partition(softmax, -2, axis=1)[:, -2:].T
    return 1 - (first - second)


def entropy(softmax: np.ndarray) -> np.ndarray:
    """EN: -sum p log p over log M, in [0, 1] (Shannon, 1948); 0 log 0 is 0.

    Args:
        softmax: (n, M).

    Returns:
        (n,) high where the prediction is spread.
    """
    logs = np.log(softmax, out=np.zeros_like(softmax), where=softmax > 0)
    return -(softmax * logs).sum(axis=1) / math.log(softmax.shape[1])


def expected_reward(softmax: np.ndarray) -> np.ndarray:
    """EQ3: max p - sum p^2, what Eq. 3 pays on average if the classifier is calibrated.

    The true class is j with probability p_j, so E[Pr(predicted) - Pr(true)] = max p - sum p_j p_j.
    It is 0 for a uniform and for a one-hot softmax: choosing by it is not uncertainty sampling.

    Args:
        softmax: (n, M).

    Returns:
        (n,) in [0, 1/4].
    """
    return softmax.max(axis=1) - np.square(softmax).sum(axis=1)


class Strategy(ScoringPolicy):
    """Scores every row by a formula.

    Args:
        scorer: maps the rows still in the pool, (n, M), to scores in [0, 1].
        generator: what the scorer draws from.
    """

    def __init__(self, scorer: Scorer, generator: np.random.Generator) -> None:
        self._scorer = scorer
        self.generator = generator

    def scores(self, observation: Any) -> np.ndarray:
        """Scores (n_u,) float32 in [0, 1] of softmax values (n_u, M); rows of zeros score 0."""
        softmax = softmax_of(observation)
        in_pool = softmax.any(axis=1)
        scores = np.zeros(len(softmax), np.float32)
        scores[in_pool] = np.clip(self._scorer(softmax[in_pool]), 0, 1)
        return scores


def _random(query_size: int, rng: np.random.Generator) -> Scorer:
    """RANDOM: every row alike."""
    return lambda softmax: rng.random(len(softmax))


def _fusion(query_size: int, rng: np.random.Generator) -> Scorer:
    """FUSION (paper, 3.2; Wang et al., Cost-effective active learning, 2017).

    The top ceil(K/2) by each of LC, MS and EN, duplicates removed, get random scores above 0.5, so
    that the K highest are K of them at random. When the three agree on fewer than K, the rest is
    filled by least confidence, which ranks everything else below.
    """
    half = math.ceil(query_size / 2)

    def score(softmax: np.ndarray) -> np.ndarray:
        scores = least_confidence(softmax) / 2
        tops = [np.argsort(-by(softmax), kind="stable")[:half] for by in CRITERIA]
        union = np.unique(np.concatenate(tops))
        scores[union] = rng.uniform(0.5, 1.0, len(union))
        return scores

    return score


CRITERIA: tuple[Scorer, ...] = (least_confidence, margin, entropy)
"""What FUSION combines."""

Maker = Callable[[int, np.random.Generator], Scorer]
"""From K, the samples annotated in a step, and a generator to a formula."""
STRATEGIES: dict[str, Maker] = {
    "random": _random,
    "lc": lambda query_size, rng: least_confidence,
    "ms": lambda query_size, rng: margin,
    "en": lambda query_size, rng: entropy,
    "fusion": _fusion,
    "eq3": lambda query_size, rng: expected_reward,
}
"""Everything that ``make`` knows, by name."""


def generator(seed: int) -> np.random.Generator:
    """A strategy's generator: an environment with the same seed must not draw the same numbers."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))


def make(name: str, *, query_size: int, seed: int) -> Strategy:
    """The strategy of a name.

    Args:
        name: one of ``STRATEGIES``.
        query_size: K, samples annotated in a step; FUSION needs it.
        seed: of RANDOM and FUSION.

    Raises:
        ValueError: an unknown name.
    """
    rng = generator(seed)
    return Strategy(lookup("strategy", name, STRATEGIES)(query_size, rng), rng)
