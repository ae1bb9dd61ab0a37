"""Figures of a report, PNG and SVG, told apart in grey by stroke and marker."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import statistics

PAPER_STYLES: dict[str, dict[str, Any]] = {
    "random": {"color": "#6b6b6b", "linestyle": (0, (1, 1)), "marker": "o"},
    "lc": {"color": "#1b9e77", "linestyle": (0, (4, 1)), "marker": "s"},
    "ms": {"color": "#2166ac", "linestyle": (0, (6, 1, 1, 1)), "marker": "^"},
    "en": {"color": "#8c6bb1", "linestyle": (0, (3, 1, 1, 1, 1, 1)), "marker": "D"},
    "fusion": {"color": "#a6761d", "linestyle": (0, (2, 2)), "marker": "v"},
    "drla": {"color": "#c51b1d", "linestyle": "-", "marker": "P", "linewidth": 2.2},
    "frozen": {"color": "#e08080", "linestyle": (0, (5, 4)), "marker": "x"},
}
"""The paper's methods and the control that DRLA must beat; ALL is a level line."""


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Write ``name.png`` and ``name.svg``; returns the latter."""
    # the same results give the same file
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    figure.savefig(folder / f"{name}.png", dpi=150)
    return folder / f"{name}.svg"


def mean_curve(curves: pd.DataFrame, method: str, metric: str) -> tuple[np.ndarray, ...]:
    """Percent labelled, mean over seeds and half of its 95 % interval, where all have values."""
    wide = curves[curves["method"] == method].pivot(index="step", columns="seed")
    values = wide[metric].dropna()
    percent = 100 * wide["labelled_fraction"].loc[values.index].mean(axis=1).to_numpy()
    mean, half = statistics.interval(values.to_numpy().T)
    return percent, mean, np.nan_to_num(half)


def draw_curve(axes: Axes, curves: pd.DataFrame, method: str, metric: str, **style: Any) -> None:
    """One method's mean and, with enough seeds to mean something, its band."""
    percent, mean, half = mean_curve(curves, method, metric)
    every = max(1, len(percent) // 8)
    (line,) = axes.plot(percent, mean, label=method.upper(), markevery=every, markersize=4, **style)
    line.set_gid(f"{metric}:{method}")
    if curves[curves["method"] == method]["seed"].nunique() >= statistics.ENOUGH_SEEDS:
        low, high = mean - half, mean + half
        axes.fill_between(percent, low, high, color=line.get_color(), alpha=0.10, lw=0)


def draw_all_line(axes: Axes, curves: pd.DataFrame, metric: str) -> None:
    """ALL: a level line."""
    scores = curves[curves["method"] == "all"][metric]
    if len(scores):
        axes.axhline(scores.mean(), color="black", linewidth=1, label="ALL, 100 % of the labels")


def two_panels(
    curves: pd.DataFrame, labels: dict[str, str], styles: dict[str, dict[str, Any]], title: str
) -> Figure:
    """A panel a metric, with the curves of the methods that have a style.

    Args:
        curves: of an experiment.
        labels: column -> label of its axis, for two columns.
        styles: method -> how its line is drawn.
        title: above both.
    """
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    for axes, (metric, name) in zip(figure.subplots(1, 2), labels.items(), strict=True):
        for method, style in styles.items():
            if method == "all":
                draw_all_line(axes, curves, metric)
            elif method in statistics.learning_methods(curves):
                draw_curve(axes, curves, method, metric, **style)
        finish(axes, "labelled, % of the training set", name)
        limit_to_means(axes)
    legend_below(figure)
    figure.suptitle(title, fontsize=10)
    return figure


def learning_curves(curves: pd.DataFrame, title: str) -> Figure:
    """The paper's Figure 2: both metrics against labels, mean and 95 % band over seeds."""
    labels = {
        "macro_f1": "macro F1 on the test set",
        "micro_f1": "micro F1 on the test set",
    }
    return two_panels(curves, labels, {"all": {}} | PAPER_STYLES, title)


def rewards_beside_scores(curves: pd.DataFrame, title: str) -> Figure:
    """The reward beside F1, for the paper's methods and the reward's own maximisers.

    Rewards are averaged over five steps.
    """
    smooth = curves.copy()
    smooth["reward"] = curves.groupby(["method", "seed"])["reward"].transform(
        lambda values: values.rolling(5, min_periods=1).mean()
    )
    styles = PAPER_STYLES | {
        "eq3": {"color": "black", "linestyle": (0, (1, 2)), "marker": "*"},
        "eq3-oracle": {"color": "black", "linestyle": "-", "marker": "*", "linewidth": 1},
    }
    labels = {"reward": "reward (Eq. 3)", "macro_f1": "macro F1"}
    return two_panels(smooth, labels, styles, title)


def every_method(curves: pd.DataFrame, title: str) -> Figure:
    """A panel a method: macro F1, with RANDOM's and MS's means in grey behind it."""
    methods = statistics.learning_methods(curves)
    n_columns = 4
    n_rows = -(-len(methods) // n_columns)
    figure = Figure(figsize=(10, 0.6 + 1.9 * n_rows), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, method in zip(grid, methods, strict=False):
        for other, stroke in (("random", (0, (1, 1))), ("ms", (0, (5, 2)))):
            if other in methods and other != method:
                percent, mean, _ = mean_curve(curves, other, "macro_f1")
                axes.plot(percent, mean, color="0.55", linewidth=1, linestyle=stroke)
        draw_curve(axes, curves, method, "macro_f1", color="#08306b", linewidth=1.6)
        axes.set_title(method.upper(), fontsize=9)
        finish(axes, "", "")
    limit_to_means(*grid[: len(methods)])
    for axes in grid[len(methods) :]:
        axes.set_axis_off()
    figure.supxlabel("labelled, % of the training set", fontsize=9)
    figure.supylabel("macro F1", fontsize=9)
    figure.suptitle(f"{title}\ngrey: RANDOM (dotted) and MS (dashed)", fontsize=10)
    return figure


def class_balance(
    curves: pd.DataFrame, fraction: float, class_names: list[str], title: str
) -> Figure:
    """Stacked bars: the classes of what was labelled when ``fraction`` was reached."""
    shares = statistics.class_shares(curves, fraction)
    everything = curves[curves["method"] == "all"]
    if len(everything):
        shares.loc["training set"] = statistics.class_shares(everything, 1.0).loc["all"]
    figure = Figure(figsize=(10, 1.2 + 0.28 * len(shares)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(shares))
    hatches = ("", "///", "...", "xxx", "\\\\\\", "+++", "ooo", "---")
    greys = np.linspace(0.35, 0.9, len(class_names))
    for i, name in enumerate(class_names):
        width = shares[i].to_numpy()
        axes.barh(
            np.arange(len(shares)), width, left=left, label=name, color=str(greys[i]),
            hatch=hatches[i % len(hatches)], edgecolor="white", linewidth=0.5,
        )  # fmt: skip
        left += width
    axes.set_yticks(
        np.arange(len(shares)), [str(name).upper() for name in shares.index], fontsize=8
    )
    axes.set_ylim(len(shares) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"share of the labelled samples at {fraction:.0%} of the labels")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=min(4, len(class_names)), frameon=False)
    figure.suptitle(title, fontsize=10)
    return figure


def finish(axes: Axes, x: str, y: str) -> None:
    """Labels and a light grid."""
    axes.set(xlabel=x, ylabel=y)
    axes.grid(color="0.92", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)


def limit_to_means(*panels: Axes) -> None:
    """Fit the means, which the bands must not squeeze."""
    values = np.concatenate([line.get_ydata() for axes in panels for line in axes.get_lines()])
    margin = max(0.02, 0.15 * np.ptp(values))
    for axes in panels:
        axes.set_ylim(max(0, values.min() - margin), min(1.003, values.max() + margin))


def legend_below(figure: Figure) -> None:
    """One legend for all panels, below them."""
    entries: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    figure.legend(
        entries.values(), entries.keys(), loc="outside lower center", ncols=5, frameon=False,
        fontsize=9, handlelength=3.2,
    )  # fmt: skip
