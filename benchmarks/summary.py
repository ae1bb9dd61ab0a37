"""Curves of a run as a table for the terminal and as a figure."""

import csv
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

NUMBERS = (
    "step", "n_labelled", "labelled_fraction", "macro_f1", "micro_f1", "reward",
    "acquisition_seconds", "training_seconds",
)  # fmt: skip
"""Columns of a ``curve.csv`` that hold one number."""

Curve = dict[str, np.ndarray]
Cell = tuple[str, int]

LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)))
MARKERS = "osv^Dx"


def read_curve(path: Path) -> Curve:
    """Columns of a ``curve.csv`` as float arrays; an empty reward is NaN."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in NUMBERS}


def value_at(curve: Curve, metric: str, fraction: float) -> float:
    """The metric where ``fraction`` of the labels was first reached; NaN off the curve's ends."""
    labelled = curve["labelled_fraction"]
    reached = np.flatnonzero(labelled >= fraction - 1e-9)
    if labelled[0] > fraction + 1e-9 or not len(reached):
        return float("nan")
    return float(curve[metric][reached[0]])


def aulc(curve: Curve, metric: str) -> float:
    """Area under the learning curve: the mean of the metric over it; NaN for a single point."""
    return float(curve[metric].mean()) if len(curve[metric]) > 1 else float("nan")


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval by Student's t; NaN width for one value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan")
    return mean, float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def report_fractions(curves: dict[Cell, Curve]) -> list[float]:
    """Five labelled fractions from the start to the end of the methods' curves, and 1 for ALL."""
    fractions: set[float] = set()
    labelled = [curve["labelled_fraction"] for curve in curves.values()]
    learning = [values for values in labelled if len(values) > 1]
    if learning:
        start, end = min(values[0] for values in learning), max(values[-1] for values in learning)
        fractions |= set(np.linspace(start, end, 5).tolist())
    fractions |= {float(values[-1]) for values in labelled if len(values) == 1}
    return sorted(fractions)


def table(curves: dict[Cell, Curve]) -> str:
    """Macro and micro F1 at a few labelled fractions, and AULC: mean ± 95 % interval over seeds."""
    methods = list(dict.fromkeys(method for method, _ in curves))
    fractions = report_fractions(curves)
    n_seeds = len({seed for _, seed in curves})
    lines = [f"Mean ± half of the 95 % interval over {n_seeds} seed{'s' * (n_seeds > 1)}"]
    for metric, title in (("macro_f1", "Macro F1"), ("micro_f1", "Micro F1")):
        heads = [f"{fraction:.0%}" for fraction in fractions] + ["AULC"]
        lines += ["", f"{title:<10}" + "".join(f"{head:>16}" for head in heads)]
        for method in methods:
            own = [curve for (name, _), curve in curves.items() if name == method]
            values = [
                [value_at(curve, metric, fraction) for curve in own] for fraction in fractions
            ]
            values.append([aulc(curve, metric) for curve in own])
            lines.append(f"{method:<10}" + "".join(f"{_cell(column):>16}" for column in values))
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    if np.isnan(values).any():
        return "-"
    mean, half = interval(np.array(values))
    return f"{mean:.3f}" if np.isnan(half) else f"{mean:.3f} ± {half:.3f}"


def draw_curves(curves: dict[Cell, Curve], path: Path, title: str) -> None:
    """Learning curves of both metrics, mean and range over the seeds; ALL is a level line.

    Args:
        curves: by method and seed.
        path: PNG to write.
        title: above the figure.
    """
    figure = Figure(figsize=(11, 4.6), dpi=120, layout="constrained")
    axes = figure.subplots(1, 2)
    methods = list(dict.fromkeys(method for method, _ in curves))
    for axis, metric, label in zip(
        axes, ("macro_f1", "micro_f1"), ("Macro F1", "Micro F1"), strict=True
    ):
        for i, method in enumerate(methods):
            own = [curve for (name, _), curve in curves.items() if name == method]
            values = np.array([curve[metric] for curve in own])
            if method == "all":
                axis.axhline(values.mean(), color="black", linewidth=1, label="ALL (100 %)")
                continue
            percent = 100 * own[0]["labelled_fraction"]
            style = {"linestyle": LINES[i % len(LINES)], "marker": MARKERS[i % len(MARKERS)]}
            (drawn,) = axis.plot(
                percent, values.mean(0), **style, markersize=3.5,
                markevery=max(1, len(percent) // 10), label=method.upper(),
            )  # fmt: skip
            axis.fill_between(
                percent, values.min(0), values.max(0), color=drawn.get_color(), alpha=0.1
            )
        axis.set(xlabel="labelled samples, %", ylabel=f"{label} on the test set")
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8, loc="lower right")
    n_seeds = len({seed for _, seed in curves})
    figure.suptitle(f"{title}\nmean and range over {n_seeds} seeds", fontsize=9)
    figure.savefig(path)
