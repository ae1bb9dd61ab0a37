"""How often tests find a difference between methods where there is none, and where there is one.

    python -m benchmarks.error_rates --out error_rates.md

Pairs of methods are made up that are equally good on average over all seeds and all scans there
might be, and differ by chance: in training, from seed to seed, on single images or on whole scans.
A test at 5 % should find a difference in 5 % of such experiments. Beside the test of the reports,
over seeds and groups, stand the one over seeds alone and the bootstrap that draws seeds and groups
with replacement, each on its own (the pigeonhole bootstrap; Owen, Annals of Applied Statistics 1,
2007), with its percentile interval. Then one method is made better by as much as the report says
that it would find with probability 0.8; the last column is how often it did.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from tqdm import tqdm

from benchmarks.reporting import twoway
from benchmarks.reporting.twoway import LEVEL, PairedTest, paired_test

SHARES = (0.4, 0.3, 0.15, 0.1, 0.05)
"""Of the classes among the test images."""
N_LINES = 3
"""Of each curve."""
N_DRAWS = 500
"""Of the bootstrap."""


@dataclass(frozen=True)
class Situation:
    """What two methods of equal worth differ by: deviations, in logits of being right."""

    scans: int = 350
    """Groups of the test set."""
    images: int = 1
    """Test images of each scan."""
    seed: float = 0.0
    """From seed to seed, for all images and for each class."""
    image: float = 0.0
    """From image to image, for all seeds."""
    scan: float = 0.0
    """From scan to scan, for all seeds."""


SITUATIONS = {
    "chance of each prediction alone": Situation(),
    "seeds": Situation(seed=0.3),
    "images": Situation(seed=0.1, image=0.5),
    "60 scans of 6 images": Situation(60, 6, seed=0.1, image=0.3, scan=0.5),
    "20 scans of 15 images": Situation(20, 15, seed=0.1, image=0.3, scan=0.5),
}
"""What methods differ by -> how much."""


@dataclass(frozen=True)
class ErrorRatesConfig:
    """Measure how often tests find a difference."""

    out: Path
    """File for the table, in Markdown."""
    experiments: int = 1000
    """Made up in each row."""
    seeds: tuple[int, ...] = (5, 10, 20)
    """Seeds of an experiment."""


def main(config: ErrorRatesConfig) -> int:
    """Make experiments up, and write the table; returns the exit status."""
    config.out.parent.mkdir(parents=True, exist_ok=True)
    cases = [(name, n) for n in config.seeds for name in SITUATIONS]
    rows: list[dict[str, str]] = []
    text = ""
    for name, n in tqdm(cases, unit="row"):
        rows.append(row(name, n, config.experiments))
        text = pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)
        config.out.write_text(text + "\n")  # after every row: all of them take most of an hour
    print(f"\n{text}")
    return 0


def row(name: str, n_seeds: int, n_experiments: int) -> dict[str, str]:
    """A row of the table."""
    situation = SITUATIONS[name]
    found: dict[str, list[bool]] = {"seeds only": [], "seeds and groups": [], "bootstrap": []}
    detectable, differences = [], []
    for made in experiments(situation, n_seeds, n_experiments, 0.0):
        alone, both = tests(*made)
        found["seeds only"].append(alone.p < LEVEL)
        found["seeds and groups"].append(both.p < LEVEL)
        found["bootstrap"].append(bootstrap_p(*made) < LEVEL)
        detectable.append(both.detectable)
        differences.append(both.difference)
    wanted = float(np.median(detectable))
    # what a shift of the logits does to the score, then the shift that does as much as is wanted
    some = experiments(situation, n_seeds, max(1, n_experiments // 10), 0.2)
    gains = [
        tests(*made)[0].difference - before for made, before in zip(some, differences, strict=False)
    ]
    shift = 0.2 * wanted / float(np.mean(gains))
    better = [tests(*made)[1] for made in experiments(situation, n_seeds, n_experiments, shift)]
    return {
        "methods differ by": name,
        "seeds": str(n_seeds),
        **{test: f"{np.mean(which):.1%}" for test, which in found.items()},
        "power 0.8 at": f"{wanted:.3f}",
        "difference made": f"{np.mean([test.difference for test in better]):.3f}",
        "found in": f"{np.mean([test.p < LEVEL for test in better]):.0%}",
    }


def experiments(
    situation: Situation, n_seeds: int, n: int, shift: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Test sets with what two methods predict of them.

    Args:
        situation: what they differ by.
        n_seeds: seeds of each method.
        n: experiments; equal ones for equal arguments.
        shift: of the logits of being right, of the second method.

    Yields:
        True classes (n_images,), groups (n_images,), and predictions (2, n_seeds, N_LINES,
        n_images).
    """
    n_classes = len(SHARES)
    groups = np.repeat(np.arange(situation.scans), situation.images)
    n_images = len(groups)
    for number in range(n):
        rng = np.random.default_rng((number, n_seeds, situation.scans))
        labels = rng.choice(n_classes, n_images, p=SHARES)
        wrong = (labels + rng.integers(1, n_classes, n_images)) % n_classes
        # hard images, scans and classes are so for all; the later lines of a curve are better
        hard = rng.normal(0, 0.5, n_images) + rng.normal(0, 0.5, situation.scans)[groups]
        hard += rng.normal(0, 0.3, n_classes)[labels]
        lines = np.linspace(0.4, 1, N_LINES)[:, None]
        own = rng.normal(0, situation.scan, (2, situation.scans))[:, groups]
        own += rng.normal(0, situation.image, (2, n_images))
        own[1] += shift
        seeds = rng.normal(0, situation.seed, (2, n_seeds, 1))
        seeds = seeds + rng.normal(0, situation.seed, (2, n_seeds, n_classes))[..., labels]
        logits = lines + hard + own[:, None, None] + seeds[:, :, None]
        right = logits + rng.logistic(0, 1, (2, n_seeds, N_LINES, n_images)) > 0
        yield labels, groups, np.where(right, labels, wrong)


