"""CMA-ES over the weights of a policy, in worker processes that play it on new tasks."""

import functools
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats
from tqdm import tqdm

from agents.sets.pool_features import FEATURES, PROGRESS
from agents.transfer import TransferPolicy
from benchmarks.training.families import FAMILIES, Features
from benchmarks.training.tasks import Signal, Task, draw_task, play


@dataclass(frozen=True)
class Search:
    """How a policy is searched for, and how what is found is judged."""

    signal: Signal = "aulc"
    """What for: the area under the curve of macro F1, the fall of the cross-entropy, or Eq. 3."""
    generations: int = 30
    """Of the search."""
    population: int = 16
    """Candidates in a generation."""
    tasks: int = 3
    """Tasks of each family in a generation."""
    starts: int = 2
    """Starts of a task that every policy plays."""
    step_size: float = 0.15
    """First standard deviation of the search."""
    validation_tasks: int = 40
    """New tasks of each family on which the outcome is compared with MS."""
    seed: int = 0
    """Of the tasks and the search."""


@dataclass(frozen=True)
class Job:
    """One policy to be trained."""

    families: tuple[str, ...]
    embeddings: bool
    config: Search

    @property
    def name(self) -> str:
        """Of the file."""
        left_out = [name for name in FAMILIES if name not in self.families]
        kind = "drla-embed" if self.embeddings else "drla-transfer"
        return f"{kind}-v0" + "".join(f"-without-{name}" for name in left_out)


History = list[dict[str, Any]]


# --- in the workers -------------------------------------------------------------------------------

_FEATURES: dict[str, Features] = {}
"""Of a worker process: too large to travel with every task."""


def begin_worker(features: dict[str, Features]) -> None:
    """Keep the features of all families in this process, which computes on one thread."""
    torch.set_num_threads(1)
    _FEATURES.update(features)


def _draw(config: Search, family: str, key: Sequence[int]) -> Task:
    """The task of a key; the same for all policies trained with one seed."""
    rng = np.random.default_rng([config.seed, list(FAMILIES).index(family), *key])
    return draw_task(family, _FEATURES[family], config.starts, rng)


def _play(
    job: Job, policies: Sequence[TransferPolicy], signal: Signal, where: tuple[str, int, int]
) -> np.ndarray:
    """``play`` with policies on the task of (family, *key), (n_policies, n_starts)."""
    family, *key = where
    task = _draw(job.config, family, key)
    acts = [policy.act for policy in policies]
    return play(task, _FEATURES[family], acts, (signal,), job.embeddings)[0]


def _worth(job: Job, thetas: Sequence[np.ndarray], where: tuple[str, int, int]) -> np.ndarray:
    """What the policies of parameters are worth by the signal that they are trained for."""
    policies = [policy_of(theta, job.embeddings) for theta in thetas]
    return _play(job, policies, job.config.signal, where)


# --- CMA-ES ---------------------------------------------------------------------------------------


SHORTENED = (0.0, 0.5, 1.0)
"""Parts of the way from MS to what the search has reached, of which one is kept."""
SELECTION, VALIDATION = 10**6, 2 * 10**6
"""Keys of the tasks that choose among ``SHORTENED``, and of those that judge; a search has other
keys."""
EVOLVED = ("entropy", "expected reward", "deficit", "rarity")
"""Features whose weights are searched, with the novelty where there is one. The others are the
margin, which the policy begins with, and what together makes it up."""
FOLLOWED = (PROGRESS.index("constant"), PROGRESS.index("uncertainty"))
"""What the weights follow. Of 27 numbers, with all features and the labels, the search let many
drift: its signal is noise for the most part."""


def n_parameters(embeddings: bool) -> int:
    """Of ``policy_of``."""
    return (len(EVOLVED) + embeddings + 1) * len(FOLLOWED)


