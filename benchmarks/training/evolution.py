"""CMA-ES over the weights of a policy (Hansen, The CMA evolution strategy, 2006)."""

import functools
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from tqdm import tqdm

from agents.transfer import CoveragePolicy
from benchmarks.training.search import N_PARAMETERS, History, Job, fit_of, fitness, shortened


def evolve(job: Job, pool: ProcessPoolExecutor) -> tuple[CoveragePolicy, History]:
    """CMA-ES from ``START``, and as much of the way that it went as new tasks vouch for.

    The signal is noise for the most part, so that the mean wanders around an optimum, or, where
    there is none, away. What is ``shortened`` is its average over the last half (Polyak and
    Juditsky, 1992).
    """
    import cma  # type: ignore[import-untyped]  # an extra: imported where it is needed

    config = job.config
    n = N_PARAMETERS
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
        # the start and the mean take part, to see how far it has come
        thetas = [np.zeros(n), search.mean, *candidates]
        worths = list(pool.map(functools.partial(fit_of, job, thetas), places))
        search.tell(candidates, [-x for x in fitness([w[2:] for w in worths])])
        means.append(search.mean.copy())
        gains: dict[str, list[float]] = {}
        for (family, *_), worth in zip(places, worths, strict=True):
            gains.setdefault(family, []).append(float((worth[1] - worth[0]).mean()))
        history.append({family: float(np.mean(each)) for family, each in gains.items()})
        bar.set_postfix({f: f"{g:+.4f}" for f, g in history[-1].items()})
    reached = np.mean(means[len(means) // 2 :], axis=0)
    policy, values = shortened(job, reached, pool)
    return policy, [*history, values]