def tests(
    labels: np.ndarray, groups: np.ndarray, predicted: np.ndarray
) -> tuple[PairedTest, PairedTest]:
    """The tests over seeds alone, and over seeds and groups, of an experiment."""
    n_seeds, n_images = predicted.shape[1], len(labels)
    scores, changes = twoway.macro_f1(labels, predicted.reshape(-1, n_images))
    areas = scores.reshape(2, n_seeds, N_LINES).mean(axis=2)
    by_image = changes.reshape(2, n_seeds, N_LINES, n_images).mean(axis=2)
    influences = [np.bincount(groups, each) for each in by_image[1] - by_image[0]]
    differences = areas[1] - areas[0]
    return paired_test(differences), paired_test(differences, np.array(influences))


def bootstrap_p(labels: np.ndarray, groups: np.ndarray, predicted: np.ndarray) -> float:
    """Two-sided p of the pigeonhole bootstrap's percentile interval."""
    differences = drawn(labels, groups, predicted, np.random.default_rng(0))
    return float(min(1, 2 * min((differences <= 0).mean(), (differences >= 0).mean())))


def drawn(
    labels: np.ndarray, groups: np.ndarray, predicted: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Mean differences of AULC in the bootstrap's draws, (N_DRAWS,)."""
    n_seeds, n_groups, n_classes = predicted.shape[1], groups.max() + 1, len(SHARES)
    weights = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), N_DRAWS).astype(float)
    seeds = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), N_DRAWS) / n_seeds

    def counted(classes: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Weighted images of each class among some of them, (N_DRAWS, n_classes)."""
        places = (groups * n_classes + classes)[which]
        counts = np.bincount(places, minlength=n_groups * n_classes)
        return weights @ counts.reshape(n_groups, n_classes)

    everything = np.ones(len(labels), bool)
    there = counted(labels, everything)

    def f1(row: np.ndarray) -> np.ndarray:
        size = there + counted(row, everything)
        each = 2 * counted(labels, row == labels) / np.maximum(size, 1)
        mean: np.ndarray = each.sum(axis=1) / (size > 0).sum(axis=1)
        return mean

    areas = np.array([
        [np.mean([f1(row) for row in lines], axis=0) for lines in method] for method in predicted
    ])  # fmt: skip
    mean: np.ndarray = ((areas[1] - areas[0]) * seeds.T).sum(axis=0)
    return mean


if __name__ == "__main__":
    sys.exit(main(tyro.cli(ErrorRatesConfig, description=__doc__)))
