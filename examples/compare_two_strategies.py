"""Two strategies on generated CT, from the same starts: is margin better than chance?

    python examples/compare_two_strategies.py --seeds 5

The classifier is a linear layer on frozen features of ImageNet (extra ``pretrained``), so that a
step takes milliseconds. For intervals, tests and a page, see ``benchmarks.run``.
"""

import statistics
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import tyro

import al_gym  # noqa: F401  (registers the ids)
from agents import strategies

FEATURES: dict[str, Any] = {
    "trainable": "head", "network": "efficientnet_lite0_planes", "weights": "IMAGENET1K",
    "learning_rate": 0.001, "update_passes": 10,
}  # fmt: skip
QUERY_SIZE = 10


@dataclass(frozen=True)
class Settings:
    """How long to compare."""

    seeds: int = 5
    """Starts; both strategies have the same."""
    budget: float = 0.4
    """Share of the training set that is labelled in the end."""


def mean_f1(env: gym.Env[Any, Any], name: str, seed: int) -> float:
    """Macro F1 on the test set, mean over an episode: the area under the learning curve."""
    agent = strategies.make(name, query_size=QUERY_SIZE, seed=seed)
    observation, info = env.reset(seed=seed)
    curve, terminated = [info["macro_f1"]], False
    while not terminated:
        action, _ = agent.predict(observation)
        observation, _, terminated, _, info = env.step(action)
        curve.append(info["macro_f1"])
    return float(statistics.mean(curve))


def main(settings: Settings) -> list[float]:
    """Print a line a seed and the mean difference; returns the differences."""
    env = gym.make(
        "ActiveLearning-chestCT-v0", profile="embedded", initial_fraction=0.03,
        query_size=QUERY_SIZE, budget=settings.budget, **FEATURES,
    )  # fmt: skip
    differences = []
    for seed in range(settings.seeds):
        random, margin = (mean_f1(env, name, seed) for name in ("random", "ms"))
        differences.append(margin - random)
        print(f"seed {seed}: RANDOM {random:.3f}, MS {margin:.3f}")
    print(f"MS is better by {statistics.mean(differences):+.4f}, mean over {settings.seeds} seeds")
    return differences


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
