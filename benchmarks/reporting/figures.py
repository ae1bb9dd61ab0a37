"""Figures of a report, PNG and SVG: small ones, which a page puts side by side or below each other.

Colours are those of ``THEME``, which a page can exchange for those of its own mode. What a colour
says is also said by stroke, marker or text.
"""

from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from benchmarks.reporting import statistics

WIDTH = 4.6
"""Inches of every figure: what a phone can show."""
N_HIGHLIGHTED = 3
"""Curves of a panel that are not grey."""
THEME = {
    "paper": ("#fefefe", "#15181c"),
    "ink": ("#1b1d20", "#e6e8eb"),
    "muted": ("#5f6670", "#a3abb5"),
    "grid": ("#e4e7eb", "#2b3138"),
    "others": ("#c3c8cf", "#4a525c"),
    "first": ("#1c64b0", "#6aaef5"),
    "second": ("#c8501c", "#f5935a"),
    "third": ("#1f8a5b", "#54c795"),
}
"""Role -> its colour on a light page, which the files have, and on a dark one."""
PAPER, INK, MUTED, GRID, OTHERS, FIRST, SECOND, THIRD = (light for light, _ in THEME.values())
HIGHLIGHTS: tuple[dict[str, Any], ...] = (
    {"color": FIRST, "linestyle": "-", "marker": "o"},
    {"color": SECOND, "linestyle": (0, (5, 1.5)), "marker": "s"},
    {"color": THIRD, "linestyle": (0, (1.5, 1)), "marker": "^"},
)
CLASSES = ("#3b6fb6", "#e08e45", "#5aa17f", "#b05a8f", "#8d8d4d", "#5fa8c4", "#9c6b4e", "#7f7f8f")
"""Colours of classes, for light and dark pages alike; used again with hatches if there are more."""
STYLE: dict[Any, Any] = {
    "font.size": 9, "svg.fonttype": "none", "figure.facecolor": PAPER, "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": MUTED,
    "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
}  # fmt: skip
Label = Callable[[str], str]
"""A method's name -> how it is shown."""


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Write ``name.png`` and ``name.svg``; returns the latter."""
    # laid out once, in points: savefig would do it for each file, and draw them twice for it
    figure.set_dpi(72)
    FigureCanvasSVG(figure)
    engine = figure.get_layout_engine()
    # the same results give the same file
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        if engine is not None:
            engine.execute(figure)
            figure.set_layout_engine(None)
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(folder / f"{name}.svg", metadata=metadata)
        figure.savefig(folder / f"{name}.png", dpi=200)
    return folder / f"{name}.svg"


# --- differences and ranks ------------------------------------------------------------------------


@mpl.rc_context(STYLE)
def forest(tests: pd.DataFrame, order: Sequence[str], baseline: str, label: Label) -> Figure:
    """Differences of AULC to a baseline's, with their 95 % intervals.

    What is significant after Holm's correction is filled, coloured and marked with a triangle.

    Args:
        tests: of ``statistics.paired_tests``.
        order: methods from the top; the baseline is one of them and has an empty row.
        baseline: the method compared with.
        label: of a method.
    """
    figure, axes = _one_panel(0.95 + 0.27 * len(order))
    above, below = statistics.significant(tests)
    for row, method in enumerate(order):
        if method not in tests.index:
            axes.annotate(
                "reference" if method == baseline else "too few seeds", (1.01, row),
                xycoords=("axes fraction", "data"), va="center", fontsize=8.5, color=MUTED,
            )  # fmt: skip
            continue
        mean, low, high = tests.loc[method, ["difference", "low", "high"]]
        color = FIRST if method in above else SECOND if method in below else MUTED
        told = method in above or method in below
        axes.plot([low, high], [row, row], color=color, linewidth=2.4 if told else 1.2)
        axes.plot(
            mean, row, "o", color=color, markersize=7 if told else 6, gid=f"difference:{method}",
            markerfacecolor=color if told else PAPER, markeredgewidth=1.3,
        )  # fmt: skip
        mark = "▲" if method in above else "▼" if method in below else ""
        axes.annotate(
            f"{mean:+.3f} {mark}", (1.01, row), xycoords=("axes fraction", "data"), va="center",
            fontsize=8.5, color=color, fontweight="bold" if told else "normal",
        )  # fmt: skip
    axes.axvline(0, color=INK, linewidth=1, zorder=0)
    axes.set_yticks(range(len(order)), [label(method) for method in order])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.spines[["left", "top", "right"]].set_visible(False)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("difference, macro F1")
    axes.set_title(f"AULC minus {label(baseline)}'s", loc="left", fontsize=10, fontweight="bold")
    return figure


@mpl.rc_context(STYLE)
def critical_difference(ranking: statistics.Ranking, label: Label) -> Figure:
    """Demsar's diagram (JMLR 7, 2006): bars join methods that are not significantly different."""
    ranks, groups = ranking.ranks, ranking.groups
    k = len(ranks)
    n_left = (k + 1) // 2
    first_row = 0.9 + 0.34 * len(groups)
    depth = first_row + 0.62 * (n_left - 1)
    texts = [f"{label(str(method))} {rank:.1f}" for method, rank in ranks.items()]
    # room for the names beside the ranks, all in units of a rank
    inches = min(1.7, 0.25 + 0.075 * max(map(len, texts)))
    margin = inches * (k - 1) / (WIDTH - 2 * inches)
    figure, axes = _one_panel(0.8 + 0.36 * (depth + 1.2))
    axes.set(xlim=(1 - margin, k + margin), ylim=(depth + 0.4, -1.75))
    axes.set_axis_off()
    axes.plot([1, k], [0, 0], color=INK, linewidth=1.2)
    for rank in range(1, k + 1, -(-k // 10)):  # numbers of two digits need room
        axes.plot([rank, rank], [0, -0.15], color=INK, linewidth=1)
        axes.text(rank, -0.25, str(rank), ha="center", va="bottom")
    width = min(ranking.critical_difference, k - 1)
    axes.plot([1, 1 + width], [-1.1, -1.1], color=MUTED, linewidth=2, solid_capstyle="butt")
    axes.text(
        1, -1.25, f"critical difference {ranking.critical_difference:.2f}", va="bottom",
        fontsize=8.5, color=MUTED,
    )  # fmt: skip
    for place, (method, rank) in enumerate(ranks.items()):
        on_left = place < n_left
        row = first_row + 0.62 * (place if on_left else k - 1 - place)
        edge = 1 - 0.12 * margin if on_left else k + 0.12 * margin
        axes.plot([rank, rank, edge], [0, row, row], color=MUTED, linewidth=0.9,
                  gid=f"rank:{method}")  # fmt: skip
        axes.text(
            edge, row, f" {texts[place]} ", ha="right" if on_left else "left", va="center",
            fontweight="bold" if place == 0 else "normal",
        )  # fmt: skip
    for i, group in enumerate(groups):
        ends = ranks[group[0]] - 0.06, ranks[group[-1]] + 0.06
        height = 0.4 + 0.34 * i
        axes.plot(ends, [height, height], color=FIRST, linewidth=4, solid_capstyle="round")
    axes.set_title("Mean rank over seeds, 1 the best", loc="left", fontsize=10, fontweight="bold")
    return figure


# --- curves ---------------------------------------------------------------------------------------


def curve_panels(
    curves: pd.DataFrame, supervised: pd.DataFrame, metric: str, axis: str, label: Label
) -> Iterator[tuple[list[str], Figure]]:
    """Learning curves, the best by AULC first: few of them a panel, the others grey behind them.

    Args:
        curves: of an experiment.
        supervised: methods that are one point: a level line; without rows none.
        metric: a column of both.
        axis: its name on the axis.
        label: of a method.

    Yields:
        The methods that a panel shows, and the panel; all have the same axes.
    """
    areas = statistics.aulc(curves, "macro_f1").groupby(level="method").mean()
    order = list(areas.sort_values(ascending=False, kind="stable").index)
    means = {method: mean_curve(curves, method, metric) for method in order}
    levels = {m: float(supervised[supervised["method"] == m][metric].mean())
              for m in supervised["method"].unique()}  # fmt: skip
    heights = np.concatenate([mean for _, mean, _ in means.values()] + [[*levels.values()]])
    margin = max(0.02, 0.08 * float(np.ptp(heights)))
    limits = max(0.0, heights.min() - margin), min(1.003, heights.max() + margin)
    n_seeds = curves.groupby("method")["seed"].nunique()
    few = set(n_seeds.index[n_seeds < statistics.ENOUGH_SEEDS])
    for start in range(0, len(order), N_HIGHLIGHTED):
        shown = order[start : start + N_HIGHLIGHTED]
        figure, axes = _curve_panel(metric, means, shown, few, label)
        for method, level in levels.items():
            axes.axhline(level, color=INK, linewidth=1, linestyle=(0, (1, 1)), zorder=1)
            axes.annotate(
                label(method), (0.01, level), xycoords=("axes fraction", "data"), xytext=(0, -3),
                textcoords="offset points", va="top", fontsize=8, color=INK,
            )  # fmt: skip
        axes.set(ylabel=axis, ylim=limits)
        yield shown, figure


@mpl.rc_context(STYLE)
def _curve_panel(
    metric: str,
    means: dict[str, tuple[np.ndarray, ...]],
    shown: Sequence[str],
    few: Container[str],
    label: Label,
) -> tuple[Figure, Axes]:
    """The methods ``shown``, with a band but for those with too ``few`` seeds; all others grey."""
    figure, axes = _one_panel(3.1)
    for method, (percent, mean, _) in means.items():
        if method not in shown:
            axes.plot(percent, mean, color=OTHERS, linewidth=1, zorder=1)
    for method, style in zip(shown, HIGHLIGHTS, strict=False):
        percent, mean, half = means[method]
        axes.plot(
            percent, mean, label=label(method), gid=f"{metric}:{method}", zorder=3, markersize=4,
            markevery=max(1, len(percent) // 6), linewidth=1.8, **style,
        )  # fmt: skip
        if method not in few:
            low, high = mean - half, mean + half
            axes.fill_between(percent, low, high, color=style["color"], alpha=0.16, lw=0, zorder=2)
    axes.set_xlabel("labelled, % of the training set")
    axes.grid(color=GRID, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        loc="outside upper left", ncols=N_HIGHLIGHTED, frameon=False, fontsize=9,
        handlelength=2.2, columnspacing=1.2, handletextpad=0.5,
    )  # fmt: skip
    return figure, axes


def mean_curve(curves: pd.DataFrame, method: str, metric: str) -> tuple[np.ndarray, ...]:
    """Percent labelled, mean over seeds and half of its 95 % interval, where all have values."""
    own = curves[curves["method"] == method].select_dtypes("number")  # names take the longest
    wide = own.pivot(index="step", columns="seed")
    values = wide[metric].dropna()
    percent = 100 * wide["labelled_fraction"].loc[values.index].mean(axis=1).to_numpy()
    mean, half = statistics.interval(values.to_numpy().T)
    return percent, mean, np.nan_to_num(half)


def smooth_rewards(curves: pd.DataFrame) -> pd.DataFrame:
    """The curves with every reward averaged with the four before it."""
    rolling = curves.groupby(["method", "seed"])["reward"].rolling(5, min_periods=1)
    smooth = rolling.mean().droplevel(["method", "seed"])  # by row, as assigned
    return curves.assign(reward=smooth)


# --- how an agent does ----------------------------------------------------------------------------


HEALTH_PANELS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("share", (("saturated", "outputs all but 0 or 1"), ("tied", "choices left to ties"))),
    ("rank correlation", (("rank_correlation", "executed and intended scores"),)),
    ("value", (("q", "size of mean Q"), ("q_limit", "largest return"))),
    ("gradient", (("actor_gradient", "actor"), ("critic_gradient", "critic"))),
)
"""Name of each axis -> the columns of ``curve.csv`` that it has, and what they are called."""


@mpl.rc_context(STYLE)
def health(curves: pd.DataFrame, method: str, label: Label) -> Figure:
    """What ``agents.ddpg.health`` saw of an agent that learned: means over seeds, by step.

    Args:
        curves: with the columns of ``layout.HEALTH``.
        method: one that has values there.
        label: of a method.
    """
    own = curves[curves["method"] == method].groupby("step").mean(numeric_only=True)
    figure = Figure(figsize=(WIDTH, 5.4), layout="constrained")
    panels = figure.subplots(len(HEALTH_PANELS), sharex=True)
    for axes, (axis, lines) in zip(panels, HEALTH_PANELS, strict=True):
        for (column, name), style in zip(lines, HIGHLIGHTS, strict=False):
            values = own[column].abs() if axis == "value" else own[column]
            axes.plot(
                own.index, values, label=name, gid=f"{column}:{method}", linewidth=1.6,
                color=style["color"], linestyle=style["linestyle"],
            )  # fmt: skip
        if axis in ("value", "gradient"):
            axes.set_yscale("log")
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.set_ylim(-0.04, 1.04)
        axes.set_ylabel(axis)
        axes.grid(color=GRID, linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(
            loc="lower right", bbox_to_anchor=(1, 0.98), ncols=2, frameon=False, fontsize=8,
            borderpad=0, handlelength=2, borderaxespad=0.1,
        )  # fmt: skip
    panels[0].set_title(label(method), loc="left", fontsize=10, fontweight="bold", pad=16)
    panels[-1].set_xlabel("query")
    figure.align_ylabels()
    return figure


# --- classes --------------------------------------------------------------------------------------


@mpl.rc_context(STYLE)
def class_balance(
    curves: pd.DataFrame,
    supervised: pd.DataFrame,
    fraction: float,
    class_names: list[str],
    label: Label,
) -> Figure:
    """Stacked bars: the classes of what was labelled when ``fraction`` was reached."""
    shares = statistics.class_shares(curves, fraction).rename(index=label)
    if len(supervised):
        shares.loc["training set"] = statistics.class_shares(supervised, 1.0).iloc[0]
    n_rows = -(-len(class_names) // 2)
    figure, axes = _one_panel(0.8 + 0.2 * n_rows + 0.22 * len(shares))
    left = np.zeros(len(shares))
    hatches = ("", "///", "...", "xxx")
    for i, name in enumerate(class_names):
        width = shares[i].to_numpy()
        axes.barh(
            np.arange(len(shares)), width, left=left, label=name, color=CLASSES[i % len(CLASSES)],
            hatch=hatches[i // len(CLASSES) % len(hatches)], edgecolor=PAPER, linewidth=0.8,
        )  # fmt: skip
        left += width
    axes.set_yticks(np.arange(len(shares)), shares.index)
    axes.set(xlim=(0, 1), ylim=(len(shares) - 0.5, -0.5))
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"share of the labelled samples at {fraction:.0%} of the labels")
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=8.5)
    return figure


def _one_panel(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()
