"""What a policy for few labels does as labels grow: its weights, and whom it picks where.

    python -m benchmarks.coverage_figure --preset retinopathy-few --out coverage.png

plays an episode with the policy. Above, for every query, how far each feature moves the scores: its
weight in that regime times its standard deviation over the pool. Below, the pool on its first two
principal components at three moments, with the samples that the policy, MS and UHerding would pick
next; all three see the same pool, the policy's own.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from agents import transfer
from agents.sets import coverage
from agents.transfer import CoveragePolicy
from al_gym.wrappers import ContextObservation
from benchmarks.matrix.environments import make_environment
from benchmarks.matrix.presets import PRESETS
from benchmarks.training.search import MS, UHERDING

N_SHOWN = 7
"""Features with a line and a name, those that move scores most."""
N_PICKS = 4
"""Of each method, at a moment."""
OTHERS = {"MS": MS, "UHerding": UHERDING}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which the colour-blind can tell apart."""


@dataclass(frozen=True)
class FigureConfig:
    """Draw what a policy for few labels does as labels grow."""

    out: Path
    """The picture."""
    policy: str = "drla-embed-v1-without-fundus"
    """A pretrained policy with embeddings, or the path of one."""
    preset: str = "retinopathy-few"
    """Whose episode to play."""
    root: Path | None = None
    """Folder of its data."""
    seed: int = 0
    """Of the episode."""


@dataclass(frozen=True)
class Moment:
    """A pool before a query."""

    n_labels: int
    observation: dict[str, np.ndarray]
    influence: np.ndarray
    """(K,) of every feature: its weight times its deviation over the pool."""


def main(config: FigureConfig) -> int:
    """Write the picture; returns the exit status."""
    path = Path(config.policy)
    policy = transfer.load(path) if path.is_file() else transfer.load_pretrained(config.policy)
    if not isinstance(policy, CoveragePolicy) or not policy.embeddings:
        raise ValueError(f"{config.policy} is no CoveragePolicy with embeddings")
    moments, run = episode(policy, config)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    labels = run.dataset.labels[run.episode.pool.indices]
    draw(policy, moments, labels, run.dataset.class_names).savefig(config.out, dpi=150)
    print(config.out)
    return 0


def episode(policy: CoveragePolicy, config: FigureConfig) -> tuple[list[Moment], Any]:
    """Every pool of an episode before its query, and the run that was played."""
    preset = PRESETS[config.preset]
    settings = preset.settings | ({} if config.root is None else {"root": str(config.root)})
    env = make_environment({"dataset": preset.dataset, "settings": settings})
    env = ContextObservation(env, **policy.wants)
    observation, _ = env.reset(seed=config.seed)
    moments, terminated = [], False
    while not terminated:
        pool, _ = coverage.survey(observation, policy.memory.of(observation))
        in_pool = observation["softmax"].any(1)
        weights = policy.weights @ pool.context[: len(coverage.REGIME)]
        spread = pool.features[:, torch.from_numpy(in_pool)].std(1, correction=0)
        n_labels = round(float(observation["class_counts"].sum()))
        moments.append(Moment(n_labels, observation, (weights * spread).numpy()))
        action, _ = policy.predict(observation)
        observation, _, terminated, _, _ = env.step(action)
    return moments, env.get_wrapper_attr("run")


def draw(
    policy: CoveragePolicy, moments: list[Moment], labels: np.ndarray, class_names: tuple[str, ...]
) -> Figure:
    """The influence of features above, three moments below."""
    figure = Figure(figsize=(10, 7.2), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=(1, 1.25))
    above, below = halves
    _influences(above.subplots(), moments)
    three = [moments[0], moments[len(moments) // 3], moments[-1]]
    vectors = three[0].observation["embeddings"]
    centred = vectors - vectors.mean(0)
    plane = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    panels = below.subplots(1, 3, sharex=True, sharey=True)
    for axes, moment in zip(panels, three, strict=True):
        _pool(axes, plane, labels, moment, policy)
    handles, names = panels[0].get_legend_handles_labels()
    below.legend(handles, names, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    below.suptitle(
        f"The pool on two principal components, a colour for each of {len(class_names)} classes, "
        "and whom each would pick next",
        fontsize=10,
    )
    return figure


def _influences(axes: Axes, moments: list[Moment]) -> None:
    """Lines of the features that move scores most, named at their ends."""
    x = [moment.n_labels for moment in moments]
    values = np.array([moment.influence for moment in moments])
    strengths = np.abs(values).mean(0)
    for rank, feature in enumerate(np.argsort(-strengths)[:N_SHOWN]):
        if strengths[feature] == 0:
            break
        axes.plot(x, values[:, feature], color=COLOURS[rank], label=coverage.FEATURES[feature])
    axes.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    axes.set_xlabel("labels", fontsize=9)
    axes.set_ylabel("weight x deviation in the pool", fontsize=9)
    axes.set_title("How far each feature moves the scores, query by query", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False)


def _pool(
    axes: Axes, plane: np.ndarray, labels: np.ndarray, moment: Moment, policy: CoveragePolicy
) -> None:
    one = moment.observation
    left = one["softmax"].any(1)
    x, y = plane.T
    axes.scatter(x[left], y[left], c=labels[left], s=5, cmap="Set2", linewidths=0, alpha=0.8)
    gone: Any = {"s": 14, "color": "0.25", "marker": "x", "linewidths": 0.8}
    axes.scatter(x[~left], y[~left], label="labelled before", **gone)
    choosing = {"the policy": policy} | {
        name: CoveragePolicy.of(weights, embeddings=True) for name, weights in OTHERS.items()
    }
    for (name, who), marker, colour in zip(choosing.items(), "os^", COLOURS, strict=False):
        rows = np.argsort(-who.act(one, N_PICKS), kind="stable")[:N_PICKS]
        ring: Any = {"facecolors": "none", "edgecolors": colour, "linewidths": 1.4}
        axes.scatter(x[rows], y[rows], s=60, marker=marker, label=name, **ring)
    axes.set_title(f"{moment.n_labels} labels", fontsize=9)
    axes.set(xticks=[], yticks=[])
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(FigureConfig, description=__doc__)))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"benchmarks.coverage_figure: {error}")
