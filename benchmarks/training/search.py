"""What all ways to train a policy share: its parameters, the tasks, and how what came is judged.

Worker processes play policies on tasks that a key decides.
"""

import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats

from agents.hyper import HyperPolicy
from agents.sets.coverage import FEATURES, RADII, REGIME
from agents.transfer import CoveragePolicy
from benchmarks.training.families import FAMILIES, KINDS, Features
from benchmarks.training.tasks import Playable, Signal, Task, draw_task, play


@dataclass(frozen=True)
class Search:
    """How a policy is searched for, and how what is found is judged."""

    signal: Signal = "aulc"
    """What for: the area under the curve of macro F1, the fall of the cross-entropy, or Eq. 3."""
    plays: int = 280
    """Tasks of each family that random weights play, for a response surface."""
    generations: int = 30
    """Of CMA-ES."""
    population: int = 16
    """Candidates in a generation of CMA-ES."""
    tasks: int = 3
    """Tasks of each family in a generation of CMA-ES."""
    starts: int = 1
    """Starts of a task that every policy plays."""
    step_size: float = 0.15
    """First standard deviation of CMA-ES."""
    validation_tasks: int = 40
    """New tasks of each family on which the outcome is compared with others."""
    seed: int = 0
    """Of the tasks and the training."""


@dataclass(frozen=True)
class Job:
    """One policy to be trained."""

    kinds: tuple[str, ...]
    """Of images that it is trained on."""
    embeddings: bool
    config: Search

    @property
    def families(self) -> list[str]:
        """Those of its kinds."""
        return [name for name, family in FAMILIES.items() if family.kind in self.kinds]

    @property
    def left_out(self) -> list[str]:
        """The others."""
        return [name for name in FAMILIES if name not in self.families]

    @property
    def name(self) -> str:
        """Of the file."""
        left_out = [kind for kind in KINDS if kind not in self.kinds]
        policy = "drla-embed" if self.embeddings else "drla-transfer"
        return f"{policy}-v1" + "".join(f"-without-{kind}" for kind in left_out)


History = list[dict[str, Any]]


# --- in the workers -------------------------------------------------------------------------------

FEATURES_HERE: dict[str, tuple[Features, ...]] = {}
"""Of a worker process: too large to travel with every task."""


