"""What a policy has learned: its score of a sample by p1 and p2, beside LC, MS and EN.

    python -m benchmarks.policy_figure --preset retinamnist-features --root DIR --out policy.png

plays an episode with the policy, and early, in the middle and late draws how it would then score
samples of every p1 and p2. The rest of the probability is shared by the other classes; deficit and
rarity, which depend on which classes they are, and the novelty have the mean of the pool.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from agents import TransferPolicy, transfer
from agents.sets.pool_features import (
    CONTEXT,
    FEATURES,
    PoolState,
    describe,
    normalised,
    strategy,
)
from al_gym.wrappers import ContextObservation
from benchmarks.matrix.environments import make_environment
from benchmarks.matrix.presets import PRESETS

N_POINTS = 481
"""Along an axis of the grid."""
MOMENTS = ("early", "middle", "late")


@dataclass(frozen=True)
class FigureConfig:
    """Draw what a policy has learned."""

    out: Path
    """The picture."""
    policy: str = "drla-embed-v0-without-retinamnist"
    """A pretrained policy, or the path of one."""
    preset: str = "retinamnist-features"
    """Whose episode to play."""
    root: Path | None = None
    """Folder of its data."""
    seed: int = 0
    """Of the episode."""


def main(config: FigureConfig) -> int:
    """Write the picture; returns the exit status."""
    path = Path(config.policy)
    policy = transfer.load(path) if path.is_file() else transfer.load_pretrained(config.policy)
    if not isinstance(policy, TransferPolicy):
        raise ValueError(f"{config.policy} is a CoveragePolicy: the picture is of a TransferPolicy")
    pools = episode(policy, config)
    n_classes = round(1 / float(pools[0].context[CONTEXT.index("1 / M")]))
    config.out.parent.mkdir(parents=True, exist_ok=True)
    draw(policy, pools, n_classes).savefig(config.out, dpi=150)
    print(config.out)
    return 0


def episode(policy: TransferPolicy, config: FigureConfig) -> list[PoolState]:
    """The pool at the start, in the middle and before the last query of an episode."""
    preset = PRESETS[config.preset]
    settings = preset.settings | ({} if config.root is None else {"root": str(config.root)})
    env = make_environment({"dataset": preset.dataset, "settings": settings})
    env = ContextObservation(env, embeddings=policy.embeddings)
    observation, _ = env.reset(seed=config.seed)
    seen, terminated = [observation], False
    while not terminated:
        action, _ = policy.predict(observation)
        observation, _, terminated, _, _ = env.step(action)
        seen.append(observation)
    steps = (0, (len(seen) - 2) // 2, len(seen) - 2)
    return [_described(policy, seen[step]) for step in steps]


def _described(policy: TransferPolicy, observation: dict[str, np.ndarray]) -> PoolState:
    directions = normalised(observation["embeddings"]) if policy.embeddings else None
    return describe(observation, directions)


def grid(n_classes: int, pool: PoolState) -> tuple[np.ndarray, torch.Tensor]:
    """The axis of a grid over p1 and p2, (g,), and a sample's features at each point, (K, g * g).

    p1 changes fastest. NaN where no softmax has such p1 and p2.
    """
    axis = np.linspace(0, 1, N_POINTS)
    p1, p2 = np.meshgrid(axis, axis)
    rest = (1 - p1 - p2) / max(n_classes - 2, 1)
    possible = (p2 <= p1 + 1e-9) & (rest >= -1e-9) & (rest <= p2 + 1e-9)
    softmax = np.stack([p1, p2, *[rest] * (n_classes - 2)], axis=-1)[possible].astype(np.float32)
    alone = describe({
        "softmax": softmax, "class_counts": np.ones(n_classes, np.float32),
        "labelled_fraction": np.zeros(1, np.float32),
    })  # fmt: skip
    k = len(pool.features)
    means = pool.context[len(CONTEXT) : len(CONTEXT) + k]
    values = means[:, None].repeat(1, len(softmax))
    n_own = FEATURES.index("deficit")  # what follows depends on the classes, or on other samples
    values[:n_own] = alone.features[:n_own]
    features = torch.full((k, N_POINTS**2), torch.nan)
    features[:, torch.from_numpy(possible.ravel())] = values
    return axis, features


def draw(policy: TransferPolicy, pools: list[PoolState], n_classes: int) -> Figure:
    """Six panels: LC, MS, EN, and the policy early, in the middle and late."""
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    panels = figure.subplots(2, 3, sharex=True, sharey=True)
    bases: tuple[Literal["lc", "ms", "en"], ...] = ("lc", "ms", "en")
    for axes, base in zip(panels[0], bases, strict=True):
        axis, features = grid(n_classes, pools[0])
        _panel(axes, axis, strategy(base, features), base.upper())
    for axes, pool, moment in zip(panels[1], pools, MOMENTS, strict=True):
        axis, features = grid(n_classes, pool)
        scores = policy.unranked(PoolState(features, pool.context))
        n_labels = 10 ** (float(pool.context[CONTEXT.index("labels")]) + 2)
        _panel(axes, axis, scores, f"learned, {moment}: {n_labels:.0f} labels")
    figure.supxlabel("p1, probability of the first class", fontsize=9)
    figure.supylabel("p2, probability of the second class", fontsize=9)
    figure.suptitle(
        f"Score of a sample of {n_classes} classes: light is chosen first. "
        "Each panel has its own scale, as only the order counts",
        fontsize=10,
    )
    return figure


def _panel(axes: Axes, axis: np.ndarray, scores: torch.Tensor, title: str) -> None:
    values = scores.view(N_POINTS, N_POINTS).numpy()
    low, high = np.nanmin(values), np.nanmax(values)
    scaled = (values - low) / (high - low)
    levels = np.linspace(0, 1, 13)
    axes.contourf(axis, axis, scaled, levels, cmap="cividis")
    axes.contour(axis, axis, scaled, levels[1:-1], colors="white", linewidths=0.4)
    axes.set_title(title, fontsize=9)
    axes.set(xlim=(0.15, 1), ylim=(0, 0.55))
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(FigureConfig, description=__doc__)))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"benchmarks.policy_figure: {error}")
