"""Why macro F1 of one seed jumps from one query to the next, and under which settings it does less.

    python -m benchmarks.jumps --out jumps.md

RANDOM plays generated CT, on scans of another seed than the experiments'. After every update the
test images are predicted by the classifier as it is; for the network of ``embedded`` also with
batch-norm statistics computed anew on what is labelled, and with a running mean of the weights
besides. The jump is the standard deviation of the differences of macro F1 from step to step, mean
over seeds.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
import torch
import tyro
from torch import nn
from tqdm import tqdm

from agents import strategies
from al_gym.classifiers.networks import NetworkClassifier
from al_gym.data import phantoms
from al_gym.metrics import evaluate
from al_gym.run import Run
from benchmarks.matrix.environments import make_environment
from benchmarks.matrix.presets import PRESETS

SCANS = 96, 1
"""Number and seed of the phantoms; those of the experiments have seed 0."""
N_TEST = 700
NEW = 0.3
"""Share of the new weights in the running mean."""
AS_IT_IS, STATISTICS, MEAN = "as it is", "new statistics", "and mean weights"
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "embedded": ("embedded", {}),
    "embedded, learning rate 0.001": ("embedded", {"learning_rate": 0.001}),
    "embedded, batches of 64": ("embedded", {"batch_size": 64}),
    "embedded, 3 passes": ("embedded", {"update_passes": 3}),
    "embedded, no momentum": ("embedded", {"momentum": 0.0}),
    "embedded, no dropout": ("embedded", {"dropout": 0.0}),
    "embedded, from scratch": ("embedded", {"update": "scratch"}),
    "chestct-features": ("chestct-features", {}),
    "chestct-features, learning rate 0.0003": ("chestct-features", {"learning_rate": 0.0003}),
    "chestct-features, one pass": ("chestct-features", {"update_passes": 1}),
    "chestct-features, 30 passes": ("chestct-features", {"update_passes": 30}),
    "demo": ("demo", {}),
}
"""Name -> preset, and what is changed in it."""


@dataclass(frozen=True)
class JumpsConfig:
    """Measure how much macro F1 of one seed jumps from query to query."""

    out: Path
    """File for the table, in Markdown."""
    seeds: int = 3
    """Number of seeds."""
    steps: int = 17
    """Queries of each."""
    only: tuple[str, ...] = field(default_factory=lambda: tuple(VARIANTS))
    """Rows to measure."""


def main(config: JumpsConfig) -> int:
    """Play, and write the table; returns the exit status.

    Raises:
        ValueError: an unknown row, or none.
    """
    if not config.only:
        raise ValueError(f"no rows given, choose from {list(VARIANTS)}")
    unknown = set(config.only) - set(VARIANTS)
    if unknown:
        raise ValueError(f"unknown row {min(unknown)!r}, choose from {list(VARIANTS)}")
    config.out.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, str]] = []
    for name in tqdm(config.only, unit="row"):
        rows += measured(name, config)
        text = pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)
        config.out.write_text(text + "\n")  # after every row: it takes most of an hour
    print(f"\n{text}")
    return 0


def measured(name: str, config: JumpsConfig) -> list[dict[str, str]]:
    """The lines of a row of ``VARIANTS``: one for each way to look."""
    preset, changes = VARIANTS[name]
    env = environment(preset, changes)
    played = [play(env, seed, config.steps, not changes) for seed in range(config.seeds)]
    dataset = env.get_wrapper_attr("run").dataset
    labels = dataset.labels[dataset.test]
    lines = []
    for look in played[0]:
        curves = [curve[look] for curve in played]
        lines.append({
            "": name if look == AS_IT_IS else "",
            "looked at": look,
            f"{N_TEST // 2} test images": f"{jump(curves, labels, 2):.4f}",
            f"{N_TEST} test images": f"{jump(curves, labels, 1):.4f}",
            "mean macro F1": f"{np.mean([scores(curve, labels) for curve in curves]):.3f}",
        })  # fmt: skip
    return lines


def environment(preset: str, changes: dict[str, Any]) -> gym.Env[Any, Any]:
    """The preset's on the other scans and 700 test images, with some settings changed."""
    settings = {**PRESETS[preset].settings, **changes, "n_test": N_TEST, "device": "cpu"}
    settings.pop("n_phantoms", None)
    root = phantoms.folder("chestCT", *SCANS)
    return make_environment({"dataset": "chestCT", "settings": {**settings, "root": str(root)}})


