"""What many cells cost before the first begins, and when all are reported on.

    python -m benchmarks.timing.many --cells 10000

plans cells of ten methods on a tiny data set, and reports on as many finished ones of ten
experiments and twenty methods, each in a process of its own; it prints a Markdown table. Wall time
means something on a machine that does nothing else.
"""

import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import tyro

from benchmarks import report, run
from benchmarks.matrix import layout, predictions
from benchmarks.matrix.facts import BUILT_IN
from benchmarks.reporting import twoway

PLANNED = (
    "random", "lc", "ms", "en", "fusion", "all", "drla", "drla-fixed", "drla-set", "frozen",
)  # fmt: skip
"""Methods of the cells that are planned."""
REPORTED = tuple(name for name, facts in BUILT_IN.items() if facts.has_curve and facts.compared)[
    :20
]
"""Methods of the cells that are reported on."""
N_EXPERIMENTS, N_STEPS, N_TEST = 10, 30, 200


@dataclass(frozen=True)
class ManyConfig:
    """Measure planning and reporting."""

    cells: int = 10_000
    """Cells of each; at least ten for a plan, and 200 for a report, are made."""


@dataclass(frozen=True)
class Cost:
    """What some work took."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds of the process and of those it started."""
    megabytes: float
    """Most memory of the process, and of a report that of its largest worker times their number."""


def main(config: ManyConfig) -> str:
    """The table."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_images(folder / "images")
        n_planned = max(1, config.cells // len(PLANNED))
        n_seeds = max(1, config.cells // (N_EXPERIMENTS * len(REPORTED)))
        for number in range(N_EXPERIMENTS):
            write_experiment(folder / "runs" / f"data{number}", n_seeds)
        rows = [
            (f"plan of {n_planned * len(PLANNED):,} cells", _alone(plan, folder, n_planned)),
            (
                f"report on {N_EXPERIMENTS * len(REPORTED) * n_seeds:,} cells",
                _alone(write_report, folder, n_seeds),
            ),
        ]
    lines = [f"| {name} | {c.wall:.1f} | {c.cpu:.1f} | {c.megabytes:.0f} |" for name, c in rows]
    return "\n".join(["| | wall s | CPU s | MB |", "|---|---:|---:|---:|", *lines])


def _alone(work: Callable[[Path, int], None], folder: Path, n_seeds: int) -> Cost:
    """The cost of some work in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measured, work, folder, n_seeds).result()


def measured(work: Callable[[Path, int], None], folder: Path, n_seeds: int) -> Cost:
    """Do some work; imports, which are done, do not count for this process."""
    start, before = time.perf_counter(), _cpu()
    work(folder, n_seeds)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    others = 0  # a plan's are git's, which begin as copies of it
    if work is write_report:
        others = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    n_others = min(N_EXPERIMENTS, os.cpu_count() or 1)
    return Cost(time.perf_counter() - start, _cpu() - before, (own + n_others * others) / 1024)


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def plan(folder: Path, n_seeds: int) -> None:
    """All that ``benchmarks.run`` does until the first cell would begin."""
    config = run.RunConfig(
        out=folder / "plan", dataset="Folder", root=folder / "images", query_size=6, budget=0.4,
        seeds=n_seeds, methods=PLANNED,
    )  # fmt: skip
    with (
        mock.patch("benchmarks.run._run", return_value={}),
        mock.patch("benchmarks.run.results.load", return_value=[]),
        mock.patch("builtins.print"),
    ):
        run.main(config)


def write_report(folder: Path, n_seeds: int) -> None:
    """``benchmarks.report`` on all experiments, whose number of seeds is known."""
    with mock.patch("builtins.print"):
        report.main(report.ReportConfig((folder / "runs",), folder / "report"))


def write_images(folder: Path) -> None:
    """150 images of 8x8 pixels, of three classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(150) % 3
    images = np.clip(60 + 60 * labels[:, None, None] + rng.normal(0, 50, (150, 8, 8)), 0, 255)
    folder.mkdir()
    np.savez(folder / "images.npz", images=images.astype(np.uint8), labels=labels)


def write_experiment(folder: Path, n_seeds: int) -> None:
    """Finished cells of every method, whose curves rise and are those of their predictions."""
    labels = (np.arange(N_TEST) % 4).astype(np.uint8)
    truth = predictions.Truth(labels, (np.arange(N_TEST) // 4).astype(np.int32))
    chances = np.linspace(0.35, 0.75, N_STEPS + 1)[:, None]
    for place, method in enumerate(REPORTED):
        for seed in range(n_seeds):
            cell = folder / method / f"seed{seed}"
            cell.mkdir(parents=True)
            rng = np.random.default_rng((place, seed))
            right = rng.random((N_STEPS + 1, N_TEST)) < chances + 0.002 * place
            predicted = np.where(right, labels, (labels + 1) % 4).astype(np.uint8)
            (cell / layout.CONFIG).write_text(json.dumps(_config(method, seed)))
            (cell / layout.CURVE).write_text("".join(_lines(labels, predicted)))
            (cell / layout.START).write_text(f"start of seed {seed}")
            (cell / layout.RESULT).write_text(json.dumps({"steps": N_STEPS}))
            writer = predictions.Writer(cell, truth)
            writer.begin()
            (cell / layout.PREDICTIONS).write_bytes(predicted.tobytes())


def _config(method: str, seed: int) -> dict[str, object]:
    return {
        "format": layout.FORMAT, "dataset": "many", "method": method, "seed": seed, "agent": {},
        "preset": None, "settings": {}, "threads": 1, "checkpoint_every": 10, "retrain_at": [],
        "class_names": list("abcd"), "n_training": 500, "max_steps": N_STEPS, "source": "noise",
        "environment": {"query_size": 10, "budget": 0.65, "initial_fraction": 0.05},
        "classifier": {"network": "none", "learning_rate": 0.1, "update_passes": 1,
                       "pretrain_passes": 1},
        "versions": {"python": "3"}, "fingerprint": "0", "commit": "none", "device": "none",
    }  # fmt: skip


def _lines(labels: np.ndarray, predicted: np.ndarray) -> list[str]:
    """Those of a curve."""
    macro, _ = twoway.macro_f1(labels, predicted)
    micro, _ = twoway.micro_f1(labels, predicted)
    lines = [",".join(layout.COLUMNS) + "\n"]
    for step in range(len(predicted)):
        n = 25 + 10 * step
        values = {
            "step": step, "n_labelled": n, "labelled_fraction": n / 500, "macro_f1": macro[step],
            "micro_f1": micro[step], "reward": "" if step == 0 else 0.2, "n_skipped": 0,
            "class_counts": " ".join([str(n // 4)] * 4), "acquisition_seconds": 0.01,
            "training_seconds": 0.2,
        }  # fmt: skip
        lines.append(",".join(str(values.get(name, "")) for name in layout.COLUMNS) + "\n")
    return lines


if __name__ == "__main__":
    print(main(tyro.cli(ManyConfig, description=__doc__)))