def begin_worker(features: dict[str, tuple[Features, ...]]) -> None:
    """Keep the features of all families in this process, which computes on one thread."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    FEATURES_HERE.update(features)


def _draw(config: Search, family: str, key: Sequence[int]) -> Task:
    """The task of a key; the same for all policies trained with one seed."""
    rng = np.random.default_rng([config.seed, list(FAMILIES).index(family), *key])
    return draw_task(family, FEATURES_HERE[family], config.starts, rng)


def worth(
    config: Search,
    policies: Sequence[Playable],
    signals: Sequence[Signal],
    where: tuple[str, int, int],
) -> np.ndarray:
    """``play`` on the task of (family, *key), (n_signals, n_policies, n_starts)."""
    family, *key = where
    task = _draw(config, family, key)
    return play(task, FEATURES_HERE[family][task.draw], policies, signals)


def fit_of(job: Job, thetas: Sequence[np.ndarray], where: tuple[str, int, int]) -> np.ndarray:
    """What parameters are worth by the signal that they are trained for, (n, n_starts)."""
    policies = [policy_of(theta, job.embeddings) for theta in thetas]
    return worth(job.config, policies, (job.config.signal,), where)[0]


# --- parameters -----------------------------------------------------------------------------------

SHORTENED = (0.0, 0.5, 1.0)
"""Parts of the way from the start to what training has reached, of which one is kept."""
SELECTION, VALIDATION, PLAYS = 10**6, 2 * 10**6, 3 * 10**6
"""Keys of the tasks that choose among a few candidates, of those that judge, and of those that
``surface`` is fitted to; CMA-ES has other keys."""
START = {
    "margin": 1.0,
    **{f"uncertain coverage, {radius}": 1.0 for radius in RADII},
}  # fmt: skip
"""Weights that training begins with: margin and UHerding at every radius, none before another."""
EVOLVED = (
    "margin", "entropy", "deficit", "rarity", "typicality", "agreement", "distance",
    *(f"{kind}coverage, {radius}" for radius in RADII for kind in ("", "uncertain ")),
)  # fmt: skip
"""Features whose weights are searched; the others together make these up."""
FOLLOWED = ("constant", "labels per class")
"""What the weights follow. When they followed more, searches let many drift: their signal is noise
for the most part."""
N_PARAMETERS = len(EVOLVED) * len(FOLLOWED)
"""Of ``policy_of``."""


def policy_of(theta: np.ndarray, embeddings: bool) -> CoveragePolicy:
    """The start plus parameters (``N_PARAMETERS``,): weights of features, for all they follow."""
    policy = CoveragePolicy.of(START, embeddings)
    rows = torch.tensor([FEATURES.index(name) for name in EVOLVED])[:, None]
    columns = torch.tensor([REGIME.index(name) for name in FOLLOWED])
    policy.weights[rows, columns] += torch.as_tensor(theta).float().view(-1, len(FOLLOWED))
    return policy


def shortened(
    job: Job, reached: np.ndarray, pool: ProcessPoolExecutor
) -> tuple[CoveragePolicy, dict[str, float]]:
    """As much of the way from the start to parameters as new tasks vouch for.

    Returns:
        The policy, and the fitness of each of ``SHORTENED``.
    """
    thetas = [factor * reached for factor in SHORTENED]
    places = selection(job.config, job.families)
    values = fitness(list(pool.map(functools.partial(fit_of, job, thetas), places)))
    policy = policy_of(thetas[int(np.argmax(values))], job.embeddings)
    return policy, dict(zip(map(str, SHORTENED), values.tolist(), strict=True))


def selection(config: Search, families: Sequence[str]) -> list[tuple[str, int, int]]:
    """The tasks that choose among a few candidates."""
    return [(family, SELECTION, k) for family in families for k in range(config.validation_tasks)]


def fitness(worths: Sequence[np.ndarray]) -> np.ndarray:
    """One number a candidate from tasks whose signals have different scales.

    On every start the candidates' signals are brought to mean 0 and deviation 1, and averaged.

    Args:
        worths: for each task (n_candidates, n_starts).

    Returns:
        (n_candidates,).
    """
    together = np.concatenate(worths, axis=1)
    spread = together.std(axis=0)
    centred = together - together.mean(axis=0)
    return (centred / np.where(spread > 0, spread, 1)).mean(axis=1)


# --- what has come of it --------------------------------------------------------------------------

MS = {"margin": 1.0}
UHERDING = {"uncertain coverage, least": 1.0}
"""Weights of what others have."""
THRESHOLDS = (0.0, 1.5, 2.0, 4.0, 8.0, 16.0)
"""Labels per class from which on the hyper-policy may go by the margin; with 0 it is MS."""


def hyper_worths(
    config: Search, families: Sequence[str], pool: ProcessPoolExecutor
) -> dict[str, list[np.ndarray]]:
    """What the hyper-policy with each of ``THRESHOLDS`` is worth on the tasks of ``SELECTION``."""
    policies = [HyperPolicy(threshold) for threshold in THRESHOLDS]
    played = functools.partial(worth, config, policies, (config.signal,))
    return {
        family: [each[0] for each in pool.map(played, selection(config, [family]))]
        for family in families
    }


def hyper_threshold(job: Job, worths: Mapping[str, list[np.ndarray]]) -> float:
    """The one of ``THRESHOLDS`` that does best on the families of a job."""
    values = fitness([each for family in job.families for each in worths[family]])
    return THRESHOLDS[int(np.argmax(values))]


def validate(
    job: Job, policy: Playable, threshold: float | None, pool: ProcessPoolExecutor
) -> dict[str, dict[str, dict[str, float]]]:
    """The policy beside others on new tasks of all families, also those left out.

    Args:
        job: as it was trained.
        policy: the outcome.
        threshold: of the hyper-policy, which then takes part.
        pool: where to play.

    Returns:
        By family and by "ms", "uherding" and, with embeddings, "hyper": the difference of the areas
        under the curve, paired over tasks, its interval of 95 %, p, and the number of tasks.
    """
    others: dict[str, Playable] = {
        "ms": CoveragePolicy.of(MS, job.embeddings),
        "uherding": CoveragePolicy.of(UHERDING, job.embeddings),
    }
    if threshold is not None:
        others["hyper"] = HyperPolicy(threshold)
    outcome: dict[str, dict[str, dict[str, float]]] = {}
    for family in FAMILIES:
        places = [(family, VALIDATION, k) for k in range(job.config.validation_tasks)]
        policies = [policy, *others.values()]
        worths = list(pool.map(functools.partial(worth, job.config, policies, ("aulc",)), places))
        # the starts of a task are alike: a task counts once
        ours, *theirs = np.mean([each[0] for each in worths], axis=2).T
        outcome[family] = {
            name: _beside(ours, values) for name, values in zip(others, theirs, strict=True)
        }
    return outcome


def _beside(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    test = stats.ttest_rel(ours, theirs)
    low, high = test.confidence_interval()
    return {
        "aulc": float(ours.mean()), "difference": float((ours - theirs).mean()),
        "low": float(low), "high": float(high), "p": float(test.pvalue), "n": len(ours),
    }  # fmt: skip