def policy_of(theta: np.ndarray, embeddings: bool) -> TransferPolicy:
    """MS plus parameters: weights of the features, and of the diversity, 2 numbers each."""
    policy = TransferPolicy(embeddings)
    values = torch.as_tensor(theta, dtype=torch.float32).view(-1, len(FOLLOWED))
    rows = [FEATURES.index(name) for name in EVOLVED]
    rows += [len(FEATURES)] * embeddings  # the novelty
    policy.weights[torch.tensor(rows)[:, None], torch.tensor(FOLLOWED)] = values[:-1]
    policy.diversity[list(FOLLOWED)] = values[-1]
    return policy


def evolve(job: Job, pool: ProcessPoolExecutor) -> tuple[TransferPolicy, History]:
    """CMA-ES from MS, and as much of the way that it went as new tasks vouch for.

    The signal is noise for the most part, so that the mean wanders around an optimum, or, where
    there is none, away. Its average over the last half (Polyak and Juditsky, 1992), shortened by
    the factors of ``SHORTENED``, plays new tasks; the factor that does best is kept. 0 is MS.
    """
    import cma  # type: ignore[import-untyped]  # an extra: imported where it is needed

    config = job.config
    n = n_parameters(job.embeddings)
    options = {
        "popsize": config.population, "CMA_diagonal": True,
        "seed": config.seed + 1, "verbose": -9, "maxiter": config.generations,
    }  # fmt: skip
    search = cma.CMAEvolutionStrategy(np.zeros(n), config.step_size, options)
    means, history = [], []
    bar = tqdm(range(config.generations), desc=job.name, unit="generation")
    for generation in bar:
        candidates = search.ask()
        places = [(f, generation, k) for f in job.families for k in range(config.tasks)]
        # MS and the mean take part, to see how far it has come
        thetas = [np.zeros(n), search.mean, *candidates]
        worths = list(pool.map(functools.partial(_worth, job, thetas), places))
        search.tell(candidates, [-x for x in fitness([w[2:] for w in worths])])
        means.append(search.mean.copy())
        gains: dict[str, list[float]] = {}
        for (family, *_), worth in zip(places, worths, strict=True):
            gains.setdefault(family, []).append(float((worth[1] - worth[0]).mean()))
        history.append({family: float(np.mean(each)) for family, each in gains.items()})
        bar.set_postfix({f: f"{g:+.4f}" for f, g in history[-1].items()})
    reached = np.mean(means[len(means) // 2 :], axis=0)
    thetas = [factor * reached for factor in SHORTENED]
    places = [(f, SELECTION, k) for f in job.families for k in range(config.validation_tasks)]
    outcomes = pool.map(functools.partial(_worth, job, thetas), places)
    values = fitness(list(outcomes))
    history.append(dict(zip(map(str, SHORTENED), values.tolist(), strict=True)))
    return policy_of(thetas[int(np.argmax(values))], job.embeddings), history


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


def validate(
    job: Job, policy: TransferPolicy, pool: ProcessPoolExecutor
) -> dict[str, dict[str, float]]:
    """The policy beside MS on new tasks, by family; paired over tasks."""
    outcome = {}
    for family in job.families:
        places = [(family, VALIDATION, k) for k in range(job.config.validation_tasks)]
        worths = pool.map(functools.partial(_beside_ms, job, policy), places)
        # the starts of a task are alike: a task counts once
        ours, theirs = np.mean(list(worths), axis=2).T
        test = stats.ttest_rel(ours, theirs)
        low, high = test.confidence_interval()
        outcome[family] = {
            "aulc": float(ours.mean()), "aulc_ms": float(theirs.mean()),
            "difference": float((ours - theirs).mean()),
            "low": float(low), "high": float(high), "p": float(test.pvalue), "n": len(ours),
        }  # fmt: skip
    return outcome


def _beside_ms(job: Job, policy: TransferPolicy, where: tuple[str, int, int]) -> np.ndarray:
    return _play(job, [policy, TransferPolicy(job.embeddings)], "aulc", where)
