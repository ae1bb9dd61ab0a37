"""How times grow with the pool, the labelled set and the number of environments."""

import statistics

import numpy as np
import torch
from torch import nn

from agents import TransferPolicy
from agents.sets.networks import SetActor
from agents.sets.pool_features import describe
from al_gym import (
    ActiveLearningEnv,
    ActiveLearningVectorEnv,
    ClassifierConfig,
    EnvConfig,
    ImageDataset,
)  # fmt: skip
from benchmarks.timing.paper import step_of
from benchmarks.timing.turns import Comparison, Work, take_turns


def growth(rounds: int) -> tuple[list[Comparison], dict[str, dict[str, float]]]:
    """Milliseconds of a step against the pool, the labelled set and the number of environments."""
    pool = {
        f"pool of {n:,}, 64 features": _on_features(n, 64, n_labelled=50)
        for n in (100, 1_000, 10_000, 100_000)
    }
    labelled = {
        f"{n:,} of 3,500 labelled, 2,048 features": _on_features(3_500, 2_048, n_labelled=n)
        for n in (175, 700, 1_750, 3_000)
    }
    several = {n: _on_features(3_500, 2_048, n_labelled=700, n_envs=n) for n in (1, 4, 16)}
    tables = {}
    for title, envs in (("growth with the pool, ms", pool), ("growth with labels, ms", labelled)):
        times = take_turns(title, {k: step_of(e) for k, e in envs.items()}, rounds=rounds)
        tables[title] = {name: 1e3 * statistics.median(times[name]) for name in envs}
    title = "growth with environments, 700 of 3,500 x 2,048 labelled"
    times = take_turns(title, {str(n): step_of(e) for n, e in several.items()}, rounds=rounds)
    tables[f"{title}, steps a second"] = {
        f"{n} at once": n / statistics.median(times[str(n)]) for n in several
    }
    one, sixteen = times["1"], tuple(seconds / 16 for seconds in times["16"])
    comparison = Comparison("step of 16 heads at once", sixteen, one, "one environment", 4.0)
    acting: dict[str, Work] = {}
    for n in (1_000, 30_000, 1_000_000):
        acting |= _acting_on(n)
    title = "acting on a pool of 4 classes, ms"
    times = take_turns(title, acting, rounds=rounds)
    tables[title] = {name: 1e3 * statistics.median(times[name]) for name in acting}
    return [comparison], tables


def _acting_on(n: int) -> dict[str, Work]:
    """A step of agents for any pool: describe it and score it; ``drla-transfer`` also ranks."""
    policy = TransferPolicy()
    policy.diversity[0] = 0.5
    actor = SetActor(generator=torch.Generator().manual_seed(0)).requires_grad_(False)
    softmax = np.random.default_rng(0).dirichlet(np.ones(4), n).astype(np.float32)
    observation = {
        "softmax": softmax,
        "class_counts": np.array([20, 10, 15, 5], np.float32),
        "labelled_fraction": np.array([0.1], np.float32),
    }
    return {
        f"{n:,} samples, drla-transfer": lambda: policy.predict(observation),
        f"{n:,} samples, drla-set": lambda: actor.scores(describe(observation)),
    }


def _on_features(
    n: int, n_features: int, *, n_labelled: int, n_envs: int = 1
) -> ActiveLearningEnv | ActiveLearningVectorEnv:
    """Environments over n training images that are their own features, and as many for the test."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (2 * n, 1, 8, n_features // 8), dtype=np.uint8)
    labels = np.arange(2 * n) % 4
    rows = np.arange(2 * n)
    dataset = ImageDataset(images, labels, tuple("abcd"), rows, rows[:n], rows[n:], "noise")
    network = nn.Sequential(nn.Flatten(), nn.Linear(n_features, 4))
    task = EnvConfig(initial_fraction=n_labelled / n, query_size=5)
    settings = ClassifierConfig(
        network=network, trainable="head", pretrain_passes=1, momentum=0.9, device="cpu"
    )
    if n_envs == 1:
        env: ActiveLearningEnv | ActiveLearningVectorEnv = ActiveLearningEnv(
            dataset, task, settings
        )
    else:
        env = ActiveLearningVectorEnv(n_envs, dataset, task, settings)
    env.reset(seed=0)
    return env