def play(env: gym.Env[Any, Any], seed: int, steps: int, in_all_ways: bool) -> dict[str, np.ndarray]:
    """RANDOM from the start on: by look, softmax of the test images, (steps + 1, n, M).

    Args:
        env: the environment.
        seed: of the start and of RANDOM.
        steps: how many, at most.
        in_all_ways: whether to look at other statistics and weights, too.
    """
    run = env.get_wrapper_attr("run")
    agent = strategies.make("random", query_size=env.get_wrapper_attr("query_size"), seed=seed)
    observation, _ = env.reset(seed=seed)
    mean: dict[str, torch.Tensor] = {}
    seen = [dict(looks(run, mean, in_all_ways))]
    while len(seen) <= steps and not run.is_over:
        observation, *_ = env.step(agent.predict(observation)[0])
        seen.append(dict(looks(run, mean, in_all_ways)))
    return {look: np.stack([each[look] for each in seen]) for look in seen[0]}


def looks(
    run: Run, mean: dict[str, torch.Tensor], in_all_ways: bool
) -> Iterator[tuple[str, np.ndarray]]:
    """What the classifier makes of the test images, in one or three ways; it stays as it is.

    Args:
        run: the run.
        mean: of the weights so far, brought up to date.
        in_all_ways: whether to look in all of them, where there is batch norm.
    """
    yield AS_IT_IS, predict(run)
    members = getattr(run.classifiers, "members", None)
    if members is None or not in_all_ways:  # heads have no batch norm
        return
    (classifier,) = members
    kept = run.classifiers.state_dict(0)
    for name, value in kept["network"].items():
        old = mean.get(name, value)
        mean[name] = old.lerp(value, NEW) if value.is_floating_point() else value
    renew_statistics(classifier, run.episode.pool.labelled)
    yield STATISTICS, predict(run)
    classifier.network.load_state_dict(mean)
    renew_statistics(classifier, run.episode.pool.labelled)
    yield MEAN, predict(run)
    run.classifiers.load_state_dict(0, kept)


def predict(run: Run) -> np.ndarray:
    """Softmax of the test images, (n, M)."""
    (softmax,) = run.classifiers.predict([0], [run.dataset.test])
    return softmax.numpy()


def renew_statistics(classifier: NetworkClassifier, labelled: np.ndarray) -> None:
    """Set mean and variance of every batch norm to those of its inputs over the labelled images.

    Layer after layer, as what a layer sees depends on those before it.
    """
    for layer in classifier.network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            seen: list[torch.Tensor] = []
            handle = layer.register_forward_pre_hook(lambda _, inputs, s=seen: s.append(inputs[0]))
            classifier.predict(labelled)
            handle.remove()
            values = torch.cat(seen).transpose(0, 1).flatten(1)
            assert layer.running_mean is not None and layer.running_var is not None
            layer.running_mean.copy_(values.mean(dim=1))
            layer.running_var.copy_(values.var(dim=1))


def jump(curves: list[np.ndarray], labels: np.ndarray, parts: int) -> float:
    """Standard deviation of the differences of macro F1, mean over seeds and parts of the test set.

    Args:
        curves: for every seed (T + 1, n, M).
        labels: (n,).
        parts: into how many the test images are divided, at random.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    deviations = [
        np.diff(scores(curve[:, part], labels[part])).std()
        for curve in curves
        for part in np.array_split(order, parts)
    ]
    return float(np.mean(deviations))


def scores(curve: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Macro F1 of every step, (T + 1,)."""
    evaluations = evaluate(torch.from_numpy(curve), torch.from_numpy(labels))
    return np.array([each.macro_f1 for each in evaluations])


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(JumpsConfig, description=__doc__)))
    except ValueError as error:
        sys.exit(f"benchmarks.jumps: {error}")
