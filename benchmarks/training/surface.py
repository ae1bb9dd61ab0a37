"""Response surfaces: what weights of a policy are worth, from many plays of random ones.

The signal of an episode is noise for the most part: two policies that are equally good differ by
0.03 in an area, and what there is to be gained is a tenth of that. A search that looks at a few
dozen episodes before each of its steps wanders. Here all episodes are looked at together: random
weights around ``START`` play tasks of all families once, a dozen on each task, and a quadratic
function is fitted to their areas (Box and Wilson, On the experimental attainment of optimum
conditions, 1951). Each policy's function is fitted to the tasks of its own families alone; its
greatest value where weights were tried is the outcome.
"""

import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy import optimize
from tqdm import tqdm

from agents.transfer import CoveragePolicy
from benchmarks.training.search import (
    FOLLOWED,
    N_PARAMETERS,
    PLAYS,
    History,
    Job,
    Search,
    policy_of,
    shortened,
    worth,
)

SPREAD = (0.6, 1.0)
"""Standard deviations of the random weights, for what each follows of ``FOLLOWED``."""
N_CANDIDATES = 12
"""Random weights that play a task, beside the start."""
PENALTIES = tuple(np.logspace(0, 5, 11))
"""Of the ridge, of which cross-validation over tasks takes one."""
FOLDS = 5
REACH = 0.5
"""How far from the start the outcome may lie, in mean squares of the spread; the weights that were
tried have 1."""


@dataclass(frozen=True)
class Plays:
    """Random weights of a family, and what they were worth."""

    thetas: np.ndarray
    """(n_tasks, N_CANDIDATES + 1, N_PARAMETERS), the start last."""
    worths: np.ndarray
    """(n_tasks, N_CANDIDATES + 1)."""


def collect(
    config: Search, embeddings: bool, families: Sequence[str], pool: ProcessPoolExecutor
) -> dict[str, Plays]:
    """Let random weights play ``config.plays`` tasks of each family."""
    places = [(family, PLAYS, k) for k in range(config.plays) for family in families]
    worths = pool.map(functools.partial(_played, config, embeddings), places)
    bar = tqdm(worths, "random weights", len(places), unit="task")
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {family: [] for family in families}
    for where, values in zip(places, bar, strict=True):
        found[where[0]].append((drawn(config.seed, where), values))
    return {
        family: Plays(*(np.array(part) for part in zip(*each, strict=True)))
        for family, each in found.items()
    }


def _played(config: Search, embeddings: bool, where: tuple[str, int, int]) -> np.ndarray:
    """What random weights are worth on a task, (N_CANDIDATES + 1,)."""
    policies = [policy_of(theta, embeddings) for theta in drawn(config.seed, where)]
    return worth(config, policies, (config.signal,), where)[0].mean(1)


def drawn(seed: int, where: tuple[str, int, int]) -> np.ndarray:
    """Random parameters of ``policy_of`` for a task, and 0, (N_CANDIDATES + 1, N_PARAMETERS)."""
    family, _, k = where
    rng = np.random.default_rng([seed, *family.encode(), k])
    random = rng.normal(0, _spread(N_PARAMETERS), (N_CANDIDATES, N_PARAMETERS))
    return np.concatenate([random, np.zeros((1, N_PARAMETERS))])


def _spread(n: int) -> np.ndarray:
    """``SPREAD`` of each of n parameters, (n,)."""
    return np.tile(SPREAD, n // len(FOLLOWED))


def climb(
    job: Job, plays: Mapping[str, Plays], pool: ProcessPoolExecutor
) -> tuple[CoveragePolicy, History]:
    """The policy where the surface of a job's families is highest, ``shortened``.

    The history has how well the surface tells what weights are worth on families left out, too.
    """
    coefficients = fit({family: plays[family] for family in job.families})
    left_out = {
        name: agreement(coefficients, plays[name]) for name in job.left_out if name in plays
    }
    policy, values = shortened(job, highest(coefficients), pool)
    return policy, [{"agreement": left_out}, values]


# --- the function ---------------------------------------------------------------------------------


def terms(thetas: np.ndarray) -> np.ndarray:
    """Parameters (..., N) over their spread, and all products of two, (..., N + N (N + 1) / 2)."""
    z = thetas / _spread(thetas.shape[-1])
    first, second = np.triu_indices(z.shape[-1])
    return np.concatenate([z, z[..., first] * z[..., second]], axis=-1)


def fit(plays: Mapping[str, Plays]) -> np.ndarray:
    """Coefficients of ``terms``, of the worth in standard deviations.

    Worths are compared within a task alone. A family's are divided by their standard deviation
    within its tasks, so that all families count alike. The ridge's penalty is that of the least
    error on tasks held out.

    Args:
        plays: by family.
    """
    inputs, outputs = [], []
    for each in plays.values():
        x, y = terms(each.thetas), each.worths
        y = y - y.mean(1, keepdims=True)
        inputs.append(x - x.mean(1, keepdims=True))
        outputs.append(y / max(float(y.std()), 1e-12))
    x, y = np.concatenate(inputs), np.concatenate(outputs)
    tasks = np.arange(len(x)) % FOLDS
    errors = np.zeros(len(PENALTIES))
    for fold in range(FOLDS):
        kept, held_out = tasks != fold, tasks == fold
        for i, coefficients in enumerate(_ridge(x[kept], y[kept])):
            errors[i] += float(np.square(y[held_out] - x[held_out] @ coefficients).sum())
    return _ridge(x, y)[int(np.argmin(errors))]


def agreement(coefficients: np.ndarray, plays: Plays) -> float:
    """Correlation, within tasks, of what a surface says and what weights were worth."""
    said, found = terms(plays.thetas) @ coefficients, plays.worths
    deviations = [(each - each.mean(1, keepdims=True)).ravel() for each in (said, found)]
    return float(np.corrcoef(*deviations)[0, 1])


def _ridge(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Coefficients for each of ``PENALTIES``, (n_penalties, n_terms), of tasks (t, c, n_terms)."""
    rows, values = x.reshape(-1, x.shape[-1]), y.ravel()
    gram, moments = rows.T @ rows, rows.T @ values
    eigenvalues, vectors = np.linalg.eigh(gram)
    rotated = vectors.T @ moments
    return np.array([vectors @ (rotated / (eigenvalues.clip(0) + p)) for p in PENALTIES])


def highest(coefficients: np.ndarray, n: int = N_PARAMETERS) -> np.ndarray:
    """The parameters (n,) within ``REACH`` at which the function is greatest."""
    linear = coefficients[:n]
    square = np.zeros((n, n))
    square[np.triu_indices(n)] = coefficients[n:]
    square = (square + square.T) / 2

    def minus(z: np.ndarray) -> tuple[float, np.ndarray]:
        return -float(linear @ z + z @ square @ z), -(linear + 2 * square @ z)

    within = {
        "type": "ineq",
        "fun": lambda z: REACH - float(np.mean(z**2)),
        "jac": lambda z: -2 * z / n,
    }
    uphill = linear / max(float(np.linalg.norm(linear)), 1e-12)
    starts = [length * np.sqrt(n * REACH) * uphill for length in (0.0, 0.5, 1.0)]
    found = [
        optimize.minimize(minus, z, jac=True, constraints=within, method="SLSQP") for z in starts
    ]
    best: np.ndarray = min(found, key=lambda each: float(each.fun)).x
    return best * _spread(n)
