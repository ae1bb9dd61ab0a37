"""Run folders with curves that look like real ones, written without running anything.

    python -m tests.benchmarks.made_runs /tmp/made

and ``python -m benchmarks.report /tmp/made`` show what a report looks like.
"""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.matrix import layout, predictions
from benchmarks.matrix.facts import facts_of
from benchmarks.matrix.predictions import Truth
from benchmarks.reporting import twoway

GAINS = {
    "random": 0.0, "lc": 0.030, "ms": 0.042, "en": 0.018, "fusion": 0.031, "all": 0.0,
    "drla": -0.004, "frozen": -0.008, "drla-embed": 0.055,
}  # fmt: skip
"""Method -> what it is above RANDOM in the middle of its curve."""
CONFIG: dict[str, Any] = {
    "format": layout.FORMAT, "preset": None, "dataset": "chestCT", "settings": {}, "threads": 1,
    "checkpoint_every": 10, "retrain_at": [], "source": "generated chest CT",
    "fingerprint": "1f3a", "class_names": ["nodule", "cord", "arteriosclerosis", "lymph node"],
    "n_training": 526, "max_steps": 20,
    "environment": {"query_size": 10, "budget": 0.43, "initial_fraction": 0.05},
    "classifier": {"network": "efficientnet_lite0", "learning_rate": 0.001, "update_passes": 10,
                   "pretrain_passes": 30},
    "versions": {"python": "3.12", "torch": "2.9"}, "commit": "abc1234", "device": "CPU, x86_64",
    "agent": {},
}  # fmt: skip


def write(
    folder: Path,
    name: str = "chestCT",
    gains: dict[str, float] = GAINS,
    n_seeds: int = 10,
    n_steps: int = 20,
    facts: dict[str, dict[str, Any]] | None = None,
    truth: Truth | None = None,
) -> Path:
    """Write finished cells of one data set; returns ``folder``.

    Args:
        folder: of the run.
        name: of the data set.
        gains: method -> what it is above RANDOM.
        n_seeds: cells of each method.
        n_steps: queries of each cell.
        facts: method -> what its ``config.json`` says of it under "facts".
        truth: of test images that are then predicted: F1 is that of the predictions.
    """
    for number, (method, gain) in enumerate(gains.items()):
        for seed in range(n_seeds):
            cell = folder / name / method.replace("/", "-") / f"seed{seed}"
            cell.mkdir(parents=True)
            config = {**CONFIG, "method": method, "seed": seed}
            if facts and method in facts:
                config["facts"] = facts[method]
            (cell / layout.CONFIG).write_text(json.dumps(config))
            (cell / layout.START).write_text(f"start of seed {seed}")
            (cell / layout.RESULT).write_text("{}")
            steps = n_steps if facts_of(method, config).has_curve else 0
            with (cell / layout.CURVE).open("w") as file:
                lines = _lines(gain, seed, number, steps, learns=method in ("drla", "frozen"))
                if truth is not None:
                    _predict(cell, lines, truth, np.random.default_rng((seed, number, 1)))
                csv.writer(file, lineterminator="\n").writerows([layout.COLUMNS, *lines])
    return folder


def _lines(gain: float, seed: int, number: int, n_steps: int, learns: bool) -> list[list[str]]:
    """A curve that saturates; its level and start are the seed's, its luck and noise the cell's."""
    level = np.random.default_rng(seed).normal(0, 0.012)
    own = np.random.default_rng((seed, number))
    gain = gain + own.normal(0, 0.014)
    noise = own.normal(0, 0.009, n_steps + 1)
    share = np.linspace(0.05, 0.43, n_steps + 1) if n_steps else np.array([1.0])
    rise = (share - 0.05) / 0.38 if n_steps else np.array([1.4])
    f1 = 0.42 + 0.28 * (1 - np.exp(-3.2 * rise)) + gain * np.minimum(1, 3 * rise) + level + noise
    if n_steps:  # all methods of a seed have the same start
        f1[0] = 0.42 + level
    counts = np.stack([20 + 40 * share, 15 + 60 * share * (1 + 8 * gain),
                       12 + 50 * share, 8 + 30 * share], axis=1)  # fmt: skip
    return [
        [
            str(step), str(round(526 * share[step])), f"{share[step]:.6f}", f"{f1[step]:.6f}",
            f"{f1[step] + 0.06:.6f}", f"{0.25 - 2 * gain + 3 * noise[step]:.6f}" if step else "",
            "", " ".join(str(round(n)) for n in counts[step]), "", "", "0.0100", "0.2000", "0",
            json.dumps(_names(own, number) if step else []),
            *(_health(step) if learns and step else [""] * len(layout.HEALTH)),
        ]
        for step in range(n_steps + 1)
    ]  # fmt: skip


def _predict(cell: Path, lines: list[list[str]], truth: Truth, rng: np.random.Generator) -> None:
    """Predict test images as rightly as the lines say, which then have the F1 of that."""
    writer = predictions.Writer(cell, truth)
    writer.begin()
    n, n_classes = len(truth.labels), truth.labels.max() + 1
    wrong = (truth.labels + rng.integers(1, n_classes, n)) % n_classes
    hard = rng.random(n)
    for line in lines:
        right = 0.7 * hard + 0.3 * rng.random(n) < float(line[3])
        predicted = np.where(right, truth.labels, wrong).astype(truth.labels.dtype)
        writer.append(predicted)
        line[3] = str(twoway.macro_f1(truth.labels, predicted[None])[0][0])
        line[4] = str(twoway.micro_f1(truth.labels, predicted[None])[0][0])


def _health(step: int) -> list[str]:
    """An agent that saturates, and whose critic diverges; before it trained there is no Q."""
    share = min(1.0, step / 12)
    numbers = [share, 0.8 + 0.2 * share, 0.3 * (1 - share), 2.0**step, 20.0, 0.1, 0.02 * step]
    return [f"{n:.6g}" if step > 1 or i < 3 else "" for i, n in enumerate(numbers)]


def _names(rng: np.random.Generator, number: int) -> list[str]:
    """Ten lesions, of which those of a few scans, the method's favourites, are more likely."""
    scans = np.unique(rng.integers(0, 8 + 60 * (number == 0), 24))[:10]
    return [f"train_part{1 + n % 5}/{600000 + 97 * n + number}.mhd, lesion {n % 4}" for n in scans]


if __name__ == "__main__":
    write(Path(sys.argv[1]))
