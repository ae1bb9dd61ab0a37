"""Several environments over one copy of the images: the way to train over many episodes.

    python examples/several_at_once.py --n 16

With frozen features (extra ``pretrained``) the classifiers are trained as batched matrix products.
An episode that is over begins anew with the next step.
"""

import time
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import tyro

import al_gym  # noqa: F401  (registers the ids)

FEATURES = {
    "trainable": "head", "network": "efficientnet_lite0_planes", "weights": "IMAGENET1K",
    "learning_rate": 0.001,
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """How many, and for how long."""

    n: int = 16
    """Environments."""
    steps: int = 20
    """Steps of all of them."""


def main(settings: Settings) -> np.ndarray:
    """Step them with least confidence; returns the rewards, (steps, n)."""
    envs = gym.make_vec(
        "ActiveLearning-chestCT-v0", num_envs=settings.n, vectorization_mode="vector_entry_point",
        profile="embedded", **FEATURES,
    )  # fmt: skip
    observations, _ = envs.reset(seed=0)  # environment k has seed k
    rewards = np.empty((settings.steps, settings.n))
    before = time.perf_counter()
    for step in range(settings.steps):
        scores = 1 - observations.max(axis=-1)  # (n, n_u)
        observations, rewards[step], _, _, infos = envs.step(scores)
    seconds = time.perf_counter() - before
    print(f"{settings.n * settings.steps / seconds:.0f} steps a second")
    print(f"macro F1 from {infos['macro_f1'].min():.3f} to {infos['macro_f1'].max():.3f}")
    return rewards


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
