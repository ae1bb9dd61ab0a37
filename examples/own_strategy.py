r"""A strategy of your own in the benchmark, beside others, with tests of significance.

    python examples/own_strategy.py --seeds 3 --out runs/own

``Balanced`` ranks by entropy, and the higher the more seldom an image's predicted class is
predicted. It is run beside RANDOM and EN from the same starts, and the report says which is better.
On a command line, with this file where Python finds it, the same is

    python -m benchmarks.run --dataset chestCT --profile embedded \
        --methods random en own_strategy:Balanced --seeds 3 --out runs/own
    python -m benchmarks.report runs/own
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from agents.policy import ScoringPolicy
from benchmarks import report, run
from benchmarks.report import ReportConfig
from benchmarks.run import RunConfig


class Balanced(ScoringPolicy):
    """Entropy, times one minus the share of the pool that is predicted to be of the same class."""

    def scores(self, observation: np.ndarray) -> np.ndarray:
        """Scores in [0, 1], (n_u,); the rows of zeros, which have left the pool, score 0."""
        n_classes = observation.shape[1]
        entropy = -(observation * np.log(np.clip(observation, 1e-9, 1))).sum(1) / np.log(n_classes)
        predicted, in_pool = observation.argmax(1), observation.any(axis=1)
        shares = np.bincount(predicted[in_pool], minlength=n_classes) / in_pool.sum()
        return (entropy * (1 - shares[predicted])).astype(np.float32)


@dataclass(frozen=True)
class Settings:
    """How long to compare, and where results go."""

    out: Path = Path("runs/own")
    """Folder of the runs and of the report."""
    seeds: int = 3
    """Starts; every method has the same."""
    budget: float = 0.15
    """Share of the training set that is labelled in the end."""


def main(settings: Settings) -> Path:
    """Run three methods and write the report; returns its page."""
    run.main(
        RunConfig(
            dataset="chestCT",
            profile="embedded",
            methods=("random", "en", "own_strategy:Balanced"),
            budget=settings.budget,
            seeds=settings.seeds,
            out=settings.out,
        )
    )
    report.main(ReportConfig((settings.out,)))
    return settings.out / "report" / "report.html"


if __name__ == "__main__":
    print(f"open {main(tyro.cli(Settings, description=__doc__))}")
